"""An ISA's declarations, made when the first of them is asked for."""

from __future__ import annotations

import threading

import pytest

from ratite.core.isa.isa import Isa
from ratite.targets.riscv.isa import build as riscv


def make(declare: object) -> Isa:
    return Isa("t", word=32, big_endian=False, fields={}, state=[], parcel=4, default_length=4, declare=declare)  # type: ignore[arg-type]


def test_is_declared_once_when_it_is_asked_for() -> None:
    made: list[Isa] = []

    def declare(isa: Isa) -> None:
        made.append(isa)
        isa.insn("one", "0" * 32)(lambda e, i: None)
        assert list(isa.by_name) == ["one"], "what is declared so far is there"
        isa.alias("two", "0" * 31 + "1", "", "one")
        isa.routine("wake")(lambda e: None)
        isa.function("walk", 1)(lambda e, a: None)

    isa = make(declare)
    assert isa.layout.size == 0 and isa.contexts == ("",) and not made
    assert [insn.name for insn in isa.insns] == ["one", "two"]
    assert set(isa.routines) == {"wake"} and set(isa.functions) == {"walk"} and set(isa.by_name) == {"one", "two"}
    assert made == [isa]
    isa.insn("three", "1" * 32)(lambda e, i: None)
    assert isa.disassemble_word((1 << 32) - 1, 4, 0) == "three"


def test_what_is_added_comes_behind() -> None:
    isa = make(lambda isa: isa.insn("one", "0" * 32)(lambda e, i: None))
    isa.insn("two", "1" * 32)(lambda e, i: None)
    assert [insn.name for insn in isa.insns] == ["one", "two"]
    with pytest.raises(ValueError, match="'one' is declared twice"):
        isa.insn("one", "0" * 32)(lambda e, i: None)


def test_another_thread_sees_all_of_it_or_waits() -> None:
    """Asked in the midst of the declaring, which goes on only when the other thread is about to ask."""
    asks = threading.Event()
    seen: list[list[str]] = []

    def other() -> None:
        asks.set()
        seen.append([insn.name for insn in isa.insns])

    thread = threading.Thread(target=other)

    def declare(isa: Isa) -> None:
        isa.insn("one", "0" * 32)(lambda e, i: None)
        thread.start()
        assert asks.wait(60)
        isa.insn("two", "1" * 32)(lambda e, i: None)

    isa = make(declare)
    assert len(isa.insns) == 2
    thread.join(60)
    assert seen == [["one", "two"]]


def test_a_target_refuses_at_once_what_cannot_be_together() -> None:
    with pytest.raises(ValueError, match="extension 'd' needs 'f'"):
        riscv({"word-size": 64, "d": True, "f": False, "zicsr": True})

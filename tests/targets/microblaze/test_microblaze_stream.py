"""Stream instructions on the evaluator (UG984: get, getd, put, putd), with links made of lists."""

from __future__ import annotations

import pytest

from ratite.targets.microblaze.isa import build
from ratite.targets.microblaze.stream import (
    ANSWER_LAST,
    ANSWER_VALID,
    ASK_GET,
    CONTROL_SHIFT,
    INTERRUPTIBLE,
    LINE_GET,
    LINE_PUT,
    LINK_SHIFT,
    STALLED,
    TEST_SHIFT,
)
from tests.targets.microblaze.microblaze_kit import CODE, EE, HOLE, IE, C, Machine

FSL, ROOM, UM = 0x10, 2, 0x800
FULL: dict[str, object] = {"fsl_links": 16, "use_extended_fsl_instr": True, "fsl_exception": True}


class Streams(Machine):
    """``words[n]``: (word, control) that slave port n has; ``taken[n]``: what master port n gave, ROOM words at the most."""

    def __init__(self, **config: object) -> None:
        super().__init__(**{**FULL, **config})
        self.words: dict[int, list[tuple[int, int]]] = {}
        self.taken: dict[int, list[tuple[int, int]]] = {}
        self.memory.ask = self.ask  # type: ignore[attr-defined]
        self.set(msr=0)
        self.lines()

    def lines(self, more: int = 0) -> None:
        lines = more
        for n in range(16):
            lines |= bool(self.words.get(n)) << LINE_GET + n | (len(self.taken.setdefault(n, [])) < ROOM) << LINE_PUT + n
        self.cpu.irq_lines = lines

    def ask(self, number: int, value: int) -> int:
        link, test = value >> LINK_SHIFT & 15, value >> TEST_SHIFT & 1
        if number == ASK_GET:
            word, control = self.words[link][0]
            if not test:
                del self.words[link][0]
            answer = word | control << ANSWER_LAST | 1 << ANSWER_VALID
        else:
            assert len(self.taken[link]) < ROOM
            if not test:
                self.taken[link].append((value & 0xFFFFFFFF, value >> CONTROL_SHIFT & 1))
            answer = 1
        self.lines(self.cpu.irq_lines & 0xF)
        return answer

    def give(self, link: int, *words: tuple[int, int]) -> None:
        self.words.setdefault(link, []).extend(words)
        self.lines(self.cpu.irq_lines & 0xF)


def test_there_are_none_without_links() -> None:
    assert not any("get" in name or "put" in name for name in build({"use-extended-fsl-instr": True}).by_name)
    m = Machine(ill_opcode_exception=True)
    m.set(msr=EE)
    m.run((0x6C600000).to_bytes(4, "big"))
    assert (m["esr"], m["pc"]) == (2, 0x20)


def test_how_many_variants() -> None:
    """32 of get and 16 of put, each with a dynamic form; the plain, n, c and nc ones without the extended set."""
    def names_of(**config: object) -> set[str]:
        return {name for name in build(config).by_name if "get" in name or "put" in name}

    names = names_of(**{"fsl-links": 1, "use-extended-fsl-instr": True})
    assert len(names) == 96 and {"tnecaget", "tncaput", "tnecagetd", "tncaputd"} <= names
    assert names_of(**{"fsl-links": 1}) == {"get", "nget", "cget", "ncget", "put", "nput", "cput", "ncput"}


@pytest.mark.parametrize("prefix", ["", "n", "a", "na"])
def test_a_word_is_taken(prefix: str) -> None:
    m = Streams()
    m.give(3, (0xCAFE, 0), (0xBEEF, 0))
    m.set(r5=1, r6=0x13, msr=C)
    m.run(m.asm(f"{prefix}get", rd=5, link=3), m.asm(f"{prefix}getd", rd=7, rb=6))
    assert (m["r5"], m["r7"], m.words[3]) == (0xCAFE, 0xBEEF, [])
    assert m["msr"] == (0 if "n" in prefix else C)


@pytest.mark.parametrize(("name", "control"), [("put", "cput"), ("nput", "ncput"), ("aput", "caput"), ("naput", "ncaput")])
def test_a_word_is_given(name: str, control: str) -> None:
    m = Streams()
    m.set(r5=0xCAFE, r6=0xF3, msr=C)
    m.run(m.asm(name, ra=5, link=3), m.asm(control, ra=6, link=3))
    assert m.taken[3] == [(0xCAFE, 0), (0xF3, 1)]
    assert m["msr"] == (0 if "n" in name else C)
    m.taken[3] = []
    m.lines()
    m.cpu.pc_value = CODE
    m.run(m.asm(f"{name}d", ra=5, rb=6), m.asm(f"{control}d", ra=6, rb=6))
    assert m.taken[3] == [(0xCAFE, 0), (0xF3, 1)]


def test_what_cannot_be_done_at_once_is_told_in_carry() -> None:
    m = Streams()
    m.set(r5=0x1234, r6=2)
    m.taken[2] = [(1, 0)] * ROOM
    m.lines()
    m.run(m.asm("nget", rd=5, link=2))
    assert (m["r5"], m["msr"]) == (0x1234, C)
    m.set(msr=0)
    m.cpu.pc_value = CODE
    m.run(m.asm("nput", ra=5, link=2), m.asm("tnputd", rb=6))
    assert m["msr"] == C and len(m.taken[2]) == ROOM


def test_a_test_moves_nothing() -> None:
    m = Streams()
    m.give(1, (7, 0))
    m.set(msr=C)
    m.run(m.asm("tnget", rd=5, link=1))
    assert (m["r5"], m["msr"], m.words[1]) == (7, 0, [(7, 0)])
    m.cpu.pc_value = CODE
    m.run(m.asm("tput", link=1), m.asm("tnput", link=1))
    assert m.taken[1] == []


@pytest.mark.parametrize(("name", "control", "flagged"), [
    ("get", 0, False), ("get", 1, True), ("cget", 0, True), ("cget", 1, False)])
def test_the_control_bit_is_compared(name: str, control: int, flagged: bool) -> None:
    m = Streams()
    m.give(0, (9, control))
    m.run(m.asm(name, rd=5, link=0))
    assert (m["r5"], m["msr"]) == (9, FSL if flagged else 0)


@pytest.mark.parametrize(("config", "msr", "raised"), [({}, EE, True), ({}, 0, False), ({"fsl_exception": False}, EE, False)])
def test_a_stream_exception(config: dict[str, object], msr: int, raised: bool) -> None:
    m = Streams(**config)
    m.give(11, (0x55, 1))
    m.set(msr=msr, r5=1, edr=2, esr=0x7F)
    m.run(m.asm("eget", rd=5, link=11))
    assert m["msr"] & FSL and not m.words[11]
    if raised:
        assert (m["esr"], m["edr"], m["r5"], m["r17"], m["pc"]) == (11 << 5, 0x55, 1, CODE + 4, 0x20)
    else:
        assert (m["esr"], m["edr"], m["r5"], m["pc"]) == (0x7F, 2, 0x55, CODE + 4)


def test_a_link_beyond_the_last_is_link_0() -> None:
    m = Streams(fsl_links=3)
    m.give(0, (5, 0))
    m.run(m.asm("get", rd=5, link=3))
    assert m["r5"] == 5


def test_waiting_executes_nothing_and_goes_on_when_a_word_comes() -> None:
    m = Streams()
    for _ in range(3):
        assert m.run(m.asm("get", rd=5, link=4), steps=1) == "halt"
        assert (m["pc"], m.cpu.executed, m.cpu.wakes()) == (CODE, 0, False)
    assert m["stall"] == STALLED | INTERRUPTIBLE | LINE_GET + 4
    m.give(3, (1, 0))
    assert not m.cpu.wakes()
    m.give(4, (2, 0))
    assert m.cpu.wakes()
    assert m.cpu.step() == "ran" and (m["r5"], m["pc"], m["stall"]) == (2, CODE + 4, 0)


@pytest.mark.parametrize(("name", "config", "taken"), [
    ("get", {}, True), ("put", {}, True), ("aget", {}, False), ("get", {"use_extended_fsl_instr": False}, False)])
def test_what_an_interrupt_ends(name: str, config: dict[str, object], taken: bool) -> None:
    """With the extended set a waiting instruction that isn't atomic is interrupted, and waits on after the handler."""
    m = Streams(**config)
    m.taken[4] = [(0, 0)] * ROOM
    m.lines()
    m.set(msr=IE)
    code = m.asm(name, link=4, **({"ra": 5} if name == "put" else {"rd": 5}))
    assert m.run(code) == "halt"
    m.lines(1)
    assert m.cpu.wakes() == taken
    m.cpu.step()
    assert (m["pc"], m["r14"]) == ((0x10, CODE) if taken else (CODE, 0))
    if not taken:
        m.give(4, (1, 0))
        m.cpu.step()
        assert (m["r5"], m["pc"]) == (1, CODE + 4)


def test_a_fetch_from_nowhere_counts_after_waiting_too() -> None:
    """It reads 0, an instruction as any, whatever the step before it did."""
    m = Streams()
    assert m.run(m.asm("get", rd=5, link=4)) == "halt" and m.cpu.executed == 0
    m.cpu.pc_value = HOLE
    assert (m.cpu.step(), m.cpu.executed, m["pc"]) == ("ran", 1, HOLE + 4)


def test_an_interrupt_that_is_masked_does_not_wake() -> None:
    m = Streams()
    m.run(m.asm("get", rd=5, link=4))
    m.lines(1)
    assert not m.cpu.wakes()


def test_behind_an_atomic_instruction_no_interrupt_comes() -> None:
    m = Streams()
    m.give(0, (1, 0), (2, 0))
    m.set(msr=IE)
    code = m.asm("aget", rd=5, link=0) + m.asm("aget", rd=6, link=0) + m.asm("addik", rd=7, ra=0, imm=3)
    m.memory.bytes[CODE:CODE + 12] = code
    m.cpu.step()
    m.lines(1)
    m.cpu.step()
    m.cpu.step()
    assert (m["r5"], m["r6"], m["r7"], m["pc"]) == (1, 2, 3, CODE + 12)
    m.cpu.step()
    assert m["pc"] == 0x10


def test_links_do_not_end_sleep() -> None:
    m = Streams()
    m.run(m.asm("mbar", kind=16))
    m.give(0, (1, 0))
    assert not m.cpu.wakes()
    m.lines(8)
    assert m.cpu.wakes()


def test_in_a_delay_slot() -> None:
    m = Streams()
    code = m.asm("brid", imm=0x40) + m.asm("get", rd=5, link=0)
    m.memory.bytes[CODE:CODE + 8] = code
    m.cpu.step()
    assert m.cpu.step() == "halt" and m.cpu.ctx == "ds"
    m.give(0, (8, 0))
    m.cpu.step()
    assert (m["r5"], m["pc"]) == (8, CODE + 0x40)


@pytest.mark.parametrize(("allowed", "refused"), [(0, True), (1, False), (2, True), (3, False)])
def test_user_mode(allowed: int, refused: bool) -> None:
    m = Streams(use_mmu=1, mmu_privileged_instr=allowed)
    m.give(0, (8, 0))
    m.set(msr=UM)
    m.run(m.asm("nget", rd=5, link=0))
    assert (m["pc"] == 0x20 and m["esr"] == 7) == refused and (m["r5"] == 8) != refused


@pytest.mark.parametrize(("config", "pvr0", "pvr2", "pvr3"), [
    ({}, 0, 0, 5 << 7), ({"use_extended_fsl_instr": True}, 0, 1 << 19, 5 << 7),
    ({"use_extended_fsl_instr": True, "fsl_exception": True}, 1 << 26, 3 << 18, 5 << 7)])
def test_version_registers(config: dict[str, object], pvr0: int, pvr2: int, pvr3: int) -> None:
    m = Machine(fsl_links=5, **config)
    m.run(*(m.asm("mfs", rd=5 + n, number=0x2000 + n) for n in range(4)))
    assert (m["r5"] & 1 << 26, m["r7"] & 3 << 18, m["r8"]) == (pvr0, pvr2, pvr3)

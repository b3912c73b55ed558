"""Finisher, unimplemented-device, irq logic, ACLINT."""

from __future__ import annotations

import pytest
from hw_kit import Bench
from hypothesis import given
from hypothesis import strategies as st

from ratite.core.memory import BusError
from ratite.hw.irq.irq_source import IrqSource
from ratite.hw.irq.or_irq import OrIrq
from ratite.hw.irq.split_irq import SplitIrq
from ratite.hw.misc.sifive_test import SifiveTest
from ratite.hw.misc.unimplemented import Unimplemented
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.devices.aclint import AclintMtimer, AclintSwi

MTIME = 0x7FF8
ONES = (1 << 64) - 1


def test_finisher() -> None:
    bench = Bench(SifiveTest)
    for value, size in ((0x5555, 4), (0x5555, 2), (0x00053333, 4), (0x3333, 4), (0x7777, 4), (0x1234, 4), (0, 4)):
        bench.wr(0, value, size)
    assert bench.machine.asked == [
        ("shutdown", "guest-shutdown", 0),
        ("shutdown", "guest-shutdown", 0),
        ("shutdown", "guest-shutdown", 5),
        ("shutdown", "guest-shutdown", 0),
        ("reset", "guest-reset"),
    ]
    assert bench.rd(0) == 0
    bench.wr(8, 0x5555)
    assert len(bench.machine.asked) == 5


def test_unimplemented_counts_and_answers_zero() -> None:
    bench = Bench(Unimplemented, name="gpu", size=0x40)
    for size in (1, 2, 4, 8):
        assert bench.rd(0x20, size) == 0
        bench.wr(0x20, 1, size)
    assert bench.dev.unmodelled_accesses == 8
    with pytest.raises(BusError):
        bench.rd(0x40)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=20))
def test_or(steps: list[tuple[int, int]]) -> None:
    bench, levels = Bench(OrIrq, num_lines=5), [0] * 5
    for index, level in steps:
        bench.drive(f"in[{index}]", level)
        levels[index] = level
        assert bench.irq("out") == any(levels)


@pytest.mark.parametrize("big", [False, True])
def test_a_client_raises_a_line_and_the_guest_lowers_it(big: bool) -> None:
    bench = Bench(IrqSource, big=big, endianness="big" if big else "little")
    with pytest.raises(GenericError, match="from realized on"):
        bench.dev.set_property("level", True)
    bench.dev.phase = "realized"
    bench.pass_ns(1 << 33 | 5)
    bench.dev.set_property("level", True)
    assert (bench.irq(), bench.rd(0), bench.rd(8, 8), bench.rd(12 if not big else 8)) == (1, 1, 1 << 33 | 5, 2)
    bench.pass_ns(100)
    bench.dev.set_property("level", True)
    bench.wr(0, 1)
    assert (bench.irq(), bench.rd(8, 8)) == (1, 1 << 33 | 5), "it was high already"
    bench.wr(0, 0)
    assert (bench.irq(), bench.rd(0), bench.dev.get_property("level")) == (0, 0, False)
    bench.wr(0, 1)
    bench.wr(8, 77, 8)
    assert (bench.irq(), bench.rd(8, 8)) == (0, 1 << 33 | 5), "only a client raises it"
    bench.dev.set_property("level", True)
    assert bench.rd(8, 8) == (1 << 33 | 5) + 100
    bench.dev.reset()
    assert (bench.irq(), bench.rd(0)) == (0, 0)


def test_split() -> None:
    bench = Bench(SplitIrq, num_lines=3)
    for level in (1, 0, 1):
        bench.drive("in", level)
        assert [bench.irq(f"out[{n}]") for n in range(3)] == [level] * 3


def test_mtimer() -> None:
    bench = Bench(AclintMtimer, num_harts=2)
    assert (bench.rd(MTIME, 8), bench.rd(0, 8), bench.irq("mtip[0]")) == (0, ONES, 0)
    bench.pass_ns(1_000_099)
    assert (bench.rd(MTIME, 8), bench.rd(MTIME), bench.rd(MTIME + 4)) == (10_000, 10_000, 0)
    bench.wr(8, 10_001, 8)
    assert bench.irq("mtip[1]") == 0
    bench.pass_ns(1)
    assert (bench.irq("mtip[0]"), bench.irq("mtip[1]")) == (0, 1)
    bench.wr(12, 1)
    assert (bench.irq("mtip[1]"), bench.rd(8, 8)) == (0, 1 << 32 | 10_001)
    bench.wr(MTIME, (1 << 32) + 10_000, 8)
    assert bench.irq("mtip[1]") == 0
    bench.pass_ns(100)
    assert (bench.irq("mtip[1]"), bench.rd(MTIME + 4)) == (1, 1)
    bench.wr(MTIME, ONES, 8)
    assert bench.irq("mtip[0]") == 1
    bench.pass_ns(100)
    assert (bench.rd(MTIME, 8), bench.irq("mtip[1]")) == (0, 0)
    assert bench.rd(16) == 0
    assert bench.dev.unmodelled_accesses == 1
    bench.dev.reset()
    assert (bench.rd(MTIME, 8), bench.rd(8, 8)) == (0, ONES)


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(1, 10**6))
def test_mtip_comes_with_mtime_and_not_a_nanosecond_off(frequency: int, start: int, ticks: int) -> None:
    bench = Bench(AclintMtimer, timebase_frequency=frequency)
    bench.pass_ns(start)
    compare = bench.rd(MTIME, 8) + ticks
    bench.wr(0, compare, 8)
    due = -(-compare * 10**9 // frequency)
    bench.pass_ns(due - start - 1)
    assert (bench.irq("mtip"), bench.rd(MTIME, 8)) == (0, compare - 1)
    bench.pass_ns(1)
    assert (bench.irq("mtip"), bench.rd(MTIME, 8)) == (1, compare)


def test_mtimer_layout_is_checked() -> None:
    for props in ({"time_base": 4}, {"num_harts": 4095}, {"time_base": 0x8000}, {"timecmp_base": 0x7FF8}):
        if props == {"num_harts": 4095}:
            Bench(AclintMtimer, **props)
            continue
        with pytest.raises(GenericError, match="multiples of 8"):
            Bench(AclintMtimer, **props)


def test_swi() -> None:
    bench = Bench(AclintSwi, num_harts=3)
    bench.wr(4, 0xFFFFFFFF)
    assert ([bench.irq(f"msip[{n}]") for n in range(3)], bench.rd(4), bench.rd(0, 8)) == ([0, 1, 0], 1, 1 << 32)
    bench.wr(0, 1, 8)
    assert [bench.irq(f"msip[{n}]") for n in range(3)] == [1, 0, 0]
    bench.wr(12, 1)
    assert bench.rd(12) == 0


def test_sswi_gives_edges() -> None:
    bench = Bench(AclintSwi, num_harts=2, sswi=1)
    seen: list[int] = []
    assert list(bench.dev.outputs) == ["ssip"]
    bench.dev.out("ssip[1]")._sink = seen.append
    for value in (1, 1, 0, 2):
        bench.wr(4, value)
    assert (seen, bench.rd(4), bench.irq("ssip[1]")) == ([1, 0, 1, 0], 0, 0)

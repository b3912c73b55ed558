"""Interrupt controller (DS572), timer (DS573), mailbox (PG114)."""

from __future__ import annotations

import pytest
from hw_kit import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.hw.intc.xlnx_intc import XlnxIntc
from ratite.hw.misc.xlnx_mailbox import XlnxMailbox
from ratite.hw.timer.xlnx_timer import XlnxTimer

# -- intc

ISR, IPR, IER, IAR, SIE, CIE, IVR, MER = range(0, 0x20, 4)


def intc(**props: object) -> Bench:
    bench = Bench(XlnxIntc, big=True, endianness="big", **props)
    bench.wr(IER, 0xFFFFFFFF)
    bench.wr(MER, 3)
    return bench


def test_intc_level() -> None:
    bench = intc()
    bench.drive("irq[5]", 1)
    bench.drive("irq[9]", 1)
    assert (bench.rd(ISR), bench.rd(IVR), bench.irq()) == (0x220, 5, 1)
    bench.wr(IAR, 0x20)
    assert bench.rd(ISR) == 0x220  # still high
    bench.drive("irq[5]", 0)
    assert bench.rd(ISR) == 0x220  # latched
    bench.wr(IAR, 0x20)
    assert (bench.rd(ISR), bench.rd(IVR)) == (0x200, 9)
    bench.wr(CIE, 0x200)
    assert (bench.rd(IPR), bench.rd(IVR), bench.irq()) == (0, 0xFFFFFFFF, 0)
    bench.wr(SIE, 0x200)
    assert bench.irq() == 1
    bench.wr(MER, 0)
    assert (bench.irq(), bench.rd(MER)) == (0, 2)  # HIE can't be taken back


def test_intc_edge() -> None:
    bench = intc(kind_of_intr=0xFFFFFFFF)
    bench.drive("irq[0]", 1)
    bench.drive("irq[0]", 1)
    assert bench.irq() == 1
    bench.wr(IAR, 1)
    assert (bench.irq(), bench.rd(ISR)) == (0, 0)
    bench.drive("irq[0]", 0)
    bench.drive("irq[0]", 1)
    assert (bench.irq(), bench.rd(IVR)) == (1, 0)


def test_intc_by_software_before_hardware() -> None:
    bench = Bench(XlnxIntc, num_intr_inputs=4)
    bench.wr(IER, 0xFFFFFFFF)
    bench.drive("irq[1]", 1)
    bench.wr(ISR, 0xFF)
    assert (bench.rd(ISR), bench.rd(IER), bench.irq()) == (0x0F, 0x0F, 0)
    bench.wr(MER, 1)
    bench.wr(IAR, 0xFF)
    assert (bench.rd(ISR), bench.irq()) == (0, 0)
    bench.wr(MER, 3)
    bench.wr(ISR, 0xFF)
    assert (bench.rd(ISR), bench.irq()) == (2, 1)


# -- timer

TCSR, TLR, TCR = 0, 4, 8
UDT, ARHT, LOAD, ENIT, ENT, TINT, ENALL = 0x2, 0x10, 0x20, 0x40, 0x80, 0x100, 0x400


class NaiveTimer:
    """One tick after the other, as the data sheet draws it."""

    def __init__(self, load: int, down: bool, reload: bool) -> None:
        self.load, self.down, self.reload = load, down, reload
        self.count, self.rolled, self.rolls = load, False, 0

    def tick(self) -> None:
        if self.rolled:
            if self.reload:
                self.count, self.rolled = self.load, False
            return
        end = 0 if self.down else 0xFFFFFFFF
        if self.count == end:
            self.rolled, self.rolls = True, self.rolls + 1
        self.count = self.count + (-1 if self.down else 1) & 0xFFFFFFFF


def timer(frequency: int = 1_000_000_000) -> Bench:
    return Bench(XlnxTimer, clock_frequency=frequency)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.booleans(), st.booleans(), st.lists(st.integers(1, 9), max_size=12), st.booleans())
def test_timer_counts_as_one_that_ticks(distance: int, down: bool, reload: bool, waits: list[int], ack: bool) -> None:
    load = distance if down else 0xFFFFFFFF - distance
    bench, naive = timer(), NaiveTimer(load, down, reload)
    control = ENT | ENIT | (UDT if down else 0) | (ARHT if reload else 0)
    bench.wr(TLR, load)
    bench.wr(TCSR, LOAD)
    bench.wr(TCSR, control)
    rolls = 0
    for wait in waits:
        bench.pass_ns(wait)
        for _ in range(wait):
            naive.tick()
        assert bench.rd(TCR) == naive.count
        assert bench.irq() == bool(naive.rolls > rolls)
        if ack:
            rolls = naive.rolls
            bench.wr(TCSR, control | TINT)
            assert bench.irq() == 0


def test_timer_period_and_frequency() -> None:
    bench = timer(100_000_000)
    bench.wr(TLR, 98)
    bench.wr(TCSR, LOAD)
    bench.wr(TCSR, ENT | ENIT | UDT | ARHT)
    bench.pass_ns(989)
    assert bench.irq() == 0
    for _ in range(5):
        bench.pass_ns(1)
        assert (bench.irq(), bench.rd(TCSR)) == (1, ENT | ENIT | UDT | ARHT | TINT)
        bench.wr(TCSR, ENT | ENIT | UDT | ARHT | TINT)
        assert bench.irq() == 0
        bench.pass_ns(999)
        assert bench.irq() == 0


def test_timer_stop_and_go_and_load_holds() -> None:
    bench = timer()
    bench.wr(TLR, 1000)
    bench.wr(TCSR, LOAD | ENT | UDT)
    bench.pass_ns(10)
    assert bench.rd(TCR) == 1000
    bench.wr(TCSR, ENT | UDT)
    bench.pass_ns(10)
    bench.wr(TCSR, UDT)
    bench.pass_ns(10)
    assert bench.rd(TCR) == 990
    bench.wr(TCSR, ENT)
    bench.pass_ns(4)
    assert bench.rd(TCR) == 994


def test_timer_load_register_changes_the_periods_to_come() -> None:
    bench = timer()
    bench.wr(TLR, 2)
    bench.wr(TCSR, LOAD)
    bench.wr(TCSR, ENT | UDT | ARHT)
    seen = []
    for tick in range(14):
        if tick == 5:
            bench.wr(TLR, 1)
        seen.append(bench.rd(TCR))
        bench.pass_ns(1)
    end = 0xFFFFFFFF
    assert seen == [2, 1, 0, end, 2, 1, 0, end, 1, 0, end, 1, 0, end]


def test_both_timers_at_once() -> None:
    bench = timer()
    bench.wr(TCSR, ENALL)
    assert (bench.rd(TCSR), bench.rd(0x10 + TCSR)) == (ENALL | ENT, ENALL | ENT)
    bench.pass_ns(7)
    bench.wr(0x10 + TCSR, ENT)
    assert (bench.rd(TCSR), bench.rd(0x10 + TCSR)) == (ENT, ENT)
    bench.pass_ns(1)
    assert (bench.rd(TCR), bench.rd(0x10 + TCR)) == (8, 8)


def test_a_short_period_costs_the_host_nothing() -> None:
    bench = timer()
    bench.wr(TCSR, LOAD)
    bench.wr(TCSR, ENT | ENIT | UDT | ARHT)
    bench.pass_ns(10**15)
    assert bench.irq() == 1


# -- mailbox

WRDATA, RDDATA, STATUS, ERROR, SIT, RIT, IS, IE, IP, CTRL = 0, 8, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2C
IF1 = 0x10000
STI, RTI, EI = 1, 2, 4


def test_mailbox_carries_words_both_ways() -> None:
    bench = Bench(XlnxMailbox, if1_endianness="big")
    for side, other in ((0, IF1), (IF1, 0)):
        bench.access.big = bool(side)
        assert bench.rd(side + STATUS) == 0x05
        for n in range(16):
            bench.wr(side + WRDATA, 0x01020300 + n)
        assert bench.rd(side + STATUS) & 2
        bench.wr(side + WRDATA, 99)
        assert (bench.rd(side + ERROR), bench.rd(side + ERROR)) == (2, 0)
        bench.access.big = bool(other)
        assert [bench.rd(other + RDDATA) for _ in range(16)] == [0x01020300 + n for n in range(16)]
        assert bench.rd(other + STATUS) & 1
        assert bench.rd(other + RDDATA) == 0
        assert bench.rd(other + ERROR) == 1


def test_mailbox_interrupts() -> None:
    bench = Bench(XlnxMailbox)
    bench.wr(IF1 + RIT, 1)
    bench.wr(IF1 + IE, RTI)
    bench.wr(IE, STI | EI)
    bench.wr(WRDATA, 1)
    assert (bench.irq("irq1"), bench.rd(STATUS) & 4) == (0, 0)
    bench.wr(WRDATA, 2)
    assert (bench.irq("irq1"), bench.rd(IF1 + STATUS), bench.rd(IF1 + IP)) == (1, 0x0C, RTI)
    bench.wr(IF1 + IS, RTI)
    assert bench.irq("irq1") == 0
    assert [bench.rd(IF1 + RDDATA), bench.rd(IF1 + RDDATA)] == [1, 2]
    assert (bench.irq("irq0"), bench.rd(IS)) == (1, STI)  # the send FIFO is at SIT again
    bench.wr(IS, STI)
    assert bench.irq("irq0") == 0
    bench.rd(RDDATA)
    assert (bench.irq("irq0"), bench.rd(IP), bench.rd(ERROR)) == (1, EI, 1)
    bench.wr(IS, 7)
    bench.wr(WRDATA, 1)
    bench.wr(CTRL, 1)
    assert (bench.irq("irq0"), bench.rd(IF1 + STATUS) & 1) == (1, 1)
    bench.wr(WRDATA, 1)
    bench.wr(IF1 + CTRL, 2)
    assert bench.rd(IF1 + STATUS) & 1
    assert bench.rd(0x30) == 0
    assert bench.dev.unmodelled_accesses == 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("wrxst"), st.integers(0, 1), st.integers(0, 9)), max_size=60))
def test_mailbox_status_is_what_the_levels_say(steps: list[tuple[str, int, int]]) -> None:
    bench = Bench(XlnxMailbox, depth=4)
    fifos: tuple[list[int], list[int]] = ([], [])
    sit, rit = [0, 0], [0, 0]
    for what, side, value in steps:
        base = IF1 * side
        if what == "w":
            bench.wr(base + WRDATA, value)
            if len(fifos[side]) < 4:
                fifos[side].append(value)
        elif what == "r":
            assert bench.rd(base + RDDATA) == (fifos[1 - side].pop(0) if fifos[1 - side] else 0)
        elif what == "x":
            bench.wr(base + CTRL, value & 3)
            for bit, fifo in ((1, fifos[side]), (2, fifos[1 - side])):
                if value & bit:
                    fifo.clear()
        else:
            (sit if what == "s" else rit)[side] = value & 3
            bench.wr(base + (SIT if what == "s" else RIT), value)
        for s in (0, 1):
            send, receive = len(fifos[s]), len(fifos[1 - s])
            meant = (not receive) | (send == 4) << 1 | (send <= sit[s]) << 2 | (receive > rit[s]) << 3
            assert bench.rd(IF1 * s + STATUS) == meant


@pytest.mark.parametrize("depth", [2, 16, 8192])
def test_mailbox_depth(depth: int) -> None:
    bench = Bench(XlnxMailbox, depth=depth)
    for n in range(depth + 1):
        bench.wr(WRDATA, n)
    assert bench.rd(ERROR) == 2
    assert len(bench.dev.fifo0) == depth


def test_timer_wakes_its_clock_once_a_period() -> None:
    """The guest's acknowledgement finds the next roll-over armed; one that is never acknowledged is not waited for."""
    bench = timer()
    woken: list[int] = []
    bench.machine.clock.wake = lambda: woken.append(bench.machine.clock.now())
    bench.wr(TLR, 998)
    bench.wr(TCSR, LOAD)
    bench.wr(TCSR, UDT | ARHT | ENIT | ENT)
    assert len(woken) == 1
    for _ in range(5):
        bench.machine.clock.advance(1000)
        assert bench.irq() == 1
        woken.clear()
        bench.wr(TCSR, UDT | ARHT | ENIT | ENT | TINT)
        assert bench.irq() == 0 and not woken
    bench.machine.clock.advance(2000)
    assert bench.irq() == 1 and bench.machine.clock.next_deadline() is None

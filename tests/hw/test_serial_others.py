"""pl011 against DDI0183, uartlite against DS571."""

from __future__ import annotations

from hw_kit import Bench

from ratite.hw.char.pl011 import Pl011
from ratite.hw.char.xlnx_uartlite import XlnxUartlite

DR, RSR, FR, IBRD, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = (
    0x00, 0x04, 0x18, 0x24, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44,
)  # fmt: skip
RX, TX, RT, BE, OE = 0x10, 0x20, 0x40, 0x200, 0x400


def enabled_pl011(fifo: bool = True) -> Bench:
    bench = Bench(Pl011)
    bench.wr(LCR_H, 0x70 if fifo else 0x60)
    bench.wr(CR, 0x301)
    return bench


def test_pl011_after_reset() -> None:
    bench = Bench(Pl011)
    assert [bench.rd(r) for r in (DR, RSR, FR, CR, IFLS, IMSC, RIS, MIS)] == [0, 0, 0x97, 0x300, 0x12, 0, 0, 0]
    assert [bench.rd(0xFE0 + 4 * n) for n in range(8)] == [0x11, 0x10, 0x24, 0, 0x0D, 0xF0, 0x05, 0xB1]
    bench.line.feed(b"x")
    assert bench.rd(FR) & 0x10  # disabled: it stays with the host
    bench.wr(CR, 0x301)
    assert bench.rd(DR) == ord("x")


def test_pl011_sends() -> None:
    bench = enabled_pl011()
    bench.wr(IMSC, TX)
    assert bench.irq() == 0
    bench.wr(DR, ord("a"))
    assert (bench.line.sent, bench.rd(MIS), bench.irq(), bench.irq("txintr"), bench.irq("rxintr")) == (b"a", TX, 1, 1, 0)
    bench.wr(ICR, TX)
    assert (bench.irq(), bench.rd(RIS)) == (0, 0)
    bench.line.room = 0
    for n in range(20):
        bench.wr(DR, n)
    assert bench.rd(FR) & 0xA8 == 0x28  # busy, full
    bench.line.drain()
    assert (bench.line.sent, bench.rd(RIS), bench.rd(FR) & 0xA8) == (b"a" + bytes(range(16)), TX, 0x80)
    assert bench.dev.disabled_writes == 0


def test_pl011_receives() -> None:
    bench = enabled_pl011()
    bench.wr(IMSC, RX | RT)
    bench.line.feed(bytes(7))
    assert bench.irq() == 0
    bench.line.feed(b"8")
    assert (bench.rd(MIS), bench.irq("rxintr")) == (RX, 1)
    bench.rd(DR)
    assert bench.rd(MIS) == 0
    bench.wr(IBRD, 13)
    bench.rd(DR)  # from here on: 32 bits of 13 * 16 clocks of 24 MHz
    bench.pass_ns(32 * 13 * 16 * 1000 // 24 - 1)
    assert bench.irq() == 0
    bench.pass_ns(1)
    assert (bench.rd(MIS), bench.irq("rtintr")) == (RT, 1)
    while not bench.rd(FR) & 0x10:
        bench.rd(DR)
    assert bench.irq() == 0


def test_pl011_one_character_mode_break_and_loopback() -> None:
    bench = enabled_pl011(fifo=False)
    bench.line.feed(b"ab")
    assert (bench.rd(FR) & 0x50, bench.rd(RIS), bench.line.waiting) == (0x40, RX, b"b")
    assert [bench.rd(DR), bench.rd(DR), bench.rd(RIS)] == [ord("a"), ord("b"), 0]
    bench.line.frontend.chr_event("break")
    assert (bench.rd(RIS), bench.rd(DR), bench.rd(RSR)) == (RX | BE, 0x400, 4)
    bench.wr(RSR, 0)
    assert bench.rd(RSR) == 0
    bench.wr(CR, 0xF81)  # loopback, RTS, DTR
    bench.wr(DR, 1)
    bench.wr(DR, 2)
    assert (bench.rd(RIS) & (RX | OE), bench.rd(DR), bench.rd(FR) & 0x107) == (RX | OE, 1, 0x003)


def test_pl011_byte_access_and_reserved_offset() -> None:
    bench = enabled_pl011()
    bench.wr(DR, 0x41, 1)
    assert (bench.line.sent, bench.rd(0x80), bench.dev.unmodelled_accesses) == (b"A", 0, 1)


def test_uartlites_registers_of_one_direction_answer_the_other() -> None:
    """As 0, and without a word: Linux reads the control register when it takes the port over."""
    bench = Bench(XlnxUartlite)
    bench.line.feed(b"x")
    bench.wr(0, 0xFFFFFFFF)
    bench.wr(8, 0xFFFFFFFF)
    bench.wr(4, ord("a"))
    bench.wr(0xC, 0x10)
    assert [bench.rd(at) for at in (4, 0xC, 8, 0)] == [0, 0, 0x15, ord("x")]
    assert bench.dev.unmodelled_accesses == 0


def test_uartlite() -> None:
    for big in (False, True):
        bench = Bench(XlnxUartlite, big=big, endianness="big" if big else "little")
        assert bench.rd(8) == 0x04
        bench.wr(4, ord("a"))
        assert (bench.line.sent, bench.irq()) == (b"a", 0)
        bench.wr(0xC, 0x10)
        edges: list[int] = []
        bench.dev.out("irq")._sink = edges.append
        bench.wr(4, ord("b"))
        assert edges == [1, 0]  # the transmitter became empty
        bench.line.feed(bytes(range(20)))
        assert (bench.rd(8), bench.irq(), len(bench.line.waiting)) == (0x17, 1, 4)
        assert [bench.rd(0) for _ in range(21)] == [*range(20), 0]
        assert (bench.rd(8), bench.irq()) == (0x14, 0)
        bench.line.room = 0
        for n in range(20):
            bench.wr(4, n)
        assert bench.rd(8) == 0x18
        bench.wr(0xC, 0x01)
        assert (bench.rd(8), bench.irq()) == (0x04, 0)
        bench.line.feed(b"x")
        bench.wr(0xC, 0x02)
        assert bench.rd(8) == 0x04

"""ns16550 against the 16550D data sheet."""

from __future__ import annotations

import pytest
from hw_kit import Bench

from ratite.hw.char.ns16550 import Ns16550

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
THR, FCR, DLL, DLM = 0, 2, 0, 1


class Uart(Bench):
    def __init__(self, shift: int = 0, **props: object) -> None:
        super().__init__(Ns16550, regshift=shift, **props)
        self.shift = shift

    def r(self, reg: int) -> int:
        return self.rd(reg << self.shift, 1)

    def w(self, reg: int, value: int) -> None:
        self.wr(reg << self.shift, value, 1)


@pytest.fixture
def uart() -> Uart:
    return Uart()


def test_after_reset(uart: Uart) -> None:
    assert [uart.r(n) for n in range(8)] == [0, 0, 0x01, 0, 0, 0x60, 0xB0, 0]


def test_sends(uart: Uart) -> None:
    for byte in b"hello":
        uart.w(THR, byte)
        assert uart.r(LSR) == 0x60
    assert uart.line.sent == b"hello"


def test_divisor_latch_and_scratch(uart: Uart) -> None:
    uart.w(LCR, 0x83)
    uart.w(DLL, 12)
    uart.w(DLM, 3)
    assert (uart.r(DLL), uart.r(DLM)) == (12, 3)
    uart.w(LCR, 0x03)
    uart.w(SCR, 0x5A)
    assert (uart.r(IER), uart.r(SCR), uart.line.sent) == (0, 0x5A, b"")


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_register_spacing(shift: int, endianness: str) -> None:
    uart = Uart(shift, endianness=endianness)
    width, big = 1 << shift, endianness == "big"
    lane = width - 1 if big else 0
    uart.access.big = big
    uart.wr(SCR << shift, 0xA5, width)
    assert uart.rd(SCR << shift, width) == 0xA5
    assert uart.rd((SCR << shift) + lane, 1) == 0xA5
    uart.wr((SCR << shift) + lane, 0x5A, 1)
    assert uart.rd(SCR << shift, width) == 0x5A
    if width > 1:
        other = (SCR << shift) + (width - 1 - lane)
        uart.wr(other, 0x11, 1)
        assert (uart.rd(other, 1), uart.dev.unmodelled_accesses) == (0, 2)
    assert uart.rd(SCR << shift, width) == 0x5A


def test_a_wide_access_is_bytes_on_a_byte_bus(uart: Uart) -> None:
    assert uart.rd(4) == 0x00B06000


def test_receives_without_fifo(uart: Uart) -> None:
    uart.w(IER, 1)
    uart.line.feed(b"abc")
    assert (uart.r(IIR), uart.irq(), uart.line.waiting) == (0x04, 1, b"bc")
    assert [uart.r(RBR) for _ in range(3)] == [*b"abc"]
    assert (uart.r(LSR), uart.r(IIR), uart.irq()) == (0x60, 0x01, 0)


def test_trigger_level_and_timeout(uart: Uart) -> None:
    uart.w(LCR, 0x83)
    uart.w(DLL, 1)
    uart.w(LCR, 0x03)  # 8N1 at 115200: 10 bits are 86805 ns
    uart.w(FCR, 0x41)
    uart.w(IER, 1)
    uart.line.feed(b"abc")
    assert (uart.r(IIR), uart.irq()) == (0xC1, 0)
    uart.pass_ns(4 * 86805 - 10)
    assert uart.irq() == 0
    uart.pass_ns(10)
    assert (uart.r(IIR), uart.irq()) == (0xCC, 1)
    assert uart.r(RBR) == ord("a")
    assert (uart.r(IIR), uart.irq()) == (0xC1, 0)
    uart.line.feed(b"de")
    assert (uart.r(IIR), uart.irq()) == (0xC4, 1)
    uart.r(RBR)
    assert (uart.r(IIR), uart.irq()) == (0xC1, 0)


def test_host_waits_for_a_full_fifo(uart: Uart) -> None:
    uart.w(FCR, 0xC1)
    uart.line.feed(bytes(range(20)))
    assert len(uart.line.waiting) == 4
    assert [uart.r(RBR) for _ in range(20)] == list(range(20))
    assert uart.r(LSR) == 0x60


def test_transmitter_interrupt(uart: Uart) -> None:
    uart.w(IER, 2)
    assert (uart.irq(), uart.r(IIR), uart.irq(), uart.r(IIR)) == (1, 0x02, 0, 0x01)
    uart.w(THR, 1)
    assert uart.irq() == 1
    uart.line.room = 0
    uart.w(FCR, 1)
    for n in range(20):
        uart.w(THR, n)
    assert (uart.irq(), uart.r(LSR), uart.r(IIR)) == (0, 0, 0xC1)
    uart.line.drain()
    assert (uart.irq(), uart.r(LSR), uart.r(IIR)) == (1, 0x60, 0xC2)
    assert uart.line.sent == bytes([1, *range(15), 19])


def test_break_and_line_status(uart: Uart) -> None:
    uart.w(FCR, 0x01)
    uart.w(IER, 0x05)
    uart.line.feed(b"a")
    uart.line.frontend.chr_event("break")
    assert (uart.r(IIR), uart.r(LSR)) == (0xC4, 0xE1)  # the break waits behind the a
    assert uart.r(RBR) == ord("a")
    assert (uart.r(IIR), uart.irq()) == (0xC6, 1)
    assert uart.r(LSR) == 0xF1
    assert (uart.r(LSR), uart.r(IIR)) == (0x61, 0xC4)
    assert uart.r(RBR) == 0


def test_loopback(uart: Uart) -> None:
    uart.w(MCR, 0x1F)
    assert uart.r(MSR) == 0xF0
    uart.w(MCR, 0x10)
    assert (uart.r(MSR), uart.r(MSR)) == (0x0F, 0x00)
    uart.w(THR, 0x42)
    assert (uart.r(LSR), uart.r(RBR), uart.line.sent) == (0x61, 0x42, b"")
    uart.line.feed(b"x")
    assert uart.r(LSR) == 0x60
    uart.w(THR, 1)
    uart.w(THR, 2)
    assert (uart.r(LSR), uart.r(LSR), uart.r(RBR)) == (0x63, 0x61, 2)
    uart.w(IER, 8)
    uart.w(MCR, 0)
    assert (uart.irq(), uart.r(IIR), uart.r(MSR) & 0xF0, uart.irq()) == (1, 0x00, 0xB0, 0)
    assert uart.r(RBR) == ord("x")


def test_priorities(uart: Uart) -> None:
    uart.w(IER, 0x0F)
    uart.w(MCR, 0x10)
    uart.w(THR, 1)
    uart.w(THR, 2)
    seen = []
    for undo in (LSR, RBR, IIR, MSR, IIR):
        seen.append(uart.r(IIR) if undo != IIR else None)
        value = uart.r(undo)
        if undo == IIR:
            seen[-1] = value
    assert seen == [0x06, 0x04, 0x02, 0x00, 0x01]


def test_fcr_clears(uart: Uart) -> None:
    uart.w(FCR, 1)
    uart.line.feed(b"abc")
    uart.w(FCR, 3)
    assert uart.r(LSR) == 0x60
    uart.line.feed(b"abc")
    uart.w(FCR, 0)
    assert (uart.r(LSR), uart.r(IIR)) == (0x60, 0x01)
    uart.w(FCR, 0xC0)
    assert uart.r(IIR) == 0x01

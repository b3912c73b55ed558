"""GPIO controllers, and the button at one of their lines."""

from __future__ import annotations

import pytest
from hw_kit import MS, Bench

from ratite.hw.gpio.key import GpioKey
from ratite.hw.gpio.sifive_gpio import SifiveGpio
from ratite.hw.gpio.xlnx_gpio import XlnxGpio

# SiFive's registers, Xilinx's.
VAL, IN_EN, OUT_EN, OUT = 0x00, 0x04, 0x08, 0x0C
EVENTS = {"rise": 0x18, "fall": 0x20, "high": 0x28, "low": 0x30}
DATA, TRI, GIER, ISR, IER = 0x000, 0x004, 0x11C, 0x120, 0x128


def test_sifive_pins() -> None:
    bench = Bench(SifiveGpio, ngpio=4)
    bench.drive("in[2]", 1)
    assert bench.rd(VAL) == 0
    bench.wr(IN_EN, 0xF)
    assert bench.rd(VAL) == 4
    bench.wr(OUT, 0b1010)
    assert [bench.irq(f"out[{n}]") for n in range(4)] == [0, 0, 0, 0]
    bench.wr(OUT_EN, 0b0110)
    assert [bench.irq(f"out[{n}]") for n in range(4)] == [0, 1, 0, 0]
    bench.wr(0x40, 0b0110)
    assert [bench.irq(f"out[{n}]") for n in range(4)] == [0, 0, 1, 0]
    bench.dev.reset()
    assert ([bench.irq(f"out[{n}]") for n in range(4)], bench.rd(IN_EN)) == ([0] * 4, 0)


@pytest.mark.parametrize(
    ("event", "levels"), [("rise", [0, 1, 1, 0]), ("fall", [0, 0, 1, 0]), ("high", [0, 1, 1, 0]), ("low", [1, 1, 1, 1])]
)
def test_sifive_interrupts(event: str, levels: list[int]) -> None:
    """The line after enabling, a rise, a fall, and an acknowledgement while the pin is low."""
    bench = Bench(SifiveGpio, ngpio=2)
    enable, pending = EVENTS[event], EVENTS[event] + 4
    bench.wr(IN_EN, 2)
    bench.wr(enable, 2)
    seen = [bench.irq("irq[1]")]
    for level in (1, 0):
        bench.drive("in[1]", level)
        seen.append(bench.irq("irq[1]"))
    assert bench.rd(pending) & 2
    bench.wr(pending, 2)
    assert [*seen, bench.irq("irq[1]")] == levels
    assert bench.irq("irq[0]") == 0


def test_sifive_disabled_interrupts_stay_pending() -> None:
    bench = Bench(SifiveGpio, ngpio=1)
    bench.wr(IN_EN, 1)
    bench.drive("in[0]", 1)
    assert (bench.irq("irq[0]"), bench.rd(EVENTS["rise"] + 4)) == (0, 1)
    bench.wr(EVENTS["rise"], 1)
    assert bench.irq("irq[0]") == 1
    other = Bench(SifiveGpio, ngpio=1)
    other.dev.load_state(bench.dev.save_state())
    assert other.irq("irq[0]") == 1


@pytest.mark.parametrize("big", [False, True])
def test_xilinx(big: bool) -> None:
    bench = Bench(XlnxGpio, big=big, width=8, endianness="big" if big else "little")
    assert (bench.rd(TRI), bench.rd(DATA)) == (0xFFFFFFFF, 0)
    bench.drive("in[3]", 1)
    assert (bench.rd(DATA), bench.rd(ISR), bench.irq()) == (8, 1, 0)
    bench.wr(IER, 1)
    assert bench.irq() == 0
    bench.wr(GIER, 1 << 31)
    assert bench.irq() == 1
    bench.wr(ISR, 1)
    assert (bench.irq(), bench.rd(ISR)) == (0, 0)
    bench.wr(ISR, 1)
    assert bench.irq() == 1
    bench.wr(ISR, 1)
    bench.wr(TRI, 0xFFFFFFF0)
    bench.wr(DATA, 0xA5)
    assert ([bench.irq(f"out[{n}]") for n in range(4)], bench.rd(DATA)) == ([1, 0, 1, 0], 5)
    bench.drive("in[3]", 0)
    assert bench.rd(ISR) == 0
    bench.drive("in[7]", 1)
    assert (bench.rd(ISR), bench.rd(DATA)) == (1, 0x85)


def test_a_press_lasts() -> None:
    bench = Bench(GpioKey, hold=5)
    bench.dev.power_button()
    assert bench.irq("out") == 1
    bench.machine.clock.advance(5 * MS - 1)
    assert bench.irq("out") == 1
    bench.machine.clock.advance(1)
    assert bench.irq("out") == 0
    bench.dev.power_button()
    bench.dev.reset()
    assert bench.irq("out") == 0
    bench.machine.clock.advance(10 * MS)
    assert bench.irq("out") == 0

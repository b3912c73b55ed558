"""sifive_soc.gpio: the GPIO controller of SiFive's chips.  SiFive FU540-C000 manual, chapter 17.

Inputs `in[ngpio]` are the pins as others drive them, outputs `out[ngpio]` as the controller does, `irq[ngpio]` one interrupt a
pin: its rise, fall, high and low, each where enabled and pending.  A pin whose input is enabled shows itself in input_val.

Left out: pull-ups, drive strength, I/O functions (their registers hold what is written).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config
from ratite.core.regs import Reg
from ratite.hw.gpio.key import describe_keys

PINS_MAX = 32
ALL = (1 << PINS_MAX) - 1


class SifiveGpio(MmioDevice):
    """SiFive GPIO controller."""

    TYPE: ClassVar[str] = "sifive_soc.gpio"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"in": "ngpio"}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": "ngpio", "out": "ngpio"}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x1000, (4, 4))}
    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"compatible": ["sifive,gpio0", "sifive,fu540-c000-gpio"], "properties": {"ngpio": "ngpios"}},
    )

    ngpio = config("uint32", 16, "number of pins", minimum=1, maximum=PINS_MAX)

    INPUT_VAL = Reg(0x00, access="ro", text="pins whose input is enabled")
    INPUT_EN = Reg(0x04, text="input enables")
    OUTPUT_EN = Reg(0x08, text="output enables")
    OUTPUT_VAL = Reg(0x0C, text="outputs")
    PUE = Reg(0x10, text="pull-up enables")
    DS = Reg(0x14, text="drive strength")
    RISE_IE = Reg(0x18, text="interrupt enables, rising edge")
    RISE_IP = Reg(0x1C, w1c=ALL, text="rising edges that came")
    FALL_IE = Reg(0x20, text="interrupt enables, falling edge")
    FALL_IP = Reg(0x24, w1c=ALL, text="falling edges that came")
    HIGH_IE = Reg(0x28, text="interrupt enables, high")
    HIGH_IP = Reg(0x2C, w1c=ALL, text="pins that were high")
    LOW_IE = Reg(0x30, text="interrupt enables, low")
    LOW_IP = Reg(0x34, w1c=ALL, text="pins that were low")
    OUT_XOR = Reg(0x40, text="outputs that are inverted")

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        return self._pin_moved

    def _pin_moved(self, level: int) -> None:
        self._look()

    def _pins(self) -> int:
        return sum(1 << line.index for line in self.inputs["in"] if line.level)

    def _look(self) -> None:
        """What the pins are now, what that means, and the interrupts."""
        mask = (1 << self.ngpio) - 1
        old, new = self.INPUT_VAL, self._pins() & self.INPUT_EN & mask
        self.INPUT_VAL = new
        self.RISE_IP |= new & ~old
        self.FALL_IP |= old & ~new
        self.HIGH_IP |= new
        self.LOW_IP |= ~new & self.INPUT_EN & mask
        self._drive()

    def _drive(self) -> None:
        pending = (self.RISE_IE & self.RISE_IP) | (self.FALL_IE & self.FALL_IP)
        pending |= (self.HIGH_IE & self.HIGH_IP) | (self.LOW_IE & self.LOW_IP)
        out = (self.OUTPUT_VAL ^ self.OUT_XOR) & self.OUTPUT_EN
        for index in range(self.ngpio):
            self.outputs["irq"][index].set(pending >> index & 1)
            self.outputs["out"][index].set(out >> index & 1)

    @INPUT_EN.on_write
    def _inputs_enabled(self, value: int, old: int) -> None:
        self._look()

    @OUTPUT_EN.on_write
    @OUTPUT_VAL.on_write
    @OUT_XOR.on_write
    @RISE_IE.on_write
    @RISE_IP.on_write
    @FALL_IE.on_write
    @FALL_IP.on_write
    @HIGH_IE.on_write
    @LOW_IE.on_write
    def _changed(self, value: int, old: int) -> None:
        self._drive()

    @HIGH_IP.on_write
    @LOW_IP.on_write
    def _level_cleared(self, value: int, old: int) -> None:
        # A level that still is so is pending again.
        self._look()

    def reset(self) -> None:
        super().reset()
        self._drive()

    def post_load(self) -> None:
        self._drive()

    def fdt_node(self, tree: DeviceTree) -> None:
        """The controller, an interrupt controller too, and the keys at its pins."""
        node = tree.node(self, "gpio", ("sifive,gpio0",))
        node["gpio-controller"] = node["interrupt-controller"] = True
        node["#gpio-cells"] = node["#interrupt-cells"] = 2
        node["ngpios"] = self.ngpio
        describe_keys(tree, self.inputs["in"], partial(tree.phandle, self))

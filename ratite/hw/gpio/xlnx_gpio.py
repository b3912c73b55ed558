"""xlnx.xps-gpio: one channel of up to 32 lines with an interrupt.  Xilinx DS569, PG144.

Inputs `in[width]` are the pins as others drive them, outputs `out[width]` as the controller does: where GPIO_TRI has a 0.
Any change of a pin that is an input sets bit 0 of the interrupt status; `irq` follows status, enable and the global enable.

Left out: the second channel (its registers aren't modelled).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state
from ratite.core.regs import Reg
from ratite.hw.gpio.key import describe_keys

WIDTH_MAX = 32
ALL = (1 << WIDTH_MAX) - 1
GLOBAL_ENABLE = 1 << 31
CHANNEL1 = 1


class XlnxGpio(MmioDevice):
    """AXI GPIO, one channel.  Xilinx DS569, PG144."""

    TYPE: ClassVar[str] = "xlnx.xps-gpio"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"in": "width"}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1, "out": "width"}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x200, (1, 4), (4, 4), "endianness")}
    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["xlnx,xps-gpio-1.00.a", "xlnx,opb-gpio-1.00.b"],
            "properties": {"endianness": {"guest-endianness": True}, "width": "xlnx,gpio-width"},
        },
    )

    endianness = config("str", "little", "byte order of the registers", values=("little", "big"))
    width = config("uint32", WIDTH_MAX, "number of lines", minimum=1, maximum=WIDTH_MAX)
    driven: int = state("uint32", 0, "what was written to GPIO_DATA")

    DATA = Reg(0x000, saved=False, text="lines: as they are where they are inputs, else as they are driven")
    TRI = Reg(0x004, reset=ALL, text="1: the line is an input")
    GIER = Reg(0x11C, reserved=GLOBAL_ENABLE - 1, text="bit 31: interrupts at all")
    ISR = Reg(0x120, readonly=ALL, text="bit 0: a line of the channel has changed; writing 1 toggles")
    IER = Reg(0x128, reserved=ALL - 3, text="bit 0: interrupts of the channel")

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        return partial(self._pin_moved, index)

    def _pin_moved(self, index: int, level: int) -> None:
        if self.TRI >> index & 1:
            self.ISR |= CHANNEL1
            self._drive()

    def _drive(self) -> None:
        self.outputs["irq"][0].set(bool(self.GIER & GLOBAL_ENABLE and self.ISR & self.IER))
        for line in self.outputs["out"]:
            line.set(self.driven & ~self.TRI & 1 << line.index)

    @DATA.on_read
    def _read_lines(self, value: int) -> int:
        pins = sum(1 << line.index for line in self.inputs["in"] if line.level)
        return (pins & self.TRI | self.driven & ~self.TRI) & ((1 << int(self.width)) - 1)

    @DATA.on_write
    def _written(self, value: int, old: int) -> None:
        self.driven = value & ALL
        self._drive()

    @ISR.on_write
    def _toggled(self, value: int, old: int) -> None:
        self.ISR = old ^ value & CHANNEL1
        self._drive()

    @TRI.on_write
    @GIER.on_write
    @IER.on_write
    def _changed(self, value: int, old: int) -> None:
        self._drive()

    def reset(self) -> None:
        super().reset()
        self.driven = 0
        self._drive()

    def post_load(self) -> None:
        self._drive()

    def fdt_node(self, tree: DeviceTree) -> None:
        """The controller, and the keys at its lines."""
        node = tree.node(self, "gpio", ("xlnx,xps-gpio-1.00.a",))
        node["gpio-controller"] = node["interrupt-controller"] = True
        node["#gpio-cells"] = node["#interrupt-cells"] = 2
        node["xlnx,gpio-width"] = self.width
        node["xlnx,is-dual"], node["xlnx,all-inputs"] = 0, 0
        node["xlnx,dout-default"], node["xlnx,tri-default"] = 0, ALL
        describe_keys(tree, self.inputs["in"], partial(tree.phandle, self))

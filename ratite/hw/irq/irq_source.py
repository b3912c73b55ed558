"""irq-source: a line that a client drives, as a button or a sensor does, with the time of its last rise.

    0x0  LINE    the line; writing 0 lets it fall
    0x8  RAISED  8 bytes, read only: virtual time of the last rise in ns

`qom-set` of `level` moves the line at once, also while guests run; a reset lets it fall.  No chip is meant; the registers are
there so that a guest can answer, and find out how long the way to its handler took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.objects.props import config, tunable
from ratite.core.regs import Reg
from ratite.qapi.errors import GenericError


class IrqSource(MmioDevice):
    """A line that a client drives."""

    TYPE: ClassVar[str] = "irq-source"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(16, (1, 8), (1, 8), "endianness")}

    endianness = config("str", "little", "byte order of the registers", values=("little", "big"))
    level = tunable("bool", False, "the line; a reset lets it fall", getter="_level", setter="_set_level")

    LINE = Reg(0x0, readonly=0xFFFFFFFF, text="the line")
    RAISED = Reg(0x8, size=8, access="ro", text="virtual time of the last rise, in ns")

    def _level(self) -> bool:
        return bool(self.LINE)

    def _set_level(self, level: bool) -> None:
        if self.phase != "realized":
            raise GenericError(f"Property '{self.TYPE}.level' can be set from realized on, '{self.path}' is {self.phase}")
        if level and not self.LINE:
            self.RAISED = self.clock.now()
        self.LINE = int(level)
        self.post_load()

    @LINE.on_write
    def _level_written(self, value: int, old: int) -> None:
        if not value & 1:
            self.LINE = 0
            self.post_load()

    def reset(self) -> None:
        super().reset()
        self.post_load()

    def post_load(self) -> None:
        self.out("irq").set(self.LINE)

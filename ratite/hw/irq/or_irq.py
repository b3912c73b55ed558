"""or-irq: many lines into one; the output is high while any input is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from ratite.core.device import Device
from ratite.core.irq import Input, Output
from ratite.core.objects.props import config, state


class OrIrq(Device):
    """Logical or of irq lines."""

    TYPE: ClassVar[str] = "or-irq"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"in": "num-lines"}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"out": 1}

    num_lines = config("uint16", 1, "number of inputs", minimum=1, maximum=1024)
    levels: list[int] = state("list:uint8", [], "level of each input")

    def wire(self) -> None:
        super().wire()
        self.levels = [0] * self.num_lines
        self._out = self.out("out")

    def reset(self) -> None:
        super().reset()
        self.levels = [0] * self.num_lines
        self.post_load()

    def post_load(self) -> None:
        self._out.set(any(self.levels))

    def passes_on(self, end: Input) -> Iterable[Output]:
        return self.all_outputs()

    def on_input(self, name: str, index: int, level: int) -> None:
        self.levels[index] = level
        self._out.set(level or any(self.levels))

"""split-irq: one line into many; every output follows the input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from ratite.core.device import Device
from ratite.core.irq import Input, Output
from ratite.core.objects.props import config, state


class SplitIrq(Device):
    """Copies of an irq line."""

    TYPE: ClassVar[str] = "split-irq"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"in": 1}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"out": "num-lines"}

    num_lines = config("uint16", 1, "number of outputs", minimum=1, maximum=1024)
    level: int = state("uint8", 0, "level of the input")

    def wire(self) -> None:
        super().wire()
        self._outs = tuple(self.all_outputs())

    def reset(self) -> None:
        super().reset()
        self.level = 0
        self.post_load()

    def post_load(self) -> None:
        for out in self._outs:
            out.set(self.level)

    def passes_on(self, end: Input) -> Iterable[Output]:
        return self.all_outputs()

    def on_input(self, name: str, index: int, level: int) -> None:
        self.level = level
        self.post_load()

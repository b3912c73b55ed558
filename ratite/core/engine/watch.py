"""What a vCPU leaves with each RAM that it decodes code from, to hear of stores there and of code that others make; and what
the watch for idle loops sees of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ratite.core.accel.base import RamBlock, RamRange
from ratite.core.engine import block as B

if TYPE_CHECKING:
    from ratite.core.engine.vcpu import NativeVcpu


class MadeHook:
    """What a RAM calls when a page has become code. ``reached``: the last generation whose write entries are gone."""

    __slots__ = ("owner", "ram", "reached")

    def __init__(self, owner: NativeVcpu, ram: RamBlock) -> None:
        self.owner = owner
        self.ram = ram
        self.reached = ram.code.generation

    def __call__(self, page: int, generation: int) -> None:
        self.owner.code_made()

    def settled(self, generation: int) -> bool:
        return self.reached >= generation or self.owner.outside


class RamHook:
    """What a RAM calls when Python code wrote into a code page."""

    __slots__ = ("owner", "ram")

    def __init__(self, owner: NativeVcpu, ram: RamBlock) -> None:
        self.owner = owner
        self.ram = ram

    def __call__(self, offset: int, size: int) -> None:
        self.owner.invalidate(self.ram, offset, size)


class IdleView:
    """See idle.Watched."""

    __slots__ = ("_cpu", "arrays", "look_again")

    def __init__(self, cpu: NativeVcpu) -> None:
        self._cpu = cpu
        self.arrays: Mapping[str, Any] = cpu._arrays
        self.look_again = cpu.look_again

    def place(self) -> tuple[int, int]:
        return self._cpu.get("pc"), self._cpu._words[B.CTX].value

    def registers(self) -> bytes:
        return self._cpu._map[B.BASE:B.BASE + self._cpu.layout.size]

    def lines(self) -> int:
        return self._cpu._words[B.IRQ_LINES].value

    def ranges(self) -> Sequence[RamRange]:
        return self._cpu._ranges

    @property
    def traps(self) -> int:
        return self._cpu.traps

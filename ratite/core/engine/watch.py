"""What a vCPU leaves with each RAM that it decodes code from, to hear of stores there and of code that others make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.accel.base import RamBlock

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

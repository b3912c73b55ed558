"""Memory as a CPU's virtual addresses show it, for people who look: nothing of the guest or the CPU changes.

The ISA's own walk is run by the evaluator on a copy of the CPU's registers; what the walk writes (accessed and dirty bits)
stays in the copy.  An address is tried as what data accesses of the CPU's present mode, then as what fetches would mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ratite.core.isa.emitter import EXECUTE, READ
from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.core.memory.access import BusError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.memory.space import Space


class _Tables:
    """RAM for a walk; stores stay here."""

    def __init__(self, space: Space, big_endian: bool) -> None:
        self._space = space
        self._order = "big" if big_endian else "little"
        self._stored: dict[tuple[int, int], int] = {}

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        found = self._space.view.find(addr)
        return found is not None and found.region.IS_RAM and addr + size <= found.end

    def load(self, addr: int, size: int) -> int:
        if (addr, size) in self._stored:
            return self._stored[addr, size]
        try:
            return int.from_bytes(self._space.read(addr, size), self._order)  # type: ignore[arg-type]
        except BusError:
            raise MemoryFault from None

    def store(self, addr: int, size: int, value: int) -> None:
        self._stored[addr, size] = value

    def fetch(self, addr: int, size: int) -> bytes:
        raise MemoryFault

    def reserve(self, addr: int) -> int:
        raise MemoryFault

    def reserved(self, addr: int, token: int) -> bool:
        raise MemoryFault

    def clock(self) -> int:
        return 0

    def notify(self, number: int, value: int) -> None:
        """A walk tells nobody anything."""

    def ask(self, number: int, value: int) -> int:
        return 0


class VirtualMemory:
    """What a CPU sees at this moment, at which it is parked; it may run on meanwhile.  `read` is as a Space's."""

    def __init__(self, cpu: Cpu) -> None:
        self.space: Space = cpu.cluster.space
        vcpu = cpu.vcpu
        self._walker: Evaluator | None = None
        self._smallest = 1 << cpu.cluster.bits
        if vcpu is None or vcpu.isa is None or not vcpu.isa.mmu_modes:
            return
        isa = vcpu.isa
        self._smallest = 1 << isa.smallest_page
        walker = Evaluator(isa, _Tables(self.space, isa.big_endian))
        for field in isa.layout:
            walker.state[field.name] = [vcpu.get(field.name, index) for index in range(field.count)]
        self._walker = walker

    def physical(self, addr: int) -> int | None:
        """Where a virtual address leads; None: nowhere."""
        if self._walker is None:
            return addr
        found = self._walker.physical(addr, READ)
        return self._walker.physical(addr, EXECUTE) if found is None else found

    def pieces(self, addr: int, size: int) -> Iterator[tuple[int, int]]:
        """(physical address, bytes) of a range, page by page as they are asked for.  BusError where a page isn't there."""
        while size > 0:
            count = min(size, self._smallest - addr % self._smallest)
            phys = self.physical(addr)
            if phys is None:
                raise BusError("unmapped", addr)
            yield phys, count
            addr, size = addr + count, size - count

    def read(self, addr: int, size: int) -> bytes:
        """Bytes.  BusError."""
        return b"".join(self.space.read(phys, count) for phys, count in self.pieces(addr, size))

"""Decoded pages of one vCPU: where a page's records are, and which RAM they were made from. Pages are physical: records know
no address but by their place, so that every mapping of a page shares them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from ratite.core.accel.base import RamBlock
from ratite.core.engine.block import PAGE_HEADER, RECORD
from ratite.core.engine.fresh import Slot
from ratite.core.engine.native import NativeIsa


class Frame:
    """A page of RAM as a CPU sees it. ``phys``: physical address; ``ram``/``page``: the RAM and which of its pages; ``host``:
    address of its bytes."""

    __slots__ = ("host", "page", "phys", "ram")

    def __init__(self, phys: int, ram: RamBlock, page: int, host: int) -> None:
        self.phys = phys
        self.ram = ram
        self.page = page
        self.host = host


class CodePage(Frame):
    """``base``: host address of its records; ``generation``: see CodeMarks; ``jumps``: by offset of a jump to a computed
    address, how far away it was seen to go."""

    __slots__ = ("base", "generation", "hits", "jumps", "misses", "slot")

    def __init__(self, slot: Slot, phys: int, ram: RamBlock, page: int, host: int, generation: int) -> None:
        super().__init__(phys, ram, page, host)
        self.slot = slot
        self.base = slot.base + PAGE_HEADER
        self.generation = generation
        self.jumps: dict[int, list[int]] = {}
        self.hits = 0  # stores into decoded instructions
        self.misses = 0  # stores into the page that hit no decoded instruction


class CodePages:
    """The pages; ``limit`` bytes of records at the most, then ``full`` is told and everything goes."""

    def __init__(self, native: NativeIsa, limit: int) -> None:
        self._native = native
        self._most = max(2, limit // native.fresh.size)
        self._free: list[Slot] = []
        self.by_phys: dict[int, CodePage] = {}
        self._by_ram: dict[tuple[int, int], list[CodePage]] = {}
        self._by_base: dict[int, CodePage] = {}
        self.evictions = 0
        self.lock: AbstractContextManager[object] = nullcontext()  # held while a page goes
        self.made: Callable[[CodePage], object] | None = None  # told of each page, before it is run

    @property
    def full(self) -> bool:
        """Whether a new page needs the others gone first."""
        return len(self.by_phys) >= self._most

    def make(self, frame: Frame, marks: int) -> CodePage:
        """Records for ``frame``, whose lines' code marks are at ``marks``, none decoded yet."""
        phys, ram, page, host = frame.phys, frame.ram, frame.page, frame.host
        generation = ram.code.enter(page)
        slot = self._slot()
        ctypes.c_uint64.from_address(slot.base).value = host
        ctypes.c_uint64.from_address(slot.base + 8).value = marks
        made = self.by_phys[phys] = CodePage(slot, phys, ram, page, host, generation)
        self._by_base[made.base] = made
        self._by_ram.setdefault((id(ram), page), []).append(made)
        if self.made is not None:
            self.made(made)
        return made

    def _slot(self) -> Slot:
        if not self._free:
            self._free = self._native.fresh.more()
        slot = self._free.pop()
        self._native.fresh.renew(slot)
        return slot

    def of_ram(self, ram: RamBlock, page: int) -> list[CodePage]:
        """The pages made from one page of ``ram``."""
        return self._by_ram.get((id(ram), page), [])

    def of_key(self, key: tuple[int, int]) -> list[CodePage]:
        """The same by (id of the RAM, page)."""
        return self._by_ram.get(key, [])

    def at_base(self, base: int) -> CodePage | None:
        """The page whose records are at ``base``."""
        return self._by_base.get(base)

    def drop(self, page: CodePage) -> None:
        """Forgets a page; the vCPU must be outside of it."""
        with self.lock:
            del self.by_phys[page.phys]
            del self._by_base[page.base]
            key = (id(page.ram), page.page)
            self._by_ram[key].remove(page)
            if not self._by_ram[key]:
                del self._by_ram[key]
            self._free.append(page.slot)
        page.ram.code.leave(page.page)

    def drop_all(self) -> None:
        """Forgets every page."""
        for page in list(self.by_phys.values()):
            self.drop(page)

    def forget_bytes(self, page: CodePage, offset: int, size: int) -> bool:
        """Instructions that may include bytes [offset, offset + size) of the page are to be decoded anew. Whether any
        had been decoded. Safe while the vCPU is inside: records change one by one to what they were at first."""
        shape, parcel = self._native.shape, self._native.isa.parcel
        first = max(0, (offset - (shape.edges - 1) * parcel) // parcel)
        last = min(shape.slots, -(-(offset + size) // parcel))
        hit = False
        for number, fresh in enumerate(self._native.decode):
            start = page.base + shape.context_offset(number) + first * RECORD
            want = fresh * (last - first)
            if ctypes.string_at(start, len(want)) != want:
                hit = True
                ctypes.memmove(start, want, len(want))
        ctypes.memset(page.base + shape.records + 8 * first, 0, 8 * (last - first))
        return hit

    def close(self) -> None:
        """Gives the memory back; nothing may run from it any more."""
        self.drop_all()
        self._free.clear()

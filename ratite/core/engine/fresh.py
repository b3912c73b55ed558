"""Memory for the records of decoded pages: fresh ones, none of whose records is decoded.

Two ways, by ISA. Where a page has records for one context, most of them are written in time: each page is a copy, in huge
pages of the host, which clears 2 MiB at once. Where it has several, of which a delay slot's, say, are used for a few
instructions, most are never written: memory is a private mapping of a file that holds fresh pages. What nobody writes is
shared by all pages of all CPUs, the host copies the rest, 4 KiB at a time, and a page is fresh again when its copies are thrown
away. A MicroBlaze Linux that boots (four contexts) takes 0.8 of the time of its CPU's thread so, a RISC-V one (one) 1.1.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from ratite.core.memory.host import anonymous, memory_file

_COPIES = 8 << 20  # bytes taken at once
_SHARED = 1 << 20  # likewise, and of the file: a host maps some 65,000 pieces in a process


class FreshPages:
    """Gives slots of ``size`` bytes, each beginning as ``template`` and zeros behind it. ``shared``: by the file."""

    def __init__(self, template: bytes, size: int, *, shared: bool) -> None:
        unit = mmap.PAGESIZE if shared else 64
        self.size = -(-size // unit) * unit
        self._template = template
        self._count = max(1, (_SHARED if shared else _COPIES) // self.size)
        self._fd = memory_file("ratite-fresh-pages") if shared else -1
        if shared:
            os.truncate(self._fd, self.size * self._count)
            for k in range(self._count):
                os.pwrite(self._fd, template, k * self.size)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def more(self) -> list[Slot]:
        """Some that nobody has, to be renewed before they are used; their memory goes with the last of them."""
        size = self.size * self._count
        chunk = mmap.mmap(self._fd, size, flags=mmap.MAP_PRIVATE) if self._fd >= 0 else anonymous(size)
        start = ctypes.addressof(ctypes.c_char.from_buffer(chunk))
        return [Slot(chunk, k * self.size, start + k * self.size) for k in reversed(range(self._count))]

    def renew(self, slot: Slot) -> None:
        """Makes it fresh."""
        if self._fd < 0:
            used = len(self._template)
            ctypes.memmove(slot.base, self._template, used)
            ctypes.memset(slot.base + used, 0, self.size - used)
        elif slot.used:
            slot.chunk.madvise(mmap.MADV_DONTNEED, slot.at, self.size)
        slot.used = True


class Slot:
    """One, ``at`` bytes into ``chunk``, at host address ``base``."""

    __slots__ = ("at", "base", "chunk", "used")

    def __init__(self, chunk: mmap.mmap, at: int, base: int) -> None:
        self.chunk = chunk
        self.at = at
        self.base = base
        self.used = False

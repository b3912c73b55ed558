"""Where regions' code lives: one piece of memory seen twice, writable here and executable there, never both in one place.

The two views lie side by side, so that code reaches its own few data words (in the writable view) by 32-bit distances. The
arena is filled like a ring in *segments*: when one is to be used again, all regions in it are gone first, and every CPU must
have left them. Code fills a segment from its start and data from its end: a processor that finds a store near what it executes
takes it for self-modifying code and starts anew, at hundreds of cycles. Objects are ELF64 relocatable files of our own
compiler, checked as in ``core.engine.elf``.
"""

from __future__ import annotations

import ctypes
import os
import struct

from ratite.core.engine.elf import BadObject, parse_sections, symbol_table
from ratite.core.memory.host import memory_file

_PAGE = 4096
_LIMIT = 8 << 20  # bytes of one region
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
_RELA, _NOBITS, _SYMTAB = 4, 8, 2
_R_64, _R_PC32, _R_PLT32 = 1, 2, 4
# the C library's numbers on Linux
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 1, 2, 0x10, 0x20
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4


class Placed:
    """Code in the arena: ``symbols`` (executable addresses; those of data are writable ones), ``size`` in bytes."""

    __slots__ = ("segment", "size", "symbols")

    def __init__(self, segment: int, size: int, symbols: dict[str, int]) -> None:
        self.segment = segment
        self.size = size
        self.symbols = symbols


class Arena:
    """``size``: bytes, a multiple of the segments' number of pages. Not thread-safe: the manager's lock is held."""

    def __init__(self, size: int, segments: int = 8) -> None:
        self.segments = segments
        self._each = max(2 * _PAGE, size // segments // _PAGE * _PAGE)
        self.size = self._each * segments
        fd = memory_file("ratite-regions")
        try:
            os.ftruncate(fd, self.size)
            self._write, self._distance = self._map(fd)
        finally:
            os.close(fd)
        self.segment = 0
        self._at, self._end = 0, self._each  # free bytes of the segment

    def _map(self, fd: int) -> tuple[int, int]:
        """(address of the writable view, distance from it to the executable one)."""
        self._libc = libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        base = libc.mmap(None, 2 * self.size, 0, _MAP_PRIVATE | _MAP_ANONYMOUS, -1, 0)
        failed = ctypes.c_void_p(-1).value
        if base == failed:
            raise BadObject(f"no room for {2 * self.size} bytes of code (errno {ctypes.get_errno()})")
        self._base = base
        for at, prot in ((0, _PROT_READ | _PROT_WRITE), (self.size, _PROT_READ | _PROT_EXEC)):
            if libc.mmap(base + at, self.size, prot, _MAP_SHARED | _MAP_FIXED, fd, 0) == failed:
                raise BadObject(f"the host does not allow executable memory (mmap: errno {ctypes.get_errno()})")
        return base, self.size

    def place(self, data: bytes) -> Placed | None:
        """Loads an object; None where the current segment has no room for it. Raises BadObject."""
        sections = parse_sections(data)
        loaded = [s for s in sections if s.flags & _SHF_ALLOC and s.name != ".eh_frame" and s.size]
        start = self.segment * self._each
        at, end = self._at, self._end
        for s in loaded:
            if s.align > _PAGE or s.align & (s.align - 1) or (s.flags & _SHF_WRITE and s.flags & _SHF_EXEC):
                raise BadObject(f"section {s.name} wants alignment {s.align}, flags {s.flags}")
            align = max(s.align, 16)
            if s.flags & _SHF_WRITE:
                end = (end - s.size) // align * align
                s.address = self._write + start + end
            else:
                at = -(-at // align) * align
                s.address = self._write + self._distance + start + at
                at += s.size
        size = at - self._at + self._end - end
        if size > min(_LIMIT, self._each - _PAGE):
            raise BadObject(f"a region of {size} bytes")
        if -(-at // _PAGE) > end // _PAGE:  # no page has both
            return None
        table, names = symbol_table(sections)
        for s in loaded:
            if s.kind == _NOBITS:
                ctypes.memset(self._writable(s.address), 0, s.size)
            else:
                ctypes.memmove(self._writable(s.address), s.data, s.size)
        for s in sections:
            if s.kind == _RELA and s.info < len(sections) and sections[s.info] in loaded:
                self._relocate(s.data, sections[s.info].address, sections[s.info].size, table)
        self._at, self._end = at, end
        return Placed(self.segment, size, dict(names))

    def _writable(self, address: int) -> int:
        return address - self._distance if address >= self._write + self._distance else address

    def _relocate(self, rows: bytes, target: int, size: int, table: list[int | None]) -> None:
        for k in range(0, len(rows) - 23, 24):
            offset, info, addend = struct.unpack_from("<QQq", rows, k)
            kind, number = info & 0xFFFFFFFF, info >> 32
            width = 8 if kind == _R_64 else 4
            symbol = table[number] if number < len(table) else None
            if offset + width > size or symbol is None:
                raise BadObject(f"a relocation at {offset:#x} of {size:#x} names symbol {number}")
            place = target + offset
            if kind == _R_64:
                packed = struct.pack("<Q", (symbol + addend) & (1 << 64) - 1)
            elif kind in (_R_PC32, _R_PLT32):
                value = symbol + addend - place
                if not -(1 << 31) <= value < 1 << 31:
                    raise BadObject("a relocation does not reach its symbol")
                packed = struct.pack("<i", value)
            else:
                raise BadObject(f"relocation kind {kind} is not one that the compiler emits")
            ctypes.memmove(self._writable(place), packed, width)

    def advance(self) -> None:
        """Goes on in the next segment; nothing of it is in use any more."""
        self.segment = (self.segment + 1) % self.segments
        self._at, self._end = 0, self._each

    @property
    def used(self) -> int:
        """Bytes of the current segment that are taken."""
        return self._at + self._each - self._end

    def close(self) -> None:
        """Unmaps everything; no CPU may be inside."""
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc.munmap(self._base, 2 * self.size)

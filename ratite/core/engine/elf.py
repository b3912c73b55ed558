"""A loader for the relocatable objects that LLVM emits: ELF64, x86-64, self-contained.

Only what our own code generation needs is known; anything else is refused. Offsets and values of relocations are
range-checked. Memory is never writable and executable at once: it is filled, relocated, then sealed page by page.
Source: System V ABI, AMD64 supplement 1.0, chapter 4.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Mapping

from ratite.core.memory.host import anonymous

_PAGE = 4096
_LIMIT = 64 << 20  # bytes of a loaded object

_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
_PROGBITS, _SYMTAB, _STRTAB, _RELA, _NOBITS = 1, 2, 3, 4, 8
_R_64, _R_PC32, _R_PLT32 = 1, 2, 4


class BadObject(Exception):
    """The object is not one that the engine's compiler makes."""


class _Section:
    __slots__ = ("address", "align", "data", "flags", "info", "kind", "link", "name", "size")

    def __init__(self, name: str, kind: int, flags: int, size: int, link: int, info: int, align: int, data: bytes) -> None:
        self.name = name
        self.kind = kind
        self.flags = flags
        self.size = size
        self.link = link
        self.info = info
        self.align = align
        self.data = data
        self.address = -1


def _cut(data: bytes, offset: int, size: int, what: str) -> bytes:
    if offset < 0 or size < 0 or offset + size > len(data):
        raise BadObject(f"{what} lies outside the object ({offset:#x}+{size:#x} of {len(data):#x})")
    return data[offset:offset + size]


def parse_sections(data: bytes) -> list[_Section]:
    head = _cut(data, 0, 64, "the ELF header")
    if head[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", head, 16) != (1, 62):
        raise BadObject("not a relocatable ELF64 object for x86-64")
    shoff, = struct.unpack_from("<Q", head, 40)
    shentsize, shnum, shstrndx = struct.unpack_from("<HHH", head, 58)
    if shentsize != 64 or shstrndx >= shnum:
        raise BadObject(f"section headers of {shentsize} bytes, names in {shstrndx} of {shnum}")
    raw = _cut(data, shoff, 64 * shnum, "the section table")
    rows = [struct.unpack_from("<IIQQQQIIQQ", raw, 64 * k) for k in range(shnum)]
    names = _cut(data, rows[shstrndx][4], rows[shstrndx][5], "section names")
    found = []
    for name, kind, flags, _, offset, size, link, info, align, _ in rows:
        text = names[name:names.find(b"\0", name)].decode("ascii", "replace")
        body = b"" if kind in (0, _NOBITS) else _cut(data, offset, size, f"section {text}")
        found.append(_Section(text, kind, flags, size, link, info, align or 1, body))
    return found


def symbol_table(sections: list[_Section]) -> tuple[list[int | None], Mapping[str, int]]:
    """(address by symbol number, None for one that is not defined here; address by name)."""
    table: list[int | None] = []
    names: dict[str, int] = {}
    for s in sections:
        if s.kind != _SYMTAB:
            continue
        strings = sections[s.link].data if s.link < len(sections) else b""
        for k in range(0, len(s.data) - 23, 24):
            name, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", s.data, k)
            home = sections[index] if 0 < index < len(sections) else None
            if home is None or home.address < 0 or value > home.size:
                table.append(None)
                continue
            table.append(home.address + value)
            names[strings[name:strings.find(b"\0", name)].decode("ascii", "replace")] = home.address + value
    return table, names


class LoadedObject:
    """Code in memory. ``symbols``: name -> host address of every defined symbol. ``close`` unmaps it."""

    def __init__(self, data: bytes) -> None:
        sections = parse_sections(data)
        # unwind tables are for exceptions that nobody throws here
        loaded = [s for s in sections if s.flags & _SHF_ALLOC and s.name != ".eh_frame"]
        size = self._place(loaded)
        self._map = anonymous(max(size, _PAGE))
        self.size = size
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self._base = ctypes.addressof(self._anchor)
        for s in loaded:
            s.address += self._base
            if s.kind != _NOBITS:
                at = s.address - self._base
                self._map[at:at + s.size] = s.data
        table, self.symbols = symbol_table(sections)
        for s in sections:
            if s.kind == _RELA and s.info < len(sections) and sections[s.info] in loaded:
                self._relocate(s, sections[s.info], table)
        self._seal(loaded)

    @staticmethod
    def _place(loaded: list[_Section]) -> int:
        """Gives each section an offset: code, then read-only data, then writable data, each from a new page."""
        at = 0
        for want in (_SHF_EXEC, 0, _SHF_WRITE):
            at = -(-at // _PAGE) * _PAGE
            for s in loaded:
                if s.flags & (_SHF_EXEC | _SHF_WRITE) == want:
                    if s.align > _PAGE or s.align & (s.align - 1):
                        raise BadObject(f"section {s.name} wants an alignment of {s.align}")
                    at = -(-at // s.align) * s.align
                    s.address = at
                    at += s.size
                    if at > _LIMIT:
                        raise BadObject(f"the object is larger than {_LIMIT} bytes in memory")
        if any(s.address < 0 for s in loaded):
            raise BadObject("a section is writable and executable")
        return -(-at // _PAGE) * _PAGE

    def _relocate(self, rela: _Section, target: _Section, table: list[int | None]) -> None:
        for k in range(0, len(rela.data) - 23, 24):
            offset, info, addend = struct.unpack_from("<QQq", rela.data, k)
            kind, number = info & 0xFFFFFFFF, info >> 32
            width = 8 if kind == _R_64 else 4
            if offset + width > target.size:
                raise BadObject(f"a relocation at {offset:#x} lies outside {target.name}")
            symbol = table[number] if number < len(table) else None
            if symbol is None:
                raise BadObject(f"a relocation in {target.name} names symbol {number}, which is not defined")
            place = target.address + offset
            if kind == _R_64:
                packed = struct.pack("<Q", (symbol + addend) & (1 << 64) - 1)
            elif kind in (_R_PC32, _R_PLT32):
                value = symbol + addend - place
                if not -(1 << 31) <= value < 1 << 31:
                    raise BadObject(f"a relocation in {target.name} does not reach its symbol")
                packed = struct.pack("<i", value)
            else:
                raise BadObject(f"relocation kind {kind} in {target.name} is not one that the compiler emits")
            at = place - self._base
            self._map[at:at + width] = packed

    def _seal(self, loaded: list[_Section]) -> None:
        if sys.platform == "win32":
            raise BadObject("native code runs on Linux")
        libc = ctypes.CDLL(None, use_errno=True)
        for s in loaded:
            if s.flags & _SHF_WRITE or not s.size:
                continue
            start = s.address // _PAGE * _PAGE
            end = -(-(s.address + s.size) // _PAGE) * _PAGE
            prot = mmap.PROT_READ | (mmap.PROT_EXEC if s.flags & _SHF_EXEC else 0)
            if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), prot):
                raise BadObject(f"the host does not allow executable memory (mprotect: errno {ctypes.get_errno()})")

    def close(self) -> None:
        """Unmaps the code; nothing of it may run any more."""
        del self._anchor
        self._map.close()

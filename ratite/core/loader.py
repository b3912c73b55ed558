"""Program images: ELF files and raw binaries, in three steps so that nothing is written by halves.

    read_elf, read_raw   the file's head: is it an image for this CPU, and where do its pieces go
    Image.fetch          every piece lies in RAM of the view; only then are its bytes read
    Image.write          into memory; at every reset of the machine

Every length is checked against the file's, the RAM's and the host's before anything of that length is allocated.  Pieces
of an ELF file go to their physical address (p_paddr), but for the file's own head where a linker drew it into a piece and
there is no RAM for it (code that is linked to the start of RAM has its head before it).  Executables (ET_EXEC) and position
independent ones that relocate themselves (ET_DYN) are taken.  Left out: relocation, dynamic linking, symbols, compressed
images.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

from ratite.core.hostfiles import FREE, HostFiles
from ratite.core.memory.limits import check_host_memory
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.memory.space import Space

_CHUNK = 1 << 20
_PAGE = 1 << 12
_PADDING_MAX = 1 << 16
_CLASS_BITS = MappingProxyType({1: 32, 2: 64})
_SEGMENTS_MAX = 1024
_PT_LOAD = 1
_PN_XNUM = 0xFFFF
_ET_DYN = 3
_FILE_MAX = 16 << 20
_EXECUTABLE = frozenset({2, 3})
_ELF_TYPES = MappingProxyType({0: "ET_NONE", 1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"})


class Segment:
    """A piece of an image: `filesz` bytes at `offset` of the file go to `paddr`, zeros follow up to `memsz`.

    `head`: its first bytes that are the file's own head and padding, which nobody misses.
    """

    __slots__ = ("data", "filesz", "head", "memsz", "name", "offset", "paddr", "vaddr")

    def __init__(self, name: str, paddr: int, memsz: int, offset: int, filesz: int, vaddr: int | None = None) -> None:
        self.name = name
        self.paddr = paddr
        self.memsz = memsz
        self.offset = offset
        self.filesz = filesz
        self.data = b""
        self.vaddr = paddr if vaddr is None else vaddr
        self.head = 0

    def drop_head(self) -> None:
        """Without the file's own head."""
        for name, sign in (("offset", 1), ("paddr", 1), ("vaddr", 1), ("filesz", -1), ("memsz", -1), ("head", -1)):
            setattr(self, name, getattr(self, name) + sign * self.head)

    @property
    def end(self) -> int:
        """The address behind its last byte."""
        return self.paddr + self.memsz


class Image:
    """A program: its pieces and where it is entered."""

    __slots__ = ("entry", "files", "path", "relocatable", "segments", "what")

    def __init__(
        self, path: str, segments: list[Segment], entry: int, relocatable: bool = False, files: HostFiles = FREE
    ) -> None:
        self.path = path
        self.files = files
        self.segments = segments
        self.entry = entry
        # Whether it runs at any address (ET_DYN); what it is to people.
        self.relocatable = relocatable
        self.what = "image"

    def move(self, by: int) -> None:
        """Everything `by` bytes up."""
        self.entry += by
        for segment in self.segments:
            segment.paddr += by
            segment.vaddr += by

    @property
    def entry_paddr(self) -> int:
        """The physical address of the entry, which some kernels tell as a virtual one."""
        for segment in self.segments:
            if segment.paddr <= self.entry < segment.end:
                return self.entry
        for segment in self.segments:
            if segment.vaddr <= self.entry < segment.vaddr + segment.memsz:
                return self.entry - segment.vaddr + segment.paddr
        return self.entry

    @property
    def host_memory(self) -> int:
        """Bytes of the file that are kept for the next reset."""
        return sum(segment.filesz for segment in self.segments)

    def fetch(self, space: Space, held: int = 0) -> None:
        """Check that every piece lies in RAM of `space`, then read their bytes; GenericError naming file and piece.

        `held` is what the machine's memory takes of the host already.
        """
        for segment in self.segments:
            self._check(segment, space)
        check_host_memory(self.path, self.host_memory, held)
        with opened(self.path, self.files) as file:
            for segment in self.segments:
                file.seek(segment.offset)
                segment.data = file.read(segment.filesz)
                if len(segment.data) != segment.filesz:
                    raise bad_image(self.path, f"{segment.name} is truncated")

    def write(self, space: Space) -> None:
        """Put every piece into memory, ROM included."""
        for segment in self.segments:
            space.write(segment.paddr, segment.data)
            at, end = segment.paddr + segment.filesz, segment.paddr + segment.memsz
            while at < end:
                count = min(_CHUNK, end - at)
                space.write(at, bytes(count))
                at += count

    def _check(self, segment: Segment, space: Space) -> None:
        if segment.head:
            found = space.view.find(segment.paddr)
            if found is None or not found.region.IS_RAM:
                segment.drop_head()
        at, end = segment.paddr, segment.paddr + segment.memsz
        while at < end:
            found = space.view.find(at)
            if found is None or not found.region.IS_RAM:
                where = f"{segment.name} ({segment.memsz:#x} bytes at {segment.paddr:#x})"
                raise bad_image(self.path, f"{where} doesn't fit in RAM: no RAM at {at:#x} of '{space.root.name}'")
            at = found.end


def is_elf(path: str, files: HostFiles = FREE) -> bool:
    """Whether the file begins as an ELF file does; GenericError when it can't be read."""
    with opened(path, files) as file:
        return file.read(4) == b"\x7fELF"


def read_file(path: str, files: HostFiles = FREE, most: int = _FILE_MAX) -> bytes:
    """The whole file; GenericError, also when it is larger than `most` bytes."""
    with opened(path, files) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise bad_image(path, f"it is larger than {most} bytes")
    return data


def read_raw(path: str, addr: int, files: HostFiles = FREE) -> Image:
    """A raw binary as one piece at `addr`, which is its entry; GenericError."""
    with opened(path, files) as file:
        size = os.fstat(file.fileno()).st_size
    if not size:
        raise bad_image(path, "it is empty")
    return Image(path, [Segment("the binary", addr, size, 0, size)], addr, files=files)


def read_elf(path: str, machine: int, bits: int, big_endian: bool, files: HostFiles = FREE) -> Image:
    """An executable ELF file for this e_machine, word size and byte order; GenericError that says what doesn't fit."""
    with opened(path, files) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(20)
        _check_head(path, head, machine, bits, big_endian)
        file.seek(0)
        try:
            entry, headers, head_end = _program_headers(file, bits, big_endian)
            padding = _zeros(file, head_end)
        except Exception as exc:
            raise bad_image(path, f"not a valid ELF file, maybe truncated ({type(exc).__name__}: {exc})") from exc
    segments = []
    for number, (paddr, memsz, offset, filesz, vaddr) in headers:
        name = f"segment {number}"
        if offset + filesz > size:
            raise bad_image(path, f"{name} ends at byte {offset + filesz} of a file of {size}: the file is truncated")
        if filesz > memsz:
            raise bad_image(path, f"{name} has {filesz} bytes in the file but {memsz} in memory")
        if paddr + memsz > 1 << bits:
            raise bad_image(path, f"{name} ({memsz:#x} bytes at {paddr:#x}) reaches beyond the {bits}-bit address space")
        if memsz:
            segments.append(Segment(name, paddr, memsz, offset, filesz, vaddr))
            if offset == 0 and head_end + padding < filesz:
                segments[-1].head = (head_end + padding) & -_PAGE or head_end + padding
    if not segments:
        raise bad_image(path, "it has no segment to load")
    return Image(path, segments, entry, head[17 if big_endian else 16] == _ET_DYN, files)


def _check_head(path: str, head: bytes, machine: int, bits: int, big_endian: bool) -> None:
    if head[:4] != b"\x7fELF":
        raise bad_image(path, "not an ELF file")
    if len(head) < 20:
        raise bad_image(path, "the ELF header is truncated")
    file_bits = _CLASS_BITS.get(head[4])
    if file_bits != bits:
        raise bad_image(path, f"it is a {file_bits or '?'}-bit ELF, the CPU is {bits}-bit")
    if head[5] not in (1, 2):
        raise bad_image(path, f"unknown ELF byte order {head[5]}")
    file_big = head[5] == 2
    if file_big != big_endian:
        raise bad_image(path, f"it is {_order(file_big)}-endian, the CPU is {_order(big_endian)}-endian")
    file_type, file_machine = struct.unpack(">HH" if file_big else "<HH", head[16:20])
    if file_type not in _EXECUTABLE:
        name = _ELF_TYPES.get(file_type, f"{file_type:#x}")
        raise bad_image(path, f"it is an ELF file of type {name}, an image must be of type ET_EXEC or ET_DYN")
    if file_machine != machine:
        raise bad_image(path, f"it is for ELF machine {file_machine}, the CPU is machine {machine}")


def _program_headers(
    file: IO[bytes], bits: int, big_endian: bool
) -> tuple[int, list[tuple[int, tuple[int, int, int, int, int]]], int]:
    """(entry, [(number, (paddr, memsz, offset, filesz, vaddr)) of every PT_LOAD], where the headers end in the file).

    By ourselves and not by pyelftools, whose import takes longer than all else that a short boot does with its images.
    """
    order, wide = ">" if big_endian else "<", bits == 64
    head = struct.Struct(order + ("24x QQQ 4x HHHH" if wide else "24x III 4x HHHH"))
    entry, table, sections, _, width, count, section_width = _unpack(file, head, 0)
    if count == _PN_XNUM:  # the number is in the first section's sh_info
        info = struct.Struct(order + ("44x I" if wide else "28x I"))
        if not sections or section_width < info.size:
            raise ValueError("the number of program headers is in a section that is not there")
        (count,) = _unpack(file, info, sections)
    if count > _SEGMENTS_MAX:
        raise ValueError(f"{count} program headers, at most {_SEGMENTS_MAX} are taken")
    row = struct.Struct(order + ("I 4x QQQQQ" if wide else "IIIIII"))
    if count and width < row.size:
        raise ValueError(f"program headers of {width} bytes, they have at least {row.size}")
    loads = []
    for number in range(count):
        kind, offset, vaddr, paddr, filesz, memsz = _unpack(file, row, table + number * width)
        if kind == _PT_LOAD:
            loads.append((number, (paddr, memsz, offset, filesz, vaddr)))
    return entry, loads, table + count * width


def _zeros(file: IO[bytes], at: int) -> int:
    """How many zeros there are from `at` on, up to a page of the largest kind that linkers pad to."""
    file.seek(at)
    data = file.read(_PADDING_MAX)
    return len(data) - len(data.lstrip(b"\0"))


def _unpack(file: IO[bytes], layout: struct.Struct, at: int) -> tuple[int, ...]:
    file.seek(at)
    data = file.read(layout.size)
    if len(data) < layout.size:
        raise ValueError(f"the file ends within the {layout.size} bytes at {at:#x}")
    return layout.unpack(data)


@contextmanager
def opened(path: str, files: HostFiles = FREE) -> Iterator[IO[bytes]]:
    """A regular file, open for reading; GenericError as QEMU's "Could not open", or for what then can't be read."""
    try:
        # A FIFO must not block the machine.
        fd = files.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise GenericError(f"Could not open '{path}': {reason}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise GenericError(f"Could not open '{path}': not a regular file")
    with os.fdopen(fd, "rb") as file:
        try:
            yield file
        except (OSError, ValueError, OverflowError) as exc:
            raise bad_image(path, f"it can't be read: {getattr(exc, 'strerror', None) or exc}") from exc


def bad_image(path: str, why: str) -> GenericError:
    """The error for an image that isn't one."""
    return GenericError(f"Could not load image '{path}': {why}")


def _order(big: bool) -> str:
    return "big" if big else "little"

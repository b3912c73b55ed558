"""The memory types of the composition tree: `address-space`, `memory-backend-ram`, `memory-backend-file`.

A size is checked against the host's limits, together with those of the machine's other memory, when it is set.  The
region exists from *wired* to *unwired*; its host memory is reserved then.  Left out: NUMA policy, huge pages,
preallocation, merging, guest-only memory.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from contextlib import suppress
from typing import Any, ClassVar

from ratite.core.hostfiles import files_of, unlink_own
from ratite.core.memory.code import PAGE_BITS
from ratite.core.memory.limits import check_file_space, check_host_memory
from ratite.core.memory.ram import RamRegion, anonymous_ram
from ratite.core.memory.regions import LIMIT
from ratite.core.memory.space import Space
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config, debug
from ratite.qapi.errors import GenericError


class AddressSpace(Space, Obj):
    """An address space: what a CPU cluster or a DMA engine sees; regions are mapped into it."""

    TYPE: ClassVar[str] = "address-space"
    KIND: ClassVar[str] = "object"

    address_bits = config("uint8", 64, "width of an address; nothing is seen above", unit="bits", minimum=1, maximum=64)
    bus_errors_total = debug("uint64", text="accesses that nobody answered", getter="_count_bus_errors")
    rom_writes_total = debug("uint64", text="writes to ROM that were dropped", getter="_count_rom_writes")

    def __init__(self, id: str) -> None:
        Obj.__init__(self, id)
        self.init_space(id)

    def wire(self) -> None:
        """Cuts the view at the width that was given."""
        limit = LIMIT if self.address_bits == 64 else 1 << self.address_bits
        self.root.size = limit
        self.region_changed()

    def _count_bus_errors(self) -> int:
        return self.bus_errors.total

    def _count_rom_writes(self) -> int:
        return self.rom_writes.total


class MemoryBackend(Obj):
    """RAM for guests: the part that all backends have."""

    TYPE: ClassVar[str] = "memory-backend"
    KIND: ClassVar[str] = "object"
    ABSTRACT: ClassVar[bool] = True

    size = config("size", 0, "size of the memory", unit="bytes", required=True)
    readonly = config("bool", False, "guests can't write it")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.ram: RamRegion | None = None

    def check_property(self, name: str, value: Any) -> None:
        """A size is whole pages, and no more than the host can give besides the machine's other memory."""
        if name != "size":
            return
        if not value:
            raise GenericError(f"Property '{self.TYPE}.size' doesn't take value '0'")
        if value & (1 << PAGE_BITS) - 1:
            raise GenericError(f"Property '{self.TYPE}.size' must be a multiple of {1 << PAGE_BITS} bytes, not {value}")
        # A test's object may have no machine.
        machine = self.__dict__.get("machine")
        if machine is None:
            check_host_memory(self.id, value)
        else:
            machine.check_memory(self.id, value, self)

    def host_memory(self) -> int:
        """The size."""
        return int(self.size)

    def region(self, name: str = "") -> RamRegion:
        """The memory as a region, from wired on; GenericError before and for any other name."""
        if self.ram is None or name not in ("", "ram"):
            raise GenericError(f"'{self.path}' (type '{self.TYPE}') has no memory region {name!r} now")
        return self.ram

    def wire(self) -> None:
        """Reserves the host memory; GenericError when the host can't give it."""
        self.ram = self.make_ram()

    def make_ram(self) -> RamRegion:
        """The region, made new."""
        raise NotImplementedError

    def unwire(self) -> None:
        """Gives the host memory back."""
        if self.ram is not None:
            self.ram.close()
            self.ram = None


class MemoryBackendRam(MemoryBackend):
    """Anonymous host memory."""

    TYPE: ClassVar[str] = "memory-backend-ram"

    share = config("bool", False, "children of the process share the memory instead of copying it")

    def make_ram(self) -> RamRegion:
        """Anonymous memory, zeroed."""
        return anonymous_ram(self.id, self.size, self.readonly, self.share)


class MemoryBackendFile(MemoryBackend):
    """Host memory behind which stands a file; a path of a directory means a file in it without a name.

    A missing or empty file is made as long as `size`; an existing one must be long enough.  What was made is taken back
    if the machine doesn't start.
    """

    TYPE: ClassVar[str] = "memory-backend-file"

    mem_path = config("str", "", "path of the file or of a directory", required=True)
    share = config("bool", False, "writes reach the file and everybody else who maps it")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        # Device and inode: of the file, and of one that wire() made or made longer; which of the two.
        self._file: tuple[int, int] | None = None
        self._inode: tuple[int, int] | None = None
        self._made = False

    def realize(self) -> None:
        """GenericError when somebody made the file shorter since it was mapped."""
        with suppress(OSError):
            facts = files_of(self).stat(self.mem_path)
            if (facts.st_dev, facts.st_ino) == self._file:
                self._check_length(facts.st_size)

    def reset(self) -> None:
        """The machine starts with the file: it stays."""
        self._inode = None

    def unwire(self) -> None:
        """Gives the host memory back, and takes back a file that no machine ran with."""
        super().unwire()
        inode, self._inode = self._inode, None
        if inode is None:
            return
        files = files_of(self)
        if self._made:
            unlink_own(files, self.mem_path, inode)
            return
        with suppress(OSError):
            fd = files.open(self.mem_path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                facts = os.fstat(fd)
                if (facts.st_dev, facts.st_ino) == inode:
                    os.ftruncate(fd, 0)
            finally:
                os.close(fd)

    def make_ram(self) -> RamRegion:
        """The file, mapped."""
        check_host_memory(self.id, self.size)
        fd = self._open()
        try:
            self._fit(fd)
            if sys.platform == "win32":
                buf = mmap.mmap(fd, self.size, access=mmap.ACCESS_WRITE if self.share else mmap.ACCESS_COPY)
            else:
                buf = mmap.mmap(fd, self.size, flags=mmap.MAP_SHARED if self.share else mmap.MAP_PRIVATE)
        except (OSError, ValueError, OverflowError) as error:
            raise GenericError(f"cannot set up guest memory '{self.id}': {error}") from None
        finally:
            os.close(fd)
        return RamRegion(self.id, buf, self.readonly, self.size)

    def _open(self) -> int:
        path, files = self.mem_path, files_of(self)
        try:
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(files.stat(path).st_mode):
                    return files.temporary(path)
            flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
            try:
                fd = files.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                # Without O_CREAT: a link that leads nowhere is an error, not a file made somewhere else.
                self._made = False
                return files.open(path, flags)
            self._made = True
            facts = os.fstat(fd)
            self._inode = (facts.st_dev, facts.st_ino)
            return fd
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise GenericError(f"can't open backing store {path} for guest RAM: {reason}") from None

    def _fit(self, fd: int) -> None:
        present = os.fstat(fd).st_size
        if present == 0:
            check_file_space(self.id, fd, self.mem_path, self.size)
            facts = os.fstat(fd)
            if facts.st_nlink:
                self._inode = (facts.st_dev, facts.st_ino)
            os.ftruncate(fd, self.size)
        else:
            self._check_length(present)
        facts = os.fstat(fd)
        self._file = (facts.st_dev, facts.st_ino)

    def _check_length(self, present: int) -> None:
        # Touching a page beyond the file's end is a SIGBUS, the end of the process.
        if present < self.size:
            raise GenericError(
                f"backing store size {present:#x} does not match 'size' option {self.size:#x} of '{self.id}'"
            )

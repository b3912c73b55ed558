"""The memory types of the composition tree: `address-space`, `memory-backend-ram`, `-file`, `-memfd`.

A size is checked against the host's limits, together with those of the machine's other memory, when it is set.  The
region exists from *wired* to *unwired*; its host memory is reserved then, and the host told what it is to do with it
(advice.py).  Left out: persistent memory, an alignment of the mapping, thread contexts.
"""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import suppress
from typing import Any, ClassVar

from ratite.core.hostfiles import files_of, unlink_own
from ratite.core.memory.advice import NODES, POLICIES, advise, bind, populate
from ratite.core.memory.code import PAGE_BITS
from ratite.core.memory.host import map_file
from ratite.core.memory.limits import check_file_space, check_host_memory
from ratite.core.memory.ram import RamRegion, anonymous_ram
from ratite.core.memory.regions import LIMIT
from ratite.core.memory.space import Space
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config, debug, tunable
from ratite.qapi.errors import GenericError

_ON_OFF_AUTO = ("auto", "on", "off")
# Of memfd_create(2): where the size of huge pages stands in the flags, and the longest name.
_HUGE_SHIFT, _MEMFD_NAME = 26, 249


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
    share = config("bool", False, "what is written reaches everybody else who maps the memory")
    merge = tunable("bool", True, "the host may merge equal pages")
    dump = tunable("bool", True, "the memory is in core dumps of the daemon")
    prealloc = tunable("bool", False, "take all of the host's memory at once, not as it is touched")
    prealloc_threads = config("uint32", 1, "threads that do so", maximum=1024)
    reserve = config("bool", True, "the host sets memory or swap aside for it")
    policy = config("str", "default", "how it is spread over NUMA nodes of the host", values=POLICIES)
    host_nodes = config("list:uint16", text="those NUMA nodes")
    x_use_canonical_path_for_ramblock_id = config("bool", False, "x-query-ramblock calls it by its path")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.ram: RamRegion | None = None

    def check_property(self, name: str, value: Any) -> None:
        """A size is whole pages, and no more than the host can give besides the machine's other memory."""
        if (name == "prealloc" and value and not self.reserve) or (name == "reserve" and not value and self.prealloc):
            raise GenericError("'prealloc=on' and 'reserve=off' are incompatible")
        for node in value if name == "host-nodes" else ():
            if node >= NODES:
                raise GenericError(f"Invalid host-nodes value: {node}")
        if name in ("size", "prealloc-threads") and not value:
            raise GenericError(f"property '{name}' of {self.TYPE} doesn't take value '0'")
        if name != "size":
            return
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
        ram = self.make_ram()
        try:
            if self.policy != "default" or self.host_nodes:
                bind(ram.address, ram.size, self.policy, self.host_nodes)
            for name in "merge", "dump":
                # The host's own way, unless something else is wanted.
                if name == "merge" or not self.dump:
                    advise(ram.buf, name, getattr(self, name))
            if self.prealloc:
                populate(ram.buf, ram.address, ram.size, self.prealloc_threads)
        except GenericError:
            ram.close()
            raise
        self.ram = ram

    def property_changed(self, name: str) -> None:
        """The host is told of what may change while guests run."""
        if self.ram is None:
            return
        if name in ("merge", "dump"):
            advise(self.ram.buf, name, getattr(self, name))
        elif name == "prealloc" and self.prealloc:
            populate(self.ram.buf, self.ram.address, self.ram.size, self.prealloc_threads)

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

    def make_ram(self) -> RamRegion:
        """Anonymous memory, zeroed."""
        return anonymous_ram(self.id, self.size, self.readonly, self.share, self.reserve)


class MemoryBackendMemfd(MemoryBackend):
    """Anonymous host memory with a descriptor, which other processes can be given."""

    TYPE: ClassVar[str] = "memory-backend-memfd"

    share = config("bool", True, "what is written reaches everybody else who maps the memory")
    seal = config("bool", True, "its size can't be changed by others")
    hugetlb = config("bool", False, "take huge pages that the host has set aside")
    hugetlbsize = config("size", 0, "their size; 0: the host's default", unit="bytes")

    def make_ram(self) -> RamRegion:
        """The memory, mapped.  GenericError in QEMU's words."""
        check_host_memory(self.id, self.size)
        if not hasattr(os, "memfd_create"):
            raise GenericError(f"'{self.TYPE}' needs Linux")
        flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if self.seal else 0)
        if self.hugetlb:
            flags |= os.MFD_HUGETLB | (self.hugetlbsize.bit_length() - 1 << _HUGE_SHIFT if self.hugetlbsize else 0)
        try:
            fd = os.memfd_create(f"memory-backend-memfd-{self.id}"[:_MEMFD_NAME], flags)
        except OSError as error:
            raise GenericError(f"failed to create memfd with flags {flags:#x}: {error.strerror}") from None
        try:
            self._fit(fd)
            buf = map_file(fd, self.size, 0, self.share, self.reserve)
        except (OSError, ValueError, OverflowError) as error:
            raise GenericError(f"cannot set up guest memory '{self.id}': {error}") from None
        finally:
            os.close(fd)
        return RamRegion(self.id, buf, self.readonly, self.size)

    def _fit(self, fd: int) -> None:
        try:
            os.ftruncate(fd, self.size)
        except OSError as error:
            raise GenericError(f"failed to resize memfd to {self.size}: {error.strerror}") from None
        if self.seal:
            import fcntl

            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)


class MemoryBackendFile(MemoryBackend):
    """Host memory behind which stands a file; a path of a directory means a file in it without a name.

    A missing or empty file is made as long as `size`; an existing one must be long enough.  What was made is taken back
    if the machine doesn't start.
    """

    TYPE: ClassVar[str] = "memory-backend-file"

    mem_path = config("str", "", "path of the file or of a directory", required=True)
    offset = config("size", 0, "where in the file the memory begins", unit="bytes")
    discard_data = config("bool", False, "what is in the file is of no use once the memory goes")
    rom = config("str", "auto", "guests can't write it: auto: if the file is opened only for reading", values=_ON_OFF_AUTO)

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
        if self.ram is not None and self.discard_data and not self.readonly and hasattr(mmap, "MADV_REMOVE"):
            with suppress(OSError):
                self.ram.buf.madvise(mmap.MADV_REMOVE)
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
        """The file, mapped; one that is opened only for reading privately, since the loader writes ROM, too."""
        if self.rom == "on" and not self.readonly:
            raise GenericError("property 'rom' = 'on' is not supported with 'readonly' = 'off'")
        if self.rom == "off" and self.readonly and self.share:
            raise GenericError("property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'")
        check_host_memory(self.id, self.size)
        fd = self._open()
        try:
            self._fit(fd)
            buf = map_file(fd, self.size, self.offset, self.share and not self.readonly, self.reserve)
        except (OSError, ValueError, OverflowError) as error:
            raise GenericError(f"cannot set up guest memory '{self.id}': {error}") from None
        finally:
            os.close(fd)
        return RamRegion(self.id, buf, self.readonly and self.rom != "off", self.size)

    def _open(self) -> int:
        path, files = self.mem_path, files_of(self)
        try:
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(files.stat(path).st_mode):
                    return files.temporary(path)
            if self.readonly:
                self._made = False
                return files.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
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
        if present == 0 and not self.readonly:
            check_file_space(self.id, fd, self.mem_path, self.size)
            facts = os.fstat(fd)
            if facts.st_nlink:
                self._inode = (facts.st_dev, facts.st_ino)
            os.ftruncate(fd, self.offset + self.size)
        else:
            self._check_length(present)
        facts = os.fstat(fd)
        self._file = (facts.st_dev, facts.st_ino)

    def _check_length(self, present: int) -> None:
        # Touching a page beyond the file's end is a SIGBUS, the end of the process.
        if present < self.offset + self.size:
            raise GenericError(
                f"{self.id} backing store size {present:#x} is too small for 'size' option {self.size:#x} "
                f"plus 'offset' option {self.offset:#x}"
            )
        if self.offset % mmap.PAGESIZE:
            raise GenericError(f"offset {self.offset:#x} must be multiples of page size {mmap.PAGESIZE:#x}")

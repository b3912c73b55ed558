"""RAM and ROM: host memory at a stable address, with what engines and viewers must be told about writes.

Two side tables go with the bytes:

    code         marks of engines that hold translations of it (`code.py`); a write into code is told to them
    dirty        an entry for each 4 KiB page, one bit a client of dirty tracking; a write sets them all

Whatever Python writes goes through `RamRegion.write` (or `store`), which honours both.  Native code that writes RAM
must set the page's byte at `dirty_address` to 0xFF while that isn't 0, and look at the marks of code itself.
"""

from __future__ import annotations

import mmap

from ratite.core.memory.access import Access
from ratite.core.memory.code import PAGE_BITS, CodeMarks
from ratite.core.memory.host import anonymous
from ratite.core.memory.limits import check_host_memory
from ratite.core.memory.regions import LeafRegion
from ratite.qapi.errors import GenericError

CLIENTS = 8  # dirty tracking's: one bit each in a page's byte


class RamRegion(LeafRegion):
    """`size` bytes of `buf` as guest memory; `readonly` makes it ROM, whose guest writes the space drops and counts."""

    KIND = "ram"
    IS_RAM = True
    __slots__ = (
        "_address",
        "_dirty",
        "_dirty_clients",
        "_dirty_pin",
        "_pin",
        "buf",
        "code",
        "private",
        "readonly",
    )

    def __init__(self, name: str, buf: mmap.mmap, readonly: bool = False, size: int | None = None) -> None:
        super().__init__(name, len(buf) if size is None else size)
        if self.size > len(buf):
            raise GenericError(f"RAM '{name}' of {self.size} bytes doesn't fit the {len(buf)} bytes behind it")
        self.buf = buf
        self.readonly = readonly
        # Whether it is memory of this process alone, without a file, which the host can have back page by page.
        self.private = False
        self.code = CodeMarks(self.size)
        self._address = 0
        self._pin: object = None
        self._dirty: bytearray | None = None
        self._dirty_pin: object = None
        self._dirty_clients = 0

    @property
    def address(self) -> int:
        """Host address of the first byte; it stays the same until `close`."""
        if not self._address:
            import ctypes

            pin = ctypes.c_char.from_buffer(self.buf)
            self._address = ctypes.addressof(pin)
            self._pin = pin
        return self._address

    def load(self, offset: int, size: int, access: Access) -> int:
        return int.from_bytes(self.buf[offset : offset + size], "big" if access.big else "little")

    def store(self, offset: int, size: int, value: int, access: Access) -> None:
        value &= (1 << 8 * size) - 1
        self.write(offset, value.to_bytes(size, "big" if access.big else "little"))

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; a range that isn't wholly inside is a ValueError (a fault of the caller)."""
        if not 0 <= offset <= offset + size <= self.size:
            raise ValueError(f"{size} bytes at {offset:#x} are not inside RAM '{self.name}' of {self.size:#x} bytes")
        return self.buf[offset : offset + size]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Writes `data` at `offset`, ROM or not, and tells engines and dirty tracking.  ValueError as in `read`."""
        size = len(data)
        end = offset + size
        if not 0 <= offset <= end <= self.size:
            raise ValueError(f"{size} bytes at {offset:#x} are not inside RAM '{self.name}' of {self.size:#x} bytes")
        if not size:
            return
        self.buf[offset:end] = data
        if self._dirty is not None:
            first, last = offset >> PAGE_BITS, (end - 1 >> PAGE_BITS) + 1
            self._dirty[first:last] = b"\xff" * (last - first)
        self.code.written(offset, size)

    def discard(self, offset: int, size: int) -> None:
        """Whole pages that the guest doesn't need: they read zeros, and the host has them back where it can."""
        self.write(offset, bytes(size))
        if self.private and not (offset | size) & (mmap.PAGESIZE - 1) and hasattr(mmap, "MADV_DONTNEED"):
            self.buf.madvise(mmap.MADV_DONTNEED, offset, size)

    # -- dirty tracking

    def dirty_start(self, client: int) -> None:
        """Begins to note written pages for `client` (0 to 7: migration, a display, …); nothing is dirty at first."""
        if not 0 <= client < CLIENTS:
            raise ValueError(f"dirty tracking has clients 0 to {CLIENTS - 1}, not {client}")
        if self._dirty is None:
            self._dirty = bytearray(len(self.code.pages))
        self._dirty_clients |= 1 << client
        self.dirty_collect(client)

    def dirty_stop(self, client: int) -> None:
        """Ends it; the table goes with its last client."""
        self._dirty_clients &= ~(1 << client)
        if not self._dirty_clients:
            self._dirty = self._dirty_pin = None

    def dirty_collect(self, client: int) -> list[tuple[int, int]]:
        """The (offset, size) runs of pages written since the last call; they are clean for `client` from now on.

        A page that native code writes meanwhile may be told again, never missed: the mark is cleared before the caller
        reads the bytes.
        """
        runs: list[tuple[int, int]] = []
        table, bit = self._dirty, 1 << client
        if table is None or not self._dirty_clients & bit:
            return runs
        page, pages = 0, len(table)
        while page < pages:
            if not table[page] & bit:
                page += 1
                continue
            first = page
            while page < pages and table[page] & bit:
                table[page] &= ~bit & 0xFF
                page += 1
            start, end = first << PAGE_BITS, min(page << PAGE_BITS, self.size)
            runs.append((start, end - start))
        return runs

    @property
    def dirty_address(self) -> int:
        """Host address of the dirty table for native code, 0 while nobody tracks."""
        if self._dirty is None:
            return 0
        import ctypes

        if self._dirty_pin is None:
            self._dirty_pin = ctypes.c_uint8.from_buffer(self._dirty)
        return ctypes.addressof(self._dirty_pin)  # type: ignore[arg-type]

    def close(self) -> None:
        """Gives the host memory back.  Nobody may use `address` any more; calling twice is fine."""
        self._pin = self._dirty_pin = self._dirty = None
        self._address = 0
        self.code.on_write.clear()
        self.code.on_made.clear()
        self.buf.close()


def anonymous_ram(name: str, size: int, readonly: bool = False, share: bool = False, reserve: bool = False) -> RamRegion:
    """New zeroed RAM of `size` bytes, checked against what the host has; `share`, `reserve` as `anonymous`."""
    if size <= 0:
        raise GenericError(f"Size of RAM '{name}' must be at least 1 byte, not {size}")
    check_host_memory(name, size)
    try:
        buf = anonymous(size, share, reserve)
    except (OSError, ValueError, OverflowError) as error:
        raise GenericError(f"cannot set up guest memory '{name}': {error}") from None
    made = RamRegion(name, buf, readonly)
    made.private = not share
    return made

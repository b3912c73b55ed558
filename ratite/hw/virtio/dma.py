"""A device's sight of memory: the RAM of one address space, and nothing else.

Only RAM: an access to registers could come back into the device that makes it.  Writes go through `RamRegion.write`,
which tells engines and dirty tracking; those to ROM are dropped, as on a bus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.memory import RamRegion

if TYPE_CHECKING:
    from ratite.core.memory import FlatRange, FlatView, Space


class DmaError(Exception):
    """A device was told to use memory that isn't RAM; `addr` is the first such address."""

    def __init__(self, addr: int) -> None:
        super().__init__(addr)
        self.addr = addr

    def __str__(self) -> str:
        return "memory that isn't RAM"


class Dma:
    """Accesses of a device to `space`; all under the machine lock."""

    __slots__ = ("_last", "_view", "space")

    def __init__(self, space: Space) -> None:
        self.space = space
        self._view: FlatView | None = None
        self._last: FlatRange | None = None

    def _range(self, addr: int) -> FlatRange:
        view, last = self.space.view, self._last
        if last is not None and view is self._view and last.start <= addr < last.end:
            return last
        found = view.find(addr)
        if found is None or not found.region.IS_RAM:
            raise DmaError(addr)
        self._view, self._last = view, found
        return found

    def read(self, addr: int, size: int) -> bytes:
        """`size` bytes from `addr` on; DmaError."""
        if not size:
            return b""
        r = self._range(addr)
        if addr + size <= r.end:
            at = addr - r.delta
            data: bytes = r.region.buf[at : at + size]  # type: ignore[attr-defined]  # IS_RAM says so
            return data
        parts: list[bytes] = []
        for ram, at, count, _ in self._pieces(addr, size):
            parts.append(ram.read(at, count))
        return b"".join(parts)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Writes `data` at `addr`; DmaError, and then nothing was written."""
        size = len(data)
        if not size:
            return
        r = self._range(addr)
        if addr + size <= r.end and not r.readonly:
            r.region.write(addr - r.delta, data)  # type: ignore[attr-defined]  # IS_RAM says so
            return
        done = 0
        for ram, at, count, readonly in self._pieces(addr, size):
            if not readonly:
                ram.write(at, data[done : done + count])
            done += count

    def check(self, addr: int, size: int) -> None:
        """DmaError unless all of it is RAM."""
        self._pieces(addr, size)

    def _pieces(self, addr: int, size: int) -> list[tuple[RamRegion, int, int, bool]]:
        """(ram, offset in it, bytes, readonly) of a run."""
        pieces = []
        at, end = addr, addr + size
        while at < end:
            r = self._range(at)
            stop = min(end, r.end)
            ram = r.region
            assert isinstance(ram, RamRegion)
            pieces.append((ram, at - r.delta, stop - at, r.readonly))
            at = stop
        return pieces

    def window(self, addr: int, size: int) -> Window:
        """A run that is used often; DmaError.  Valid as long as `space.view` is the same object."""
        self.check(addr, size)
        return Window(self, addr, size)


class Window:
    """A ring or table in memory: reads without a look-up where it lies in one piece of RAM."""

    __slots__ = ("_addr", "_base", "_buf", "_dma", "_ram")

    def __init__(self, dma: Dma, addr: int, size: int) -> None:
        self._dma = dma
        self._addr = addr
        ram, base, count, readonly = dma._pieces(addr, size)[0]
        whole = count == size
        self._base = base
        self._buf = ram.buf if whole else None
        self._ram = ram if whole and not readonly else None

    def read(self, at: int, size: int) -> bytes:
        """`size` bytes from the window's byte `at` on; the caller keeps inside."""
        buf = self._buf
        if buf is None:
            return self._dma.read(self._addr + at, size)
        at += self._base
        return buf[at : at + size]

    def write(self, at: int, data: bytes) -> None:
        """Writes at the window's byte `at`."""
        if self._ram is None:
            self._dma.write(self._addr + at, data)
        else:
            self._ram.write(self._base + at, data)

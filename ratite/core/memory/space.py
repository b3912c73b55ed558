"""Address spaces: a view of memory, and the accesses made through it.

`Space` is the mechanism, with no object model, so that it can be tested and used alone; the type `address-space`
(objects.py) puts it into the composition tree.  Everything here is called under the machine's lock.

    load, store     one bus access of 1, 2, 4 or 8 bytes, as an initiator's byte order sees it
    read, write     a run of bytes of any length (DMA, loaders, debuggers), in memory order

An access that nobody answers raises BusError with its address and is counted and logged once a site; a store to ROM is
dropped, counted and logged once a site.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ratite.core.memory.access import MISALIGNED, UNMAPPED, Access, BusError, SiteCounter
from ratite.core.memory.flat import Clash, FlatRange, FlatView, clashes, flatten
from ratite.core.memory.mmio import MmioRegion
from ratite.core.memory.ram import RamRegion
from ratite.core.memory.regions import LIMIT, ContainerRegion, Region

_Piece = tuple[RamRegion, int, int, bool]  # ram, offset in it, size, readonly
Listener = Callable[[FlatView, FlatView], None]

_DEBUG = Access(debug=True)


class Space:
    """A root container, the flat view of it, and who is told when that changes."""

    def __init__(self, name: str = "memory", limit: int = LIMIT) -> None:
        self.init_space(name, limit)

    def init_space(self, name: str, limit: int = LIMIT) -> None:
        """Sets the space up: for classes that can't call __init__.  Addresses are below `limit`."""
        self.root = ContainerRegion(name, limit)
        self.root.add_user(self)
        self.listeners: list[Listener] = []  # called with (old view, new view)
        self.bus_errors = SiteCounter()
        self.rom_writes = SiteCounter()
        self.view = FlatView()
        self._batches = 0
        self._stale = False

    # -- the map

    def map(self, region: Region, offset: int, priority: int = 0) -> None:
        """Maps `region` at the address `offset`; GenericError as ContainerRegion.add."""
        self.root.add(region, offset, priority)

    def unmap(self, region: Region, offset: int | None = None) -> None:
        """Takes `region` out, everywhere or at `offset`."""
        self.root.remove(region, offset)

    def clashes(self) -> list[Clash]:
        """Overlaps of equal priority that involve RAM; a machine with any can't be wired."""
        return clashes(self.root)

    def region_changed(self) -> None:
        """Something in the tree moved: render anew, now or at the end of the batch."""
        self._stale = True
        if not self._batches:
            self.flatten()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Changes inside are shown together at its end."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self.flatten()

    def flatten(self) -> FlatView:
        """The present view; listeners are told when it differs from the last one."""
        if self._stale:
            self._stale = False
            old, new = self.view, flatten(self.root, self.root.size)
            if not new.same_as(old):
                self.view = new
                for listener in tuple(self.listeners):
                    listener(old, new)
        return self.view

    # -- one bus access

    def load(self, addr: int, size: int, access: Access) -> int:
        """One read of 1, 2, 4 or 8 bytes; raises BusError."""
        view = self.view
        i = bisect_right(view.starts, addr)
        if i:
            r = view.ranges[i - 1]
            if addr + size <= r.end:
                try:
                    return r.load(addr - r.delta, size, access)
                except BusError as error:
                    raise self.told(error.kind, addr, access, "load") from None
        data = b"".join([ram.read(o, n) for ram, o, n, _ in self._ram_pieces(addr, size, access, "load")])
        return int.from_bytes(data, "big" if access.big else "little")

    def store(self, addr: int, size: int, value: int, access: Access) -> None:
        """One write of 1, 2, 4 or 8 bytes; raises BusError, and then nothing was written."""
        view = self.view
        i = bisect_right(view.starts, addr)
        if i:
            r = view.ranges[i - 1]
            if addr + size <= r.end:
                if r.readonly and not access.debug:
                    self._rom_write(addr, access)
                    return
                try:
                    r.store(addr - r.delta, size, value, access)
                except BusError as error:
                    raise self.told(error.kind, addr, access, "store") from None
                return
        pieces = self._ram_pieces(addr, size, access, "store")
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "big" if access.big else "little")
        self._write_pieces(addr, pieces, data, access)

    def _ram_pieces(self, addr: int, size: int, access: Access, what: str) -> list[_Piece]:
        """The pieces of an access that crosses ranges: allowed in RAM only."""
        pieces: list[_Piece] = []
        at, end = addr, addr + size
        while at < end:
            r = self.view.find(at)
            if r is None:
                raise self.told(UNMAPPED, at, access, what)
            if not isinstance(r.region, RamRegion):
                raise self.told(MISALIGNED, addr, access, what)
            stop = min(end, r.end)
            pieces.append((r.region, at - r.delta, stop - at, r.readonly))
            at = stop
        return pieces

    def _write_pieces(self, addr: int, pieces: list[_Piece], data: bytes, access: Access) -> None:
        at = 0
        for ram, offset, count, readonly in pieces:
            if readonly and not access.debug:
                self._rom_write(addr + at, access)
            else:
                ram.write(offset, data[at : at + count])
            at += count

    # -- runs of bytes

    def read(self, addr: int, size: int, access: Access = _DEBUG) -> bytes:
        """`size` bytes from `addr` on; raises BusError at the first byte that nobody answers."""
        parts: list[bytes] = []
        at, end = addr, addr + size
        while at < end:
            r = self._range_at(at, access, "read")
            stop = min(end, r.end)
            region = r.region
            if isinstance(region, RamRegion):
                parts.append(region.read(at - r.delta, stop - at))
            else:
                region_access = _ordered(region, access)
                while at < stop:
                    size_now = _mmio_step(region, at - r.delta, stop - at)
                    value = self.load(at, size_now, region_access)
                    parts.append(value.to_bytes(size_now, "big" if region_access.big else "little"))
                    at += size_now
            at = stop
        return b"".join(parts)

    def write(self, addr: int, data: bytes | bytearray | memoryview, access: Access = _DEBUG) -> None:
        """Writes `data` from `addr` on; raises BusError at the first byte that nobody takes."""
        at, end = addr, addr + len(data)
        data = memoryview(data)
        while at < end:
            r = self._range_at(at, access, "write")
            stop = min(end, r.end)
            region = r.region
            if isinstance(region, RamRegion):
                if r.readonly and not access.debug:
                    self._rom_write(at, access)
                else:
                    region.write(at - r.delta, data[at - addr : stop - addr])
            else:
                region_access = _ordered(region, access)
                while at < stop:
                    size_now = _mmio_step(region, at - r.delta, stop - at)
                    part = data[at - addr : at - addr + size_now]
                    value = int.from_bytes(part, "big" if region_access.big else "little")
                    self.store(at, size_now, value, region_access)
                    at += size_now
            at = stop

    def _range_at(self, addr: int, access: Access, what: str) -> FlatRange:
        r = self.view.find(addr)
        if r is None:
            raise self.told(UNMAPPED, addr, access, what)
        return r

    # -- what went wrong

    def told(self, kind: str, addr: int, access: Access, what: str) -> BusError:
        """The error of an access, counted and logged once a site."""
        if not access.debug:
            self.bus_errors.hit(
                "bus error", space=self.root.name, kind=kind, addr=addr, access=what, initiator=_name(access)
            )
        return BusError(kind, addr)

    def _rom_write(self, addr: int, access: Access) -> None:
        self.rom_writes.hit("write to ROM dropped", space=self.root.name, addr=addr, initiator=_name(access))


def _name(access: Access) -> str:
    return str(getattr(access.initiator, "path", access.initiator or ""))


def _ordered(region: Region, access: Access) -> Access:
    """`access` in the byte order of `region`: bytes in memory order must come out whatever the initiator's is."""
    big = isinstance(region, MmioRegion) and region.big
    if big == access.big:
        return access
    return Access(access.initiator, big, access.privilege, access.secure, access.debug)


def _mmio_step(region: Region, offset: int, left: int) -> int:
    """The largest access at `offset` that is aligned, accepted and inside what is left (else the smallest accepted)."""
    low, high = region.access if isinstance(region, MmioRegion) else (1, 8)
    size = high
    while size > low and (size > left or offset & (size - 1)):
        size >>= 1
    return size if size <= left else 1

"""Accesses that a CPU makes again and again at one place: made once with everything looked up that `Space.load` and
`Space.store` look up each time.

A site is a function of its own for one address, size and initiator.  It takes the machine's lock, asks whether the view is
still the one that it was made from, and calls the device; faults and bus errors are handled as in `Space` and `MmioRegion`.
So it may be kept for good: behind a change of the view it does the same as `Space` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ratite.core.memory.access import Access, BusError
from ratite.core.memory.flat import FlatRange
from ratite.core.memory.mmio import MASK, MmioRegion, bswap

if TYPE_CHECKING:
    from ratite.core.memory.space import Space

LoadSite = Callable[[], int]
StoreSite = Callable[[int], None]


class Lock(Protocol):
    """What a site does with the machine's lock: calling these two costs half of what `with` does."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


def _place(space: Space, addr: int, size: int) -> tuple[FlatRange, MmioRegion] | None:
    """The registers that answer such an access alone."""
    found = space.view.find(addr)
    if found is None or addr + size > found.end or not isinstance(found.region, MmioRegion):
        return None
    return found, found.region


def load_site(space: Space, addr: int, size: int, access: Access, lock: Lock) -> LoadSite | None:
    """A function that reads `size` bytes at `addr` as `space.load` does under `lock`, and raises BusError as that does; None
    where nothing can be looked up beforehand."""
    place = _place(space, addr, size)
    if place is None:
        return None
    found, region = place
    offset, view = addr - found.delta, space.view
    read = region.reader(offset, size, access)
    if read is None:
        return None
    mask, swapped = MASK[size], size > 1 and access.big is not region.big
    acquire, release = lock.acquire, lock.release

    def load() -> int:
        acquire()
        try:
            if space.view is not view:
                return space.load(addr, size, access)
            try:
                value = read() & mask
            except BusError as error:
                raise space.told(error.kind, addr, access, "load") from None
            except Exception as error:
                return region.fault("load", offset, size, error)
        finally:
            release()
        return bswap(value, size) if swapped else value

    return load


def store_site(space: Space, addr: int, size: int, access: Access, lock: Lock) -> StoreSite | None:
    """The same for a write; the function masks its value."""
    place = _place(space, addr, size)
    if place is None or place[0].readonly:
        return None
    found, region = place
    offset, view = addr - found.delta, space.view
    write = region.writer(offset, size, access)
    if write is None:
        return None
    mask, swapped = MASK[size], size > 1 and access.big is not region.big
    acquire, release = lock.acquire, lock.release

    def store(value: int) -> None:
        value &= mask
        if swapped:
            value = bswap(value, size)
        acquire()
        try:
            if space.view is not view:
                space.store(addr, size, bswap(value, size) if swapped else value, access)
                return
            try:
                write(value)
            except BusError as error:
                raise space.told(error.kind, addr, access, "store") from None
            except Exception as error:
                region.fault("store", offset, size, error)
        finally:
            release()

    return store

"""Device registers as a region: byte order, access sizes, and the fence between a guest and a device's faults.

`access` (smallest, largest) says which sizes the bus accepts, others are a BusError; `impl` says which sizes the device
implements, and the region adapts: a wider access becomes several, lower addresses first; a narrower read takes its
bytes out of one implemented word; a narrower write puts its bytes on their lanes and zeros on the others, as a bridge
without byte strobes does.

A device whose method raises is a fault of the device, never the guest's: the access is counted and logged once a
site and reads 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from ratite.core.memory.access import MISALIGNED, SIZE, Access, BusError, SiteCounter
from ratite.core.memory.regions import LeafRegion

ReadHook = Callable[[int, int, Access], int]
WriteHook = Callable[[int, int, int, Access], None]
ReaderHook = Callable[[int, int, Access], Callable[[], int] | None]
WriterHook = Callable[[int, int, Access], Callable[[int], None] | None]
Endianness = Literal["little", "big"]

MASK = (0, 0xFF, 0xFFFF, 0, 0xFFFFFFFF, 0, 0, 0, 0xFFFFFFFFFFFFFFFF)
_SIZES = (1, 2, 4, 8)


def bswap(value: int, size: int) -> int:
    """`value` of `size` bytes with its bytes in the other order."""
    return int.from_bytes(value.to_bytes(size, "little"), "big")


class MmioRegion(LeafRegion):
    """Registers of `owner`: `read(offset, size, access) -> int`, `write(offset, size, value, access)`.

    The hooks see values in the region's own byte order, masked to their size, at offsets that are multiples of it.

    A guest asks for the same few registers all the time: `reader(offset, size, access)` and `writer(...)`, where given, answer
    with a function that does what `read` and `write` do with these arguments, now and later, or with None.
    """

    KIND = "mmio"
    __slots__ = ("_direct", "_read", "_reader", "_write", "_writer", "access", "big", "faults", "impl", "owner")

    def __init__(
        self,
        name: str,
        size: int,
        owner: object,
        read: ReadHook,
        write: WriteHook,
        endianness: Endianness = "little",
        access: tuple[int, int] = (1, 8),
        impl: tuple[int, int] = (1, 8),
        reader: ReaderHook | None = None,
        writer: WriterHook | None = None,
    ) -> None:
        super().__init__(name, size)
        for low, high in (access, impl):
            if low not in _SIZES or high not in _SIZES or low > high:
                raise ValueError(f"access sizes of '{name}' must be of 1, 2, 4, 8 and in order, not {(low, high)}")
        self.owner = owner
        self.big = endianness == "big"
        self.access = access
        self.impl = impl
        self.faults = SiteCounter()
        self._read = read
        self._write = write
        self._reader = reader
        self._writer = writer
        low, high = max(access[0], impl[0]), min(access[1], impl[1])
        # by size: the alignment mask of the sizes that go straight to the hook, None for the others
        self._direct = tuple(n - 1 if n in _SIZES and low <= n <= high else None for n in range(9))

    @property
    def endianness(self) -> Endianness:
        """The region's byte order."""
        return "big" if self.big else "little"

    def load(self, offset: int, size: int, access: Access) -> int:
        low = self._direct[size]
        if low is None or offset & low:
            return self._load_adapted(offset, size, access)
        try:
            value = self._read(offset, size, access) & MASK[size]
        except BusError:
            raise
        except Exception as error:
            return self.fault("load", offset, size, error)
        if access.big is not self.big and low:
            return int.from_bytes(value.to_bytes(size, "little"), "big")
        return value

    def store(self, offset: int, size: int, value: int, access: Access) -> None:
        low = self._direct[size]
        value &= MASK[size]
        if access.big is not self.big and size != 1:
            value = int.from_bytes(value.to_bytes(size, "little"), "big")
        if low is None or offset & low:
            self._store_adapted(offset, size, value, access)
            return
        try:
            self._write(offset, size, value, access)
        except BusError:
            raise
        except Exception as error:
            self.fault("store", offset, size, error)

    # -- for accesses that are made again and again (sites.py)

    def reader(self, offset: int, size: int, access: Access) -> Callable[[], int] | None:
        """What answers such a read, not masked, in the region's byte order, faults and all; None where the region adapts."""
        low = self._direct[size]
        if low is None or offset & low:
            return None
        made = None
        if self._reader is not None:
            try:
                made = self._reader(offset, size, access)
            except Exception as error:
                self.fault("look at a load", offset, size, error)
        return made or partial(self._read, offset, size, access)

    def writer(self, offset: int, size: int, access: Access) -> Callable[[int], None] | None:
        """What takes such a write, of a masked value in the region's byte order; None where the region adapts."""
        low = self._direct[size]
        if low is None or offset & low:
            return None
        made = None
        if self._writer is not None:
            try:
                made = self._writer(offset, size, access)
            except Exception as error:
                self.fault("look at a store", offset, size, error)
        if made is not None:
            return made
        write = self._write
        return lambda value: write(offset, size, value, access)

    def _check(self, offset: int, size: int) -> None:
        if not self.access[0] <= size <= self.access[1]:
            raise BusError(SIZE, offset)
        if offset & (size - 1):
            raise BusError(MISALIGNED, offset)

    def _load_adapted(self, offset: int, size: int, access: Access) -> int:
        self._check(offset, size)
        low, high = self.impl
        try:
            if size > high:
                value = self._gather(offset, size, high, access)
            else:
                word = self._read(offset & -low, low, access) & MASK[low]
                value = word >> self._lane_shift(offset, size, low) & MASK[size]
        except BusError:
            raise
        except Exception as error:
            return self.fault("load", offset, size, error)
        return bswap(value, size) if access.big is not self.big else value

    def _gather(self, offset: int, size: int, step: int, access: Access) -> int:
        value = 0
        for at in range(0, size, step):
            part = self._read(offset + at, step, access) & MASK[step]
            shift = size - step - at if self.big else at
            value |= part << 8 * shift
        return value

    def _store_adapted(self, offset: int, size: int, value: int, access: Access) -> None:
        self._check(offset, size)
        low, high = self.impl
        try:
            if size > high:
                for at in range(0, size, high):
                    shift = size - high - at if self.big else at
                    self._write(offset + at, high, value >> 8 * shift & MASK[high], access)
            else:
                self._write(offset & -low, low, value << self._lane_shift(offset, size, low), access)
        except BusError:
            raise
        except Exception as error:
            self.fault("store", offset, size, error)

    def _lane_shift(self, offset: int, size: int, word: int) -> int:
        at = offset & (word - 1)
        return 8 * (word - size - at if self.big else at)

    def fault(self, what: str, offset: int, size: int, error: Exception) -> int:
        """Counts what a hook raised and logs it once a site; what the guest reads then."""
        text = f"{type(error).__name__}: {error}"
        self.faults.hit(
            "device failed at a guest access", region=self.name, access=what, offset=offset, size=size, error=text
        )
        return 0

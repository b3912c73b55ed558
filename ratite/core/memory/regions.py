"""Regions: what can be mapped.

    Region
      ContainerRegion    other regions at offsets, by priority
      AliasRegion        a window onto a piece of another region
      RamRegion          bytes of the host (ram.py)
      MmioRegion         a device's registers (mmio.py)

A region has no single parent: it may be mapped in many containers, and in one container more than once.  Where regions
overlap the higher priority is seen; among equals the lower offset and then the name decide, so that the order of
assembly never shows.  A container's holes let the lower ones through.
"""

from __future__ import annotations

from typing import Protocol

from ratite.core.memory.access import Access
from ratite.qapi.errors import GenericError

LIMIT = 1 << 64  # addresses are below this, sizes at most this


class RegionUser(Protocol):
    """Who is told when what a region shows has changed."""

    def region_changed(self) -> None: ...


class Region:
    """A named run of `size` bytes that can be mapped.  `enabled` False makes it a hole wherever it is mapped."""

    KIND = "region"
    __slots__ = ("_enabled", "_users", "name", "size")

    def __init__(self, name: str, size: int) -> None:
        if not 0 < size <= LIMIT:
            raise GenericError(f"Size of region '{name}' must be between 1 and 2^64, not {size}")
        self.name = name
        self.size = size
        self._enabled = True
        self._users: list[RegionUser] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.size:#x}>"

    @property
    def enabled(self) -> bool:
        """Whether the region is seen where it is mapped."""
        return self._enabled

    def set_enabled(self, enabled: bool) -> None:
        """Shows or hides the region in every view at once."""
        if enabled != self._enabled:
            self._enabled = enabled
            self.region_changed()

    def region_changed(self) -> None:
        """Tells everybody who maps this region that its contents' layout changed."""
        for user in tuple(self._users):
            user.region_changed()

    def add_user(self, user: RegionUser) -> None:
        """Registers a container, alias or space that shows this region; once for each time it shows it."""
        self._users.append(user)

    def remove_user(self, user: RegionUser) -> None:
        """Takes one registration back."""
        self._users.remove(user)

    def reaches(self, other: Region) -> bool:
        """Whether `other` is this region or is seen through it."""
        seen: set[int] = set()
        todo: list[Region] = [self]
        while todo:
            region = todo.pop()
            if region is other:
                return True
            if id(region) not in seen:
                seen.add(id(region))
                todo.extend(region.inner())
        return False

    def inner(self) -> tuple[Region, ...]:
        """The regions that are seen directly through this one."""
        return ()


class LeafRegion(Region):
    """A region that answers accesses itself.  `offset` is within the region, `size` 1, 2, 4 or 8; both were checked."""

    __slots__ = ()
    IS_RAM = False

    def load(self, offset: int, size: int, access: Access) -> int:
        """The value an initiator with `access`'s byte order sees; raises BusError (kind and offset only)."""
        raise NotImplementedError

    def store(self, offset: int, size: int, value: int, access: Access) -> None:
        """Takes the value as an initiator with `access`'s byte order means it; raises BusError."""
        raise NotImplementedError


class Placement:
    """A region at an offset of a container, with a priority."""

    __slots__ = ("offset", "priority", "region")

    def __init__(self, region: Region, offset: int, priority: int) -> None:
        self.region = region
        self.offset = offset
        self.priority = priority

    def sort_key(self) -> tuple[int, int, str, int]:
        """The order in which placements are seen, the foremost first."""
        return (-self.priority, self.offset, self.region.name, self.region.size)


class ContainerRegion(Region):
    """Holds other regions at offsets; what reaches beyond its size is cut off."""

    KIND = "container"
    __slots__ = ("placements",)

    def __init__(self, name: str, size: int = LIMIT) -> None:
        super().__init__(name, size)
        self.placements: tuple[Placement, ...] = ()  # foremost first

    def inner(self) -> tuple[Region, ...]:
        return tuple(p.region for p in self.placements)

    def add(self, region: Region, offset: int, priority: int = 0) -> None:
        """Maps `region` at `offset`.  Refused: an offset outside the container, the same placement twice, a cycle."""
        if not 0 <= offset < self.size:
            raise GenericError(
                f"Region '{region.name}' can't be mapped at {offset:#x} of '{self.name}': "
                f"the offset must be below {self.size:#x}"
            )
        if region.reaches(self):
            raise GenericError(f"Region '{region.name}' can't be mapped in '{self.name}', which it contains")
        for p in self.placements:
            if p.region is region and p.offset == offset:
                raise GenericError(f"Region '{region.name}' is already mapped at {offset:#x} of '{self.name}'")
        made = Placement(region, offset, priority)
        self.placements = tuple(sorted((*self.placements, made), key=Placement.sort_key))
        region.add_user(self)
        self.region_changed()

    def remove(self, region: Region, offset: int | None = None) -> None:
        """Takes `region` out, everywhere or where it stands at `offset`; one that isn't there is no error."""
        gone = [p for p in self.placements if p.region is region and offset in (None, p.offset)]
        if gone:
            self.placements = tuple(p for p in self.placements if p not in gone)
            for _ in gone:
                region.remove_user(self)
            self.region_changed()


class AliasRegion(Region):
    """A window of `size` bytes onto `target` from `offset` on; `readonly` makes the RAM seen through it ROM."""

    KIND = "alias"
    __slots__ = ("offset", "readonly", "target")

    def __init__(self, name: str, target: Region, offset: int, size: int, readonly: bool = False) -> None:
        super().__init__(name, size)
        if not 0 <= offset < target.size:
            raise GenericError(f"Alias '{name}' can't start at {offset:#x} of '{target.name}' ({target.size:#x} bytes)")
        self.target = target
        self.offset = offset
        self.readonly = readonly
        target.add_user(self)

    def inner(self) -> tuple[Region, ...]:
        return (self.target,)

    def detach(self) -> None:
        """Forgets the target, when the alias itself goes."""
        self.target.remove_user(self)

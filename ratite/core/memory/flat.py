"""Flat views: a tree of regions rendered to sorted runs that don't overlap.

`render` walks the tree from the front to the back, and each region fills only what is still free, so the work is the
number of visible pieces; a limit on the steps keeps a tree of aliases (which can multiply) from eating the host.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ratite.core.memory.access import Access
from ratite.core.memory.regions import LIMIT, AliasRegion, ContainerRegion, LeafRegion, Region
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.memory.ram import RamRegion

MAX_STEPS = 1 << 18  # regions visited for one view


class FlatRange:
    """`size` bytes from `start` on that show `region` from its `offset` on."""

    __slots__ = ("delta", "end", "load", "offset", "readonly", "region", "size", "start", "store")

    def __init__(self, start: int, size: int, region: LeafRegion, offset: int, readonly: bool) -> None:
        self.start = start
        self.size = size
        self.end = start + size
        self.region = region
        self.offset = offset
        self.delta = start - offset  # bus address minus offset in the region
        self.readonly = readonly
        self.load: Callable[[int, int, Access], int] = region.load
        self.store: Callable[[int, int, int, Access], None] = region.store

    def key(self) -> tuple[int, int, int, int, bool]:
        """What two equal ranges agree in."""
        return (self.start, self.size, id(self.region), self.offset, self.readonly)

    def __repr__(self) -> str:
        ro = " ro" if self.readonly else ""
        return f"<{self.start:#x}+{self.size:#x} {self.region.name}@{self.offset:#x}{ro}>"


class FlatView:
    """An immutable map from addresses to regions."""

    __slots__ = ("ranges", "starts")

    def __init__(self, ranges: Sequence[FlatRange] = ()) -> None:
        self.ranges = tuple(ranges)
        self.starts = [r.start for r in self.ranges]

    def __len__(self) -> int:
        return len(self.ranges)

    def __iter__(self) -> Iterator[FlatRange]:
        return iter(self.ranges)

    def same_as(self, other: FlatView) -> bool:
        """Whether both show the same."""
        return [r.key() for r in self.ranges] == [r.key() for r in other.ranges]

    def find(self, addr: int) -> FlatRange | None:
        """The range that holds `addr`."""
        i = bisect_right(self.starts, addr) - 1
        if i >= 0:
            found = self.ranges[i]
            if addr < found.end:
                return found
        return None

    def ram_table(self) -> list[tuple[int, int, int, RamRegion, int, bool]]:
        """RAM for an engine, sorted by start: (start, size, host address, ram, offset in the ram, readonly)."""
        table: list[tuple[int, int, int, RamRegion, int, bool]] = []
        for r in self.ranges:
            if r.region.IS_RAM:
                ram: RamRegion = r.region  # type: ignore[assignment]  # IS_RAM says so
                table.append((r.start, r.size, ram.address + r.offset, ram, r.offset, r.readonly))
        return table


class _Canvas:
    """Takes pieces from the front to the back and keeps what is visible of each."""

    def __init__(self) -> None:
        self.pieces: list[FlatRange] = []
        self._starts: list[int] = []
        self._steps = 0

    def step(self, region: Region) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise GenericError(f"Memory map is too complex: more than {MAX_STEPS} regions at '{region.name}'")

    def fill(self, low: int, high: int, base: int, region: LeafRegion, readonly: bool) -> None:
        """Shows `region` (its byte 0 at `base`) in [low, high) wherever that is still free."""
        i = bisect_right(self._starts, low)
        if i and self.pieces[i - 1].end > low:
            low = self.pieces[i - 1].end
        while low < high:
            blocked = i < len(self._starts) and self._starts[i] < high
            stop = self._starts[i] if blocked else high
            if low < stop:
                self.pieces.insert(i, FlatRange(low, stop - low, region, low - base, readonly))
                self._starts.insert(i, low)
                i += 1
            if not blocked:
                return
            low = self.pieces[i].end
            i += 1


def _draw(canvas: _Canvas, region: Region, base: int, low: int, high: int, readonly: bool) -> None:
    """Draws `region`, whose byte 0 stands at `base`, into the window [low, high)."""
    canvas.step(region)
    low, high = max(low, base), min(high, base + region.size)
    if low >= high or not region.enabled:
        return
    if isinstance(region, ContainerRegion):
        for placed in region.placements:
            _draw(canvas, placed.region, base + placed.offset, low, high, readonly)
    elif isinstance(region, AliasRegion):
        _draw(canvas, region.target, base - region.offset, low, high, readonly or region.readonly)
    elif isinstance(region, LeafRegion):
        canvas.fill(low, high, base, region, readonly or bool(getattr(region, "readonly", False)))


def pieces_of(region: Region, base: int = 0, limit: int = LIMIT) -> list[FlatRange]:
    """What `region` alone shows with its byte 0 at `base`, below `limit`; sorted, neighbours not merged."""
    canvas = _Canvas()
    _draw(canvas, region, base, 0, limit, False)
    return canvas.pieces


def flatten(root: Region, limit: int = LIMIT) -> FlatView:
    """The view of the tree under `root` below the address `limit`, pieces that continue one another merged."""
    merged: list[FlatRange] = []
    for piece in pieces_of(root, 0, limit):
        if merged:
            last = merged[-1]
            if (
                last.end == piece.start
                and last.region is piece.region
                and last.delta == piece.delta
                and last.readonly == piece.readonly
            ):
                merged[-1] = FlatRange(last.start, last.size + piece.size, last.region, last.offset, last.readonly)
                continue
        merged.append(piece)
    return FlatView(merged)


class Clash:
    """RAM and something else of equal priority at the same place of `container`: which is meant isn't said."""

    __slots__ = ("container", "end", "first", "second", "start")

    def __init__(self, container: str, first: str, second: str, start: int, end: int) -> None:
        self.container = container
        self.first = first
        self.second = second
        self.start = start
        self.end = end

    def __str__(self) -> str:
        return (
            f"'{self.first}' and '{self.second}' overlap at {self.start:#x}-{self.end - 1:#x} of '{self.container}' "
            f"with equal priority"
        )


def clashes(root: Region) -> list[Clash]:
    """Every overlap of equal priority that involves RAM under `root`, each pair once, in a stable order."""
    found: list[Clash] = []
    seen: set[int] = set()
    todo: list[Region] = [root]
    while todo:
        region = todo.pop()
        if id(region) in seen:
            continue
        seen.add(id(region))
        todo.extend(reversed(region.inner()))
        if isinstance(region, ContainerRegion):
            _clashes_in(region, found)
    return found


def _clashes_in(container: ContainerRegion, found: list[Clash]) -> None:
    levels: dict[int, list[tuple[int, FlatRange]]] = {}
    for index, placed in enumerate(container.placements):
        pieces = pieces_of(placed.region, placed.offset, container.size)
        levels.setdefault(placed.priority, []).extend((index, piece) for piece in pieces)
    told: set[tuple[int, int]] = set()
    for pieces_at in levels.values():
        open_now: list[tuple[int, FlatRange]] = []
        for index, piece in sorted(pieces_at, key=lambda p: (p[1].start, p[0])):
            open_now = [(n, other) for n, other in open_now if other.end > piece.start]
            for n, other in open_now:
                ram = piece.region.IS_RAM or other.region.IS_RAM
                pair = (min(n, index), max(n, index))
                if n != index and ram and pair not in told:
                    told.add(pair)
                    first, second = sorted((other.region.name, piece.region.name))
                    found.append(Clash(container.name, first, second, piece.start, min(piece.end, other.end)))
            open_now.append((index, piece))

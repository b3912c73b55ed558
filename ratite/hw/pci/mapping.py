"""Where BARs are seen: every function's, cut by the windows of the bridges above it.

`pieces` walks the buses, which are a tree however the guest sets bus numbers and windows, so its work is the number of
functions.  `Shown` keeps a space as the last walk left it and changes only what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ratite.core.memory import AliasRegion, Region, Space

if TYPE_CHECKING:
    from ratite.hw.pci.bus import PcieBus

Span = tuple[int, int]  # first address, address behind the last


class Piece(NamedTuple):
    """`size` bytes of `region` from `offset` on, seen at `start`."""

    start: int
    region: Region
    offset: int
    size: int


def pieces(bus: PcieBus, io: bool, spans: list[Span]) -> Iterator[Piece]:
    """What of the functions on a bus and below is seen in `spans`, the addresses that reach the bus."""
    if not bus.powered:
        return
    for devfn in sorted(bus.functions):
        function = bus.functions[devfn]
        if not function.decodes(io):
            continue
        for bar in function.bars:
            if bar.io == io:
                start = bar.address(function.conf)
                if start >= 0:
                    yield from _cut(start, bar.region, spans)
        child = function.secondary_bus
        if child is not None:
            inner = [both for window in function.windows(io) for span in spans if (both := _both(window, span))]
            if inner:
                yield from pieces(child, io, inner)


def _both(a: Span, b: Span) -> Span | None:
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low < high else None


def _cut(start: int, region: Region, spans: list[Span]) -> Iterator[Piece]:
    # Windows of a bridge may overlap; the parts of a BAR that they show must not.
    done = start
    for span in sorted(spans):
        both = _both((done, start + region.size), span)
        if both is not None:
            yield Piece(both[0], region, both[0] - start, both[1] - both[0])
            done = both[1]


class Shown:
    """A space and the pieces in it."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._placed: dict[Piece, Region] = {}

    def show(self, wanted: set[Piece]) -> None:
        """Show these pieces and no others."""
        placed = self._placed
        if wanted == placed.keys():
            return
        with self.space.batch():
            for piece in [piece for piece in placed if piece not in wanted]:
                region = placed.pop(piece)
                self.space.unmap(region, piece.start)
                if isinstance(region, AliasRegion):
                    region.detach()
            for piece in sorted(wanted - placed.keys(), key=_order):
                region = piece.region
                if piece.size != region.size:
                    region = AliasRegion(region.name, region, piece.offset, piece.size)
                self.space.map(region, piece.start)
                placed[piece] = region


def _order(piece: Piece) -> tuple[int, str, int]:
    return (piece.start, piece.region.name, piece.offset)



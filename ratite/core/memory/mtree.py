"""Memory maps as data, for `info mtree` and its like: the tree of regions, and the flat view made of it."""

from __future__ import annotations

from ratite.core.memory.regions import AliasRegion, ContainerRegion, Region
from ratite.core.memory.space import Space

Row = dict[str, str | int | bool]

MAX_ROWS = 1 << 16


def tree_rows(space: Space) -> list[Row]:
    """The tree under a space, the foremost first: depth, start, end (inclusive), priority, kind, name, enabled;
    for an alias also target, offset and readonly.  Addresses are as seen from the root; aliases aren't entered.
    """
    rows: list[Row] = []
    todo: list[tuple[int, int, int, Region]] = [(0, 0, 0, space.root)]
    while todo and len(rows) < MAX_ROWS:
        depth, start, priority, region = todo.pop()
        row: Row = {
            "depth": depth,
            "start": start,
            "end": start + region.size - 1,
            "priority": priority,
            "kind": "rom" if _readonly(region) and region.KIND == "ram" else region.KIND,
            "name": region.name,
            "enabled": region.enabled,
        }
        if isinstance(region, AliasRegion):
            row.update(target=region.target.name, offset=region.offset, readonly=region.readonly)
        rows.append(row)
        if isinstance(region, ContainerRegion):
            todo.extend((depth + 1, start + p.offset, p.priority, p.region) for p in reversed(region.placements))
    return rows


def flat_rows(space: Space) -> list[Row]:
    """The flat view of a space: start, end (inclusive), kind ("ram", "rom", "mmio"), name and offset of the region."""
    return [
        {
            "start": r.start,
            "end": r.end - 1,
            "kind": "rom" if r.readonly and r.region.IS_RAM else r.region.KIND,
            "name": r.region.name,
            "offset": r.offset,
        }
        for r in space.view
    ]


def _readonly(region: Region) -> bool:
    return bool(getattr(region, "readonly", False))

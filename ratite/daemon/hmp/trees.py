"""`info qom-tree`, `info qtree` and `info mtree`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.core.bus import Bus, BusDevice
from ratite.core.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratite.core.objects.obj import Obj
    from ratite.daemon.hmp.line import Line


def qom_tree(line: Line) -> str:
    """info qom-tree [PATH]"""
    if not line.ctx.daemon.has_machine:
        return ""
    root = line.ctx.machine.resolve(line.args.get("path", "/machine"))
    lines = [f"{root.path} ({root.TYPE})"]
    lines += [f"{'  ' * depth}/{obj.id} ({obj.TYPE})" for depth, obj in _below(root, 1)]
    return "\n".join(lines) + "\n"


def _below(obj: Obj, depth: int) -> Iterator[tuple[int, Obj]]:
    for _name, child in sorted(obj.children.items()):
        yield depth, child
        yield from _below(child, depth + 1)


# ---------------------------------------------------------------- devices


def qtree(line: Line) -> str:
    """info qtree [-b]: devices below the buses that they are on; what is on none stands on the system's, no object."""
    if not line.ctx.daemon.has_machine:
        return ""
    members = list(line.ctx.machine.tree.members())
    shown = _Tree([obj for obj in members if isinstance(obj, Bus)], "b" in line.args)
    lines = ["bus: main-system-bus", "  type System"]
    for obj in members:
        if obj.KIND in ("device", "cpu") and _bus_of(obj) is None and not _part_of_device(obj):
            lines += shown.device(obj, 2)
    return "\n".join(lines) + "\n"


def _bus_of(obj: Obj) -> Bus | None:
    bus = obj.bus if isinstance(obj, BusDevice) else None
    return bus if isinstance(bus, Bus) else None


def _part_of_device(obj: Obj) -> bool:
    return obj.parent is not None and obj.parent.KIND in ("device", "cpu")


class _Tree:
    def __init__(self, buses: list[Bus], brief: bool) -> None:
        self._buses = buses
        self._brief = brief

    def device(self, obj: Obj, indent: int) -> Iterator[str]:
        blank = " " * indent
        yield f'{blank}dev: {obj.TYPE}, id "{obj.id if obj.parent is None or obj.parent.id != "peripheral-anon" else ""}"'
        if not self._brief:
            yield from (f"{blank}  {text}" for text in _facts(obj))
        for bus in self._buses:
            if bus.parent is obj:
                yield f"{blank}  bus: {bus.id}"
                yield f"{blank}    type {bus.TYPE}"
                for member in bus.members():
                    yield from self.device(member, indent + 4)
        for _name, part in sorted(obj.children.items()):
            if part.KIND in ("device", "cpu") and _bus_of(part) is None:
                yield from self.device(part, indent + 2)


def _facts(obj: Obj) -> Iterator[str]:
    for word, table in (("in", obj.INPUTS), ("out", obj.OUTPUTS)):
        counts = obj.line_counts(table) if isinstance(obj, Device) else table
        yield from (f'gpio-{word} "{name}" {count}' for name, count in counts.items() if count)
    for prop in obj.properties():
        if prop.kind in ("config", "tunable"):
            yield f"{prop.name} = {_shown(obj.get_property(prop.name))}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} ({value:#x})"
    return f'"{value}"'


# ---------------------------------------------------------------- memory


def mtree(line: Line) -> str:
    """info mtree [-f]"""
    if not line.ctx.daemon.has_machine:
        return ""
    from ratite.core.memory.mtree import flat_rows, tree_rows

    text = ""
    spaces = [obj for obj in line.ctx.machine.tree.members() if obj.is_a("address-space")]
    for number, space in enumerate(spaces):
        shown: Any = space
        if "f" in line.args:
            text += f'FlatView #{number}\n AS "{space.id}", root: {shown.root.name}\n Root memory region: {shown.root.name}\n'
            rows = [f"  {_range(row)} (prio 0, {_kind(row)}): {row['name']}{_at(row)}" for row in flat_rows(shown)]
            rows = rows or ["  No rendered FlatView"]
        else:
            text += f"address-space: {space.id}\n"
            rows = [
                f"{'  ' * (int(row['depth']) + 1)}{_range(row)} (prio {row['priority']}, {_kind(row)}): {_named(row)}"
                for row in tree_rows(shown)
            ]
        text += "\n".join(rows) + "\n\n"
    return text


def _range(row: dict[str, Any]) -> str:
    return f"{row['start']:016x}-{row['end']:016x}"


def _kind(row: dict[str, Any]) -> str:
    return row["kind"] if row["kind"] in ("ram", "rom") else "i/o"


def _at(row: dict[str, Any]) -> str:
    return f" @{row['offset']:016x}" if row["offset"] else ""


def _named(row: dict[str, Any]) -> str:
    text = str(row["name"])
    if "target" in row:
        size = row["end"] - row["start"]
        text = f"alias {text} @{row['target']} {row['offset']:016x}-{row['offset'] + size:016x}"
    return text if row["enabled"] else f"{text} [disabled]"

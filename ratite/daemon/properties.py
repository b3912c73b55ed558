"""Properties as a view shows them, of types and of objects.

Ratite's own views give each declaration with kind, unit and range.  With QEMU's manners types are spelt as there (a device's as
they are declared, backends by id being "str"; those of other objects "string" and "int"), and devices and CPUs have what each
of QEMU's has:

    parent_bus     the bus it is on              realized       whether it is part of the machine as it runs
    hotplugged     it came later than that       hotpluggable   whether it could
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.qapi.errors import QmpError

if TYPE_CHECKING:
    from ratite.core.objects.obj import Obj

Row = dict[str, Any]

PLUGGABLE = ("device", "cpu")
DEVICE_ROWS: Mapping[str, str] = MappingProxyType(
    {"parent_bus": "link<bus>", "realized": "bool", "hotplugged": "bool", "hotpluggable": "bool"}
)
# Backends that QEMU's devices name by an id, not by a link.
_BY_ID = ("chardev", "block-node", "netdev")


def property_info(row: Mapping[str, Any], kind: str, ratite: bool, qom: bool = False) -> Row:
    """ObjectPropertyInfo of a declaration as the registry has it, of a type of this kind; `qom`: as qom-list spells types."""
    info: Row = {"name": row["name"], "type": _shown(row["type"], row.get("link", ""), kind, ratite, qom)}
    if row.get("text"):
        info["description"] = row["text"]
    if row.get("default") is not None and (ratite or kind in PLUGGABLE):
        info["default-value"] = row["default"]
    if ratite:
        info["kind"] = row["kind"]
        for key in ("unit", "minimum", "maximum", "values", "required", "since"):
            if key in row:
                info[key] = row[key]
    return info


def device_rows(kind: str, ratite: bool) -> list[Row]:
    """What QEMU shows of every device besides."""
    if ratite or kind not in PLUGGABLE:
        return []
    return [{"name": name, "type": type} for name, type in DEVICE_ROWS.items()]


def device_value(obj: Obj, name: str) -> object:
    """The value of one of `DEVICE_ROWS`."""
    if name == "realized":
        return obj.phase == "realized"
    if name == "hotplugged":
        return obj.hotplugged
    if name == "hotpluggable":
        return obj.HOTPLUG
    try:
        return obj.get_property("bus")
    except QmpError:
        return ""


def object_properties(obj: Obj, ratite: bool = True) -> list[Row]:
    """What qom-list says of an object: its type, properties and children."""
    found: list[Row] = [{"name": "type", "type": "string"}, *device_rows(obj.KIND, ratite)]
    for prop in obj.properties():
        shown = {"name": prop.name, "type": _shown(prop.type, prop.link, obj.KIND, ratite, True)}
        found.append({**shown, "description": prop.text} if prop.text and ratite else shown)
    found += [{"name": name, "type": f"child<{child.TYPE}>"} for name, child in sorted(obj.children.items())]
    return found


def _shown(type: str, link: str, kind: str, ratite: bool, qom: bool) -> str:
    if link:
        return "str" if link in _BY_ID and not ratite else f"link<{link}>"
    if type.startswith("list:"):
        type = type[5:]
        if ratite:
            return f"[{type}]"
    if ratite:
        return "string" if type == "str" and qom else type
    if kind in PLUGGABLE:
        return type
    if type == "str":
        return "string"
    return "int" if "int" in type or type == "size" else type

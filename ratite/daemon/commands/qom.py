"""Objects: the composition tree, types, properties, object-add and object-del."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.daemon.typelist import class_not_found, find_type, list_types
from ratite.qapi.errors import DeviceNotFound, GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.objects.obj import Obj
    from ratite.core.objects.props import Prop

# The names that QEMU gives to types of properties.
_SHOWN_TYPES = MappingProxyType({"str": "string"})


def property_info(row: Mapping[str, Any], ratite: bool, qom: bool = False) -> dict[str, Any]:
    """ObjectPropertyInfo of a declaration as the registry has it; `qom` for qom-list's spelling of types."""
    link = row.get("link")
    shown = f"link<{link}>" if link else row["type"]
    if shown.startswith("list:"):
        shown = f"[{shown[5:]}]"
    info: dict[str, Any] = {"name": row["name"], "type": _SHOWN_TYPES.get(shown, shown) if qom else shown}
    if row.get("text"):
        info["description"] = row["text"]
    if row.get("default") is not None:
        info["default-value"] = row["default"]
    if ratite:
        info["kind"] = row["kind"]
        for key in ("unit", "minimum", "maximum", "values", "required", "since"):
            if key in row:
                info[key] = row[key]
    return info


def object_properties(obj: Obj) -> list[dict[str, Any]]:
    """What qom-list says of an object: its type, properties and children."""
    found: list[dict[str, Any]] = [{"name": "type", "type": "string"}]
    found += [{"name": prop.name, "type": _type_of(prop), **_text_of(prop)} for prop in obj.properties()]
    found += [{"name": name, "type": f"child<{child.TYPE}>"} for name, child in sorted(obj.children.items())]
    return found


def _type_of(prop: Prop) -> str:
    shown = prop.type_name
    if shown.startswith("list:"):
        shown = f"[{shown[5:]}]"
    return _SHOWN_TYPES.get(shown, shown)


def _text_of(prop: Prop) -> dict[str, str]:
    return {"description": prop.text} if prop.text else {}


def _resolve(ctx: Context, path: str) -> Obj:
    """The object at a path; without a machine there is none."""
    if not ctx.daemon.has_machine:
        raise DeviceNotFound(f"Device '{path}' not found")
    return ctx.machine.resolve(path)


@command("qom-list", side=OWNER, alone=True)
def qom_list(ctx: Context, arguments: dict[str, Any]) -> object:
    """The properties of an object; without a machine there is the root, with nothing below it."""
    if arguments["path"] == "/" and not ctx.daemon.has_machine:
        return [{"name": "type", "type": "string"}]
    return object_properties(_resolve(ctx, arguments["path"]))


@command("qom-get", side=OWNER, alone=True)
def qom_get(ctx: Context, arguments: dict[str, Any]) -> object:
    """A property's value."""
    _resolve(ctx, arguments["path"])
    return ctx.machine.get_property(arguments["path"], arguments["property"])


@command("qom-set", side=OWNER, alone=True)
def qom_set(ctx: Context, arguments: dict[str, Any]) -> None:
    """Set a property."""
    obj = _resolve(ctx, arguments["path"])
    name = arguments["property"]
    if name == "type" or name in obj.children:
        raise GenericError(f"Property '{obj.TYPE}.{name}' is not writable")
    refuse_nul({name: arguments["value"]})
    ctx.machine.set_property(arguments["path"], name, arguments["value"])


@command("qom-list-get", side=OWNER, alone=True)
def qom_list_get(ctx: Context, arguments: dict[str, Any]) -> object:
    """All properties of several objects."""
    return [{"properties": _values(ctx, path)} for path in arguments["paths"]]


def _values(ctx: Context, path: str) -> list[dict[str, Any]]:
    properties = []
    for row in object_properties(_resolve(ctx, path)):
        entry = {"name": row["name"], "type": row["type"]}
        # Without a value: it can't be read now.
        with suppress(QmpError):
            entry["value"] = ctx.machine.get_property(path, row["name"])
        properties.append(entry)
    return properties


@command("qom-list-types")
def qom_list_types(ctx: Context, arguments: dict[str, Any]) -> object:
    """The object types."""
    answer = []
    for each in list_types(ctx, arguments.get("implements"), arguments.get("abstract", False)):
        info: dict[str, Any] = {"name": each.name}
        if each.abstract:
            info["abstract"] = True
        if each.parent:
            info["parent"] = each.parent
        answer.append(info)
    return answer


@command("qom-list-properties")
def qom_list_properties(ctx: Context, arguments: dict[str, Any]) -> object:
    """The properties of an object type."""
    name = arguments["typename"]
    shown = find_type(ctx, name)
    if shown is None:
        raise class_not_found(name)
    return [{"name": "type", "type": "string"}, *(property_info(prop, ctx.ratite, qom=True) for prop in shown.properties)]


@command("object-add", side=OWNER)
def object_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make an object."""
    properties = dict(arguments)
    refuse_nul(properties)
    qom_type, name = properties.pop("qom-type"), properties.pop("id")
    ctx.machine.create_object(qom_type, name, properties)


@command("object-del", side=OWNER)
def object_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove an object."""
    ctx.machine.delete_object(arguments["id"])

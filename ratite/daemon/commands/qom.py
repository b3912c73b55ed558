"""Objects: the composition tree, types, properties, object-add and object-del."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.daemon.properties import (
    DEVICE_ROWS,
    PLUGGABLE,
    device_rows,
    device_value,
    object_properties,
    property_info,
)
from ratite.daemon.qmp.session import RawJson
from ratite.daemon.typelist import class_not_found, find_type, list_types
from ratite.qapi.errors import DeviceNotFound, GenericError, QmpError
from ratite.qapi.wire import encode

if TYPE_CHECKING:
    from ratite.core.objects.obj import Obj

def _resolve(ctx: Context, path: str) -> Obj:
    """The object at a path; without a machine there is none."""
    if not ctx.daemon.has_machine:
        raise DeviceNotFound(f"Device '{path}' not found")
    return ctx.machine.resolve(path)


def _as_device(ctx: Context, obj: Obj) -> bool:
    """Whether the object has the properties of QEMU's devices in this view."""
    return not ctx.ratite and obj.KIND in PLUGGABLE


@command("qom-list", side=OWNER, alone=True)
def qom_list(ctx: Context, arguments: dict[str, Any]) -> object:
    """The properties of an object; without a machine there is the root, with nothing below it."""
    if arguments["path"] == "/" and not ctx.daemon.has_machine:
        return [{"name": "type", "type": "string"}]
    return object_properties(_resolve(ctx, arguments["path"]), ctx.ratite)


@command("qom-get", side=OWNER, alone=True)
def qom_get(ctx: Context, arguments: dict[str, Any]) -> object:
    """A property's value."""
    obj, name = _resolve(ctx, arguments["path"]), arguments["property"]
    if name in DEVICE_ROWS and _as_device(ctx, obj):
        return device_value(obj, name)
    return ctx.machine.get_property(arguments["path"], name)


@command("qom-set", side=OWNER, alone=True)
def qom_set(ctx: Context, arguments: dict[str, Any]) -> None:
    """Set a property."""
    obj = _resolve(ctx, arguments["path"])
    name = arguments["property"]
    if name == "type" or name in obj.children or (name in DEVICE_ROWS and _as_device(ctx, obj)):
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
    """The object types; the answer is encoded once."""
    implements, abstract = arguments.get("implements"), arguments.get("abstract", False)
    asked = (ctx.session.pinned, implements, abstract)
    kept = ctx.view.type_lists.get(asked)
    if kept is None:
        answer = _type_list(ctx, implements, abstract)
        if not answer:
            # No type of that name: there is no end of those.
            return answer
        kept = ctx.view.type_lists[asked] = encode(answer).removesuffix(b"\r\n")
    return RawJson(kept)


def _type_list(ctx: Context, implements: str | None, abstract: bool) -> list[dict[str, Any]]:
    answer = []
    for each in list_types(ctx, implements, abstract):
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
    kind = "" if shown.row is None else shown.row.kind
    rows = [property_info(prop, kind, ctx.ratite, qom=True) for prop in shown.properties]
    return [{"name": "type", "type": "string"}, *device_rows(kind, ctx.ratite), *rows]


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

"""Texts of options as the values that QMP takes: by a QAPI type, or by what the registry says of a type's properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ratite.daemon.personality.syntax import CommandLineError, as_bool, number_of, size_of
from ratite.qapi.resolved import INTEGER_RANGES, ResolvedSchema, element_type

SIZE_TEXT = "Parameter '{}' expects a size value"


def typed(schema: ResolvedSchema, type_name: str, value: Any, path: str = "") -> Any:
    """The value of a QAPI type; what doesn't fit its shape is left to the command's own check.  CommandLineError."""
    element = element_type(type_name)
    if element is not None:
        values = value if isinstance(value, list) else [value]
        return [typed(schema, element, each, f"{path}[{number}]") for number, each in enumerate(values)]
    if type_name not in schema:
        return scalar(type_name, value, path) if isinstance(value, str) else value
    definition = schema.get(type_name)
    if definition["meta"] == "alternate":
        return _alternate(schema, definition, value, path)
    if definition["meta"] == "enum":
        return value
    types = {member["name"]: member["type"] for member in schema.members(type_name)}
    if not isinstance(value, dict):
        # An object of a text alone (`hostfwd=tcp::2222-:22`) is written as the text.
        return {"str": value} if isinstance(value, str) and types.keys() == {"str"} else value
    if definition["meta"] == "union":
        tag = value.get(definition["discriminator"])
        for branch in definition["branches"]:
            if branch["name"] == tag:
                types |= {member["name"]: member["type"] for member in schema.members(branch["type"])}
                if schema.get(branch["type"])["meta"] == "union":
                    return {**value, **_rest(schema, branch["type"], value, types, path)}
    return {name: typed(schema, types.get(name, "str"), each, _below(path, name)) for name, each in value.items()}


def list_members(schema: ResolvedSchema, union: str) -> frozenset[str]:
    """The members of a union's branches that are lists."""
    members = [member for branch in schema.get(union)["branches"] for member in schema.members(branch["type"])]
    return frozenset(member["name"] for member in members if element_type(member["type"]) is not None)


def _rest(schema: ResolvedSchema, branch: str, value: dict[str, Any], types: Mapping[str, str], path: str) -> dict[str, Any]:
    """The members of a branch that is a union itself, and the others."""
    inner = typed(schema, branch, value, path)
    return {
        name: typed(schema, types[name], each, _below(path, name)) if name in types else inner[name]
        for name, each in value.items()
    }


def _alternate(schema: ResolvedSchema, definition: Mapping[str, Any], value: Any, path: str) -> Any:
    types = [branch["type"] for branch in definition["branches"]]
    if isinstance(value, dict):
        return next((typed(schema, each, value, path) for each in types if each in schema), value)
    if "str" in types or not isinstance(value, str):
        return value
    return scalar(types[0], value, path) if types else value


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def scalar(type_name: str, text: str, path: str) -> Any:
    """A text as a value of a type that isn't an object.  CommandLineError."""
    if type_name == "bool":
        return as_bool(path, text)
    if type_name == "size":
        size = size_of(text)
        if size is None:
            raise CommandLineError(SIZE_TEXT.format(path))
        return size
    if type_name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[type_name]
        number = number_of(text)
        if number is None or not low <= number <= high:
            raise CommandLineError(f"Parameter '{path}' expects a {'int64' if low < 0 else 'uint64'} value")
        return number
    if type_name == "number":
        try:
            return float(text)
        except ValueError:
            raise CommandLineError(f"Parameter '{path}' expects a number") from None
    return text


def properties(rows: Iterable[Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a registry type's properties; those it hasn't are left to device_add.  CommandLineError."""
    types = {row["name"]: row["type"] for row in rows}
    made = {}
    for name, value in given.items():
        kind = types.get(name, "str")
        if kind.startswith("list:"):
            made[name] = [scalar(kind[5:], each, name) for each in (value if isinstance(value, list) else value.split(","))]
        else:
            made[name] = scalar(kind, value, name) if isinstance(value, str) else value
    return made

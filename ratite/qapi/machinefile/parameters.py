"""Parameters of a machine file, a profile or a part: declared with type, default and bounds, given as values or as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ratite.qapi.machinefile.document import Document, integer_of, is_tellable, read_document
from ratite.qapi.machinefile.expression import NAME, UNKNOWN, ExpressionError, evaluate, is_expression, size_of
from ratite.qapi.machinefile.problems import Near, Path, Place, Problems, as_json

_RULES: Mapping[str, str] = MappingProxyType(
    {
        "int": "an integer",
        "size": 'a size in bytes: an integer, or a text like "512M" (K, M, G, T)',
        "bool": "true or false",
        "str": "a text",
        "chardev": "a character backend: its type, or a mapping with 'type' and its members",
    }
)


class Parameter(NamedTuple):
    """As declared; `default` is None where a value must be given."""

    name: str
    type: str
    default: Any
    text: str
    values: tuple[Any, ...]


def declared(document: Document, path: Path, data: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters of a document or part; what isn't well-formed is left out (the schema has told)."""
    found = {}
    rows = data.get("parameters")
    for name, row in rows.items() if isinstance(rows, dict) else ():
        if re.fullmatch(NAME, name) and isinstance(row, dict) and isinstance(row.get("type"), str):
            values = row.get("values", [])
            found[name] = Parameter(
                name, row["type"], row.get("default"), str(row.get("description", "")),
                tuple(values) if isinstance(values, list) else (),
            )  # fmt: skip
    return found


def check_declared(document: Document, path: Path, data: Mapping[str, Any], problems: Problems) -> None:
    """That bounds, values and a plain default are of the parameter's type, used or not."""
    for name, row in declared(document, path, data).items():
        where = (*path, "parameters", name)
        written = data["parameters"][name]
        rule = _RULES.get(row.type)
        for key in "minimum", "maximum":
            at = (*where, key)
            if key in written and row.type not in ("int", "size"):
                problems.add(document.place(at, True), at, f"a parameter of type {row.type} has no bounds")
            elif key in written and _of_type(row.type, written[key]) is None:
                problems.add(document.place(at), at, f"must be {rule}", written[key])
        for number, value in enumerate(row.values):
            at = (*where, "values", number)
            if rule is not None and _of_type(row.type, value) is None:
                problems.add(document.place(at), at, f"must be {rule}", value)
        at, place = (*where, "default"), document.place((*where, "default"))
        if row.default is not None and not is_expression(row.default) and not problems.at(place):
            _, wrong = _checked(row, row.default, written)
            if wrong:
                problems.add(place, at, f"must be {wrong}", row.default)


class Given(NamedTuple):
    """The arguments of one use, and where they stand: `document` None: outside of any file."""

    values: Mapping[str, Any]
    document: Document | None
    path: Path

    def place(self, name: str, otherwise: Place) -> Place:
        """Where an argument was given."""
        return self.document.place((*self.path, name)) if self.document else Place(otherwise.file)


def bound(document: Document, path: Path, data: Mapping[str, Any], given: Given, problems: Problems) -> dict[str, Any]:
    """The value of every parameter."""
    rows = declared(document, path, data)
    for name in given.values:
        if name not in rows:
            rule = "there is no such parameter"
            place = given.place(name, document.place(path))
            problems.add(place, (*given.path, name), rule, ..., Near(name, rows, "there are"))
    names: dict[str, Any] = {}
    for name, row in rows.items():
        where = (*path, "parameters", name)
        names[name] = UNKNOWN
        if name in given.values:
            place = given.place(name, document.place(where))
            at: Path = (*given.path, name)
            value = given.values[name]
        else:
            place, at = document.place((*where, "default")), (*where, "default")
            value = row.default
            if value is None:
                problems.add(given.place(name, document.place(where)), where, f"a value must be given ({row.type}: {row.text})")
                continue
            if isinstance(value, str):
                try:
                    value = evaluate(value, names)
                except ExpressionError as error:
                    if str(error):
                        problems.add(place, at, str(error), near=error.near)
                    continue
        if value is UNKNOWN:
            continue
        checked, rule = _checked(row, value, data["parameters"][name])
        if rule:
            if not problems.at(place):
                problems.add(place, at, f"must be {rule}", value)
        else:
            names[name] = checked
    return names


def _checked(row: Parameter, value: Any, declaration: Mapping[str, Any]) -> tuple[Any, str]:
    """(the value as the parameter's type, what it must be when it isn't)."""
    if not is_tellable(value):
        return None, "without NUL characters and halves of surrogate pairs"
    taken = _of_type(row.type, value)
    if taken is None:
        return None, _RULES.get(row.type, "of a known type")
    if row.values and taken not in [_of_type(row.type, each) for each in row.values]:
        return None, f"one of {', '.join(as_json(each) for each in row.values)}"
    if isinstance(taken, int) and not isinstance(taken, bool):
        low, high = (_of_type(row.type, declaration.get(name)) for name in ("minimum", "maximum"))
        if (low is not None and taken < low) or (high is not None and taken > high):
            bounds = [f"at {word} {bound}" for word, bound in (("least", low), ("most", high)) if bound is not None]
            return None, f"{_RULES[row.type]}, {' and '.join(bounds)}"
    return taken, ""


def _of_type(kind: str, value: Any) -> Any:
    """The value, or what a text says of that type; None when it isn't one."""
    if kind == "chardev":
        return _chardev(value)
    if kind == "str":
        return value if isinstance(value, str) else None
    if kind == "bool":
        return (
            value if isinstance(value, bool) else {"true": True, "false": False}.get(value) if isinstance(value, str) else None
        )
    if isinstance(value, str) and kind in ("int", "size"):
        size = size_of(value) if kind == "size" else None
        value = integer_of(value) if size is None else size
    fits = isinstance(value, int) and not isinstance(value, bool) and (kind == "int" or value >= 0)
    return value if fits and kind in ("int", "size") else None


def _chardev(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        document = read_document("", value, Problems())
        value = document.data if document is not None else None
    if isinstance(value, str) and value:
        return {"type": value}
    return value if isinstance(value, dict) and isinstance(value.get("type"), str) else None

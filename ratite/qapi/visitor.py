"""Argument visitors: a closure a type, generated at first use, that checks and copies a JSON value.

The wordings are QEMU 10.0's, also where they are odd: type errors and missing or unexpected members
name the whole path (`capabilities[0].state`), ranges, enum values and alternates only the last
name, which is `null` in a list.  Members are visited in the schema's order, the base's first; what is
unexpected is reported when an object's own members are done.

Unlike QEMU a negative number for an unsigned type is refused, it does not wrap.
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

from ratite.qapi.errors import GenericError
from ratite.qapi.resolved import BUILTIN_JSON_TYPES, INTEGER_RANGES, ResolvedSchema, element_type, holds
from ratite.qapi.views import refused_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Visit = Callable[[Any], Any]
    Fill = Callable[[dict[str, Any], dict[str, Any]], None]


# Sizes of hash tables and the primes that places are taken modulo.
_TABLES = ((8, 7), (16, 13), (32, 31), (64, 61), (128, 127), (256, 251))

_JSON_KIND: MappingProxyType[type, str] = MappingProxyType(
    {str: "str", int: "num", float: "num", bool: "bool", dict: "dict", list: "list", type(None): "null"}
)


class Fault(Exception):
    """A value that does not fit; on its way up each level adds its name or index to `path`."""

    def __init__(self, before: str, after: str, leaf: bool = False) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.leaf = leaf
        self.path: list[str | int] = []

    def error(self, root: str = "") -> GenericError:
        """The client's error; `root` names the value that was visited, "" for a command's arguments."""
        path = self.path[::-1]
        name = root
        for part in path:
            if isinstance(part, int):
                name += f"[{part}]"
            else:
                name += f".{part}" if name else part
        if self.leaf:
            last = path[-1] if path else root.rpartition(".")[2]
            name = "null" if isinstance(last, int) or last.endswith("]") or not last else last
        return GenericError(self.before + name + self.after)


class PolicyFault(Fault):
    """A member or value that the view's policy refuses; `before` is all that is said."""

    def error(self, root: str = "") -> GenericError:
        """The client's error."""
        return GenericError(self.before)


def _wrong_type(expected: str, leaf: bool = False) -> Fault:
    return Fault("Invalid parameter type for '", f"', expected: {expected}", leaf)


def _missing(name: str) -> Fault:
    fault = Fault("Parameter '", "' is missing")
    fault.path.append(name)
    return fault


def unexpected(value: dict[str, Any], known: dict[str, Any]) -> Fault:
    """The fault of a member that isn't known; of several the one that QEMU was seen to name."""
    fault = Fault("Parameter '", "' is unexpected")
    names = [name for name in value if name not in known]
    fault.path.append(names[0] if len(names) == 1 else min(names, key=partial(_slot, len(value))))
    return fault


def _slot(count: int, name: str) -> int:
    """Where a name lies in QEMU's table of an object's `count` members, which it goes through from the front: a hash table,
    as small as it can be, of 8, 16, 32... places.  Two names on one place aren't told apart."""
    code = 5381
    for byte in name.encode("utf-8", "surrogatepass"):
        code = code * 33 + (byte ^ 128) - 128 & 0xFFFFFFFF
    return (code * 11 & 0xFFFFFFFF) % next((prime for size, prime in _TABLES if count < size), _TABLES[-1][1])


# ---------------------------------------------------------------- scalars


def _visit_any(value: Any) -> Any:
    return value


def _visit_str(value: Any) -> Any:
    if type(value) is not str:
        raise _wrong_type("string")
    return value


def _visit_bool(value: Any) -> Any:
    if type(value) is not bool:
        raise _wrong_type("boolean")
    return value


def _visit_null(value: Any) -> Any:
    if value is not None:
        raise _wrong_type("null")
    return value


def _visit_number(value: Any) -> Any:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _wrong_type("number")
    try:
        return float(value)
    except OverflowError:
        raise _wrong_type("number") from None


def _integer_visitor(name: str) -> Visit:
    low, high = INTEGER_RANGES[name]
    unsigned = low == 0
    if name in ("int", "int64", "uint64", "size"):

        def visit_wide(value: Any) -> Any:
            if type(value) is int and low <= value <= high:
                return value
            raise Fault("Parameter '", "' expects uint64") if unsigned else _wrong_type("integer")

        return visit_wide

    def visit_narrow(value: Any) -> Any:
        if type(value) is not int:
            raise Fault("Parameter '", "' expects uint64") if unsigned else _wrong_type("integer")
        if not low <= value <= high:
            raise Fault("Parameter '", f"' expects {name}_t", leaf=True)
        return value

    return visit_narrow


_PLAIN_VISITORS: MappingProxyType[str, Visit] = MappingProxyType(
    {
        "str": _visit_str,
        "bool": _visit_bool,
        "null": _visit_null,
        "number": _visit_number,
        "any": _visit_any,
        **{name: _integer_visitor(name) for name in INTEGER_RANGES},
    }
)


# ---------------------------------------------------------------- generated


class Visitors:
    """The visitors of one schema in one view; each is generated when it is first asked for."""

    __slots__ = ("_facts", "_fills", "_schema", "_visits")

    def __init__(self, schema: ResolvedSchema, facts: frozenset[str]) -> None:
        self._schema = schema
        self._facts = facts
        self._visits: dict[str, Visit] = dict(_PLAIN_VISITORS)
        self._fills: dict[str, Fill] = {}

    def visit(self, name: str) -> Visit:
        """The visitor of a type: value to checked value, or Fault.  Raises KeyError for no type."""
        visit = self._visits.get(name)
        if visit is None:
            # A type that contains itself meets this stand-in while it is being made.
            self._visits[name] = lambda value: self._visits[name](value)
            try:
                visit = self._visits[name] = self._generate(name)
            except KeyError:
                del self._visits[name]
                raise
        return visit

    def fill(self, name: str) -> Fill:
        """The visitor of an object type's members, which doesn't mind what is left over."""
        fill = self._fills.get(name)
        if fill is None:
            fill = self._fills[name] = self._object_fill(name)
        return fill

    def _holds(self, thing: dict[str, Any]) -> bool:
        return holds(thing.get("if"), self._facts)

    def _refused(self, thing: dict[str, Any]) -> str:
        features = [feature["name"] for feature in thing.get("features", ()) if self._holds(feature)]
        return refused_mark(features, self._facts) if features else ""

    def _member_visit(self, member: dict[str, Any]) -> Visit:
        mark = self._refused(member)
        if not mark:
            return self.visit(member["type"])

        def refuse(value: Any) -> Any:
            raise PolicyFault(f"{mark} parameter {member['name']} disabled by policy", "")

        return refuse

    def _generate(self, name: str) -> Visit:
        element = element_type(name)
        if element is not None:
            return _list_visitor(self.visit(element))
        definition = self._schema.get(name)
        meta = definition["meta"]
        if meta == "enum":
            values = {value["name"]: self._refused(value) for value in definition["members"] if self._holds(value)}
            return _enum_visitor(frozenset(values), {name: mark for name, mark in values.items() if mark})
        if meta == "alternate":
            return self._alternate_visitor(definition)
        if meta in ("struct", "union"):
            return _object_visitor(self.fill(name))
        raise KeyError(name)

    def _object_fill(self, name: str) -> Fill:
        definition = self._schema.get(name)
        members = [member for member in self._schema.members(name) if self._holds(member)]
        plan = tuple((m["name"], bool(m.get("optional")), self._member_visit(m)) for m in members)
        if definition["meta"] != "union":
            return _struct_fill(plan)
        branches: dict[str, Fill | str] = {
            branch["name"]: branch["type"] for branch in definition["branches"] if self._holds(branch)
        }
        return _union_fill(_struct_fill(plan), definition["discriminator"], branches, self.fill)

    def _alternate_visitor(self, definition: dict[str, Any]) -> Visit:
        name = definition["name"]
        branches = {
            self._json_kind(branch["type"]): self.visit(branch["type"])
            for branch in definition["branches"]
            if self._holds(branch)
        }

        def visit_alternate(value: Any) -> Any:
            visit = branches.get(_JSON_KIND.get(type(value), ""))
            if visit is None:
                raise _wrong_type(name, leaf=True)
            return visit(value)

        return visit_alternate

    def _json_kind(self, name: str) -> str:
        if element_type(name) is not None:
            return "list"
        if name in BUILTIN_JSON_TYPES:
            return "num" if name in INTEGER_RANGES or name == "number" else name
        return "str" if self._schema.get(name)["meta"] == "enum" else "dict"


def _enum_visitor(values: frozenset[str], refused: dict[str, str]) -> Visit:
    def visit_enum(value: Any) -> Any:
        if type(value) is not str:
            raise _wrong_type("string")
        if value not in values:
            raise Fault("Parameter '", f"' does not accept value '{value}'", leaf=True)
        if value in refused:
            raise PolicyFault(f"{refused[value]} value {value} disabled by policy", "")
        return value

    return visit_enum


def _list_visitor(visit: Visit) -> Visit:
    def visit_list(value: Any) -> Any:
        if type(value) is not list:
            raise _wrong_type("array")
        result: list[Any] = []
        try:
            for item in value:
                result.append(visit(item))
        except Fault as fault:
            fault.path.append(len(result))
            raise
        return result

    return visit_list


def _object_visitor(fill: Fill) -> Visit:
    def visit_object(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong_type("object")
        result: dict[str, Any] = {}
        fill(value, result)
        if len(result) != len(value):
            raise unexpected(value, result)
        return result

    return visit_object


def _struct_fill(plan: tuple[tuple[str, bool, Visit], ...]) -> Fill:
    def fill_struct(value: dict[str, Any], result: dict[str, Any]) -> None:
        for name, optional, visit in plan:
            if name in value:
                try:
                    result[name] = visit(value[name])
                except Fault as fault:
                    fault.path.append(name)
                    raise
            elif not optional:
                raise _missing(name)

    return fill_struct


def _union_fill(base: Fill, tag: str, branches: dict[str, Fill | str], fill_of: Callable[[str], Fill]) -> Fill:
    def fill_union(value: dict[str, Any], result: dict[str, Any]) -> None:
        base(value, result)
        case = result[tag]
        branch = branches.get(case)
        if branch is None:
            fault = Fault("Parameter '", f"' does not accept value '{case}'", leaf=True)
            fault.path.append(tag)
            raise fault
        if isinstance(branch, str):
            # A big union's branches are generated when a client first uses one.
            branch = branches[case] = fill_of(branch)
        branch(value, result)

    return fill_union

"""The resolved schema: what the compiler hands to the run-time tables, as plain JSON data.

A daemon compiles no schema at its start; it loads this form, so it is dicts all the way down and
nothing is built when it is loaded.  `to_json()` gives

    {"version": 1, "definitions": [DEFINITION, ...]}      # in the order of query-qmp-schema

    DEFINITION = {"meta": ..., "name": ..., *"if": COND, *"features": [FEATURE], *"doc": DOC, ...}
      enum       members: [{name, *if, *features}]
      struct     *base: NAME, members: [MEMBER], *implicit: true
      union      base: NAME, discriminator: NAME, branches: [{name, type, *if}]
      alternate  branches: [{name, type, *if}]
      command    *arg-type, *ret-type, *boxed, *gen: false, *success-response: false,
                 *allow-oob, *allow-preconfig, *coroutine
      event      *arg-type, *boxed
    MEMBER = {name, type, *optional: true, *if, *features}        FEATURE = {name, *if}
    COND = FACT | {"all": [COND]} | {"any": [COND]} | {"not": COND}
    DOC = {*text, *members: {name: text}, *features: {name: text}, *returns, *errors, *since}

A type is named by its name, an array by "[" name "]".  A union's branches cover its whole enum: the
written ones in source order, then the rest as "q_empty".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Definition = dict[str, Any]


VERSION = 1

BUILTIN_JSON_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "str": "string",
        "number": "number",
        "int": "int",
        "int8": "int",
        "int16": "int",
        "int32": "int",
        "int64": "int",
        "uint8": "int",
        "uint16": "int",
        "uint32": "int",
        "uint64": "int",
        "size": "int",
        "bool": "boolean",
        "any": "value",
        "null": "null",
    }
)
"""The built-in scalar types and the JSON type that introspection gives for each."""

INTEGER_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "int": (-(1 << 63), (1 << 63) - 1),
        "int8": (-(1 << 7), (1 << 7) - 1),
        "int16": (-(1 << 15), (1 << 15) - 1),
        "int32": (-(1 << 31), (1 << 31) - 1),
        "int64": (-(1 << 63), (1 << 63) - 1),
        "uint8": (0, (1 << 8) - 1),
        "uint16": (0, (1 << 16) - 1),
        "uint32": (0, (1 << 32) - 1),
        "uint64": (0, (1 << 64) - 1),
        "size": (0, (1 << 64) - 1),
    }
)

QTYPE_VALUES = ("none", "qnull", "qnum", "qstring", "qdict", "qlist", "qbool")
EMPTY = "q_empty"


def element_type(name: str) -> str | None:
    """The element's type name of an array type's name; None if it is no array."""
    return name[1:-1] if name[0] == "[" else None


def holds(condition: object, facts: frozenset[str]) -> bool:
    """Whether a condition (COND, or None for no condition) is true of a view's facts."""
    if condition is None:
        return True
    if isinstance(condition, str):
        return condition in facts
    if not isinstance(condition, dict) or len(condition) != 1:
        raise ValueError(f"a condition must be a name or an object with one of all, any, not, not {condition!r}")
    ((operator, operand),) = condition.items()
    if operator == "all":
        return all(holds(item, facts) for item in operand)
    if operator == "any":
        return any(holds(item, facts) for item in operand)
    if operator == "not":
        return not holds(operand, facts)
    raise ValueError(f"a condition's operator must be all, any or not, not {operator!r}")


def _predefined() -> dict[str, Definition]:
    return {
        "QType": {"meta": "enum", "name": "QType", "members": [{"name": value} for value in QTYPE_VALUES]},
        EMPTY: {"meta": "struct", "name": EMPTY, "members": [], "implicit": True},
    }


class ResolvedSchema:
    """A resolved schema; immutable by convention, so that any number of tables may share it."""

    __slots__ = ("_by_name", "definitions")

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self.definitions: tuple[Definition, ...] = tuple(definitions)
        self._by_name = _predefined()
        self._by_name.update((definition["name"], definition) for definition in self.definitions)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ResolvedSchema:
        """From what `to_json` gave.  Raises ValueError for another version of the form."""
        if data.get("version") != VERSION:
            raise ValueError(f"a resolved schema must be of version {VERSION}, not {data.get('version')!r}")
        return cls(data["definitions"])

    def to_json(self) -> dict[str, Any]:
        """The serialisable form; shares its parts with this schema."""
        return {"version": VERSION, "definitions": list(self.definitions)}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Definition:
        """The definition of a command, event or type that isn't built-in scalar.  Raises KeyError."""
        return self._by_name[name]

    def type_exists(self, name: str) -> bool:
        """Whether `name` names a type: built-in, defined, or an array of one."""
        name = element_type(name) or name
        if name in BUILTIN_JSON_TYPES:
            return True
        return name in self._by_name and self._by_name[name]["meta"] not in ("command", "event")

    def members(self, name: str) -> list[dict[str, Any]]:
        """An object type's own and inherited members, the base's first; no branches."""
        definition = self._by_name[name]
        base = definition.get("base")
        own: list[dict[str, Any]] = definition.get("members", [])
        return self.members(base) + own if base else own

    def with_branches(self, union: str, branches: Mapping[str, str | Sequence[Mapping[str, Any]]]) -> ResolvedSchema:
        """This schema with more branches in a union, for what is only known at run time.

        Each branch is an object type's name or a list of MEMBERs.  The discriminator's enum gets
        the values it lacks; a value it has already must have had an empty branch.  Raises ValueError for what
        the compiler would refuse as well: unknown types, clashes, a branch that exists.
        """
        definition = self._by_name.get(union)
        if definition is None or definition["meta"] != "union":
            raise ValueError(f"with_branches needs the name of a union, not {union!r}")
        inherited = self.members(union)
        tag = next(member for member in inherited if member["name"] == definition["discriminator"])
        enum = self._by_name[tag["type"]]
        values = {value["name"] for value in enum["members"]}
        existing = {branch["name"]: branch for branch in definition["branches"]}
        taken = frozenset(member["name"] for member in inherited)
        added: list[Definition] = []
        for name, branch in branches.items():
            if existing.get(name, {"type": EMPTY})["type"] != EMPTY:
                raise ValueError(f"union {union!r} must not get a second branch {name!r}")
            if not isinstance(branch, str):
                added.append(self._branch_struct(union, name, branch, taken))
                branch = added[-1]["name"]
            elif branch not in self._by_name or self._by_name[branch]["meta"] not in ("struct", "union"):
                raise ValueError(f"branch {name!r} of union {union!r} must be an object type, not {branch!r}")
            existing[name] = {"name": name, "type": branch}
        fresh = [{"name": name} for name in branches if name not in values]
        changed = {
            union: {**definition, "branches": list(existing.values())},
            enum["name"]: {**enum, "members": enum["members"] + fresh},
        }
        return ResolvedSchema(added + [changed.get(old["name"], old) for old in self.definitions])

    def _branch_struct(self, union: str, name: str, members: Sequence[Mapping[str, Any]], taken: frozenset[str]) -> Definition:
        where = f"branch {name!r} of union {union!r}"
        seen = set(taken)
        for member in members:
            if member["name"] in seen:
                raise ValueError(f"{where}: member {member['name']!r} must be there only once")
            if not self.type_exists(member["type"]):
                raise ValueError(f"{where}: member {member['name']!r} must have a known type, not {member['type']!r}")
            seen.add(member["name"])
        return {
            "meta": "struct",
            "name": f"q_obj_{union}-{name}-branch",
            "members": [dict(member) for member in members],
            "implicit": True,
        }

"""Checks of one definition by itself: keys, value types, names.  Gives the definition in normal form.

Everything about other definitions (does the type exist, do names clash) is schema.py's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ratite.qapi.docs import Doc
from ratite.qapi.parser import Expression
from ratite.qapi.source import Place, Pragma, show

Condition = Any
"""A COND of the resolved form, None for none."""

_VALID_NAME = re.compile(r"(__[a-z0-9.-]+_)?(x-)?([a-z][a-z0-9_-]*)", re.I)
_UPPER = re.compile(r"[A-Z][A-Z0-9_]*")
_LOWER = re.compile(r"[a-z][a-z0-9-]*")
_CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")

_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        "enum": (frozenset({"enum", "data"}), frozenset({"if", "features", "prefix"})),
        "struct": (frozenset({"struct", "data"}), frozenset({"base", "if", "features"})),
        "union": (frozenset({"union", "base", "discriminator", "data"}), frozenset({"if", "features"})),
        "alternate": (frozenset({"alternate", "data"}), frozenset({"if", "features"})),
        "command": (
            frozenset({"command"}),
            frozenset({"data", "returns", "boxed", "if", "features", "gen", "success-response"})
            | {"allow-oob", "allow-preconfig", "coroutine"},
        ),
        "event": (frozenset({"event"}), frozenset({"data", "boxed", "if", "features"})),
    }
)
"""A definition's required and optional keys."""

_FLAGS: Mapping[str, bool] = MappingProxyType(
    {
        "boxed": True,
        "gen": False,
        "success-response": False,
        "allow-oob": True,
        "allow-preconfig": True,
        "coroutine": True,
    }
)
"""The only value that each flag may be given."""


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    cond: Condition = None


@dataclass(slots=True)
class Member:
    """A member, a branch or (without a type) an enum's value."""

    name: str
    type: str = ""
    optional: bool = False
    cond: Condition = None
    features: tuple[Feature, ...] = ()


@dataclass(slots=True)
class Definition:
    """A definition in normal form.

    `members` are a struct's, an enum's values, a union's or alternate's branches, or a command's or
    event's inline data; None where `data_type` names a type instead or there are none.
    """

    meta: str
    name: str
    place: Place
    doc: Doc | None
    file_index: int = 0
    cond: Condition = None
    features: tuple[Feature, ...] = ()
    members: list[Member] | None = None
    data_type: str | None = None
    base: str | None = None
    base_members: list[Member] | None = None
    discriminator: str = ""
    returns: str | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    prefix: str | None = None


def check_expressions(expressions: Collection[Expression], pragma: Pragma) -> list[Definition]:
    """The definitions in normal form.  Raises SchemaError at the first fault."""
    return [_Checker(expression, pragma).definition() for expression in expressions]


def c_name(name: str) -> str:
    """The identifier that a name becomes; names with the same one clash."""
    return name.replace("-", "_").replace(".", "_")


class _Checker:
    def __init__(self, expression: Expression, pragma: Pragma) -> None:
        self._expression = expression
        self._value = expression.value
        self._place = expression.place
        self._pragma = pragma

    def definition(self) -> Definition:
        source = self._expression
        self._check_definition_name()
        self._check_doc()
        self._check_keys(self._value, source.meta, *_KEYS[source.meta])
        result = Definition(source.meta, source.name, source.place, source.doc, source.file_index)
        result.cond = self._condition(self._value, source.meta)
        result.features = self._features(self._value, source.meta)
        getattr(self, "_" + source.meta)(result)
        return result

    # -- names

    def _check_definition_name(self) -> None:
        meta, name = self._expression.meta, self._expression.name
        stem = self._check_name(name, f"'{meta}' name")
        if meta == "event":
            if not _UPPER.fullmatch(stem):
                raise self._place.error(f"event name '{name}' must be upper case with '_', like 'SOME_EVENT'")
        elif meta == "command":
            if name not in self._pragma.command_name_exceptions and not _LOWER.fullmatch(stem):
                raise self._place.error(f"command name '{name}' must be lower case with '-', like 'some-command'")
        else:
            if not _CAMEL.fullmatch(stem):
                raise self._place.error(f"{meta} name '{name}' must be CamelCase, like 'SomeType'")
            if name.endswith("List"):
                raise self._place.error(f"{meta} name '{name}' must not end in 'List', arrays are named so")

    def _check_name(self, name: object, what: str, digit: bool = False) -> str:
        """The name's stem, without the downstream and x- prefixes."""
        if not isinstance(name, str):
            raise self._place.error(f"{what} must be a string, not {show(name)}")
        match = _VALID_NAME.fullmatch("d" + name if digit and name[:1].isdigit() else name)
        if not match or c_name(name).lower().startswith("q_"):
            rule = "'q_' is reserved" if match else "letters, digits, '-', '_', first a letter"
            raise self._place.error(f"{what} '{name}' is not a valid name ({rule})")
        return match[3]

    def _check_member_name(self, name: str, what: str) -> None:
        stem = self._check_name(name, what)
        if c_name(name) == "u" or c_name(name).startswith("has_"):
            raise self._place.error(f"{what} '{name}' uses a reserved name ('u' and 'has_*' are)")
        self._check_case(stem, name, what)

    def _check_case(self, stem: str, name: str, what: str) -> None:
        if self._expression.name not in self._pragma.member_name_exceptions and not _LOWER.fullmatch(stem):
            raise self._place.error(f"{what} '{name}' must be lower case with '-', not '_' or upper case")

    # -- shapes

    def _check_doc(self) -> None:
        doc = self._expression.doc
        if doc is not None and doc.symbol != self._expression.name:
            raise doc.place.error(f"documentation comment is for '{doc.symbol}', not '{self._expression.name}'")

    def _check_keys(self, value: dict[str, Any], what: str, required: Collection[str], optional: Collection[str]) -> None:
        missing = sorted(set(required) - set(value))
        if missing:
            raise self._place.error(f"{what} misses key {', '.join(map(show, missing))}")
        unknown = sorted(set(value) - set(required) - set(optional))
        if unknown:
            valid = ", ".join(map(show, sorted({*required, *optional})))
            raise self._place.error(
                f"{what} has unknown key {', '.join(map(show, unknown))}", notes=(f"Valid keys are {valid}.",)
            )

    def _condition(self, owner: dict[str, Any], what: str) -> Condition:
        if "if" not in owner:
            return None
        self._check_condition(owner["if"], owner["if"], what)
        return owner["if"]

    def _check_condition(self, cond: object, whole: object, what: str) -> None:
        def wrong(rule: str) -> Exception:
            return self._place.error(f"'if' condition {show(whole)} of {what} {rule}")

        if isinstance(cond, str):
            if not _UPPER.fullmatch(cond):
                raise wrong(f"must be made of upper case names with '_', not '{cond}'")
            return
        if not isinstance(cond, dict):
            raise wrong("must be a name or an object with one of 'all', 'any', 'not'")
        if len(cond) != 1 or not set(cond) <= {"all", "any", "not"}:
            raise wrong(f"must have exactly one key of 'all', 'any', 'not', not {show(list(cond))}")
        ((operator, operand),) = cond.items()
        if operator == "not":
            self._check_condition(operand, whole, what)
            return
        if not isinstance(operand, list):
            raise wrong(f"must have an array after '{operator}'")
        if not operand:
            raise wrong(f"is useless: '{operator}' of nothing")
        for item in operand:
            self._check_condition(item, whole, what)

    def _features(self, owner: dict[str, Any], what: str) -> tuple[Feature, ...]:
        features = owner.get("features", [])
        if not isinstance(features, list):
            raise self._place.error(f"'features' of {what} must be an array, not {show(features)}")
        result: list[Feature] = []
        for item in features:
            value = {"name": item} if isinstance(item, str) else item
            if not isinstance(value, dict):
                raise self._place.error(f"'features' member of {what} must be a name or an object, not {show(item)}")
            self._check_keys(value, f"'features' member of {what}", ["name"], ["if"])
            stem = self._check_name(value["name"], f"feature of {what}")
            label = f"feature '{value['name']}' of {what}"
            if not _LOWER.fullmatch(stem):
                raise self._place.error(f"{label} must be lower case with '-'")
            result.append(Feature(value["name"], self._condition(value, label)))
        return tuple(result)

    def _flag(self, result: Definition, *names: str) -> None:
        for name in names:
            if name in self._value:
                if self._value[name] is not _FLAGS[name]:
                    allowed = show(_FLAGS[name])
                    raise self._place.error(f"'{name}' may only be {allowed}, not {show(self._value[name])}")
                result.flags[name] = _FLAGS[name]

    def _type_name(self, value: object, what: str, array: bool = False) -> str:
        """A type reference as the resolved form writes it."""
        if isinstance(value, str):
            return value
        if not array:
            raise self._place.error(f"{what} must be a type name, not {show(value)}")
        if isinstance(value, list):
            if len(value) != 1 or not isinstance(value[0], str):
                raise self._place.error(f"{what}: array type must contain a single type name, not {show(value)}")
            return f"[{value[0]}]"
        raise self._place.error(f"{what} must be a type name or an array of one, not {show(value)}")

    def _members(self, data: object, what: str) -> list[Member]:
        """{'name': TYPE, '*name': {'type': TYPE, ...}} in normal form."""
        if not isinstance(data, dict):
            raise self._place.error(f"{what} must be an object, not {show(data)}")
        result: list[Member] = []
        for key, value in data.items():
            name = key.removeprefix("*")
            label = f"member '{name}' of {what}"
            self._check_member_name(name, f"{what} member")
            spec = value if isinstance(value, dict) else {"type": value}
            self._check_keys(spec, label, ["type"], ["if", "features"])
            result.append(
                Member(
                    name,
                    self._type_name(spec["type"], label, array=True),
                    key.startswith("*"),
                    self._condition(spec, label),
                    self._features(spec, label),
                )
            )
        self._check_clashes(result, f"{what} member")
        return result

    def _branches(self, what: str, array: bool) -> list[Member]:
        data = self._value["data"]
        if not isinstance(data, dict):
            raise self._place.error(f"'data' must be an object, not {show(data)}")
        result: list[Member] = []
        for name, value in data.items():
            label = f"branch '{name}'"
            stem = self._check_name(name, "branch", digit=not array)
            if array:
                self._check_case(stem, name, "branch")
            spec = value if isinstance(value, dict) else {"type": value}
            self._check_keys(spec, label, ["type"], ["if"])
            result.append(Member(name, self._type_name(spec["type"], label, array), cond=self._condition(spec, label)))
        if not result:
            raise self._place.error(f"{what} has no branches")
        self._check_clashes(result, "branch")
        return result

    def _check_clashes(self, members: list[Member], what: str) -> None:
        seen: dict[str, str] = {}
        for member in members:
            key = c_name(member.name)
            if key in seen:
                raise self._place.error(f"{what} '{member.name}' collides with '{seen[key]}'")
            seen[key] = member.name

    # -- the six definitions

    def _enum(self, result: Definition) -> None:
        data = self._value["data"]
        if not isinstance(data, list):
            raise self._place.error(f"'data' must be an array, not {show(data)}")
        prefix = self._value.get("prefix")
        if prefix is not None and not isinstance(prefix, str):
            raise self._place.error(f"'prefix' must be a string, not {show(prefix)}")
        result.prefix = prefix
        result.members = []
        for item in data:
            value = {"name": item} if isinstance(item, str) else item
            if not isinstance(value, dict):
                raise self._place.error(f"'data' member must be a name or an object, not {show(item)}")
            self._check_keys(value, "'data' member", ["name"], ["if", "features"])
            stem = self._check_name(value["name"], "enum value", digit=True)
            label = f"value '{value['name']}'"
            self._check_case(stem, value["name"], "enum value")
            cond = self._condition(value, label)
            result.members.append(Member(value["name"], cond=cond, features=self._features(value, label)))
        self._check_clashes(result.members, "value")

    def _struct(self, result: Definition) -> None:
        result.members = self._members(self._value["data"], "'data'")
        if "base" in self._value:
            result.base = self._type_name(self._value["base"], "'base'")

    def _union(self, result: Definition) -> None:
        base = self._value["base"]
        if isinstance(base, dict):
            result.base_members = self._members(base, "'base'")
        else:
            result.base = self._type_name(base, "'base'")
        discriminator = self._value["discriminator"]
        if not isinstance(discriminator, str):
            raise self._place.error(f"'discriminator' must be a member's name, not {show(discriminator)}")
        result.discriminator = discriminator
        result.members = self._branches("union", array=False)

    def _alternate(self, result: Definition) -> None:
        result.members = self._branches("alternate", array=True)

    def _data(self, result: Definition) -> None:
        boxed = "boxed" in self._value
        data = self._value.get("data")
        if boxed and data is None:
            raise self._place.error("'boxed': true requires 'data'")
        if isinstance(data, dict):
            if boxed:
                raise self._place.error("'boxed': true requires a type's name as 'data', not members")
            result.members = self._members(data, "'data'")
        elif data is not None:
            result.data_type = self._type_name(data, "'data'")

    def _command(self, result: Definition) -> None:
        self._flag(result, *_FLAGS)
        self._data(result)
        if "returns" in self._value:
            result.returns = self._type_name(self._value["returns"], "'returns'", array=True)
        if "allow-oob" in result.flags and "coroutine" in result.flags:
            raise self._place.error("flags 'allow-oob' and 'coroutine' are incompatible")

    def _event(self, result: Definition) -> None:
        self._flag(result, "boxed")
        self._data(result)

"""The definitions as a whole: references, clashes, loops, unions, alternates, documentation.

`compile_schema(path)` runs all stages and gives the resolved form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ratite.qapi.expressions import Definition, Feature, Member, c_name, check_expressions
from ratite.qapi.parser import parse_file
from ratite.qapi.resolved import BUILTIN_JSON_TYPES, INTEGER_RANGES, QTYPE_VALUES, ResolvedSchema, element_type
from ratite.qapi.schema_docs import check_docs
from ratite.qapi.source import Place, Pragma

MAX_FEATURES = 64
SPECIAL_FEATURES = ("deprecated", "unstable")
_TYPE_METAS = ("enum", "struct", "union", "alternate")
_JSON_KINDS: Mapping[str, str] = MappingProxyType(
    {"str": "string", "number": "number", "bool": "boolean", "null": "null", **dict.fromkeys(INTEGER_RANGES, "number")}
)


def compile_schema(path: str, doc_style: bool = True) -> ResolvedSchema:
    """Compile a schema file and what it includes.  Raises SchemaError at the first fault.

    `doc_style` false accepts documentation comments laid out by older rules.
    """
    parsed = parse_file(path, doc_style)
    schema = Schema(check_expressions(parsed.expressions, parsed.pragma), parsed.pragma)
    schema.check()
    return schema.resolved()


class Schema:
    """All definitions of a schema, by name."""

    def __init__(self, definitions: Iterable[Definition], pragma: Pragma) -> None:
        # Files count in the order of their first include, not where their text was read.
        self._definitions = sorted(definitions, key=lambda definition: definition.file_index)
        self._pragma = pragma
        self._by_name: dict[str, Definition] = {}
        self._checked_objects: set[str] = set()

    def check(self) -> None:
        """All checks.  Raises SchemaError at the first fault."""
        self._check_names()
        for definition in self._definitions:
            self._check_features(definition)
            getattr(self, "_check_" + definition.meta)(definition)
        self._check_feature_count()
        check_docs(self._definitions, self._pragma)

    # -- names and references

    def _check_names(self) -> None:
        self._by_name["QType"] = Definition("enum", "QType", Place("built-in"), None)
        self._by_name["QType"].members = [Member(value) for value in QTYPE_VALUES]
        for definition in self._definitions:
            other = self._by_name.get(definition.name)
            if other is not None:
                notes = (other.place.note("previous definition"),) if other.place.line else ()
                raise definition.place.error(f"'{definition.name}' is already defined", notes=notes)
            self._by_name[definition.name] = definition

    def _type(self, name: str) -> Definition | None:
        """The definition of a defined type; None for built-ins and arrays of what exists."""
        found = self._by_name.get(name)
        return found if found is not None and found.meta in _TYPE_METAS else None

    def _check_exists(self, name: str, what: str, place: Place) -> None:
        element = element_type(name) if name else None
        stem = element if element is not None else name
        if stem not in BUILTIN_JSON_TYPES and self._type(stem) is None:
            found = self._by_name.get(stem)
            if found is not None:
                raise place.error(f"{what} must be a type, '{stem}' is {_a(found.meta)}")
            raise place.error(f"{what} uses unknown type '{stem}'")

    def _describe(self, name: str) -> str:
        if element_type(name) is not None:
            return f"array type '{name}'"
        found = self._type(name)
        return f"built-in type '{name}'" if found is None else f"{found.meta} type '{name}'"

    def _check_member_types(self, members: Iterable[Member], place: Place) -> None:
        for member in members:
            self._check_exists(member.type, f"member '{member.name}'", place)

    # -- features

    def _check_features(self, definition: Definition) -> None:
        if definition.meta in _TYPE_METAS:
            for feature in definition.features:
                if feature.name in SPECIAL_FEATURES:
                    raise definition.place.error(f"feature '{feature.name}' is not supported for types")
        for label, features in _feature_lists(definition):
            seen: dict[str, str] = {}
            for feature in features:
                key = c_name(feature.name)
                if key in seen:
                    raise definition.place.error(f"feature '{feature.name}' of {label} collides with '{seen[key]}'")
                seen[key] = feature.name

    def _check_feature_count(self) -> None:
        names: set[str] = set()
        for definition in self._definitions:
            for _, features in _feature_lists(definition):
                names.update(feature.name for feature in features)
            if len(names) > MAX_FEATURES:
                raise definition.place.error(f"a schema must have at most {MAX_FEATURES} different features")

    # -- objects

    def _own_members(self, definition: Definition) -> list[Member]:
        """A struct's or union's members that aren't inherited from a named base."""
        if definition.meta == "union":
            return definition.base_members or []
        return definition.members or []

    def _all_members(self, definition: Definition) -> list[tuple[Member, Definition]]:
        base = self._by_name[definition.base] if definition.base else None
        inherited = self._all_members(base) if base is not None else []
        return inherited + [(member, definition) for member in self._own_members(definition)]

    def _check_object(self, definition: Definition, path: tuple[str, ...] = ()) -> None:
        """Base chain, member types, clashes, loops; once a type, base and branches first."""
        name, place = definition.name, definition.place
        if name in path:
            raise place.error(f"object {name} contains itself")
        if name in self._checked_objects:
            return
        path = (*path, name)
        if definition.base is not None:
            self._check_exists(definition.base, "'base'", place)
            base = self._type(definition.base)
            if base is None or base.meta != "struct":
                raise place.error(f"'base' requires a struct type, {self._describe(definition.base)} isn't")
            self._check_object(base, path)
        self._check_member_types(self._own_members(definition), place)
        for member in self._own_members(definition):
            inner = self._type(member.type)
            if not member.optional and inner is not None and inner.meta in ("struct", "union"):
                self._check_object(inner, path)
        seen = self._check_no_clash(definition, {}, "")
        if definition.meta == "union":
            self._check_branches(definition, path, seen)
        self._checked_objects.add(name)

    def _check_no_clash(
        self, definition: Definition, seen: dict[str, tuple[Member, Definition]], prefix: str, at: Place | None = None
    ) -> dict[str, tuple[Member, Definition]]:
        for member, owner in self._all_members(definition):
            other = seen.setdefault(c_name(member.name), (member, owner))
            if other[0] is not member:
                whose = "" if other[1] is owner else f" of {other[1].meta} '{other[1].name}'"
                raise (at or definition.place).error(
                    f"{prefix}member '{member.name}' collides with {'base ' if whose and not prefix else ''}"
                    f"member '{other[0].name}'{whose}"
                )
        return seen

    def _check_struct(self, definition: Definition) -> None:
        self._check_object(definition)

    def _check_union(self, definition: Definition) -> None:
        self._check_object(definition)

    def _check_branches(self, union: Definition, path: tuple[str, ...], seen: dict[str, tuple[Member, Definition]]) -> None:
        enum = self._check_discriminator(union)
        values = {value.name for value in enum.members or []}
        for branch in union.members or []:
            label = f"branch '{branch.name}'"
            if branch.name not in values:
                raise union.place.error(f"{label} is not a value of enum type '{enum.name}'")
            self._check_exists(branch.type, label, union.place)
            inner = self._type(branch.type)
            if inner is None or inner.meta not in ("struct", "union"):
                raise union.place.error(f"{label} must be a struct or union type, not {self._describe(branch.type)}")
            self._check_object(inner, path)
            self._check_no_clash(inner, dict(seen), f"{label}: ", union.place)

    def _check_discriminator(self, union: Definition) -> Definition:
        name, place = union.discriminator, union.place
        found = [member for member, _ in self._all_members(union) if member.name == name]
        if not found:
            raise place.error(f"discriminator '{name}' is not a member of 'base'")
        member = found[0]
        enum = self._type(member.type)
        if enum is None or enum.meta != "enum":
            raise place.error(f"discriminator '{name}' must be of enum type, not {self._describe(member.type)}")
        if member.optional:
            raise place.error(f"discriminator '{name}' must not be optional")
        if member.cond is not None:
            raise place.error(f"discriminator '{name}' must not be conditional")
        return enum

    # -- the rest

    def _check_enum(self, definition: Definition) -> None:
        """Nothing in an enum refers to anything."""

    def _check_alternate(self, definition: Definition) -> None:
        place = definition.place
        taken: dict[str, str] = {}
        for branch in definition.members or []:
            label = f"branch '{branch.name}'"
            self._check_exists(branch.type, label, place)
            inner = self._type(branch.type)
            if branch.type == "any" or (inner is not None and inner.meta == "alternate"):
                raise place.error(f"{label} cannot use {self._describe(branch.type)}")
            for kind in self._alternate_kinds(branch.type):
                other = taken.setdefault(kind, branch.name)
                if other is not branch.name:
                    raise place.error(f"{label} can't be distinguished from '{other}' ({kind})")

    def _alternate_kinds(self, name: str) -> list[str]:
        """What a branch of the type occupies: JSON types, and those its strings could be mistaken for."""
        if element_type(name) is not None:
            return ["array"]
        if name == "str":
            return ["string", "number", "boolean"]
        if name in _JSON_KINDS:
            return [_JSON_KINDS[name]]
        definition = self._by_name[name]
        if definition.meta != "enum":
            return ["object"]
        kinds = ["string"]
        values = [value.name for value in definition.members or []]
        if any(value[0] in "-+.0123456789" for value in values):
            kinds.append("number")
        if {"on", "off"} & set(values):
            kinds.append("boolean")
        return kinds

    def _check_data(self, definition: Definition) -> None:
        place = definition.place
        if definition.data_type is not None:
            self._check_exists(definition.data_type, "'data'", place)
            found = self._type(definition.data_type)
            if found is None or found.meta not in ("struct", "union"):
                raise place.error(f"'data' must be an object type, not {self._describe(definition.data_type)}")
            if "boxed" in definition.flags:
                return
            if found.meta == "union":
                raise place.error(f"'data' can take {self._describe(found.name)} only with 'boxed': true")
            self._check_object(found)
            members = [member for member, _ in self._all_members(found)]
        else:
            members = definition.members or []
            self._check_member_types(members, place)
        for member in members:
            if member.cond is not None:
                raise place.error(f"conditional member '{member.name}' of 'data' requires 'boxed': true")

    def _check_event(self, definition: Definition) -> None:
        self._check_data(definition)

    def _check_command(self, definition: Definition) -> None:
        self._check_data(definition)
        returns = definition.returns
        if returns is None:
            return
        self._check_exists(returns, "'returns'", definition.place)
        if definition.name in self._pragma.command_returns_exceptions:
            return
        found = self._type(element_type(returns) or returns)
        if found is None or found.meta not in ("struct", "union"):
            raise definition.place.error(f"'returns' must be an object type or an array of one, not {self._describe(returns)}")

    # -- the resolved form

    def resolved(self) -> ResolvedSchema:
        """The resolved form; only after `check`."""
        definitions: list[dict[str, Any]] = []
        for definition in self._definitions:
            definitions += self._resolve(definition)
        return ResolvedSchema(definitions)

    def _resolve(self, definition: Definition) -> list[dict[str, Any]]:
        """A definition's resolved form, behind that of the implicit type it needs."""
        entry: dict[str, Any] = {"meta": definition.meta, "name": definition.name}
        _put_common(entry, definition.cond, definition.features)
        implicit: list[dict[str, Any]] = []
        if definition.meta in ("command", "event"):
            members = definition.members
            if definition.data_type is not None:
                entry["arg-type"] = definition.data_type
            elif members:
                implicit.append(_implicit(definition, "arg", members))
                entry["arg-type"] = implicit[0]["name"]
            if definition.returns is not None:
                entry["ret-type"] = definition.returns
            entry.update(definition.flags)
        elif definition.meta == "union":
            if definition.base_members is not None:
                implicit.append(_implicit(definition, "base", definition.base_members))
            entry["base"] = implicit[0]["name"] if implicit else definition.base
            entry["discriminator"] = definition.discriminator
            entry["branches"] = self._resolve_branches(definition)
        elif definition.meta == "alternate":
            entry["branches"] = [_member(branch) for branch in definition.members or []]
        else:
            if definition.base is not None:
                entry["base"] = definition.base
            entry["members"] = [_member(member) for member in definition.members or []]
        if definition.doc is not None and (doc := definition.doc.to_json()):
            entry["doc"] = doc
        return [*implicit, entry]

    def _resolve_branches(self, union: Definition) -> list[dict[str, Any]]:
        branches = [_member(branch) for branch in union.members or []]
        written = {branch["name"] for branch in branches}
        for value in self._check_discriminator(union).members or []:
            if value.name not in written:
                branches.append(_member(Member(value.name, "q_empty", cond=value.cond)))
        return branches


def _a(meta: str) -> str:
    return ("an " if meta[0] in "aeiou" else "a ") + meta


def _feature_lists(definition: Definition) -> Iterable[tuple[str, tuple[Feature, ...]]]:
    yield f"{definition.meta}", definition.features
    for member in [*(definition.members or []), *(definition.base_members or [])]:
        yield f"'{member.name}'", member.features


def _put_common(entry: dict[str, Any], cond: Any, features: tuple[Feature, ...]) -> None:
    if cond is not None:
        entry["if"] = cond
    if features:
        entry["features"] = [
            {"name": feature.name} if feature.cond is None else {"name": feature.name, "if": feature.cond}
            for feature in features
        ]


def _member(member: Member) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": member.name}
    if member.type:
        entry["type"] = member.type
    if member.optional:
        entry["optional"] = True
    _put_common(entry, member.cond, member.features)
    return entry


def _implicit(owner: Definition, role: str, members: list[Member]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "meta": "struct",
        "name": f"q_obj_{owner.name}-{role}",
        "members": [_member(member) for member in members],
        "implicit": True,
    }
    _put_common(entry, owner.cond, ())
    return entry

"""The JSON Schema (draft 2020-12) of machine files, made from the declarations.

`machine_schema` is what editors get: a document as people write it, with `$(…)` wherever a value may stand.  `flat_schema` is
for a document whose repetitions, parts and expressions are resolved: only values are left.  Both are one set of rules.

`errorMessage` beside a rule says it in words; editors that know the keyword show it, and so do our own messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ratite.qapi.json_schema import DIALECT
from ratite.qapi.machinefile.declarations import ID_MAX, SECTIONS, Declarations, Section
from ratite.qapi.machinefile.expression import NAME
from ratite.qapi.machinefile.problems import as_json
from ratite.qapi.machinefile.types import HEADER, MEMBERS
from ratite.qapi.resolved import INTEGER_RANGES, element_type, holds

Json = dict[str, Any]

FORMAT = 1
ID = rf"[A-Za-z][A-Za-z0-9._-]{{0,{ID_MAX - 1}}}"
# Python takes "$" before a last newline too.
_END = r"(?!\n)$"
SIZE = rf"^[0-9]{{1,19}}[KMGT]{_END}"
_EXPRESSION = r"(^|[^$])(\$\$)*\$\("
_KEY_EXPRESSION = r"\$\("
PARAMETER_TYPES = ("int", "size", "bool", "str", "chardev")
FRAGMENT = ("include", *SECTIONS, "maps", "wires", "groups")


def machine_schema(declarations: Declarations) -> Json:
    """The schema of a machine file."""
    return _Maker(declarations, True).document()


def flat_schema(declarations: Declarations) -> Json:
    """The schema of a resolved one: machine, the sections, maps and wires."""
    return _Maker(declarations, False).flat()


def property_rule(row: Mapping[str, Any]) -> Json:
    """The schema of one property of the registry, for values."""
    if row.get("link"):
        return _worded({"type": "string", "minLength": 1}, f"the id of an object of type {row['link']}")
    rule = value_rule(row["type"].replace("list:", "[", 1) + ("]" if row["type"].startswith("list:") else ""), row)
    if "values" in row:
        return _worded({"enum": list(row["values"])}, f"one of {_listed(row['values'])}")
    return rule


def value_rule(type_name: str, row: Mapping[str, Any]) -> Json:
    """The schema of a built-in type, within the bounds of `row`."""
    element = element_type(type_name)
    if element is not None:
        return {"type": "array", "items": value_rule(element, row)}
    if type_name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[type_name]
        low, high = max(low, row.get("minimum", low)), min(high, row.get("maximum", high))
        whole: Json = {"type": "integer", "minimum": low, "maximum": high}
        if type_name != "size":
            unit = f" {row['unit']}" if row.get("unit") else ""
            return _worded(whole, f"an integer from {_number(low)} to {_number(high)}{unit}")
        words = f'a size in bytes from {_number(low)} to {_number(high)}: an integer, or a text like "512M" (K, M, G, T)'
        return _worded({"anyOf": [whole, {"type": "string", "pattern": SIZE}]}, words)
    simple = {
        "bool": ("boolean", "true or false"),
        "str": ("string", "a text (in quotes where it looks like a number, true, false or null)"),
        "bytes": ("string", "bytes in hex"),
        "number": ("number", "a number"),
        "null": ("null", "null"),
    }
    if type_name not in simple:
        return {}  # a plug-in's own idea of a type: its code checks it
    name, words = simple[type_name]
    return _worded({"type": name}, words)


def _worded(rule: Json, words: str) -> Json:
    return {**rule, "errorMessage": f"must be {words}"}


def _number(value: int) -> str:
    return hex(value) if value >= 1 << 31 else str(value)


def _listed(values: Any) -> str:
    return ", ".join(as_json(value) for value in values)


class _Maker:
    def __init__(self, declarations: Declarations, expressions: bool) -> None:
        self._declarations = declarations
        self._expressions = expressions
        self._defs: Json = {}
        self._todo: list[str] = []

    # -- documents

    def document(self) -> Json:
        parameter = self._define("parameter", self._parameter())
        body = self._closed("a machine file", {
            "ratite": {"const": FORMAT, "errorMessage": f"must be {FORMAT}, the version of the format"},
            "description": value_rule("str", {}),
            "parameters": self._by_name(NAME, parameter, "a name of a parameter (small letters, digits, _)"),
            "parts": self._by_name(ID, {"$ref": "#/$defs/part"}, "a name of a part"),
            "machine": self._machine(),
            HEADER: self._header(),
            **self._fragment(),
        }, ("ratite",))  # fmt: skip
        self._define("part", self._closed("a part", {
            "description": value_rule("str", {}), "parameters": body["properties"]["parameters"], **self._fragment(),
        }))  # fmt: skip
        self._define("group", self._closed("a group", {
            "for": self._by_name(NAME, self._turns(), "a name of a variable (small letters, digits, _)"),
            "if": self._or_expression({"type": "boolean"}, "true or false"),
            **self._fragment(),
        }))  # fmt: skip
        self._define("include", self._include())
        title = {"$schema": DIALECT, "title": "ratite machine file"}
        return {**title, **body, "$defs": self._definitions()}

    def flat(self) -> Json:
        body = self._closed("a machine", {"machine": self._machine(), **self._things()})
        return {"$schema": DIALECT, **body, "$defs": self._definitions()}

    def _fragment(self) -> Json:
        return {
            "include": {"type": "array", "items": {"$ref": "#/$defs/include"},
                        "description": "other files, profiles and parts that belong to this"},
            **self._things(),
            "groups": {"type": "array", "items": {"$ref": "#/$defs/group"},
                       "description": "things that are there several times (for) or only under a condition (if)"},
        }  # fmt: skip

    def _things(self) -> Json:
        made: Json = {}
        for section in SECTIONS.values():
            made[section.name] = self._by_name(ID, self._entry(section), "an id (a letter, then letters, digits, . _ -)")
            made[section.name]["description"] = section.text
        place = self._or_expression({"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}, "an address")
        priority = value_rule("int32", {})
        fine = self._closed("a place", {"offset": place, "priority": self._leaf(priority, "an integer")}, ("offset",))
        one = {"anyOf": [place, fine]}
        word = "must be an address, {offset, priority}, or a list of these"
        places = self._define("places", {"anyOf": [place, fine, {"type": "array", "items": one}], "errorMessage": word})
        made["maps"] = {"type": "object", "description": "address space: region (ID or ID/REGION): address",
                        "additionalProperties": {"type": "object", "additionalProperties": places}}  # fmt: skip
        allowed = rf"[^/]/[^/\n]+{_END}" + (f"|{_KEY_EXPRESSION}" if self._expressions else "")
        end = _worded({"type": "string", "pattern": allowed}, "ID/LINE, like plic/irq[10]")
        made["wires"] = {"type": "object", "description": "irq lines: output (ID/LINE): input (ID/LINE)",
                         "propertyNames": end, "additionalProperties": end}  # fmt: skip
        return made

    def _machine(self) -> Json:
        target = {"enum": sorted(self._declarations.targets)}
        words = f"one of {_listed(target['enum'])}"
        return self._closed("the machine", {"primary-target": self._leaf(_worded(target, words), words)})

    def _header(self) -> Json:
        kinds: Json = {
            "list": {"type": "array", "items": {"type": "string"}},
            "mapping": {"type": "object"},
            "integer": {"type": "integer", "minimum": 1},
            "string": {"type": "string"},
            "boolean": {"type": "boolean"},
        }
        return self._closed("the header of a machine type", {name: kinds[kind] for name, kind in MEMBERS.items()})

    def _parameter(self) -> Json:
        scalar = {"type": ["string", "integer", "boolean"]}
        return self._closed("a parameter", {
            "type": _worded({"enum": list(PARAMETER_TYPES)}, f"one of {_listed(PARAMETER_TYPES)}"),
            "default": {"type": ["string", "integer", "boolean", "object"]},
            "minimum": {"type": ["integer", "string"]}, "maximum": {"type": ["integer", "string"]},
            "values": {"type": "array", "items": scalar}, "description": value_rule("str", {}),
        }, ("type",))  # fmt: skip

    def _turns(self) -> Json:
        items = {"type": "array", "items": {"type": ["string", "integer"]}}
        count = self._or_expression({"type": "integer", "minimum": 0, "maximum": 4096}, "a count")
        words = "must be a count (0, 1, …, count - 1 are the values), from 0 to 4096, or a list of texts and integers"
        return {"anyOf": [*count["anyOf"], items], "errorMessage": words}

    def _include(self) -> Json:
        made = self._closed("an include", {
            "file": value_rule("str", {}), "profile": value_rule("str", {}), "part": value_rule("str", {}),
            "prefix": _worded({"type": "string", "pattern": f"^{ID}{_END}|{_KEY_EXPRESSION}"}, "the beginning of an id"),
            "with": {"type": "object", "description": "values of its parameters"},
        })  # fmt: skip
        one = [{"required": [name]} for name in ("file", "profile", "part")]
        return {**made, "oneOf": one, "errorMessage": "must name one of file, profile and part"}

    # -- entries

    def _entry(self, section: Section) -> Json:
        kinds = self._declarations.kinds(section)
        branches = []
        for name, row in kinds.items():
            rule = self._define(f"{section.name}.{name}", self._kind(section, name, row))
            branches.append({"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": rule})
        words = f"a type of {section.name}"
        type_rule = self._leaf(_worded({"enum": list(kinds)}, words), words)
        body = {"type": "object", "required": ["type"], "properties": {"type": type_rule}, "allOf": branches,
                "errorMessage": "must be a mapping with 'type' and the properties of that type"}  # fmt: skip
        if self._expressions and section.union:
            # A parameter of type chardev is a whole entry.  (if, not anyOf: a fault inside is told as such.)
            body = {"if": {"type": "string"}, "then": {"$ref": self._expression()}, "else": body}
        return self._define(section.name, body)

    def _kind(self, section: Section, name: str, row: Mapping[str, Any]) -> Json:
        members: Json = {"type": {"const": name}}
        required = ["type"]
        if section.union:
            self._add_members(members, required, self._declarations.entry_members(section, name))
            return self._closed(f"type '{name}' of {section.name}", members, required)
        for prop in self._declarations.properties(name):
            rule = property_rule(prop)
            members[prop["name"]] = self._described(self._leaf(rule, rule.get("errorMessage", "")), prop)
            if prop.get("required"):
                required.append(prop["name"])
        return {**self._closed(f"type '{name}'", members, required), "description": row["text"]}

    def _add_members(self, members: Json, required: list[str], rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            members[row["name"]] = self._described(self._qapi(row["type"]), row)
            if not row.get("optional"):
                required.append(row["name"])

    def _qapi(self, name: str) -> Json:
        """A value of a QAPI type."""
        element = element_type(name)
        if element is not None:
            return {"type": "array", "items": self._qapi(element)}
        if name not in self._declarations.schema:
            rule = value_rule(name, {})
            return self._leaf(rule, rule.get("errorMessage", ""))
        definition = self._declarations.schema.get(name)
        if definition["meta"] == "enum":
            values = [value["name"] for value in definition["members"] if holds(value.get("if"), frozenset({"RATITE"}))]
            return self._leaf(_worded({"enum": values}, words := f"one of {_listed(values)}"), words)
        reference = {"$ref": f"#/$defs/{name}"}
        if name not in self._defs:
            self._defs[name] = {}
            self._defs[name] = self._object(name, definition)
        return reference

    def _object(self, name: str, definition: Mapping[str, Any]) -> Json:
        if definition["meta"] == "alternate":
            return {"anyOf": [self._qapi(branch["type"]) for branch in definition["branches"]]}
        if definition["meta"] != "union":
            members: Json = {}
            required: list[str] = []
            self._add_members(members, required, self._declarations.members(name))
            return self._closed(f"a {name}", members, required)
        tags = [branch["name"] for branch in definition["branches"]]
        branches = []
        for tag in tags:
            members, required = {"type": {"const": tag}}, ["type"]
            self._add_members(members, required, self._declarations.members(name, tag))
            then = self._closed(f"a {name} of type '{tag}'", members, required)
            branches.append({"if": {"properties": {"type": {"const": tag}}, "required": ["type"]}, "then": then})
        kind = {"type": self._leaf(_worded({"enum": tags}, words := f"one of {_listed(tags)}"), words)}
        return {"type": "object", "required": ["type"], "properties": kind, "allOf": branches}

    # -- pieces

    def _leaf(self, rule: Json, words: str) -> Json:
        return self._or_expression(rule, words.removeprefix("must be ")) if self._expressions else rule

    def _or_expression(self, rule: Json, words: str) -> Json:
        """The rule, or an expression that will give such a value."""
        inner = {key: value for key, value in rule.items() if key != "errorMessage"}
        made: Json = {"anyOf": [inner, {"$ref": self._expression()}] if self._expressions else [inner]}
        return {**made, "errorMessage": f"must be {words}"} if words else made

    def _expression(self) -> str:
        self._defs.setdefault(
            "expression",
            {"type": "string", "pattern": _EXPRESSION, "description": "a text with $(…): see docs/machine-files.md"},
        )
        return "#/$defs/expression"

    def _described(self, rule: Json, row: Mapping[str, Any]) -> Json:
        notes: Json = {}
        unit = f" ({row['unit']})" if row.get("unit") else ""
        if row.get("text"):
            notes["description"] = f"{row['text']}{unit}"
        if row.get("default") is not None:
            notes["default"] = row["default"]
        return {**rule, **notes}

    def _by_name(self, pattern: str, rule: Json, words: str) -> Json:
        allowed = f"^{pattern}{_END}" + (f"|{_KEY_EXPRESSION}" if self._expressions else "")
        return {"type": "object", "propertyNames": {"pattern": allowed, "errorMessage": f"must be {words}"},
                "additionalProperties": rule}  # fmt: skip

    @staticmethod
    def _closed(title: str, members: Json, required: Any = ()) -> Json:
        body: Json = {"title": title, "type": "object", "properties": members, "additionalProperties": False}
        return {**body, "required": list(required)} if required else body

    def _define(self, name: str, rule: Json) -> Json:
        self._defs[name] = rule
        return {"$ref": f"#/$defs/{name}"}

    def _definitions(self) -> Json:
        return dict(sorted(self._defs.items()))

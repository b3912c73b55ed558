"""JSON Schema (draft 2020-12) of a command's arguments in a view.

Holds the same verdict as the visitors, with one exception that JSON Schema cannot say: to it 5.0 is an
integer, to QMP it is not.  Object types become closed schemas under `$defs`; a union is its
base's properties plus an if/then a branch, closed by `unevaluatedProperties`; an alternate is anyOf.
"""

from __future__ import annotations

from ratite.qapi.resolved import BUILTIN_JSON_TYPES, INTEGER_RANGES, ResolvedSchema, element_type, holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Json = dict[str, Any]


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def arguments_schema(
    schema: ResolvedSchema, facts: frozenset[str], arg_type: str | None, name: str, gen: bool, doc: Mapping[str, Any]
) -> Json:
    """The schema of the arguments of the command `name`, which are of the object type `arg_type`.

    With `gen` false the declared members are checked and any others are welcome.  `doc` is the
    command's DOC of the resolved form; its texts become descriptions.
    """
    maker = _Maker(schema, facts)
    body: Json = {"$schema": DIALECT, "title": name}
    if "text" in doc:
        body["description"] = doc["text"]
    if arg_type is None:
        return {**body, "type": "object", "additionalProperties": False}
    root = maker.object_body(arg_type)
    _describe(root, doc)
    if gen:
        _close(root)
    body.update(root)
    definitions = maker.definitions()
    if definitions:
        body["$defs"] = definitions
    return body


def type_schema(schema: ResolvedSchema, facts: frozenset[str], name: str) -> Json:
    """The schema of a value of any type, e.g. of a property.  Raises KeyError if there is none."""
    maker = _Maker(schema, facts)
    body: Json = {"$schema": DIALECT, **maker.reference(name)}
    definitions = maker.definitions()
    if definitions:
        body["$defs"] = definitions
    return body


def _describe(body: Json, doc: Mapping[str, Any]) -> None:
    for name, text in doc.get("members", {}).items():
        if name in body["properties"]:
            body["properties"][name]["description"] = text


def _close(body: Json) -> Json:
    body["unevaluatedProperties" if "allOf" in body else "additionalProperties"] = False
    return body


class _Maker:
    def __init__(self, schema: ResolvedSchema, facts: frozenset[str]) -> None:
        self._schema = schema
        self._facts = facts
        self._used: dict[str, None] = {}

    def definitions(self) -> Json:
        """`$defs` for all types that were referred to, and that those refer to in turn."""
        made: Json = {}
        while len(made) < len(self._used):
            for name in list(self._used)[len(made) :]:
                made[name] = self._definition(name)
        return made

    def reference(self, name: str) -> Json:
        """A schema for a value of the type: built-ins and arrays in place, the rest by $ref."""
        element = element_type(name)
        if element is not None:
            return {"type": "array", "items": self.reference(element)}
        if name in INTEGER_RANGES:
            low, high = INTEGER_RANGES[name]
            return {"type": "integer", "minimum": low, "maximum": high}
        if name == "any":
            return {}
        if name in BUILTIN_JSON_TYPES:
            return {"type": BUILTIN_JSON_TYPES[name]}
        self._used.setdefault(name)
        return {"$ref": f"#/$defs/{name}"}

    def object_body(self, name: str) -> Json:
        """An object type's schema, not yet closed against other members."""
        definition = self._schema.get(name)
        members = [m for m in self._schema.members(name) if holds(m.get("if"), self._facts)]
        body: Json = {"type": "object", "properties": {m["name"]: self._member(m) for m in members}}
        required = [m["name"] for m in members if not m.get("optional")]
        if required:
            body["required"] = required
        if definition["meta"] == "union":
            self._add_branches(body, definition)
        owner: Json | None = definition
        while owner is not None:
            _describe(body, owner.get("doc", {}))
            owner = self._schema.get(owner["base"]) if "base" in owner else None
        return body

    def _add_branches(self, body: Json, union: Json) -> None:
        tag = union["discriminator"]
        branches = [b for b in union["branches"] if holds(b.get("if"), self._facts)]
        values = self._enum_values(next(m["type"] for m in self._schema.members(union["name"]) if m["name"] == tag))
        body["properties"][tag] = {"enum": [branch["name"] for branch in branches if branch["name"] in values]}
        body["allOf"] = [
            {"if": {"properties": {tag: {"const": branch["name"]}}, "required": [tag]}, "then": then}
            for branch in branches
            if len(then := self.object_body(branch["type"])) > 1 and (then["properties"] or "allOf" in then)
        ]

    def _enum_values(self, name: str) -> list[str]:
        return [v["name"] for v in self._schema.get(name)["members"] if holds(v.get("if"), self._facts)]

    def _member(self, member: Json) -> Json:
        schema = self.reference(member["type"])
        features = {f["name"] for f in member.get("features", ()) if holds(f.get("if"), self._facts)}
        if "deprecated" in features:
            schema["deprecated"] = True
        return schema

    def _definition(self, name: str) -> Json:
        definition = self._schema.get(name)
        if definition["meta"] == "enum":
            return {"enum": self._enum_values(name)}
        if definition["meta"] == "alternate":
            branches = [b for b in definition["branches"] if holds(b.get("if"), self._facts)]
            return {"anyOf": [self.reference(branch["type"]) for branch in branches]} if branches else {"not": {}}
        return _close(self.object_body(name))

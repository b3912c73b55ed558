"""query-qmp-schema: a resolved schema in a view, in the form and order QEMU gives it.

Commands and events come first, in the schema's order; then the types, breadth first in the order of
their first use.  Object, enum and alternate names are masked by decimal numbers, given at the first
use of the name whatever the conditions say: numbers are the same in each view, and a filtered view
has gaps.  Types that only a filtered-out command reaches are still given, as QEMU does.
All integer types are `int`.
"""

from __future__ import annotations

from ratite.qapi.resolved import BUILTIN_JSON_TYPES, EMPTY, INTEGER_RANGES, ResolvedSchema, element_type, holds
from ratite.qapi.views import HIDE_DEPRECATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = dict[str, Any]


def introspect(schema: ResolvedSchema, facts: frozenset[str]) -> list[Entry]:
    """The value of query-qmp-schema's reply: a list of SchemaInfo objects."""
    return _Introspection(schema, facts).entries()


class _Introspection:
    def __init__(self, schema: ResolvedSchema, facts: frozenset[str]) -> None:
        self._schema = schema
        self._facts = facts
        self._numbers: dict[str, str] = {}
        self._used: dict[str, None] = {}

    def entries(self) -> list[Entry]:
        result: list[Entry] = []
        for definition in self._schema.definitions:
            if definition["meta"] in ("command", "event"):
                shown = self._command(definition) if definition["meta"] == "command" else self._event(definition)
                if holds(definition.get("if"), self._facts) and not self._hidden(shown):
                    result.append(shown)
        done = 0
        while done < len(self._used):
            batch = list(self._used)[done:]
            done += len(batch)
            result += [entry for name in batch if (entry := self._type(name)) is not None]
        return result

    def _hidden(self, shown: Entry) -> bool:
        """Whether the view's policy hides it."""
        return HIDE_DEPRECATED in self._facts and "deprecated" in shown.get("features", ())

    def _use(self, name: str) -> str:
        """Queue a type if it is new; the name a client sees for it."""
        element = element_type(name)
        if (element or name) in INTEGER_RANGES:
            name = "int" if element is None else "[int]"
            element = element and "int"
        self._used.setdefault(name)
        if element is not None:
            return f"[{self._use(element)}]"
        if name in BUILTIN_JSON_TYPES:
            return name
        return self._numbers.setdefault(name, str(len(self._numbers)))

    def _entry(self, name: str, meta: str, owner: dict[str, Any]) -> Entry:
        entry: Entry = {"name": name, "meta-type": meta}
        self._add_features(entry, owner)
        return entry

    def _add_features(self, entry: Entry, owner: dict[str, Any]) -> None:
        features = [f["name"] for f in owner.get("features", ()) if holds(f.get("if"), self._facts)]
        if features:
            entry["features"] = features

    def _command(self, command: dict[str, Any]) -> Entry:
        entry = self._entry(command["name"], "command", command)
        entry["arg-type"] = self._use(command.get("arg-type", EMPTY))
        entry["ret-type"] = self._use(command.get("ret-type", EMPTY))
        if command.get("allow-oob"):
            entry["allow-oob"] = True
        return entry

    def _event(self, event: dict[str, Any]) -> Entry:
        entry = self._entry(event["name"], "event", event)
        entry["arg-type"] = self._use(event.get("arg-type", EMPTY))
        return entry

    def _type(self, name: str) -> Entry | None:
        if name in BUILTIN_JSON_TYPES:
            return {"name": name, "meta-type": "builtin", "json-type": BUILTIN_JSON_TYPES[name]}
        element = element_type(name)
        if element is not None:
            shown = self._use(element)
            entry: Entry = {"name": f"[{shown}]", "meta-type": "array", "element-type": shown}
            owner = {} if element in BUILTIN_JSON_TYPES else self._schema.get(element)
        else:
            owner = self._schema.get(name)
            meta = "object" if owner["meta"] in ("struct", "union") else owner["meta"]
            entry = self._entry(self._numbers[name], meta, owner)
            if meta == "object":
                self._object(entry, owner)
            elif meta == "enum":
                values = [value for value in owner["members"] if holds(value.get("if"), self._facts)]
                entry["members"] = [self._enum_value(value) for value in values]
                if HIDE_DEPRECATED not in self._facts:
                    entry["values"] = [value["name"] for value in values]
            else:
                entry["members"] = [{"type": shown} for _, shown in self._typed(owner["branches"])]
        return entry if holds(owner.get("if"), self._facts) else None

    def _enum_value(self, value: dict[str, Any]) -> Entry:
        entry: Entry = {"name": value["name"]}
        self._add_features(entry, value)
        return entry

    def _typed(self, items: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
        """Those of members or branches that are in the view, with type names; all of them count as used."""
        shown = [(item, self._use(item["type"])) for item in items]
        return [pair for pair in shown if holds(pair[0].get("if"), self._facts)]

    def _object(self, entry: Entry, owner: dict[str, Any]) -> None:
        members = [self._member(*pair) for pair in self._typed(self._schema.members(owner["name"]))]
        entry["members"] = [member for member in members if not self._hidden(member)]
        if owner["meta"] == "union":
            entry["tag"] = owner["discriminator"]
            entry["variants"] = [{"case": b["name"], "type": shown} for b, shown in self._typed(owner["branches"])]

    def _member(self, member: dict[str, Any], shown: str) -> Entry:
        entry: Entry = {"name": member["name"], "type": shown}
        if member.get("optional"):
            entry["default"] = None
        self._add_features(entry, member)
        return entry

"""What a monitor understands: its view's `query-qmp-schema`, indexed, with the doc comments of the schema that ships.

A daemon's introspection names no types and has no comments; comments are taken by the command's name from
`ratite/schema/resolved.json`, so a command of a plug-in or of a later ratite has types and no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, NamedTuple

Entry = Mapping[str, Any]


class Member(NamedTuple):
    """A member of an object: `type` is a name of the introspection."""

    name: str
    type: str
    optional: bool


def shipped_commands() -> list[str]:
    """Names of the commands that ratite has in some view, sorted."""
    return sorted(entity["name"] for entity in _shipped() if entity["meta"] == "command")


def _shipped() -> list[dict[str, Any]]:
    text = files("ratite").joinpath("schema/resolved.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["definitions"]
    return found


def shipped_docs() -> dict[str, Mapping[str, Any]]:
    """Doc comments by the definition's name: {text, members, returns, since, …}, as ratite/qapi/resolved.py describes them."""
    return {entity["name"]: entity.get("doc", {}) for entity in _shipped()}


class Vocabulary:
    """An index over what `query-qmp-schema` answered."""

    def __init__(self, schema: Iterable[Entry], docs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._entries = {entry["name"]: entry for entry in schema}
        self._given_docs = docs

    @cached_property
    def _docs(self) -> Mapping[str, Mapping[str, Any]]:
        return shipped_docs() if self._given_docs is None else self._given_docs

    @cached_property
    def commands(self) -> Sequence[str]:
        """Names of all commands, sorted."""
        return sorted(name for name, entry in self._entries.items() if entry["meta-type"] == "command")

    @cached_property
    def events(self) -> Sequence[str]:
        """Names of all events, sorted."""
        return sorted(name for name, entry in self._entries.items() if entry["meta-type"] == "event")

    def summary(self, name: str) -> str:
        """The first sentence of a command's or event's comment."""
        text = " ".join(str(self._docs.get(name, {}).get("text", "")).partition("\n\n")[0].split())
        return text.partition(". ")[0].rstrip(".")

    def arguments(self, command: str) -> str | None:
        """The type of a command's arguments; None for no such command."""
        entry = self._entries.get(command)
        return entry["arg-type"] if entry is not None and entry["meta-type"] == "command" else None

    def kind(self, type: str) -> str:
        """A type's meta-type: builtin, enum, array, object or alternate; for a builtin its JSON type."""
        entry = self._entries.get(type, {})
        return str(entry.get("json-type" if entry.get("meta-type") == "builtin" else "meta-type", ""))

    def element(self, array: str) -> str:
        """The type of an array's elements."""
        return str(self._entries[array]["element-type"])

    def members(self, type: str, given: Mapping[str, str] | None = None) -> list[Member]:
        """An object's members; of a union also those of the branch that its tag, as `given`, chooses."""
        entry = self._entries[type]
        found = [Member(row["name"], row["type"], "default" in row) for row in entry.get("members", ())]
        chosen = (given or {}).get(entry.get("tag", ""))
        for variant in entry.get("variants", ()):
            if variant["case"] == chosen:
                found += self.members(variant["type"], given)
        return found

    def values(self, type: str) -> Sequence[str]:
        """What may be written for a type that has few values: an enum's, or a bool's; () for others."""
        entry = self._entries.get(type, {})
        if entry.get("meta-type") == "enum":
            return [row["name"] for row in entry["members"]]
        if entry.get("meta-type") == "alternate":
            return [value for row in entry["members"] for value in self.values(row["type"])]
        return ("on", "off") if self.kind(type) == "boolean" else ()

    def type_text(self, type: str) -> str:
        """A type for people: "int", "one of: a, b", "array of string", "object"."""
        kind = self.kind(type)
        if kind == "enum":
            return f"one of: {', '.join(self.values(type))}"
        if kind == "array":
            return f"array of {self.type_text(self.element(type))}"
        if kind == "alternate":
            return " or ".join(self.type_text(row["type"]) for row in self._entries[type]["members"])
        return kind or "value"

    def help(self, name: str) -> str:
        """Everything about a command or event, in lines. KeyError."""
        entry = self._entries[name]
        doc = self._docs.get(name, {})
        lines = [name, "", str(doc.get("text", "(no description)")), ""]
        lines += self._members_text(entry["arg-type"], doc.get("members", {}))
        if doc.get("returns"):
            lines += [f"Returns: {' '.join(doc['returns'].split())}", ""]
        if doc.get("errors"):
            lines += [f"Errors: {doc['errors']}", ""]
        for feature, text in doc.get("features", {}).items():
            lines += [f"Feature {feature}: {' '.join(text.split())}", ""]
        if doc.get("since"):
            lines += [f"Since: {doc['since']}", ""]
        return "\n".join(lines).rstrip()

    def about(self, name: str) -> dict[str, object]:
        """The same for programs: {name, kind, text, arguments: [{name, type, optional}]}. KeyError."""
        entry = self._entries[name]
        rows = [
            {"name": row.name, "type": self.type_text(row.type), "optional": row.optional}
            for row in self.members(entry["arg-type"])
        ]
        return {"name": name, "kind": entry["meta-type"], "text": self.help(name), "arguments": rows}

    def _members_text(self, type: str, texts: Mapping[str, str]) -> list[str]:
        lines = []
        for member in self.members(type):
            optional = " (optional)" if member.optional else ""
            lines += [f"  {member.name}{optional}: {self.type_text(member.type)}"]
            if member.name in texts:
                lines += [f"      {' '.join(texts[member.name].split())}"]
        if self._entries[type].get("variants"):
            lines += [f"  further members are those of the {self._entries[type]['tag']} chosen"]
        return [*lines, ""] if lines else []

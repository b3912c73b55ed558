"""Views: the set of facts that decides which commands, events and types a monitor has.

What the facts are: `ratite/qapi/views.py`.

A view is computed once for its facts and shared.  In ratite's personality the arguments of object-add
and device_add are unions over the type registry; that part is computed only when somebody asks for it,
since reading the registry's manifest costs a start nothing then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ratite.qapi.resolved import BUILTIN_JSON_TYPES, ResolvedSchema, holds
from ratite.qapi.tables import Command, Tables
from ratite.qapi.views import facts_of, unconditional_facts

RATITE, QEMU = "ratite", "qemu"

# Commands whose arguments the registry extends: the union, its tag, and the kinds of type that it lists.
_EXTENDED: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {"ObjectOptions": ("qom-type", ("object",)), "DeviceOptions": ("driver", ("device", "cpu"))}
)

Members = list[dict[str, Any]]
ListTypes = Callable[[tuple[str, ...]], Mapping[str, Members]]


def load_schema() -> ResolvedSchema:
    """The resolved schema that ships with the package.  (No pathlib: a start has no time for it.)"""
    path = os.path.join(os.path.dirname(__file__), os.pardir, "schema", "resolved.json")
    with open(path, "rb") as file:
        return ResolvedSchema.from_json(json.loads(file.read()))


class View:
    """One view.  Compared by identity: `Views` makes one for each set of facts."""

    def __init__(
        self,
        schema: ResolvedSchema,
        personality: str,
        targets: tuple[str, ...],
        unconditional: bool,
        policy: frozenset[str],
        types: ListTypes,
    ) -> None:
        self.personality = personality
        self.targets = targets
        self.unconditional = unconditional
        self.facts = facts_of(personality, targets) | policy | (unconditional_facts(schema) if unconditional else frozenset())
        self._types = types
        self._tables = Tables(schema, self.facts)
        self._extended: Tables | None = None
        # Answers of qom-list-types as JSON text, by the monitor's pinned target and the arguments.
        self.type_lists: dict[tuple[str | None, str | None, bool], bytes] = {}
        self.find = self._tables.commands.get
        self.commands: Mapping[str, Command] = self._tables.commands

    @property
    def schema(self) -> ResolvedSchema:
        """The schema, all views' in one."""
        return self._tables.schema

    @property
    def tables(self) -> Tables:
        """Everything the schema says in this view, the registry's types included."""
        if self._extended is None:
            self._extended = self.extension()()
        return self._extended

    def needs_extension(self, command: Command) -> bool:
        """Whether the command must wait for `tables`, which take many milliseconds to make."""
        if command.name == "query-qmp-schema":
            return self._extended is None or not self._extended.introspected
        return self._extended is None and command.arg_type in _EXTENDED

    def extension(self, command: Command | None = None) -> Callable[[], Tables]:
        """What makes `tables`, as far as `command` needs them: takes what it needs from the registry now, and may then be
        called on any thread."""
        made = self._extended or (self._tables if self.personality != RATITE else None)
        introspect = command is not None and command.name == "query-qmp-schema"
        if made is not None:
            tables = made
            return lambda: _introspected(tables) if introspect else tables
        branches = {union: self._types(kinds) for union, (_tag, kinds) in _EXTENDED.items()}

        def make() -> Tables:
            extended = Tables(_extended_schema(self._tables.schema), self.facts, branches)
            return _introspected(extended) if introspect else extended

        return make

    def extend(self, tables: Tables) -> None:
        """Take what `extension` has made."""
        self._extended = self._extended or tables

    def check(self, command: Command, arguments: dict[str, Any]) -> dict[str, Any]:
        """A command's checked arguments.  GenericError in QEMU's wording."""
        if command.arg_type in _EXTENDED and self.personality == RATITE:
            command = self.tables.commands[command.name]
        return command.check(arguments)

    def event_data(self, name: str, data: dict[str, Any]) -> dict[str, Any] | None:
        """The members of an event's data that this view has; None if it lacks the event."""
        event = self._tables.events.get(name)
        if event is None:
            return None
        if not data or event.arg_type is None:
            return data
        hidden = {
            member["name"] for member in self._tables.schema.members(event.arg_type) if not holds(member.get("if"), self.facts)
        }
        return {key: value for key, value in data.items() if key not in hidden} if hidden else data


def _introspected(tables: Tables) -> Tables:
    tables.introspect_bytes()
    return tables


def _extended_schema(schema: ResolvedSchema) -> ResolvedSchema:
    """The schema with room for the registry's types in the arguments of object-add and device_add."""
    definitions = []
    for definition in schema.definitions:
        if definition["name"] == "ObjectOptions":
            definition = {**definition, "branches": []}
        elif definition["name"] == "ObjectType":
            definition = {**definition, "members": []}
        elif definition["name"] in ("device_add", "device-add"):
            definition = {**definition, "arg-type": "DeviceOptions"}
        definitions.append(definition)
    return ResolvedSchema(definitions + _device_options())


def _device_options() -> list[dict[str, Any]]:
    """The union that device_add takes in ratite's views, still without a branch."""
    return [
        {"meta": "enum", "name": "DeviceDriver", "members": []},
        {
            "meta": "struct",
            "name": "q_obj_DeviceOptions-base",
            "implicit": True,
            "members": [
                {"name": "driver", "type": "DeviceDriver"},
                {"name": "id", "type": "str"},
                {"name": "bus", "type": "str", "optional": True},
            ],
        },
        {
            "meta": "union",
            "name": "DeviceOptions",
            "base": "q_obj_DeviceOptions-base",
            "discriminator": "driver",
            "branches": [],
        },
    ]


class Views:
    """The cache of views.  `list_types(kinds)` gives the registry's types of these kinds with their members."""

    def __init__(self, schema: ResolvedSchema, list_types: ListTypes) -> None:
        self._schema = schema
        self._list_types = list_types
        self._views: dict[tuple[str, tuple[str, ...], bool, frozenset[str]], View] = {}

    def get(
        self, personality: str = RATITE, targets: Iterable[str] = (), unconditional: bool = False,
        policy: frozenset[str] = frozenset(),
    ) -> View:  # fmt: skip
        """The view of a personality that shows these targets; `unconditional`: every target's commands; `policy`: facts."""
        key = (personality, tuple(sorted(targets)), unconditional, policy)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(self._schema, *key, self._list_types)
        return view

    def supports(self, view: View, name: str) -> bool:
        """Whether a command of this view is for a target that it shows, or for any."""
        return not view.unconditional or self.get(view.personality, view.targets).find(name) is not None

    def forget(self) -> None:
        """The registry has changed: views made from now on are new."""
        self._views.clear()


def members_of(properties: Iterable[Mapping[str, Any]]) -> Members:
    """A type's properties, as the registry has them, as schema members; what a client can't set is left out."""
    members: Members = []
    for prop in properties:
        if prop["kind"] not in ("config", "tunable") or prop["name"] in ("id", "driver", "bus", "qom-type"):
            continue
        shown = "str" if prop.get("link") or prop["type"] == "bytes" else prop["type"]
        if shown.removeprefix("list:") not in BUILTIN_JSON_TYPES:
            # A plug-in's own idea of a type: its code checks it, the schema can't.
            shown = "any"
        elif shown.startswith("list:"):
            shown = f"[{shown[5:]}]"
        member: dict[str, Any] = {"name": prop["name"], "type": shown}
        if not prop.get("required"):
            member["optional"] = True
        members.append(member)
    return members

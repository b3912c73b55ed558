"""The run-time tables of one view: commands, events, types, introspection.

`Tables(resolved, facts)` is cheap to make and fills in lazily: a command's visitor is generated when
the command is first used, introspection when it is first asked for.  Tables never change, so a daemon
swaps a view by swapping the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ratite.qapi.resolved import BUILTIN_JSON_TYPES, ResolvedSchema, element_type, holds
from ratite.qapi.visitor import Fault, Visitors, unexpected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ratite.qapi.resolved import Definition
    from ratite.qapi.visitor import Visit

    Branches = Mapping[str, str | Sequence[Mapping[str, Any]]]


class Command:
    """A command as this view has it.

    `doc` is the resolved DOC object (see resolved.py), empty if there is none; `features` the names
    of the features that hold.
    """

    __slots__ = (
        "_visit", "_visitors", "allow_oob", "allow_preconfig", "arg_type", "coroutine", "doc", "features", "gen",
        "name", "ret_type", "success_response",
    )  # fmt: skip

    def __init__(self, definition: Definition, features: tuple[str, ...], visitors: Visitors) -> None:
        get = definition.get
        self.name: str = definition["name"]
        self.arg_type: str | None = get("arg-type")
        self.ret_type: str | None = get("ret-type")
        self.allow_oob: bool = get("allow-oob", False)
        self.allow_preconfig: bool = get("allow-preconfig", False)
        self.coroutine: bool = get("coroutine", False)
        self.success_response: bool = get("success-response", True)
        self.gen: bool = get("gen", True)
        self.features = features
        self.doc: Mapping[str, Any] = get("doc", {})
        self._visitors = visitors
        self._visit: Visit | None = None

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The checked arguments, in a new dict.  Raises GenericError with QEMU's wording."""
        visit = self._visit
        if visit is None:
            visit = self._visit = self._generate()
        try:
            result: dict[str, Any] = visit(arguments)
        except Fault as fault:
            raise fault.error() from None
        return result

    def _generate(self) -> Visit:
        if self.arg_type is None:
            return _visit_none
        if self.gen:
            return self._visitors.visit(self.arg_type)
        fill = self._visitors.fill(self.arg_type)

        def visit_declared(value: dict[str, Any]) -> dict[str, Any]:
            result: dict[str, Any] = {}
            fill(value, result)
            return {**value, **result}

        return visit_declared

    def __repr__(self) -> str:
        return f"<Command {self.name}>"


def _visit_none(value: dict[str, Any]) -> dict[str, Any]:
    if value:
        raise unexpected(value, {})
    return {}


class Event:
    """An event as this view has it."""

    __slots__ = ("arg_type", "doc", "features", "name")

    def __init__(self, definition: Definition, features: tuple[str, ...]) -> None:
        self.name: str = definition["name"]
        self.arg_type: str | None = definition.get("arg-type")
        self.features = features
        self.doc: Mapping[str, Any] = definition.get("doc", {})

    def __repr__(self) -> str:
        return f"<Event {self.name}>"


class Tables:
    """Everything the schema says in one view.

    `facts` are the names that conditions ask for; `extra` is {union: {branch: MEMBERs or a type's
    name}}, for unions whose branches are types registered at run time (ResolvedSchema.with_branches).
    """

    __slots__ = ("_introspect", "_introspect_bytes", "_visitors", "commands", "events", "facts", "schema")

    def __init__(
        self, resolved: ResolvedSchema, facts: frozenset[str] = frozenset(), extra: Mapping[str, Branches] | None = None
    ) -> None:
        for union, branches in (extra or {}).items():
            resolved = resolved.with_branches(union, branches)
        self.schema = resolved
        self.facts = facts
        self._visitors = Visitors(resolved, facts)
        self._introspect: list[dict[str, Any]] | None = None
        self._introspect_bytes: bytes | None = None
        commands: dict[str, Command] = {}
        events: dict[str, Event] = {}
        for definition in resolved.definitions:
            meta = definition["meta"]
            if meta in ("command", "event") and holds(definition.get("if"), facts):
                features = tuple(f["name"] for f in definition.get("features", ()) if holds(f.get("if"), facts))
                if meta == "command":
                    commands[definition["name"]] = Command(definition, features, self._visitors)
                else:
                    events[definition["name"]] = Event(definition, features)
        self.commands: Mapping[str, Command] = MappingProxyType(commands)
        self.events: Mapping[str, Event] = MappingProxyType(events)

    def check_type(self, type_name: str, value: Any, path: str = "value") -> Any:
        """A value checked against a type by name, e.g. "uint8", "[str]", "OnOffAuto"; `path` names it in errors.

        Raises GenericError if it doesn't fit, KeyError if there is no such type.
        """
        visit = self._visitors.visit(type_name)
        try:
            return visit(value)
        except Fault as fault:
            raise fault.error(path) from None

    def check_event(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        """An event's data, checked.  Raises GenericError; KeyError if the view has no such event."""
        arg_type = self.events[name].arg_type
        try:
            result: dict[str, Any] = _visit_none(data) if arg_type is None else self._visitors.visit(arg_type)(data)
        except Fault as fault:
            raise fault.error() from None
        return result

    def qapi_type(self, name: str) -> Mapping[str, Any]:
        """A type's resolved definition (shapes in resolved.py), of a built-in {meta: builtin, name},
        of an array {meta: array, name, element}.  Raises KeyError."""
        element = element_type(name)
        if not self.schema.type_exists(name):
            raise KeyError(name)
        if element is not None:
            return {"meta": "array", "name": name, "element": element}
        if name in BUILTIN_JSON_TYPES:
            return {"meta": "builtin", "name": name}
        return self.schema.get(name)

    def introspect(self) -> list[dict[str, Any]]:
        """What query-qmp-schema returns; made once, not to be changed by callers."""
        if self._introspect is None:
            from ratite.qapi.introspect import introspect

            self._introspect = introspect(self.schema, self.facts)
        return self._introspect

    @property
    def introspected(self) -> bool:
        """Whether `introspect_bytes` has been made, so that it costs nothing any more."""
        return self._introspect_bytes is not None

    def introspect_bytes(self) -> bytes:
        """The same as JSON text without a line end, ready to stand in a reply."""
        if self._introspect_bytes is None:
            from ratite.qapi.wire import encode

            self._introspect_bytes = encode(self.introspect()).removesuffix(b"\r\n")
        return self._introspect_bytes

    def json_schema(self, command: str) -> dict[str, Any]:
        """JSON Schema (2020-12) of a command's arguments.  Raises KeyError if the view lacks it."""
        from ratite.qapi.json_schema import arguments_schema

        entry = self.commands[command]
        return arguments_schema(self.schema, self.facts, entry.arg_type, command, entry.gen, entry.doc)

"""Places in schema files, and the pragmas that hold for a schema."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ratite.qapi.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a schema file, how the file was reached, and the definition it belongs to."""

    file: str
    line: int = 0
    included_from: tuple[tuple[str, int], ...] = ()
    definition: str = ""

    def at(self, line: int) -> Place:
        """Another line of the same file."""
        return replace(self, line=line)

    def within(self, meta: str, name: str) -> Place:
        """The same line, as a part of a definition."""
        return replace(self, definition=f"{meta} '{name}'")

    def error(self, msg: str, col: int = 0, notes: tuple[str, ...] = ()) -> SchemaError:
        """The error to raise for a fault at this place."""
        return SchemaError(msg, self.file, self.line, col, self.included_from, self.definition, notes)

    def note(self, msg: str) -> str:
        """A further line of an error that is about another place."""
        return f"{self.file}:{self.line}: {msg}"


@dataclass(slots=True)
class Pragma:
    """What pragmas have set; one for the whole schema, the last setting wins."""

    doc_required: bool = False
    command_name_exceptions: frozenset[str] = field(default=frozenset())
    command_returns_exceptions: frozenset[str] = field(default=frozenset())
    documentation_exceptions: frozenset[str] = field(default=frozenset())
    member_name_exceptions: frozenset[str] = field(default=frozenset())

    def set(self, name: str, value: object, place: Place) -> None:
        """Set one pragma.  Raises SchemaError for an unknown name or an ill-typed value."""
        if name == "doc-required":
            if not isinstance(value, bool):
                raise place.error(f"pragma 'doc-required' must be true or false, not {show(value)}")
            self.doc_required = value
            return
        attribute = name.replace("-", "_")
        if not name.endswith("-exceptions") or attribute not in Pragma.__slots__:
            raise place.error(f"unknown pragma '{name}'")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise place.error(f"pragma '{name}' must be an array of strings, not {show(value)}")
        setattr(self, attribute, frozenset(value))


def show(value: object) -> str:
    """A value as the schema language writes it, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{show(key)}: {show(item)}" for key, item in value.items()) + "}"
    return repr(value)

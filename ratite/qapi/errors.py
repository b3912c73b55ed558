"""Errors of the QAPI floor.

Two families, which never mix:

    QmpError                a refusal that a client reads: {"class": ..., "desc": ...}
      GenericError            class GenericError
      CommandNotFound         class CommandNotFound
      DeviceNotFound          class DeviceNotFound
      DeviceNotActive         class DeviceNotActive
    SchemaError             a fault in a schema file, for the author of the schema

The wire format of the first is QMP's; the class names are the only five QMP knows
(`KVMMissingCap` is gone since QEMU 6).  Left out: everything about where the error is sent.
"""

from __future__ import annotations


class QmpError(Exception):
    """A refusal to a client: `error_class` is the QMP error class, `desc` the text for people."""

    error_class: str = "GenericError"

    def __init__(self, desc: str, error_class: str | None = None) -> None:
        super().__init__(desc)
        self.desc: str = desc
        if error_class is not None:
            self.error_class = error_class

    def to_dict(self) -> dict[str, str]:
        """The value of the reply's `error` member."""
        return {"class": self.error_class, "desc": self.desc}


class GenericError(QmpError):
    """What has no class of its own; nearly everything."""


class CommandNotFound(QmpError):
    """The command is not in this monitor's view, or the session can't take it yet."""

    error_class = "CommandNotFound"


class DeviceNotFound(QmpError):
    """A device, backend or path that was named does not exist."""

    error_class = "DeviceNotFound"


class DeviceNotActive(QmpError):
    """The device exists but is not in a state to serve."""

    error_class = "DeviceNotActive"


class SchemaError(Exception):
    """A fault in a schema file.

    `file`, `line`, `col` say where (`col` 0: the fault is one of meaning, not of syntax);
    `included_from` is the chain of (file, line) pairs, outermost first, by which the file was
    reached; `definition` is e.g. "command 'x'", or "" outside a definition; `msg` says what is
    wrong.  `notes` are further lines about other places (a previous definition).  str() gives

        In file included from a.json:3:
        b.json:7: In command 'x': ...
    """

    def __init__(
        self,
        msg: str,
        file: str = "",
        line: int = 0,
        col: int = 0,
        included_from: tuple[tuple[str, int], ...] = (),
        definition: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.file = file
        self.line = line
        self.col = col
        self.included_from = included_from
        self.definition = definition
        self.notes = notes

    def __str__(self) -> str:
        lines = [f"In file included from {file}:{line}:" for file, line in self.included_from]
        place = self.file
        if self.line:
            place += f":{self.line}"
        if self.col:
            place += f":{self.col}"
        head = f"{place}: " if place else ""
        if self.definition:
            head += f"In {self.definition}: "
        lines.append(head + self.msg)
        lines.extend(self.notes)
        return "\n".join(lines)

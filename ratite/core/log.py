"""Structured log lines of the core floor: to the program's log where it takes them (`taken_by`), else to Python's own `logging`
under the name LOGGER.

To `logging` a line's message is a `Line`, which reads well as it is.  Who takes the lines himself spares a start importing it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Level (as `logging` counts), event, fields; exc_info is one of the fields where there is any.
    Taker = Callable[[int, str, dict[str, Any]], None]

LOGGER = "ratite.core"
WARNING = 30
# Of lines that are asked for by name: whatever the threshold is, but for a log of errors alone.
TRACE = 35
ERROR = 40


class Line(str):
    """`event key=value …` as a text; `event` and `fields` are its parts."""

    __slots__ = ("event", "fields")
    event: str
    fields: dict[str, Any]

    def __new__(cls, event: str, fields: dict[str, Any]) -> Line:
        made = super().__new__(cls, " ".join((event, *(f"{name}={value}" for name, value in fields.items()))))
        made.event, made.fields = event, fields
        return made


class _Where:
    """Where a process's lines go, as its standard error is one: no machine's state, and nothing that a guest sees."""

    __slots__ = ("taker",)

    def __init__(self) -> None:
        self.taker: Taker | None = None


_WHERE = _Where()


def taken_by(taker: Taker | None) -> None:
    """Have the lines of this process go there from now on, in place of whoever had them.  Any thread calls it."""
    _WHERE.taker = taker


def warn(event: str, **fields: Any) -> None:
    """One structured line at level warning: something a person should look at."""
    _say(WARNING, event, fields)


def trace(event: str, **fields: Any) -> None:
    """One structured line of what somebody asked to be told."""
    _say(TRACE, event, fields)


def error(event: str, *, exc_info: BaseException | bool = False, **fields: Any) -> None:
    """One structured line at level error: a fault of ratite's own or of a plug-in; `exc_info`: with its traceback."""
    _say(ERROR, event, fields, exc_info)


def _say(level: int, event: str, fields: dict[str, Any], exc_info: BaseException | bool = False) -> None:
    if _WHERE.taker is not None:
        _WHERE.taker(level, event, {**fields, "exc_info": exc_info} if exc_info else fields)
        return
    import logging

    logging.getLogger(LOGGER).log(level, Line(event, fields), exc_info=exc_info)

"""Structured log lines of the core floor, by Python's own `logging` under the name LOGGER.

A line's message is a `Line`, which reads well as it is; who wants its parts (the daemon's log) finds them there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOGGER = "ratite.core"
# Of lines that are asked for by name: whatever the threshold is, but for a log of errors alone.
TRACE = 35


class Line(str):
    """`event key=value …` as a text; `event` and `fields` are its parts."""

    __slots__ = ("event", "fields")
    event: str
    fields: dict[str, Any]

    def __new__(cls, event: str, fields: dict[str, Any]) -> Line:
        made = super().__new__(cls, " ".join((event, *(f"{name}={value}" for name, value in fields.items()))))
        made.event, made.fields = event, fields
        return made


def warn(event: str, **fields: Any) -> None:
    """One structured line at level warning: something a person should look at."""
    import logging

    logging.getLogger(LOGGER).warning(Line(event, fields))


def trace(event: str, **fields: Any) -> None:
    """One structured line of what somebody asked to be told."""
    import logging

    logging.getLogger(LOGGER).log(TRACE, Line(event, fields))


def error(event: str, *, exc_info: BaseException | bool = False, **fields: Any) -> None:
    """One structured line at level error: a fault of ratite's own or of a plug-in; `exc_info`: with its traceback."""
    import logging

    logging.getLogger(LOGGER).error(Line(event, fields), exc_info=exc_info)

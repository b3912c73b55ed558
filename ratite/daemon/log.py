"""The daemon's log: lines of key=value (logfmt) or JSON, to a file or to standard error.

Written here, in few lines of the standard library's, because the first line may come from a guest's CPU in the middle of an
access: a logging package takes longer to import than a machine to boot its firmware.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from datetime import UTC
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging import LogRecord

LEVELS = MappingProxyType({"debug": 10, "info": 20, "warning": 30, "trace": 35, "error": 40})
_CORE_LEVELS = (("error", 40), ("trace", 35), ("warning", 0))
_QUOTED = frozenset(' ="\\')


class Log:
    """Where structured lines go.  Any thread; a line is written whole, or, where nothing can be written any more, not at all.

    OSError if the file can't be opened.
    """

    def __init__(self, level: str = "warning", path: str | None = None, as_json: bool = False) -> None:
        self._threshold = LEVELS[level]
        self._out = open(path, "a", encoding="utf-8", buffering=1) if path else sys.stderr  # noqa: SIM115
        self._render = _json if as_json else _logfmt
        self._lock = threading.Lock()

    def debug(self, event: str, **fields: Any) -> None:
        """For following what the daemon does."""
        self._say("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something ordinary happened."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that a person should look at."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """A fault of ratite's own, of a plug-in or of the host."""
        self._say("error", event, fields)

    def take_core(self) -> None:
        """Have the core's lines come here from now on, in place of whoever had them; once a process."""
        import logging

        from ratite.core.log import LOGGER

        handler = logging.Handler()
        vars(handler)["emit"] = self._core_said
        logger = logging.getLogger(LOGGER)
        logger.handlers[:] = [handler]
        logger.setLevel(self._threshold)
        logger.propagate = False

    def _core_said(self, record: LogRecord) -> None:
        # A core.log.Line, or what a module says in words of its own.
        event, fields = getattr(record.msg, "event", None) or record.getMessage(), dict(getattr(record.msg, "fields", {}))
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        level = next(name for name, least in _CORE_LEVELS if record.levelno >= least)
        self._say(level, event, fields)

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """`exc_info` among the fields, an exception or what sys.exc_info() gives, becomes the text `exception`."""
        if LEVELS[level] < self._threshold:
            return
        trouble = fields.pop("exc_info", None)
        if trouble:
            fields["exception"] = _traceback(trouble)
        line = self._render({"timestamp": _now(), "level": level, "event": event, **fields}) + "\n"
        with self._lock, suppress(OSError, ValueError):  # a full disk, a file closed meanwhile: no guest stops for that
            self._out.write(line)
            self._out.flush()


def _now() -> str:
    from datetime import datetime

    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _traceback(trouble: Any) -> str:
    import traceback

    if trouble is True:
        trouble = sys.exc_info()
    error = trouble if isinstance(trouble, BaseException) else trouble[1]
    return "".join(traceback.format_exception(error)).rstrip("\n") if error is not None else ""


def _json(fields: dict[str, Any]) -> str:
    import json

    return json.dumps(fields, default=str)


def _logfmt(fields: dict[str, Any]) -> str:
    """key=value, in the given order; a value with spaces, quotes or control characters in quotes."""
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if text.isprintable() and _QUOTED.isdisjoint(text):
        return text
    import json

    return json.dumps(text, ensure_ascii=False)

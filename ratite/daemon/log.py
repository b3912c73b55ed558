"""The daemon's log: structlog's lines of key=value (logfmt) or JSON, to a file or to standard error.

A line is put into a queue and written by a thread of the log's own, which imports structlog when the first one comes: that
takes longer than a machine takes to boot its firmware, and a pipe that nobody reads may take a line never.  Neither is waited
for by the loop or by a guest's CPU in the midst of an access.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from queue import SimpleQueue

LEVELS = MappingProxyType({"debug": 10, "info": 20, "warning": 30, "trace": 35, "error": 40})
_CORE_LEVELS = (("error", 40), ("trace", 35), ("warning", 0))

# More lines than this wait for nobody: they are counted, and the count is the next line.
WAITING_MAX = 4096
CLOSE_SECONDS = 1.0


class _Line(NamedTuple):
    when: float  # seconds since the epoch
    level: str
    event: str
    fields: dict[str, Any]


class Log:
    """Where structured lines go.  Any thread, none of which ever waits; a line is written whole, or, where nothing can be
    written any more, not at all.  `close` writes what is there yet.

    OSError if the file can't be opened.
    """

    def __init__(self, level: str = "warning", path: str | None = None, as_json: bool = False) -> None:
        self._threshold = LEVELS[level]
        self._out = open(path, "a", encoding="utf-8", buffering=1) if path is not None else sys.stderr  # noqa: SIM115
        self._as_json = as_json
        self._lock = threading.Lock()
        self._lines: SimpleQueue[_Line | None] | None = None
        self._thread: threading.Thread | None = None
        self._lost = 0

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

    def callback_failed(self, error: Exception) -> None:
        """What the daemon's loop tells: the callback is over, the loop goes on."""
        self.error("a callback failed inside", exc_info=error)

    def take_core(self) -> None:
        """Have the core's lines come here from now on, in place of whoever had them; once a process."""
        from ratite.core.log import taken_by

        taken_by(self._core_said)

    def _core_said(self, number: int, event: str, fields: dict[str, Any]) -> None:
        level = next(name for name, least in _CORE_LEVELS if number >= least)
        self._say(level, event, dict(fields))

    def close(self) -> None:
        """Everything is written, or the log's reader took too long; lines after this start anew."""
        with self._lock:
            lines, thread, self._lines, self._thread = self._lines, self._thread, None, None
        if lines is not None and thread is not None:
            lines.put(None)
            thread.join(CLOSE_SECONDS)

    def move(self, fd: int) -> None:
        """Lines go to the file of this descriptor from now on, those from before where they went."""
        self.close()
        old, self._out = self._out, open(fd, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self.close()  # who spoke meanwhile
        if old is not sys.stderr:
            old.close()

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """`exc_info` among the fields, an exception or what sys.exc_info() gives, becomes the text `exception`."""
        if LEVELS[level] < self._threshold:
            return
        if fields.get("exc_info") is True:
            fields["exc_info"] = sys.exc_info()
        line = _Line(time.time(), level, event, fields)
        with self._lock:
            lines = self._lines or self._begin()
            if lines.qsize() >= WAITING_MAX:
                self._lost += 1
                return
            if self._lost:
                lines.put(_Line(line.when, "warning", "lines of the log were lost", {"count": self._lost}))
                self._lost = 0
            lines.put(line)

    def _begin(self) -> SimpleQueue[_Line | None]:
        from queue import SimpleQueue

        lines: SimpleQueue[_Line | None] = SimpleQueue()
        self._lines = lines
        self._thread = threading.Thread(target=self._write, args=(lines,), name="log", daemon=True)
        self._thread.start()
        return lines

    def _write(self, lines: SimpleQueue[_Line | None]) -> None:
        from structlog import processors

        render: Any = processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
        if self._as_json:
            render = processors.JSONRenderer(default=str)
        while (line := lines.get()) is not None:
            fields = {"timestamp": _iso(line.when), "level": line.level, "event": line.event, **line.fields}
            fields = dict(processors.format_exc_info(None, line.level, fields))
            text = render(None, line.level, fields if self._as_json else _printable(fields))
            with suppress(OSError, ValueError):  # a full disk, a file closed meanwhile
                self._out.write(text + "\n")
                self._out.flush()


def _iso(when: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(when, UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _printable(fields: dict[str, Any]) -> dict[str, Any]:
    """What a terminal would obey is escaped; line ends are structlog's affair."""
    return {
        name: "".join(each if each.isprintable() or each == "\n" else f"\\x{ord(each):02x}" for each in value)
        if isinstance(value, str) and not value.isprintable()
        else value
        for name, value in fields.items()
    }

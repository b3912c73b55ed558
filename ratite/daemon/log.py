"""The daemon's log: structlog, imported and configured at the first line, not at start nor with the first machine: with what
it brings along it takes longer to import than a machine to be assembled."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging import LogRecord

LEVELS = MappingProxyType({"debug": 10, "info": 20, "warning": 30, "error": 40})


class Log:
    """Where structured lines go: to a file or to standard error, as key=value or as JSON.

    OSError if the file can't be opened.
    """

    def __init__(self, level: str = "warning", path: str | None = None, as_json: bool = False) -> None:
        self._threshold = LEVELS[level]
        self._out = open(path, "a", encoding="utf-8", buffering=1) if path else sys.stderr  # noqa: SIM115
        self._as_json = as_json
        self._logger: Any = None

    def debug(self, event: str, **fields: Any) -> None:
        """For following what the daemon does."""
        if self._threshold <= 10:
            self.prepare().debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something ordinary happened."""
        if self._threshold <= 20:
            self.prepare().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that a person should look at."""
        if self._threshold <= 30:
            self.prepare().warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """A fault of ratite's own, of a plug-in or of the host."""
        self.prepare().error(event, **fields)

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
        line: Any = record.msg  # a core.log.Line
        fields = dict(line.fields)
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        logger = self.prepare()
        write = logger.error if record.levelno >= LEVELS["error"] else logger.warning
        write(line.event, **fields)

    def prepare(self) -> Any:
        """Configure structlog for the whole process, once; the daemon's logger."""
        if self._logger is None:
            import structlog

            renderer: Any = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
            if self._as_json:
                renderer = structlog.processors.JSONRenderer(default=str)
            structlog.configure(
                processors=[
                    structlog.processors.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso"),
                    structlog.processors.format_exc_info,
                    renderer,
                ],
                wrapper_class=structlog.make_filtering_bound_logger(self._threshold),
                logger_factory=structlog.WriteLoggerFactory(self._out),
                cache_logger_on_first_use=False,
            )
            self._logger = structlog.get_logger("ratite.daemon")
        return self._logger

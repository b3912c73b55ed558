"""Structured log lines of the core floor.  structlog is imported at the first line, not at start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def warn(event: str, **fields: Any) -> None:
    """One structured line at level warning: something a person should look at."""
    import structlog

    structlog.get_logger("ratite.core").warning(event, **fields)


def error(event: str, **fields: Any) -> None:
    """One structured line at level error: a fault of ratite's own or of a plug-in."""
    import structlog

    structlog.get_logger("ratite.core").error(event, **fields)

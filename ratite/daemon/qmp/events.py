"""Events: from wherever they happen to every monitor that may see them, QEMU's throttling on the way.

A throttled event is sent at once if none of its kind was in the last second; later ones replace each
other and the last is sent when the second is over.  Of its kind: of its name, and for some also of
the object that it is about.  No IO here: time and timers are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.qapi.wire import encode

if TYPE_CHECKING:
    from ratite.daemon.qmp.session import Session
    from ratite.daemon.views import View

THROTTLE_SECONDS = 1.0

# The members that tell one object's events from another's.
THROTTLED: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "RTC_CHANGE": ("qom-path",),
        "WATCHDOG": (),
        "BALLOON_CHANGE": (),
        "QUORUM_REPORT_BAD": ("node-name",),
        "QUORUM_FAILURE": (),
        "VSERPORT_CHANGE": ("id",),
        "MEMORY_DEVICE_SIZE_CHANGE": ("qom-path",),
        "BLOCK_IO_ERROR": ("qom-path", "device"),
    }
)

CallLater = Callable[[float, Callable[[], None]], object]


class EventHub:
    """Takes events and gives each session its line.  `call_later(seconds, fn)` is the loop's; on the loop only."""

    def __init__(self, sessions: Callable[[], Iterable[Session]], call_later: CallLater) -> None:
        self._sessions = sessions
        self._call_later = call_later
        self._held: dict[tuple[str, ...], tuple[str, dict[str, Any], int] | None] = {}

    def emit(self, name: str, data: dict[str, Any] | None = None, when_ns: int = 0) -> None:
        """An event happened, at `when_ns` since the epoch (0: now)."""
        data = data or {}
        when_ns = when_ns or time_ns()
        members = THROTTLED.get(name)
        if members is None:
            self._send(name, data, when_ns)
            return
        key = (name, *(str(data.get(member, "")) for member in members))
        if key in self._held:
            self._held[key] = (name, data, when_ns)
            return
        self._held[key] = None
        self._call_later(THROTTLE_SECONDS, lambda: self._release(key))
        self._send(name, data, when_ns)

    def _release(self, key: tuple[str, ...]) -> None:
        held = self._held.pop(key)
        if held is not None:
            self._held[key] = None
            self._call_later(THROTTLE_SECONDS, lambda: self._release(key))
            self._send(*held)

    def _send(self, name: str, data: dict[str, Any], when_ns: int) -> None:
        lines: dict[View, bytes | None] = {}
        for session in self._sessions():
            view = session.view
            if view not in lines:
                lines[view] = self._line(view, name, data, when_ns)
            line = lines[view]
            if line is not None:
                session.event(name, line)

    @staticmethod
    def _line(view: View, name: str, data: dict[str, Any], when_ns: int) -> bytes | None:
        shown = view.event_data(name, data)
        return None if shown is None else event_line(name, shown, when_ns)


def event_line(name: str, data: dict[str, Any], when_ns: int = 0) -> bytes:
    """An event as it goes over the wire."""
    seconds, nanoseconds = divmod(when_ns or time_ns(), 1_000_000_000)
    message: dict[str, Any] = {"timestamp": {"seconds": seconds, "microseconds": nanoseconds // 1000}, "event": name}
    if data:
        message["data"] = data
    return encode(message)

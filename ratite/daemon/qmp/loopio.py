"""What an IO thread is to the chardevs of devices, the daemon's loop is to those of monitors.

A monitor so answers while the machine's threads are busy, and before there is a machine.  Handlers are called on the loop only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.core.backends.io import READ, WRITE

if TYPE_CHECKING:
    from ratite.core.backends.io import Handler
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Delayed, Loop


class LoopIo:
    """An `Io`; made on the loop's thread."""

    def __init__(self, loop: Loop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._thread = threading.get_ident()
        # Each handler with what is watched for it: descriptor → events.
        self._handlers: dict[Handler, dict[int, int]] = {}
        self._timers: dict[Handler, Delayed] = {}
        self._looking = False
        self._ended = False

    def add(self, handler: Handler) -> None:
        """See `Io`."""

        def come() -> None:
            self._handlers[handler] = {}

        self.call(come)

    def remove(self, handler: Handler, then: Callable[[], None]) -> None:
        """See `Io`."""

        def gone() -> None:
            self._drop(handler)
            then()

        self.call(gone)

    def call(self, function: Callable[[], None]) -> None:
        """See `Io`."""
        if self._ended:
            function()
        elif threading.get_ident() == self._thread:
            self._loop.call_soon(self._do, function)
        else:
            self._loop.call_soon_threadsafe(self._do, function)

    def wake(self) -> None:
        """See `Io`."""
        if self._looking or self._ended:
            return
        if threading.get_ident() == self._thread:
            self._looking = True
            self._loop.call_soon(self._look)
        else:
            self._loop.call_soon_threadsafe(self._look)

    def now(self, function: Callable[[], None], handler: object) -> None:
        """Calls `function`, which may close descriptors of a handler: none of them is watched a moment longer."""
        function()
        if handler in self._handlers:
            self._watch(handler)

    def end(self) -> None:
        """The loop has stopped: what is called from now on is done at once."""
        for handler in list(self._handlers):
            self._drop(handler)
        self._ended = True

    def _do(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:
            self._log.error("io call failed", exc_info=error)
        self._look()

    def _look(self) -> None:
        self._looking = False
        for handler in list(self._handlers):
            self._watch(handler)

    def _watch(self, handler: Handler) -> None:
        watched = self._handlers.get(handler)
        if watched is None:
            return
        wanted = handler.interests()
        if wanted != watched:
            self._register(handler, watched, wanted)
            self._handlers[handler] = wanted
        after = handler.poll_after()
        if after is not None and handler not in self._timers:
            self._timers[handler] = self._loop.call_later(after, self._poll, handler)

    def _register(self, handler: Handler, watched: dict[int, int], wanted: dict[int, int]) -> None:
        for fd, events in watched.items():
            gone = events & ~wanted.get(fd, 0)
            if gone & READ:
                self._loop.remove_reader(fd)
            if gone & WRITE:
                self._loop.remove_writer(fd)
        for fd, events in wanted.items():
            new = events & ~watched.get(fd, 0)
            if new & READ:
                self._loop.add_reader(fd, self._ready, handler, fd, READ)
            if new & WRITE:
                self._loop.add_writer(fd, self._ready, handler, fd, WRITE)

    def _drop(self, handler: Handler) -> None:
        watched = self._handlers.pop(handler, {})
        self._register(handler, watched, {})
        timer = self._timers.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _ready(self, handler: Handler, fd: int, events: int) -> None:
        self._guarded(handler, handler.ready, fd, events)
        self._watch(handler)

    def _poll(self, handler: Handler) -> None:
        del self._timers[handler]
        self._guarded(handler, handler.poll)
        self._watch(handler)

    def _guarded(self, handler: Handler, function: Callable[..., None], *args: int) -> None:
        try:
            function(*args)
        except Exception as error:
            self._log.error("io handler failed and was dropped", handler=repr(handler), exc_info=error)
            self._drop(handler)

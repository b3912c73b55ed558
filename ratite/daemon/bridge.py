"""Every crossing between the loop and the threads of a machine; nothing else crosses.

    loop ──post(fn)──> the machine's owner thread ──done──> loop
    any thread of the machine ──event, call_on_loop──> loop
    loop ──aside(fn)──> a thread for one long computation ──done──> loop

The loop never takes a machine's lock and never waits: it posts and is called back.  Things that one
thread sends arrive in order, so the events of a command arrive before its end does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING, Any

from ratite.qapi.errors import GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.future import Future
    from ratite.core.machine import Machine
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Loop

Done = Callable[[Any, QmpError | None], None]


class Bridge:
    """The crossings of one daemon."""

    def __init__(self, loop: Loop, log: Log) -> None:
        self._loop = loop
        self._log = log

    def post(self, machine: Machine, fn: Callable[[], Any], done: Done) -> None:
        """Run `fn` on the machine's owner thread; then `done(value, None)` or `done(None, error)` on the loop."""

        def finished(future: Future[Any]) -> None:
            error = future.exception()
            self._to_loop(self._finish, None if error is not None else future.result(), error, done)

        machine.owner.post(fn).add_done_callback(finished)

    def _finish(self, value: Any, error: BaseException | None, done: Done) -> None:
        if error is None:
            done(value, None)
        elif isinstance(error, QmpError):
            done(None, error)
        else:
            self._log.error("a command failed inside", exc_info=error)
            done(None, GenericError(f"internal error: {type(error).__name__}: {error}"))

    def listen(
        self,
        machine: Machine,
        event: Callable[[str, dict[str, Any], int], None],
        ended: Callable[[str, int], None],
    ) -> None:
        """Have the machine's events, with the time they happened (ns since the epoch), delivered on the loop.

        `ended(cause, exit code)`: the guest has shut down.
        """

        def happened(name: str, data: dict[str, Any]) -> None:
            self._to_loop(event, name, data, time_ns())

        def shut_down(cause: str, exit_code: int) -> None:
            self._to_loop(ended, cause, exit_code)

        machine.on_event = happened
        machine.on_shutdown = shut_down

    def aside(self, fn: Callable[[], Any], done: Done) -> None:
        """Run `fn`, which must touch nothing shared, on a thread of its own; then `done` on the loop as for `post`."""

        def work() -> None:
            try:
                self._to_loop(self._finish, fn(), None, done)
            except BaseException as error:
                self._to_loop(self._finish, None, error, done)

        threading.Thread(target=work, name="ratite-aside", daemon=True).start()

    def call_on_loop(self, fn: Callable[..., None], *args: Any) -> None:
        """Have `fn(*args)` called on the loop soon.  Any thread."""
        self._to_loop(fn, *args)

    def _to_loop(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            # The loop is closed: the daemon is going away and nobody waits for this any more.
            return

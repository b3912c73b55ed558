"""Connecting again and again: for clients that outlive those they talk to (`reconnect-ms`).

    lost ──delay──> a thread of its own connects ──> taken(socket), where the handler is served
                          └──refused──> lost

`Dialer` is part of a handler of an `Io`, which asks it by `poll_after` and `poll`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.core import log
from ratite.core.backends import sockets
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    import socket

    from ratite.core.backends.io import Io
    from ratite.core.hostfiles import HostFiles


class Dialer:
    """Connects to `address` for `name` (in messages), `delay` seconds after the last try; `io()` serves the handler now."""

    def __init__(
        self,
        name: str,
        address: sockets.Address,
        files: HostFiles,
        delay: float,
        io: Callable[[], Io],
        taken: Callable[[socket.socket], None],
    ) -> None:
        self._name = name
        self._address = address
        self._files = files
        self._delay = delay
        self._io = io
        self._taken = taken
        self._when: float | None = None
        self._told = False
        self._stopped = False

    def dial(self) -> None:
        """Tries now."""
        self._when = None
        threading.Thread(target=self._connect, name=f"ratite-dial-{self._name}", daemon=True).start()

    def lost(self) -> None:
        """Nobody is at the other end: tries later.  Where the handler is served."""
        if not self._stopped:
            self._when = time.monotonic() + self._delay

    def stop(self) -> None:
        """Tries no more; a socket that is under way is closed when it comes."""
        self._stopped = True
        self._when = None

    def poll_after(self) -> float | None:
        """As Handler's."""
        return None if self._when is None else max(0.0, self._when - time.monotonic())

    def poll(self) -> None:
        """As Handler's."""
        if self._when is not None and time.monotonic() >= self._when:
            self.dial()

    def _connect(self) -> None:
        made: socket.socket | None = None
        reason = ""
        try:
            made = sockets.connect(self._address, self._files)
        except GenericError as error:
            reason = error.desc
        self._arrive(self._io(), made, reason)

    def _arrive(self, io: Io, made: socket.socket | None, reason: str) -> None:
        def arrived() -> None:
            if io is not self._io():
                # The handler has moved meanwhile.
                self._arrive(self._io(), made, reason)
            elif self._stopped:
                if made is not None:
                    made.close()
            elif made is not None:
                self._told = False
                self._taken(made)
            else:
                if not self._told:
                    self._told = True
                    log.warn("can't connect yet", name=self._name, reason=reason)
                self.lost()

        io.call(arrived)


_SERVER = "'reconnect' option is incompatible with socket in server listen mode"


def delay_of(seconds: int | None, milliseconds: int | None, server: bool, refusal: str = _SERVER) -> float:
    """Seconds of `reconnect` and `reconnect-ms`, 0 for none; GenericError in QEMU's words, `refusal` for a server."""
    if seconds is not None and milliseconds is not None:
        raise GenericError("'reconnect' and 'reconnect-ms' are mutually exclusive")
    delay = (milliseconds or 0) / 1000 if seconds is None else seconds
    if delay < 0:
        name = "reconnect" if milliseconds is None else "reconnect-ms"
        raise GenericError(f"Parameter '{name}' expects a non-negative value")
    if delay and server:
        raise GenericError(refusal)
    return float(delay)

"""A frontend that lives elsewhere than the chardev: a monitor, served on a loop, at a line that it shares with devices.

    chardev (machine's lock, IO thread)       two buffers       frontend (its own lock, its own `io`)

Neither side ever takes the other's lock: each leaves bytes and has the other one look.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ratite.core.backends.chardev import BUFFER, Frontend, Line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratite.core.backends.io import Io


class FarFrontend:
    """For the chardev the frontend; for the frontend, which lives at `io` under `lock`, the line."""

    def __init__(self, frontend: Frontend, io: Io, lock: Any, chardev_io: Io, chardev_lock: Any) -> None:
        self.line: Line | None = None
        self._frontend = frontend
        self._io, self._lock = io, lock
        self._chardev_io, self._chardev_lock = chardev_io, chardev_lock
        # Guards the buffers; held for copying bytes.
        self._mutex = threading.Lock()
        self._in = bytearray()
        self._out = bytearray()
        self._refused = False
        self._gone = False
        frontend.line = self

    # -- the chardev's side, under its lock

    def chr_can_receive(self) -> int:
        """As Frontend's."""
        return BUFFER - len(self._in)

    def chr_receive(self, data: bytes) -> None:
        """As Frontend's."""
        with self._mutex:
            first = not self._in
            self._in += data
        if first:
            self._there(self.accept_input)

    def chr_event(self, name: str) -> None:
        """As Frontend's."""
        self._there(lambda: self._frontend.chr_event(name))

    def chr_writable(self) -> None:
        """As Frontend's."""
        if self.line is not None:
            self._push(self.line)

    def _push(self, line: Line) -> None:
        with self._mutex:
            data = bytes(self._out)
        taken = line.write(data) if data else 0
        with self._mutex:
            del self._out[:taken]
            room = self._refused and len(self._out) <= BUFFER // 2
            self._refused = self._refused and not room
        if room:
            self._there(self._frontend.chr_writable)

    # -- the frontend's side, under its lock

    def write(self, data: bytes) -> int:
        """As Line's."""
        with self._mutex:
            first = not self._out
            taken = min(len(data), BUFFER - len(self._out))
            self._out += data[:taken]
            self._refused = self._refused or taken < len(data)
        if first and taken:
            self._here(self._push)
        return taken

    def accept_input(self) -> None:
        """As Line's."""
        full = False
        while self._in and not self._gone:
            room = self._frontend.chr_can_receive()
            if room <= 0:
                break
            with self._mutex:
                full = full or len(self._in) >= BUFFER
                data = bytes(self._in[:room])
                del self._in[:room]
            self._frontend.chr_receive(data)
        if full:
            self._here(lambda line: line.accept_input())

    def set_open(self, opened: bool) -> None:
        """As Line's."""
        self._here(lambda line: line.set_open(opened))

    def unsent(self) -> int:
        """As Line's."""
        with self._mutex:
            self._refused = self._refused or bool(self._out)
            return len(self._out)

    def push(self) -> None:
        """As Line's: what was written is on its way already."""

    def hang_up(self) -> None:
        """As Line's: the peer is others' as well."""

    def detach(self) -> None:
        """As Line's."""
        self._gone = True
        self._here(self._leave)

    def _leave(self, line: Line) -> None:
        line.detach()
        self.line = None

    # -- crossing

    def _there(self, step: Callable[[], None]) -> None:
        """Has `step` done where the frontend lives."""

        def guarded() -> None:
            with self._lock:
                if not self._gone:
                    step()

        self._io.call(guarded)

    def _here(self, step: Callable[[Line], None]) -> None:
        """Has `step` done with the chardev's line, where that is served."""

        def guarded() -> None:
            with self._chardev_lock:
                if self.line is not None:
                    step(self.line)

        self._chardev_io.call(guarded)

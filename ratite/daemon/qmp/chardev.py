"""QMP at a chardev: whatever bytes a chardev can carry, with its own ways of listening, connecting and coming back.

    chardev  opened ──> a Link, with a session of its own ──> closed ──> opened: the next one
             another peer at a listening socket, beside the first ──> a Connection (unix.py)

The loop serves the chardev (loopio.py), under a lock that nobody else takes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ratite.core.backends.chardev import BUFFER, CLOSED, OPENED
from ratite.daemon.qmp.monitor import Closed, Execute, Monitor
from ratite.daemon.qmp.unix import CHUNK, receive

if TYPE_CHECKING:
    import socket

    from ratite.core.backends.chardev import Chardev, Line
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Loop
    from ratite.daemon.qmp.loopio import LoopIo
    from ratite.daemon.qmp.session import Session


class Link(Monitor):
    """A monitor at a chardev, from its peer's coming to its going."""

    def __init__(
        self,
        line: Line,
        io: LoopIo,
        session: Session,
        loop: Loop,
        log: Log,
        execute: Execute,
        closed: Closed,
    ) -> None:
        super().__init__(session, loop, log, execute, closed)
        self._line = line
        self._io = io
        self.reading = False

    def _send(self, data: memoryview) -> int:
        taken = self._line.write(bytes(data[:BUFFER]))
        self._io.now(self._line.push, self._line)
        return taken

    def _watch(self, read: bool, write: bool) -> None:
        if read != self.reading:
            self.reading = read
            if read:
                self._line.accept_input()
            self._io.wake()

    def _drained(self) -> bool:
        return not self._line.unsent()

    def _shut(self) -> None:
        self._io.now(self._line.hang_up, self._line)


class ControlFrontend:
    """The frontend of a chardev at which QMP is spoken (HostFrontend)."""

    def __init__(self, daemon: Daemon, io: LoopIo, pretty: bool) -> None:
        self.line: Line | None = None
        self._daemon = daemon
        self._io = io
        self._pretty = pretty
        self._link: Link | None = None

    def chr_can_receive(self) -> int:
        return CHUNK if self._link is not None and self._link.reading else 0

    def chr_receive(self, data: bytes) -> None:
        if self._link is not None:
            self._link.received(data, ())

    def chr_read(self, peer: socket.socket, size: int) -> bytes:
        # Only while somebody can receive is anything read.
        assert self._link is not None
        data, fds = receive(peer, size)
        self._link.session.receive(b"", fds)
        return data

    def chr_ended(self) -> None:
        if self._link is not None:
            self._link.received(b"", ())

    def chr_event(self, name: str) -> None:
        if name in (OPENED, CLOSED) and self._link is not None:
            self._link.close()
        if name != OPENED or self.line is None:
            return
        if self._daemon.ending:
            self.line.hang_up()
            return
        daemon = self._daemon
        session = daemon.new_session(self._pretty)
        self._link = Link(self.line, self._io, session, daemon.loop, daemon.log, daemon.execute, self._gone)
        daemon.serve(self._link)

    def chr_writable(self) -> None:
        if self._link is not None:
            self._link.writable()

    def chr_takes_another(self) -> bool:
        return not self._daemon.ending

    def chr_another(self, peer: socket.socket) -> None:
        self._daemon.add_monitor(peer, self._pretty)

    def _gone(self, link: Monitor) -> None:
        self._link = None
        self._daemon.closed(link)


def serve_control(daemon: Daemon, chardev: Chardev, pretty: bool) -> threading.Event:
    """Speak QMP at a chardev from when what is answered is set.  GenericError if it is in use."""
    io = daemon.loop_io
    return chardev.attach_at(io, threading.RLock(), ControlFrontend(daemon, io, pretty))

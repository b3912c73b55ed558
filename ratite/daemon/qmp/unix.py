"""The asyncio shell around sessions: sockets to bytes and descriptors, and back.

Plain readiness callbacks, no streams and no tasks: asyncio's transports drop SCM_RIGHTS, and a command
that needs no machine is answered in the callback that read it.  Works for TCP just as well.
"""

from __future__ import annotations

import socket
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.daemon.qmp.session import FD_LIMIT, OVERRUN, Request, Session

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ratite.daemon.log import Log

# Small, since parsing a chunk of the most expensive JSON takes 2 µs a byte, and the others wait for it.
CHUNK = 1 << 14
# So many commands at a time, then the other clients get their turn.
TURN = 32

_ANCILLARY = socket.CMSG_SPACE(4 * 2 * FD_LIMIT) if hasattr(socket, "CMSG_SPACE") else 0
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_RIGHTS = getattr(socket, "SCM_RIGHTS", -1)

Execute = Callable[["Connection", Request], None]
Closed = Callable[["Connection"], None]


class Connection:
    """One client: its socket and its session.  `execute` gets each command, `closed` is told of the end."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        loop: AbstractEventLoop,
        log: Log,
        execute: Execute,
        closed: Closed,
    ) -> None:
        self.session = session
        self._log = log
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._execute = execute
        self._closed = closed
        self._out = memoryview(b"")
        self._reading = False
        self._writing = False
        self._eof = False
        self._turn_waits = False
        self.closing = False
        sock.setblocking(False)

    def start(self) -> None:
        """Send the greeting and begin to read."""
        self.pump()

    # -- input

    def _readable(self) -> None:
        try:
            data, fds = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error)
            return
        if not data:
            self._eof = True
        self.session.receive(data, fds)
        if self.session.fds_refused:
            self._log.warning("descriptors refused", session=self.session.name, count=self.session.fds_refused)
            self.session.fds_refused = 0
        self.pump()

    def _receive(self) -> tuple[bytes, array[int]]:
        fds = array("i")
        if sys.platform == "win32" or not _ANCILLARY:
            return self._sock.recv(CHUNK), fds
        data, ancillary, _flags, _address = self._sock.recvmsg(CHUNK, _ANCILLARY, _FLAGS)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == _RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        return data, fds

    def pump(self) -> None:
        """Execute what may be executed, send what may be sent, decide whether to read on."""
        session = self.session
        try:
            for _ in range(TURN):
                request = session.next_request()
                if request is None:
                    break
                self._execute(self, request)
            else:
                self._later()
        except Exception as error:
            # A fault of ours costs this client its session and nobody else anything.
            self._log.error("a session failed inside", session=session.name, exc_info=error)
            self.close()
        self.flush()

    def _later(self) -> None:
        if not self._turn_waits:
            self._turn_waits = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_waits = False
        if self._fd >= 0:
            self.pump()

    # -- output

    def flush(self) -> None:
        """Send what the socket takes, then watch what has to be watched."""
        if self._fd < 0:
            return
        try:
            while True:
                if not self._out:
                    self._out = memoryview(self.session.output())
                    if not self._out:
                        break
                count = self._sock.send(self._out)
                self._out = self._out[count:]
                self.session.sent(count)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.close(error)
            return
        self._watch()

    def _watch(self) -> None:
        session = self.session
        if session.state == OVERRUN:
            self._log.warning("monitor closed: it does not read, and too many events wait", session=session.name)
            self.close()
            return
        if not self._out and not session.unsent and (self.closing or (self._eof and session.idle)):
            self.close()
            return
        if session.wants_input != self._reading:
            self._want_read(not self._reading)
        if self._reading and (self._eof or self.closing):
            self._want_read(False)
        if bool(self._out) != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._fd, self._writable)
            else:
                self._loop.remove_writer(self._fd)

    def _want_read(self, wanted: bool) -> None:
        wanted = wanted and not (self._eof or self.closing)
        if wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    def _writable(self) -> None:
        self.flush()
        if self._fd >= 0:
            self.pump()

    # -- end

    def stop_input(self) -> None:
        """Read and begin nothing more; what is under way may still be answered."""
        self.closing = True
        self.session.drop_input()

    def finish(self) -> None:
        """Close as soon as everything is sent."""
        self.stop_input()
        self.flush()

    def close(self, error: OSError | None = None) -> None:
        """Close now."""
        if self._fd < 0:
            return
        if error is not None:
            self._log.info("monitor lost", session=self.session.name, reason=str(error))
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        self._out = memoryview(b"")
        self._sock.close()
        self.session.close()
        self._closed(self)


class Listener:
    """Accepts clients at a listening socket."""

    def __init__(
        self, sock: socket.socket, loop: AbstractEventLoop, log: Log, accepted: Callable[[socket.socket], None]
    ) -> None:
        self._log = log
        self._sock = sock
        self._loop = loop
        self._accepted = accepted
        self._fd = sock.fileno()
        loop.add_reader(self._fd, self._accept)

    def _accept(self) -> None:
        try:
            client, _address = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors: try again when some may have been closed, not at once.
            self._log.error("can't accept a client", reason=str(error))
            self._loop.remove_reader(self._fd)
            self._loop.call_later(0.2, self._resume)
            return
        self._accepted(client)

    def _resume(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._accept)

    def close(self) -> None:
        """Accept no more; the socket itself is its endpoint's to close."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1

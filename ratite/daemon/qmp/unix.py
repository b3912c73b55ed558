"""Monitors at sockets of their own: readiness callbacks of the loop, bytes and descriptors in and out.

asyncio's transports drop SCM_RIGHTS.  Works for TCP just as well.
"""

from __future__ import annotations

import socket
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.daemon.qmp.monitor import Closed, Execute, Monitor

if TYPE_CHECKING:
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Loop
    from ratite.daemon.qmp.session import Session

# Small, since parsing a chunk of the most expensive JSON takes 2 µs a byte, and the others wait for it.
CHUNK = 1 << 14
# Descriptors that one call takes; the kernel closes the others.
_MOST = 32
_ANCILLARY = socket.CMSG_SPACE(4 * _MOST) if hasattr(socket, "CMSG_SPACE") else 0
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_RIGHTS = getattr(socket, "SCM_RIGHTS", -1)


def receive(sock: socket.socket, size: int) -> tuple[bytes, array[int]]:
    """Up to `size` bytes, none at the end, and descriptors, which are the caller's.  OSError as recv raises it."""
    fds = array("i")
    if sys.platform == "win32" or not _ANCILLARY:
        return sock.recv(size), fds
    data, ancillary, _flags, _address = sock.recvmsg(size, _ANCILLARY, _FLAGS)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == _RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, fds


class Connection(Monitor):
    """A monitor at a connected stream socket, which is its own."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        loop: Loop,
        log: Log,
        execute: Execute,
        closed: Closed,
    ) -> None:
        super().__init__(session, loop, log, execute, closed)
        self._sock = sock
        self._fd = sock.fileno()
        self._reading = False
        self._writing = False
        sock.setblocking(False)

    def _readable(self) -> None:
        try:
            data, fds = receive(self._sock, CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error)
            return
        self.received(data, fds)

    def _send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _watch(self, read: bool, write: bool) -> None:
        if read != self._reading:
            self._reading = read
            if read:
                self._loop.add_reader(self._fd, self._readable)
            else:
                self._loop.remove_reader(self._fd)
        if write != self._writing:
            self._writing = write
            if write:
                self._loop.add_writer(self._fd, self.writable)
            else:
                self._loop.remove_writer(self._fd)

    def _shut(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()


class Listener:
    """Accepts clients at a listening socket."""

    def __init__(
        self, sock: socket.socket, loop: Loop, log: Log, accepted: Callable[[socket.socket], None]
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

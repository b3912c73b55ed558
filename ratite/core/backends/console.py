"""The chardev `console`: for people, any number of them, who come and go.

    frontend ──write()──> the newest `size` bytes are kept ──> every peer that is attached
    frontend <─────────── what any peer sends

Somebody who attaches gets what was kept first, so a boot that nobody watched can be read.  The device always sees somebody
at the other end, and never waits: a peer that doesn't read loses its oldest bytes beyond 256 KiB.  Peers are descriptors
of stream sockets (chardev-attach).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import BUFFER, int_option
from ratite.core.backends.io import READ, WRITE, received
from ratite.core.backends.stream import CHUNK, StreamChardev
from ratite.core.memory.limits import check_host_memory
from ratite.core.objects.props import debug
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet

KEPT = 1 << 16
KEPT_MAX = 1 << 30
PEER_BUFFER = 1 << 18
PEERS_MAX = 256


class ConsoleChardev(StreamChardev):
    """See the module's head."""

    TYPE: ClassVar[str] = "chardev-console"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"size"})

    peers = debug("uint32", text="how many are attached", getter="_count_peers")

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.size = int_option(options, "size", KEPT)
        if not 0 <= self.size <= KEPT_MAX:
            raise GenericError(f"size of console chardev must be from 0 to {KEPT_MAX}, not {self.size}")
        check_host_memory(id, self.size)
        self._kept = bytearray()
        # What each peer, by its descriptor, is still to get.
        self._peers: dict[int, bytearray] = {}

    def _count_peers(self) -> int:
        return len(self._peers)

    def open(self) -> None:
        super().open()
        self.io.add(self)

    def attach_peer(self, fd: int) -> None:
        """`fd`, ours from now on, gets what was kept and all that follows.  GenericError, and it stays the caller's."""
        with self.mutex:
            if len(self._peers) >= PEERS_MAX:
                raise GenericError(f"Chardev '{self.id}' has {PEERS_MAX} peers, as many as it may")
            if sys.platform != "win32":
                os.set_blocking(fd, False)
            self._peers[fd] = bytearray(self._kept)
        self.io.wake()

    # -- the frontend's side

    def put(self, data: bytes) -> int:
        with self.mutex:
            _append(self._kept, data, self.size)
            for waiting in self._peers.values():
                _append(waiting, data, max(PEER_BUFFER, self.size))
            wake = bool(self._peers) and bool(data)
        if wake:
            self.io.wake()
        return len(data)

    # -- the IO thread's side

    def interests(self) -> dict[int, int]:
        with self.mutex:
            read = READ if len(self._in) < BUFFER else 0
            return {fd: read | (WRITE if waiting else 0) for fd, waiting in self._peers.items()}

    def ready(self, fd: int, events: int) -> None:
        if events & WRITE:
            self._send_to(fd)
        if events & READ and fd in self._peers:
            self._receive_from(fd)

    def _send_to(self, fd: int) -> None:
        with self.mutex:
            waiting = self._peers[fd]
            try:
                del waiting[: os.write(fd, bytes(waiting[:CHUNK]))]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._drop(fd)

    def _receive_from(self, fd: int) -> None:
        data = received(lambda: os.read(fd, min(CHUNK, BUFFER - len(self._in))))
        if data is None:
            return
        with self.mutex:
            if not data:
                self._drop(fd)
                return
            self._in += data
        with self.lock:
            self.accept_input()

    def _drop(self, fd: int) -> None:
        del self._peers[fd]
        os.close(fd)

    def _shut(self) -> None:
        """The last act: what a peer takes at once is sent."""
        for fd in list(self._peers):
            before = -1
            while fd in self._peers and self._peers[fd] and len(self._peers[fd]) != before:
                before = len(self._peers[fd])
                self._send_to(fd)
        with self.mutex:
            for fd in list(self._peers):
                self._drop(fd)


def _append(buffer: bytearray, data: bytes, limit: int) -> None:
    buffer += data
    if len(buffer) > limit:
        del buffer[: len(buffer) - limit]

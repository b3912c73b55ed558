"""The chardev `socket`: a stream socket, listening (server) or connecting, over a UNIX path, TCP, or a descriptor.

    server   listening ──accept──> connected ──(peer gone)──> listening
    client   connecting ──> connected ──(peer gone)──> disconnected

One peer at a time; others wait in the listen queue.  Left out: `wait` (see _refuse_wait), TLS, telnet,
tn3270, websocket, reconnect, UDP, vsock, descriptors sent along with bytes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends import sockets
from ratite.core.backends.chardev import bool_option
from ratite.core.backends.io import READ
from ratite.core.backends.stream import StreamChardev
from ratite.core.hostfiles import unlink_own
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet


class SocketChardev(StreamChardev):
    """A stream socket; `address` is ("unix", path), ("inet", host, port) or ("fd", number)."""

    TYPE: ClassVar[str] = "chardev-socket"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"addr", "server", "wait", "nodelay"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.server = bool_option(options, "server", True)
        if bool_option(options, "wait", False):
            _refuse_wait(id, self.server)
        self.nodelay = bool_option(options, "nodelay", False)
        self.address = sockets.parse_address(options.get("addr"))
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._inode: tuple[int, int] | None = None
        self._local = self._remote = ""

    @property
    def filename(self) -> str:
        listening = ",server=on" if self.server else ""
        if self.address[0] == "unix":
            text = f"unix:{self.address[1]}{listening}"
        elif self.connected and self._remote:
            text = f"tcp:{self._local}{listening} <-> {self._remote}"
        else:
            text = f"tcp:{self._local or ':'.join(self.address[1:])}{listening}"
        if self.address[0] == "fd":
            text = f"fd:{self.address[1]}{listening}"
        return text if self.connected else f"disconnected:{text}"

    @property
    def actual_address(self) -> str:
        """"host:port" really in use (a port 0 was replaced), or the path."""
        return self.address[1] if self.address[0] == "unix" else self._local

    def open(self) -> None:
        kind = self.address[0]
        if kind == "fd":
            made, listens = sockets.adopt(int(self.address[1]))
            if listens:
                self._listener = made
            else:
                self._peer = made
        elif self.server:
            self._listener, self._inode = sockets.listen(self.address, self.owner.files)
        else:
            self._peer = sockets.connect(self.address, self.owner.files)
        if self._listener is not None and self._listener.family != getattr(socket, "AF_UNIX", None):
            self._local = sockets.host_port(self._listener.getsockname())
        if self._peer is not None:
            self._take(self._peer)
        self.io.add(self)

    def close(self) -> None:
        unlink_own(self.owner.files, self.address[1], self._inode)
        self._inode = None
        super().close()

    def interests(self) -> dict[int, int]:
        found = super().interests()
        if self._listener is not None and (self._peer is None or self.host_end is not None):
            found[self._listener.fileno()] = READ
        return found

    def ready(self, fd: int, events: int) -> None:
        if self._listener is not None and fd == self._listener.fileno():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # it left again
            if self._peer is None:
                self._take(peer)
            elif self.host_end is None or not self.host_end.chr_another(peer):
                peer.close()
        else:
            super().ready(fd, events)

    def end_of_input(self) -> None:
        if self.host_end is None:
            super().end_of_input()
            return
        with self.mutex:
            self._read_fd = -1
        self.host_end.chr_ended()

    def read_peer(self, size: int) -> bytes:
        if self.host_end is None or self._peer is None:
            return super().read_peer(size)
        return self.host_end.chr_read(self._peer, size)

    def close_fd(self, fd: int) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    # -- making sockets

    def _take(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self._peer = peer
        if peer.family in (socket.AF_INET, socket.AF_INET6):
            if self.nodelay:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                self._local, self._remote = sockets.host_port(peer.getsockname()), sockets.host_port(peer.getpeername())
        self.peer_came(peer.fileno(), peer.fileno())

    def _shut(self) -> None:
        super()._shut()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _refuse_wait(id: str, server: bool) -> None:
    """Waiting would hold the machine's owner thread, and every monitor with it, until a peer comes."""
    if not server:
        raise GenericError("'wait' option is incompatible with socket in client connect mode")
    raise GenericError(
        f"Chardev '{id}': option 'wait' of backend 'socket' must be false, not true: no command waits for a peer "
        "(start the machine when query-chardev shows one)"
    )

"""The chardev `socket`: a stream socket, listening (server) or connecting, over a UNIX path, TCP, or a descriptor.

    server   listening ──accept──> connected ──(peer gone)──> listening
    client   connecting ──> connected ──(peer gone)──> disconnected ──`reconnect-ms`──> connecting …

One peer at a time; others wait in the listen queue, unless a frontend that is no device takes them.  A server may speak
Telnet.  Left out: TLS, tn3270, websocket, UDP, vsock; descriptors sent along reach only a frontend that is no device.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends import sockets, telnet
from ratite.core.backends.chardev import BREAK, bool_option, int_option
from ratite.core.backends.dialer import Dialer, delay_of
from ratite.core.backends.io import READ
from ratite.core.backends.stream import StreamChardev
from ratite.core.hostfiles import unlink_own
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet


class SocketChardev(StreamChardev):
    """A stream socket at `address`."""

    TYPE: ClassVar[str] = "chardev-socket"
    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"addr", "server", "wait", "nodelay", "telnet", "reconnect", "reconnect-ms"}
    )

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.server = bool_option(options, "server", True)
        self.waits = bool_option(options, "wait", False)
        if self.waits and not self.server:
            raise GenericError("'wait' option is incompatible with socket in client connect mode")
        self.nodelay = bool_option(options, "nodelay", False)
        self.address = sockets.parse_address(options.get("addr"))
        delays = [int_option(options, name, 0) if name in options else None for name in ("reconnect", "reconnect-ms")]
        delay = delay_of(delays[0], delays[1], self.server)
        if delay and self.address.kind == "fd":
            raise GenericError("'reconnect' option is incompatible with 'fd'")
        self._dialer = Dialer(id, self.address, owner.files, delay, lambda: self.io, self._take) if delay else None
        self._telnet = telnet.Reader() if bool_option(options, "telnet", False) else None
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._inode: tuple[int, int] | None = None
        self._local = self._remote = ""

    @property
    def filename(self) -> str:
        options = ",abstract=on" + (",tight=on" if self.address.tight else "") if self.address.abstract else ""
        if self.server:
            options += ",server=on"
        kind = "telnet" if self._telnet is not None else "tcp"
        if self.address.kind == "unix":
            text = f"unix:{self.address.place}{options}"
        elif self.address.kind == "fd" and not self._local:
            text = f"unix:{self._unix_path()}{options}"
        elif self.connected and self._remote:
            text = f"{kind}:{self._local}{options} <-> {self._remote}"
        else:
            # QEMU's brackets around IPv6 addresses come with the peer.
            text = f"{kind}:{(self._local or str(self.address)).replace('[', '').replace(']', '')}{options}"
        return text if self.connected else f"disconnected:{text}"

    def _unix_path(self) -> str:
        """The path at which a socket that was handed over is bound, or nothing."""
        end = self._listener or self._peer
        with contextlib.suppress(OSError):
            name = end.getsockname() if end is not None else ""
            return name if isinstance(name, str) else ""
        return ""

    @property
    def actual_address(self) -> str:
        """"host:port" really in use (a port 0 was replaced), or the path."""
        return self.address.place if self.address.kind == "unix" else self._local

    def open(self) -> None:
        kind = self.address.kind
        peer: socket.socket | None = None
        if kind == "fd":
            made, listens = sockets.adopt(int(self.address.place), self.address.name)
            if listens:
                self._listener = made
            else:
                peer = made
        elif self.server:
            self._listener, self._inode = sockets.listen(self.address, self.owner.files)
        elif self._dialer is None:
            peer = sockets.connect(self.address, self.owner.files)
        if self._listener is not None and self._listener.family != getattr(socket, "AF_UNIX", None):
            self._local = sockets.host_port(self._listener.getsockname())
        if peer is not None:
            self._take(peer)
        self.io.add(self)
        if self._dialer is not None:
            self._dialer.dial()

    def close(self) -> None:
        unlink_own(self.owner.files, self.address.place, self._inode)
        self._inode = None
        if self._dialer is not None:
            self._dialer.stop()
        super().close()
        self.connected_event.set()  # who waits for a peer waits in vain

    def add_client(self, fd: int) -> bool:
        """Whether `fd`, a connected stream socket, becomes the peer."""
        if self._peer is not None:
            return False
        try:
            made, listens = sockets.adopt(fd, str(fd), datagrams=False)
        except GenericError:
            return False
        if listens:
            made.detach()
            return False

        def come() -> None:
            if self._peer is not None or self._closed:
                made.close()
            else:
                self._take(made)

        self.io.call(come)
        return True

    def yank(self) -> None:
        """Ends the connection, however stuck it is.  Any thread; never waits."""
        self.io.call(self.hang_up)

    def poll_after(self) -> float | None:
        return None if self._dialer is None else self._dialer.poll_after()

    def poll(self) -> None:
        if self._dialer is not None:
            self._dialer.poll()

    def peer_left(self) -> None:
        super().peer_left()
        if self._dialer is not None:
            self._dialer.lost()

    def encoded(self, data: bytes) -> bytes:
        return data if self._telnet is None else telnet.escaped(data)

    def decoded(self, data: bytes) -> bytes:
        if self._telnet is None:
            return data
        data = self._telnet.feed(data)
        while self._telnet.breaks:
            self._telnet.breaks -= 1
            self._tell(BREAK)
        return data

    def interests(self) -> dict[int, int]:
        found = super().interests()
        if self._listener is not None and (self._peer is None or self._takes_another()):
            found[self._listener.fileno()] = READ
        return found

    def _takes_another(self) -> bool:
        return self.host_end is not None and self.host_end.chr_takes_another()

    def ready(self, fd: int, events: int) -> None:
        if self._listener is not None and fd == self._listener.fileno():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # it left again
            if self._peer is None:
                self._take(peer)
            elif self.host_end is not None:
                self.host_end.chr_another(peer)
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
                sockets.send_at_once(peer)
            with contextlib.suppress(OSError):
                self._local, self._remote = sockets.host_port(peer.getsockname()), sockets.host_port(peer.getpeername())
        if self._telnet is not None:
            self._telnet = telnet.Reader()
        self.peer_came(peer.fileno(), peer.fileno(), telnet.OFFER if self._telnet is not None and self.server else b"")

    def _shut(self) -> None:
        super()._shut()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


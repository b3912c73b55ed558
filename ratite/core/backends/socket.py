"""The chardev `socket`: a stream socket, listening (server) or connecting, over a UNIX path, TCP, or a descriptor.

    server   listening ──accept──> connected ──(peer gone)──> listening
    client   connecting ──> connected ──(peer gone)──> disconnected

One peer at a time; others wait in the listen queue.  A UNIX path that exists is replaced only if it is a socket of our
uid where nobody listens; on close only our own inode is removed.  Left out: `wait` (see _refuse_wait), TLS, telnet,
tn3270, websocket, reconnect, UDP, vsock, descriptors sent along with bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import bool_option, str_option
from ratite.core.backends.io import READ
from ratite.core.backends.stream import StreamChardev
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet

CONNECT_TIMEOUT = 3.0  # host seconds
_PATH_MAX = 108  # bytes of sockaddr_un


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
        self.address = _parse_address(options.get("addr"))
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
            self._adopt(int(self.address[1]))
        elif self.server:
            self._listener = self._listen_unix() if kind == "unix" else self._listen_inet()
            self._listener.setblocking(False)
        else:
            self._peer = self._connect()
        if self._listener is not None and self._listener.family != getattr(socket, "AF_UNIX", None):
            self._local = _host_port(self._listener.getsockname())
        if self._peer is not None:
            self._take(self._peer)
        self.owner.io.add(self)

    def close(self) -> None:
        if self._inode is not None:
            with contextlib.suppress(OSError):
                facts = os.lstat(self.address[1])
                if (facts.st_dev, facts.st_ino) == self._inode:
                    Path(self.address[1]).unlink()
            self._inode = None
        super().close()

    def interests(self) -> dict[int, int]:
        found = super().interests()
        if self._listener is not None and self._peer is None:
            found[self._listener.fileno()] = READ
        return found

    def ready(self, fd: int, events: int) -> None:
        if self._listener is not None and fd == self._listener.fileno():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # it left again
            self._take(peer)
        else:
            super().ready(fd, events)

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
                self._local, self._remote = _host_port(peer.getsockname()), _host_port(peer.getpeername())
        self.peer_came(peer.fileno(), peer.fileno())

    def _adopt(self, fd: int) -> None:
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise GenericError(f"File descriptor '{fd}' is not a socket")
            made = socket.socket(fileno=fd)
        except OSError as error:
            raise GenericError(f"File descriptor '{fd}' can't be used: {error.strerror}") from None
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            made.setblocking(False)
            self._listener = made
        else:
            self._peer = made

    def _listen_unix(self) -> socket.socket:
        path = self.address[1]
        made = _unix_socket(path)
        try:
            _remove_dead(path)
            if sys.platform == "linux":
                os.fchmod(made.fileno(), 0o600)  # bind makes the inode with this mode: no umask that others would see
            made.bind(path)
            facts = os.lstat(path)
            self._inode = (facts.st_dev, facts.st_ino)
            made.listen(1)
        except OSError as error:
            made.close()
            raise GenericError(f"Failed to bind socket to {path}: {error.strerror}") from None
        except BaseException:
            made.close()
            raise
        return made

    def _listen_inet(self) -> socket.socket:
        host, port = self.address[1], self.address[2]
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            made = socket.socket(family, kind, proto)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise GenericError(f"address resolution failed for {host}:{port}: {reason}") from None
        try:
            if sys.platform != "win32":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(1)
        except (OSError, OverflowError) as error:
            made.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise GenericError(f"Failed to bind socket to {host}:{port}: {reason}") from None
        return made

    def _connect(self) -> socket.socket:
        where = ":".join(self.address[1:])
        try:
            if self.address[0] == "unix":
                made = _unix_socket(self.address[1])
                made.settimeout(CONNECT_TIMEOUT)
                try:
                    made.connect(self.address[1])
                except BaseException:
                    made.close()
                    raise
                return made
            return socket.create_connection((self.address[1], int(self.address[2])), CONNECT_TIMEOUT)
        except (OSError, ValueError, OverflowError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise GenericError(f"Failed to connect to '{where}': {reason}") from None

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


def _parse_address(addr: Any) -> tuple[str, ...]:
    """QMP's SocketAddressLegacy ({type, data}) or SocketAddress (flat) as the tuple of the class's docstring."""
    if not isinstance(addr, Mapping):
        raise GenericError("Parameter 'addr' is missing" if addr is None else "Invalid parameter type for 'addr'")
    kind = str_option(addr, "type")
    data = addr.get("data", addr)
    if not isinstance(data, Mapping):
        raise GenericError("Invalid parameter type for 'addr.data', expected: object")
    if kind == "unix":
        return ("unix", str_option(data, "path"))
    if kind == "inet":
        return ("inet", str_option(data, "host"), str_option(data, "port"))
    if kind == "fd":
        number = str_option(data, "str")
        if not number.isdecimal():
            raise GenericError(f"File descriptor named '{number}' has not been found")
        return ("fd", number)
    raise GenericError(f"Parameter 'type' does not accept value '{kind}'")


def _unix_socket(path: str) -> socket.socket:
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise GenericError("UNIX sockets need a POSIX host")
    if len(os.fsencode(path)) >= _PATH_MAX:
        raise GenericError(f"UNIX socket path '{path}' is too long")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _remove_dead(path: str) -> None:
    """Removes a socket of ours where nobody listens; anything else that is there stays, and bind will say so."""
    if sys.platform == "win32":
        return
    try:
        facts = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.geteuid():
        return
    with _unix_socket(path) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink()


def _host_port(address: Any) -> str:
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    return f"{host}:{address[1]}"

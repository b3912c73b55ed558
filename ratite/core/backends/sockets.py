"""Stream sockets for backends: addresses as QMP gives them, listening, connecting, taking over.

A UNIX path that exists is replaced only if it is a socket of our uid where nobody listens; only our own inode is removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ratite.core.backends.chardev import bool_option, int_option, str_option
from ratite.core.hostfiles import FREE, NET, HostFiles
from ratite.qapi.errors import GenericError

CONNECT_TIMEOUT = 3.0  # host seconds
# Clients that may wait to be accepted: some of them never wait for a place.
BACKLOG = 128
_PATH_MAX = 108  # bytes of sockaddr_un
_IPPROTO_MPTCP = 262

Inode = tuple[int, int]


class Address(NamedTuple):
    """Where a socket is: `kind` is "unix" (`place`: its path or abstract name), "inet" (host, `port`) or "fd" (number, and the
    `name` by which a client passed it)."""

    kind: str
    place: str
    port: str = ""
    abstract: bool = False
    tight: bool = True
    numeric: bool = False
    to: int = 0
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool = False
    mptcp: bool = False
    name: str = ""

    def __str__(self) -> str:
        return f"{self.place}:{self.port}" if self.kind == "inet" else self.place

    @property
    def family(self) -> int:
        """The family of addresses that may be used; GenericError."""
        if self.ipv4 is False and self.ipv6 is False:
            raise GenericError("Cannot disable IPv4 and IPv6 at same time")
        if self.ipv4 and self.ipv6:
            return socket.AF_UNSPEC
        if self.ipv6 or self.ipv4 is False:
            return socket.AF_INET6
        return socket.AF_INET if self.ipv4 or self.ipv6 is False else socket.AF_UNSPEC


def parse_address(addr: Any) -> Address:
    """QMP's SocketAddressLegacy ({type, data}) or SocketAddress (flat)."""
    if not isinstance(addr, Mapping):
        raise GenericError("Parameter 'addr' is missing" if addr is None else "Invalid parameter type for 'addr'")
    kind = str_option(addr, "type")
    data = addr.get("data", addr)
    if not isinstance(data, Mapping):
        raise GenericError("Invalid parameter type for 'addr.data', expected: object")
    if kind == "unix":
        abstract, tight = bool_option(data, "abstract", False), bool_option(data, "tight", True)
        return Address("unix", str_option(data, "path"), abstract=abstract, tight=tight)
    if kind == "inet":
        return _inet_address(data)
    if kind == "fd":
        number = str_option(data, "str")
        if not number.isdecimal():
            raise GenericError(f"File descriptor named '{number}' has not been found")
        return Address("fd", number, name=data.get("name", number))
    raise GenericError(f"Parameter 'type' does not accept value '{kind}'")


def _inet_address(data: Mapping[str, Any]) -> Address:
    made = Address(
        "inet", str_option(data, "host"), str_option(data, "port"), numeric=bool_option(data, "numeric", False),
        to=int_option(data, "to", 0), keep_alive=bool_option(data, "keep-alive", False),
        ipv4=bool_option(data, "ipv4", False) if "ipv4" in data else None,
        ipv6=bool_option(data, "ipv6", False) if "ipv6" in data else None, mptcp=bool_option(data, "mptcp", False),
    )  # fmt: skip
    _ = made.family  # complains
    return made


def adopt(fd: int, name: str, datagrams: bool | None = None) -> tuple[socket.socket, bool]:
    """The socket behind a descriptor, which has it from now on, and whether it listens.

    `name`: what its client calls it.  `datagrams`: whether it must be one for them, or must not.  GenericError, and the
    descriptor stays the caller's.
    """
    made: socket.socket | None = None
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise GenericError(f"File descriptor '{name}' is not a socket")
        made = socket.socket(fileno=fd)
        if datagrams is not None and datagrams is not (made.type == socket.SOCK_DGRAM):
            raise GenericError(f"File descriptor '{name}' is {'not ' if datagrams else ''}a datagram socket")
        listens = bool(made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if listens:
            made.setblocking(False)
    except (OSError, GenericError) as error:
        if made is not None:
            made.detach()
        if isinstance(error, OSError):
            raise GenericError(f"File descriptor '{name}' can't be used: {error.strerror}") from None
        raise
    return made, listens


def send_at_once(peer: socket.socket) -> None:
    """Small pieces don't wait for more to come; of no effect but on TCP, and a client may hand over anything."""
    if peer.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def listen(address: Address, files: HostFiles = FREE) -> tuple[socket.socket, Inode | None]:
    """A listening socket, not blocking, and its inode where it has one."""
    inode: Inode | None = None
    if address.kind == "unix" and not address.abstract:
        made, inode = _bound_unix(unix_socket(address.place), address.place, files, f"Failed to bind socket to {address.place}")
    else:
        # Abstract names are the network's: no directory holds them.
        files.need(NET, f"a socket at {address}")
        made = _listen_abstract(address) if address.kind == "unix" else _listen_inet(address)
    made.setblocking(False)
    return made, inode


def _listen_abstract(address: Address) -> socket.socket:
    made = unix_socket(address.place)
    try:
        made.bind(_abstract(address))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise GenericError(f"Failed to bind socket to {address.place}: {error.strerror}") from None
    return made


def _abstract(address: Address) -> bytes:
    if sys.platform != "linux":
        raise GenericError("abstract UNIX sockets need a Linux host")
    name = b"\0" + os.fsencode(address.place)
    if len(name) > _PATH_MAX:
        raise GenericError(f"UNIX socket path '{address.place}' is too long")
    return name if address.tight else name.ljust(_PATH_MAX, b"\0")


def _bound_unix(made: socket.socket, path: str, files: HostFiles, failure: str) -> tuple[socket.socket, Inode]:
    """`made` at a path, and its inode there; GenericError that begins with `failure`, and it is closed."""
    try:
        with files.place(path, make=True) as place:
            return made, _bind(made, place)
    except OSError as error:
        made.close()
        raise GenericError(f"{failure}: {error.strerror}") from None
    except BaseException:
        made.close()
        raise


def _bind(made: socket.socket, place: str) -> Inode:
    _remove_dead(place, made.type)
    if sys.platform == "linux":
        os.fchmod(made.fileno(), 0o600)  # bind makes the inode with this mode: no umask that others would see
    made.bind(place)
    facts = os.lstat(place)
    if made.type == socket.SOCK_STREAM:
        made.listen(BACKLOG)
    return facts.st_dev, facts.st_ino


def datagrams(remote: Address, local: Address | None, files: HostFiles = FREE) -> socket.socket:
    """A UDP socket, not blocking, that sends to `remote`, hears it alone, and is bound to `local`; GenericError."""
    files.need(NET, f"a socket to {remote}")
    family, _, proto, _, found = _resolve(remote, kind=socket.SOCK_DGRAM)[0]
    own = None if local is None else _resolve(local, socket.AI_PASSIVE, socket.SOCK_DGRAM, family)[0][4]
    made = socket.socket(family, socket.SOCK_DGRAM, proto)
    try:
        if own is not None:
            made.bind(own)
        made.connect(found)
    except (OSError, OverflowError) as error:
        made.close()
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise GenericError(f"Failed to bind socket to {local} for {remote}: {reason}") from None
    made.setblocking(False)
    return made


def datagrams_between(local: Address, remote: Address, files: HostFiles = FREE) -> tuple[socket.socket, Any]:
    """A UDP socket bound to `local`, and where `remote` is; GenericError."""
    files.need(NET, f"a socket at {local}")
    family, _, proto, _, own = _resolve(local, socket.AI_PASSIVE, socket.SOCK_DGRAM)[0]
    to = _resolve(remote, kind=socket.SOCK_DGRAM, family=family)[0][4]
    made = socket.socket(family, socket.SOCK_DGRAM, proto)
    try:
        made.bind(own)
    except (OSError, OverflowError) as error:
        made.close()
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise GenericError(f"can't bind ip={local.place} to socket: {reason}") from None
    return made, to


def bind_datagrams(path: str, files: HostFiles = FREE) -> tuple[socket.socket, Inode]:
    """A UNIX socket for datagrams at a path, and its inode; GenericError."""
    return _bound_unix(unix_socket(path, datagrams=True), path, files, f"can't bind unix={path} to socket")


def _resolve(address: Address, flags: int = 0, kind: int = socket.SOCK_STREAM, family: int | None = None) -> list[Any]:
    """What getaddrinfo finds; GenericError."""
    family = address.family if family is None else family
    if address.numeric:
        flags |= socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        return socket.getaddrinfo(address.place or None, address.port, family, kind, 0, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"address resolution failed for {address}: {reason}") from None


def _inet_socket(address: Address, family: int, proto: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, _IPPROTO_MPTCP if address.mptcp else proto)
    if address.keep_alive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made


def _listen_inet(address: Address) -> socket.socket:
    if address.keep_alive:
        raise GenericError("keep-alive option is not supported for passive sockets")
    family, _, proto, _, found = _resolve(address, socket.AI_PASSIVE)[0]
    first = found[1]
    if address.to and not first <= address.to <= 65535:
        raise GenericError(f"Parameter 'to' must be from {first} to 65535, not {address.to}")
    reason = ""
    for port in range(first, max(address.to, first) + 1):
        made: socket.socket | None = None
        try:
            made = _inet_socket(address, family, proto)
            if sys.platform != "win32":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((found[0], port, *found[2:]))
            made.listen(BACKLOG)
            return made
        except (OSError, OverflowError) as error:
            if made is not None:
                made.close()
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
    raise GenericError(f"Failed to bind socket to {address}: {reason}")


def connect(address: Address, files: HostFiles = FREE) -> socket.socket:
    """A connected socket; waits at most CONNECT_TIMEOUT for each address that the host's name has."""
    if address.kind == "unix":
        return _connect_unix(address, files)
    files.need(NET, f"a socket to {address}")
    reason = "no address"
    for family, _, proto, _, found in _resolve(address):
        made: socket.socket | None = None
        try:
            made = _inet_socket(address, family, proto)
            made.settimeout(CONNECT_TIMEOUT)
            made.connect(found)
            return made
        except (OSError, OverflowError) as error:
            if made is not None:
                made.close()
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
    raise GenericError(f"Failed to connect to '{address}': {reason}")


def _connect_unix(address: Address, files: HostFiles) -> socket.socket:
    made = unix_socket(address.place)
    try:
        made.settimeout(CONNECT_TIMEOUT)
        if address.abstract:
            files.need(NET, f"a socket to {address}")
            made.connect(_abstract(address))
        else:
            with files.place(address.place, make=False) as place:
                made.connect(place)
    except (OSError, ValueError) as error:
        made.close()
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise GenericError(f"Failed to connect to '{address}': {reason}") from None
    except BaseException:
        made.close()
        raise
    return made


def unix_socket(path: str, datagrams: bool = False) -> socket.socket:
    """A fresh UNIX socket for `path`, which it isn't bound to yet."""
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise GenericError("UNIX sockets need a POSIX host")
    if len(os.fsencode(path)) >= _PATH_MAX:
        raise GenericError(f"UNIX socket path '{path}' is too long")
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)


def _remove_dead(path: str, kind: int) -> None:
    """Removes a socket of ours where nobody listens; anything else that is there stays, and bind will say so."""
    if sys.platform == "win32":
        return
    try:
        facts = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.geteuid():
        return
    with unix_socket(path, kind == socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)  # no pathlib: it takes a twentieth of a start


def host_port(address: Any) -> str:
    """"host:port" of a socket's address, "" for others."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    return f"{host}:{address[1]}"

"""Stream sockets for backends: addresses as QMP gives them, listening, connecting, taking over.

A UNIX path that exists is replaced only if it is a socket of our uid where nobody listens; only our own inode is removed.
An address is ("unix", path), ("inet", host, port) or ("fd", number).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ratite.core.backends.chardev import str_option
from ratite.core.hostfiles import FREE, NET, HostFiles
from ratite.qapi.errors import GenericError

CONNECT_TIMEOUT = 3.0  # host seconds
_PATH_MAX = 108  # bytes of sockaddr_un

Inode = tuple[int, int]


def parse_address(addr: Any) -> tuple[str, ...]:
    """QMP's SocketAddressLegacy ({type, data}) or SocketAddress (flat) as the tuple of the module's docstring."""
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


def adopt(fd: int) -> tuple[socket.socket, bool]:
    """The socket behind a descriptor, which is the caller's from now on, and whether it listens."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise GenericError(f"File descriptor '{fd}' is not a socket")
        made = socket.socket(fileno=fd)
    except OSError as error:
        raise GenericError(f"File descriptor '{fd}' can't be used: {error.strerror}") from None
    listens = bool(made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if listens:
        made.setblocking(False)
    return made, listens


def listen(address: tuple[str, ...], files: HostFiles = FREE) -> tuple[socket.socket, Inode | None]:
    """A listening socket, not blocking, and its inode where it has one."""
    if address[0] == "unix":
        made, inode = _listen_unix(address[1], files)
    else:
        files.need(NET, f"a socket at {address[1]}:{address[2]}")
        made, inode = _listen_inet(address[1], address[2]), None
    made.setblocking(False)
    return made, inode


def _listen_unix(path: str, files: HostFiles) -> tuple[socket.socket, Inode]:
    made = unix_socket(path)
    try:
        with files.place(path, make=True) as place:
            return made, _bind(made, place)
    except OSError as error:
        made.close()
        raise GenericError(f"Failed to bind socket to {path}: {error.strerror}") from None
    except BaseException:
        made.close()
        raise


def _bind(made: socket.socket, place: str) -> Inode:
    _remove_dead(place)
    if sys.platform == "linux":
        os.fchmod(made.fileno(), 0o600)  # bind makes the inode with this mode: no umask that others would see
    made.bind(place)
    facts = os.lstat(place)
    made.listen(1)
    return facts.st_dev, facts.st_ino


def _listen_inet(host: str, port: str) -> socket.socket:
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


def connect(address: tuple[str, ...], files: HostFiles = FREE) -> socket.socket:
    """A connected socket; waits at most CONNECT_TIMEOUT."""
    where = ":".join(address[1:])
    try:
        if address[0] == "unix":
            made = unix_socket(address[1])
            made.settimeout(CONNECT_TIMEOUT)
            try:
                with files.place(address[1], make=False) as place:
                    made.connect(place)
            except BaseException:
                made.close()
                raise
            return made
        files.need(NET, f"a socket to {where}")
        return socket.create_connection((address[1], int(address[2])), CONNECT_TIMEOUT)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise GenericError(f"Failed to connect to '{where}': {reason}") from None


def unix_socket(path: str) -> socket.socket:
    """A fresh UNIX socket for `path`, which it isn't bound to yet."""
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
    with unix_socket(path) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink()


def host_port(address: Any) -> str:
    """"host:port" of a socket's address, "" for others."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    return f"{host}:{address[1]}"

"""Who may come in: checked for every request and every upgrade, before anything else of it is looked at.

    UNIX socket   its mode is the check; a browser's request (one with an Origin) is refused
    TCP           Host must name us (against DNS rebinding); an Origin must be ours; then a bearer token, or what a door
                  that the page adds says

The token comes from a file that only its owner can read, is compared in constant time, and stands in no message.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiohttp.web import Request

TOKEN_MIN = 16
TOKEN_MAX = 4096
_PORT = re.compile("[0-9]{1,5}")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

Door = Callable[["Request"], bool]


class GateError(Exception):
    """The gate can't be set up; the text says why."""


class Refused(Exception):
    """A request doesn't come in: `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_token(path: str) -> bytes:
    """The token in a file: its first line.  GateError."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise GateError(f"token file {path!r}: {error.strerror}") from None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or stat.S_IMODE(facts.st_mode) & 0o077:
            raise GateError(f"token file {path!r} must be a regular file that only its owner can read (chmod 600)")
        if hasattr(os, "getuid") and facts.st_uid not in (os.getuid(), 0):
            raise GateError(f"token file {path!r} must be ours or root's, it belongs to user {facts.st_uid}")
        token = os.read(fd, TOKEN_MAX + 2).split(b"\n")[0].strip()
    finally:
        os.close(fd)
    if not TOKEN_MIN <= len(token) <= TOKEN_MAX or not token.isascii() or b" " in token:
        raise GateError(f"token file {path!r}: its first line must be {TOKEN_MIN} to {TOKEN_MAX} ASCII letters without blanks")
    return token


class Gate:
    """See the module's head.  `names` are further names of this host; `doors` let in what has no token."""

    def __init__(self, token_file: str | None = None, names: Iterable[str] = ()) -> None:
        self._path = token_file
        self._names = frozenset(name.lower() for name in names)
        self._token = b"" if token_file is None else read_token(token_file)
        self._doors: list[Door] = []

    @property
    def has_token(self) -> bool:
        """Whether TCP clients can come in at all."""
        return bool(self._token)

    def reload(self) -> None:
        """Read the token file again; GateError, and the old token stays."""
        if self._path is not None:
            self._token = read_token(self._path)

    def add(self, door: Door) -> None:
        """Let in who `door(request)` says, too; Host and Origin are checked before."""
        self._doors.append(door)

    def check(self, request: Request) -> None:
        """Refused, unless the request may come in."""
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise Refused(403, "a request of another site")
        sock = None if request.transport is None else request.transport.get_extra_info("socket")
        if sock is None:
            # It has gone already, and nobody knows any more where it came from.
            raise Refused(403, "the connection is gone")
        if sock.family == getattr(socket, "AF_UNIX", None):
            if origin is not None:
                raise Refused(403, "no browser has business at this socket")
            return
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise Refused(403, "not over this kind of socket")
        host = request.headers.get("Host", "")
        if not self._is_ours(host, sock.getsockname()):
            raise Refused(403, "Host must name this server")
        if origin is not None and not _same_origin(origin, host, request.secure):
            raise Refused(403, "Origin must be this server")
        if not (self._has_token(request) or any(door(request) for door in self._doors)):
            raise Refused(401, "a bearer token is needed")

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._token:
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)

    def _is_ours(self, host: str, address: tuple[str, int]) -> bool:
        name, _, port = host.lower().rpartition(":")
        if not _PORT.fullmatch(port) or (name.startswith("[") and not name.endswith("]")):
            name, port = host.lower(), ""
        if port and int(port) != address[1]:
            return False
        if name in self._names:
            return True
        local = ipaddress.ip_address(address[0].partition("%")[0])
        # IPv4 that came to a socket of IPv6.
        local = getattr(local, "ipv4_mapped", None) or local
        if local.is_loopback and name in _LOOPBACK_NAMES:
            return True
        return name == (f"[{local}]" if local.version == 6 else str(local))


def _same_origin(origin: str, host: str, secure: bool) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == ("https" if secure else "http") and parts.netloc.lower() == host.lower() and not parts.path


def is_loopback(address: object) -> bool:
    """Whether a socket's own address can be reached from this host alone."""
    if not isinstance(address, tuple):
        return True
    return ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback

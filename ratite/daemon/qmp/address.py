"""Addresses that monitors are served at, and the sockets for them.

    unix:PATH | tcp:HOST:PORT | fd:N   [,server=on|off] [,wait=off]

A UNIX socket is made under umask 0177.  What is at its path already is replaced only if it is a
socket of our own user at which nobody listens; at the end only the very inode that we made is removed.
"""

from __future__ import annotations

import os
import socket
import stat
import sys


class AddressError(Exception):
    """An address is wrong or can't be used; the text names it and says why."""


class Address:
    """A parsed address."""

    __slots__ = ("kind", "place", "port", "server", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        head, *options = text.split(",")
        self.server = True
        for option in options:
            key, _, value = option.partition("=")
            if key not in ("server", "wait") or value not in ("", "on", "off"):
                raise AddressError(f"address {text!r}: {option!r} is no option of an address")
            if key == "server":
                self.server = value != "off"
        kind, separator, place = head.partition(":")
        if not separator:
            kind, separator, place = head.partition("=")
        self.kind = kind
        self.place = place
        self.port = 0
        if kind not in ("unix", "tcp", "fd") or not place:
            raise AddressError(f"address {text!r} must be unix:PATH, tcp:HOST:PORT or fd:N")
        if kind == "tcp":
            self.place, _, port = place.rpartition(":")
            self.place = self.place.strip("[]")
            self.port = _number(port, text, 65535)
        elif kind == "fd":
            self.port = _number(place, text, 1 << 20)


def _number(digits: str, text: str, limit: int) -> int:
    if not digits.isdecimal() or int(digits) > limit:
        raise AddressError(f"address {text!r}: {digits!r} must be a number from 0 to {limit}")
    return int(digits)


class Endpoint:
    """The socket of an address: `sock` listens, or is connected if the address isn't a server's."""

    __slots__ = ("address", "inode", "path", "sock")

    def __init__(self, address: Address, sock: socket.socket, inode: tuple[int, int] | None) -> None:
        self.address = address
        self.sock = sock
        self.inode = inode
        # Where it is, also when the process has gone into another folder.
        self.path = os.path.abspath(address.place)
        sock.setblocking(False)

    def remove(self) -> None:
        """Close a listening socket and remove its path, if it is still ours."""
        self.sock.close()
        if self.inode is None:
            return
        try:
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == self.inode:
                os.unlink(self.path)
        except OSError:
            pass


def open_endpoint(text: str) -> Endpoint:
    """The socket for an address, listening or connected.  AddressError."""
    address = Address(text)
    try:
        if address.kind == "fd":
            sock = socket.socket(fileno=address.port)
            return Endpoint(address, sock, None)
        if address.server:
            return _listen(address)
        family, place = _place(address)
        sock = socket.socket(family)
        sock.connect(place)
        return Endpoint(address, sock, None)
    except OSError as error:
        raise AddressError(f"address {text!r}: {error.strerror or error}") from None


def _place(address: Address) -> tuple[int, str | tuple[str, int]]:
    if address.kind == "unix":
        if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
            raise AddressError(f"address {address.text!r}: this host has no UNIX sockets")
        return socket.AF_UNIX, address.place
    family = socket.AF_INET6 if ":" in address.place else socket.AF_INET
    return family, (address.place or "127.0.0.1", address.port)


def _listen(address: Address) -> Endpoint:
    family, place = _place(address)
    sock = socket.socket(family)
    try:
        if address.kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            inode = None
        else:
            _remove_dead(address)
            mask = os.umask(0o177)
            try:
                sock.bind(place)
            finally:
                os.umask(mask)
            status = os.lstat(address.place)
            inode = (status.st_dev, status.st_ino)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return Endpoint(address, sock, inode)


def _remove_dead(address: Address) -> None:
    """Remove a socket of ours that nobody listens at; AddressError for anything else that is there."""
    try:
        status = os.lstat(address.place)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise AddressError(f"address {address.text!r}: the path exists and is no socket")
    if sys.platform != "win32" and status.st_uid != os.getuid():
        raise AddressError(f"address {address.text!r}: the socket belongs to user {status.st_uid}, not to us")
    with socket.socket(_place(address)[0]) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address.place)
        except ConnectionRefusedError:
            os.unlink(address.place)
            return
        except OSError as error:
            raise AddressError(f"address {address.text!r}: {error.strerror or error}") from None
    raise AddressError(f"address {address.text!r}: another process listens there")

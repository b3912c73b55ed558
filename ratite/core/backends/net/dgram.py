"""The netdev `dgram`: a frame is a datagram, of UDP or of a UNIX socket.  Nobody knows whether somebody is there.

Where `remote` is a multicast group (IPv4), everybody in it hears everybody; `local` then says by which interface.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends import sockets
from ratite.core.backends.net.frames import FrameNetdev
from ratite.core.hostfiles import NET, unlink_own
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet


class DgramNetdev(FrameNetdev):
    """Frames as datagrams from `local` to `remote`."""

    TYPE: ClassVar[str] = "netdev-dgram"

    def __init__(self, id: str, owner: NetdevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner)
        if options.get("local", {}).get("type") == "fd" and "remote" in options:
            raise GenericError("don't set remote with local.fd")
        local, remote = (
            sockets.parse_address(options[name]) if name in options else None for name in ("local", "remote")
        )
        self._group = _group_of(remote)
        if local is None and self._group is None:
            raise GenericError("dgram requires local= parameter")
        if remote is None and (local is None or local.kind != "fd"):
            raise GenericError("type=inet or type=unix requires remote parameter")
        if local is not None and remote is not None and local.kind != remote.kind:
            raise GenericError("remote and local types must be the same")
        self._local, self._remote = local, remote
        self._socket: socket.socket | None = None
        self._to: Any = None
        self._inode: sockets.Inode | None = None

    @property
    def actual_address(self) -> str:
        """"host:port" at which it hears (a port 0 was replaced), or the path."""
        if self._socket is None or (self._local is not None and self._local.kind == "unix"):
            return "" if self._local is None else self._local.place
        return sockets.host_port(self._socket.getsockname())

    def open(self) -> None:
        if self._local is not None and self._local.kind == "fd":
            self._socket, _ = sockets.adopt(int(self._local.place), self._local.name, datagrams=True)
        elif self._group is not None and self._remote is not None:
            self._socket = self._join(self._group, int(self._remote.port))
            self._to = (self._group, int(self._remote.port))
        elif self._local is not None and self._local.kind == "unix":
            self._open_unix(self._local)
        elif self._local is not None and self._remote is not None:
            self._socket, self._to = sockets.datagrams_between(self._local, self._remote, self.owner.files)
        assert self._socket is not None
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()
        self.owner.io.add(self)

    def _open_unix(self, local: sockets.Address) -> None:
        assert self._remote is not None
        if local.abstract or self._remote.abstract:
            raise GenericError("abstract UNIX sockets are for streams only")
        self._socket, self._inode = sockets.bind_datagrams(local.place, self.owner.files)
        self._to = self._remote.place

    def _join(self, group: str, port: int) -> socket.socket:
        """A socket in a multicast group; what we send comes back to others on this host."""
        self.owner.files.need(NET, f"a socket at {group}:{port}")
        host = self._local.place if self._local is not None and self._local.kind == "inet" else "0.0.0.0"
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((group, port))
            request = socket.inet_aton(group) + socket.inet_aton(host)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            if host != "0.0.0.0":
                made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
        except (OSError, OverflowError) as error:
            made.close()
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise GenericError(f"can't add socket to multicast group {group}: {reason}") from None
        return made

    def close(self) -> None:
        if self._local is not None:
            unlink_own(self.owner.files, self._local.place, self._inode)
        super().close()

    def _write_frame(self, frame: bytes) -> None:
        assert self._socket is not None
        if self._to is None:
            self._socket.send(frame)
        else:
            # A path is looked up in the directories that the machine may use.
            with suppress(FileNotFoundError):
                if isinstance(self._to, str):
                    with self.owner.files.place(self._to, make=False) as place:
                        self._socket.sendto(frame, place)
                else:
                    self._socket.sendto(frame, self._to)

    def _close_fd(self, fd: int) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _group_of(remote: sockets.Address | None) -> str | None:
    """The IPv4 multicast group that an address means."""
    with suppress(ValueError):
        if remote is not None and remote.kind == "inet" and remote.port.isdecimal():
            address = ipaddress.IPv4Address(remote.place)
            return str(address) if address.is_multicast else None
    return None

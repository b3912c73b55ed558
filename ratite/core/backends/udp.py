"""The chardev `udp`: each write is a datagram, as is each piece of input.  Nobody knows whether somebody is there."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends import sockets
from ratite.core.backends.stream import StreamChardev
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet


class UdpChardev(StreamChardev):
    """Datagrams to `remote`, from there to `local` (default: a port of the host's choice)."""

    TYPE: ClassVar[str] = "chardev-udp"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"remote", "local"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self._remote = sockets.parse_address(options.get("remote"))
        self._local = sockets.parse_address(options["local"]) if options.get("local") is not None else None
        for address in (self._remote, self._local):
            if address is not None and address.kind != "inet":
                raise GenericError(f"Chardev '{id}': an address of backend 'udp' must be 'inet', not '{address.kind}'")
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self._socket = sockets.datagrams(self._remote, self._local, self.owner.files)
        fd = self._socket.fileno()
        self._read_fd = self._write_fd = fd
        self.connected_event.set()
        self.io.add(self)

    def read_peer(self, size: int) -> bytes:
        assert self._socket is not None
        while True:
            try:
                data = self._socket.recv(size)
            except ConnectionError:
                continue  # nobody was there for what we sent
            if data:
                return data

    def peer_left(self) -> None:
        """What was to be sent was refused, or nobody was there: that is all there is to know."""
        with self.mutex:
            self._out.clear()
            refused, self._refused = self._refused, False
        if refused:
            self._tell("")

    def hang_up(self) -> None:
        """There is nothing to hang up."""

    def close_fd(self, fd: int) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

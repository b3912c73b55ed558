"""Block nodes for others: the NBD server of a machine, and its exports (nbd-server-start, block-export-add).

The listening socket and the connections are handlers of the IO thread; the protocol (nbd.py) and the nodes are under the
machine lock.  A connection reads no more while its client is `full`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratite.core.backends import sockets
from ratite.core.backends.block.nbd import NbdClient
from ratite.core.backends.block.node import BlockNode, User
from ratite.core.backends.io import READ, WRITE, received
from ratite.core.hostfiles import unlink_own
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.machine import Machine

NAME_MAX = 4096
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_PIECE = 1 << 18  # bytes read or sent at once
HANDSHAKE_S, CONNECTIONS = 10, 100


class Export:
    """One node, as clients see it."""

    def __init__(self, id: str, node: BlockNode, options: Mapping[str, Any]) -> None:
        self.id = id
        self.node = node
        self.name: str = options.get("name", node.id)
        self.description: str = options.get("description", "")
        self.writable: bool = options.get("writable", False)
        self.writethrough: bool = options.get("writethrough", False)
        self.clients: set[NbdClient] = set()

    def take(self) -> None:
        """Use the node; GenericError."""
        text = f"block export '{self.id}' (uses node '{self.node.id}' as 'root' child)"
        self.node.use(self, User(text, self.writable, True))

    def drive_resized(self) -> None:
        """Clients have been told a size, and go on with it: what lies beyond is an error."""

    def drive_replaced(self, other: BlockNode) -> None:
        """Another node stands in the node's place: a copy of it."""
        self.node.release(self)
        self.node = other
        self.take()


class Connection(NbdClient):
    """A client's socket."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(server.exports)
        self._server = server
        self._sock = sock
        self._until = time.monotonic() + server.handshake if server.handshake else None

    def answered(self) -> None:
        self._server.io.wake()

    def hang_up(self) -> None:
        """No more of it.  Any thread, under the machine lock."""
        if self in self._server.connections:
            self._server.connections.discard(self)
            self.close()
            self._server.io.remove(self, self._sock.close)
            self._server.io.wake()

    # -- the IO thread's side

    def interests(self) -> dict[int, int]:
        events = (0 if self.full or self.over else READ) | (WRITE if self.out else 0)
        return {self._sock.fileno(): events} if events else {}

    def ready(self, fd: int, events: int) -> None:
        with self._server.lock:
            if events & READ and not self.over:
                data = received(lambda: self._sock.recv(_PIECE))
                if data:
                    self.received(data)
                elif data == b"":
                    self.over = True
            if self.out and not self._send():
                self.out.clear()
                self.over = True
            self.go_on()
            if self.over and not self.out:
                self.hang_up()

    def _send(self) -> bool:
        try:
            del self.out[: self._sock.send(memoryview(bytes(self.out[:_PIECE])))]
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return True

    def poll_after(self) -> float | None:
        if self._until is None or self.export is not None:
            return None
        return max(self._until - time.monotonic(), 0.0)

    def poll(self) -> None:
        if self._until is not None and self.export is None and time.monotonic() >= self._until:
            with self._server.lock:
                self.hang_up()


class Server:
    """A listening socket, and who came."""

    def __init__(self, machine: Machine, exports: Mapping[str, Export], options: Mapping[str, Any]) -> None:
        self.lock, self.io = machine.lock, machine.chardevs.io
        self.exports = exports
        self.handshake: int = options.get("handshake-max-seconds", HANDSHAKE_S)
        self.connections: set[Connection] = set()
        self._most: int = options.get("max-connections", CONNECTIONS)
        self._address = sockets.parse_address(options["addr"])
        self._files = machine.files
        self._inode: sockets.Inode | None = None
        if self._address.kind == "fd":
            self._sock, listens = sockets.adopt(int(self._address.place), self._address.name, datagrams=False)
            if not listens:
                self._sock.detach()
                raise GenericError(f"File descriptor '{self._address.name}' is not a listening socket")
        else:
            self._sock, self._inode = sockets.listen(self._address, machine.files)
        self.io.add(self)

    def close(self) -> None:
        """Nobody is served any more.  Under the machine lock."""
        for connection in tuple(self.connections):
            connection.hang_up()
        self.io.remove(self, self._sock.close)
        if self._inode is not None:
            unlink_own(self._files, self._address.place, self._inode)

    # -- the IO thread's side

    def interests(self) -> dict[int, int]:
        full = self._most and len(self.connections) >= self._most
        return {} if full else {self._sock.fileno(): READ}

    def ready(self, fd: int, events: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        sock.setblocking(False)
        with suppress(OSError):
            sockets.send_at_once(sock)
        with self.lock:
            made = Connection(self, sock)
            self.connections.add(made)
            self.io.add(made)

    def poll_after(self) -> float | None:
        return None

    def poll(self) -> None:
        """Nothing to do from time to time."""


class Exports:
    """The exports of a machine by id, and its server.  On the owner's side."""

    def __init__(self, machine: Machine, emit: Callable[[str, dict[str, Any]], None]) -> None:
        self._machine = machine
        self._emit = emit
        self._exports: dict[str, Export] = {}
        self._by_name: dict[str, Export] = {}
        self._server: Server | None = None

    def start(self, options: Mapping[str, Any]) -> None:
        """nbd-server-start; GenericError."""
        if self._server is not None:
            raise GenericError("NBD server already running")
        self._server = Server(self._machine, self._by_name, options)

    def stop(self) -> None:
        """nbd-server-stop: the exports go, too; GenericError."""
        if self._server is None:
            raise GenericError("NBD server not running")
        server, self._server = self._server, None
        server.close()
        for id in tuple(self._exports):
            self._drop(id)

    def add(self, options: Mapping[str, Any]) -> None:
        """block-export-add; GenericError."""
        id, name = options["id"], options["node-name"]
        if not _ID.fullmatch(id):
            raise GenericError("Invalid block export id")
        if id in self._exports:
            raise GenericError(f"Block export id '{id}' is already in use")
        node = self._machine.blocks.find(name, f"Cannot find device='' nor node-name='{name}'")
        if self._server is None:
            raise GenericError("NBD server not running")
        made = Export(id, node, options)
        for what, text in ("name", made.name), ("description", made.description):
            if len(text.encode()) > NAME_MAX:
                raise GenericError(f"export {what} '{text}' too long")
        if made.name in self._by_name:
            raise GenericError(f"NBD server already has export named '{made.name}'")
        if made.writable and node.read_only:
            raise GenericError("Cannot export read-only node as writable")
        made.take()
        self._exports[id] = self._by_name[made.name] = made

    def remove(self, id: str, hard: bool) -> None:
        """block-export-del; GenericError."""
        found = self._exports.get(id)
        if found is None:
            raise GenericError(f"Export '{id}' is not found")
        if found.clients and not hard:
            raise GenericError(f"export '{id}' still in use")
        for client in tuple(found.clients):
            assert isinstance(client, Connection), "who else has clients"
            client.hang_up()
        self._drop(id)

    def _drop(self, id: str) -> None:
        found = self._exports.pop(id)
        del self._by_name[found.name]
        found.node.release(found)
        self._emit("BLOCK_EXPORT_DELETED", {"id": id})

    def rows(self) -> list[dict[str, Any]]:
        """query-block-exports, the newest first."""
        return [
            {"id": each.id, "type": "nbd", "node-name": each.node.id, "shutting-down": False}
            for each in reversed(self._exports.values())
        ]

    def close(self) -> None:
        """The machine goes."""
        if self._server is not None:
            self.stop()

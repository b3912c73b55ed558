"""The netdevs `stream` and `socket`: frames over a stream socket, each behind its length (4 bytes, big-endian), as QEMU's.

    server   listening ──accept──> connected ──(peer gone)──> listening
    client   connecting ──> connected ──(peer gone)──> disconnected

One peer at a time.  What the guest sends is written at once as far as the socket takes it, by whoever flushes; the rest and
all input are the IO thread's.  A peer that announces a frame of more than FRAME_MAX bytes is sent away.

With `reconnect-ms` a client connects again and again.  Left out: TLS, vsock.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, ClassVar

from ratite.core import log
from ratite.core.backends import sockets
from ratite.core.backends.dialer import Dialer
from ratite.core.backends.io import READ, WRITE, received
from ratite.core.backends.net.netdev import FRAME_MAX, HostNetdev
from ratite.core.hostfiles import unlink_own

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet

CHUNK = 1 << 17  # bytes of one read
BUFFER = 1 << 18  # bytes that wait to be sent


class StreamNetdev(HostNetdev):
    """Frames over a stream socket; `address` as in sockets.py."""

    TYPE: ClassVar[str] = "netdev-stream"
    WAITING: ClassVar[int] = BUFFER

    def __init__(
        self, id: str, owner: NetdevSet, address: sockets.Address, server: bool, events: bool = True, delay: float = 0
    ) -> None:
        super().__init__(id, owner)
        self._dialer = Dialer(id, address, owner.files, delay, lambda: owner.io, self._take) if delay else None
        self.address = address
        self.server = server
        # Whether QEMU tells of peers for this kind.
        self._events = events
        self._listener: socket.socket | None = None
        self._inode: sockets.Inode | None = None
        self._peer: socket.socket | None = None
        self._out: bytearray = bytearray()
        self._in = bytearray()

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end."""
        return self._peer is not None

    @property
    def actual_address(self) -> str:
        """"host:port" that is listened on or connected to (a port 0 was replaced), or the path."""
        end = self._listener or self._peer
        return self.address.place if self.address.kind == "unix" or end is None else sockets.host_port(end.getsockname())

    def open(self) -> None:
        if self.address.kind == "fd":
            made, listens = sockets.adopt(int(self.address.place), self.address.name)
            if listens:
                self._listener = made
            else:
                self._take(made)
        elif self.server:
            self._listener, self._inode = sockets.listen(self.address, self.owner.files)
        elif self._dialer is None:
            self._take(sockets.connect(self.address, self.owner.files))
        self.owner.io.add(self)
        if self._dialer is not None:
            self._dialer.dial()

    def close(self) -> None:
        self._closed = True
        if self._dialer is not None:
            self._dialer.stop()
        unlink_own(self.owner.files, self.address.place, self._inode)
        self._inode = None
        self.owner.io.remove(self, self._shut)

    # -- the frontend's side

    def send(self, frame: bytes) -> bool:
        with self._mutex:
            if self._peer is None:
                self.frames_dropped += 1
                return True
            if len(self._out) + len(frame) + 4 > BUFFER:
                self._refused = True
                return False
            self._out += len(frame).to_bytes(4, "big")
            self._out += frame
        self.frames_out += 1
        return True

    def _push(self) -> None:
        """Sends what the socket takes; the mutex is held."""
        if self._peer is not None and self._out:
            try:
                count = self._peer.send(self._out)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # The IO thread will find the same and see the peer off.
                self._out.clear()
                return
            del self._out[:count]

    # -- the IO thread's side

    def poll_after(self) -> float | None:
        return None if self._dialer is None else self._dialer.poll_after()

    def poll(self) -> None:
        if self._dialer is not None:
            self._dialer.poll()

    def interests(self) -> dict[int, int]:
        with self._mutex:
            if self._peer is not None:
                wanted = (0 if self._frames else READ) | (WRITE if self._out else 0)
                return {self._peer.fileno(): wanted}
            return {} if self._listener is None else {self._listener.fileno(): READ}

    def ready(self, fd: int, events: int) -> None:
        peer = self._peer
        if peer is None or fd != peer.fileno():
            if self._listener is not None and fd == self._listener.fileno():
                with contextlib.suppress(OSError):  # it left again
                    self._take(self._listener.accept()[0])
            return
        if events & WRITE:
            self._send_rest()
        if events & READ:
            self._receive(peer)

    def _take(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        where: dict[str, str] = {"type": self.address.kind}
        sockets.send_at_once(peer)
        if peer.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                host, port = peer.getpeername()[:2]
                where = {"type": "inet", "host": host, "port": str(port)}
        elif self.address.kind == "unix":
            where = {"type": "unix", "path": self.address.place}
        else:
            where = {"type": "fd", "str": self.address.place}
        with self._mutex:
            self._peer = peer
            self._out.clear()
        self._in.clear()
        if self._events:
            with self.owner.lock:
                self.owner.emit("NETDEV_STREAM_CONNECTED", {"netdev-id": self.id, "addr": where})

    def _receive(self, peer: socket.socket) -> None:
        data = received(lambda: peer.recv(CHUNK))
        if data is None:
            return
        if not data:
            self._peer_left()
            return
        self._in += data
        frames = self._split()
        if frames:
            self._came(frames)

    def _split(self) -> list[bytes]:
        """The whole frames of what came."""
        data, at = self._in, 0
        frames: list[bytes] = []
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > FRAME_MAX:
                log.warn("netdev's peer sent a frame that is too long", netdev=self.id, bytes=size)
                self._peer_left()
                return frames
            if len(data) - at - 4 < size:
                break
            frames.append(bytes(data[at + 4 : at + 4 + size]))
            at += 4 + size
        del data[:at]
        return frames

    def _peer_left(self) -> None:
        with self._mutex:
            peer, self._peer = self._peer, None
            self._out.clear()
            refused, self._refused = self._refused, False
        self._in.clear()
        if peer is not None:
            peer.close()
        if self._dialer is not None:
            self._dialer.lost()
        with self.owner.lock:
            if self._closed:
                return
            if self._events:
                self.owner.emit("NETDEV_STREAM_DISCONNECTED", {"netdev-id": self.id})
            if refused and self.frontend is not None:
                self.frontend.net_writable()

    def _shut(self) -> None:
        with self._mutex:
            peer, self._peer = self._peer, None
        for each in (peer, self._listener):
            if each is not None:
                each.close()
        self._listener = None

"""What chardevs over descriptors share: the two buffers, and the IO thread's side of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import BUFFER, CLOSED, OPENED, Chardev
from ratite.core.backends.io import READ, WRITE, received

if TYPE_CHECKING:
    from ratite.core.backends.io import Io

CHUNK = 1 << 14  # bytes of one read or write


class StreamChardev(Chardev):
    """A chardev whose peer is behind a descriptor to read from and one to write to (-1: none), both non-blocking."""

    TYPE: ClassVar[str] = "chardev-stream"
    ABSTRACT: ClassVar[bool] = True

    def _init_stream(self) -> None:
        self._read_fd = self._write_fd = -1
        self._in = bytearray()
        self._out = bytearray()
        # For a peer of whom the IO thread doesn't know yet.
        self._early = bytearray()
        self._refused = False
        self._closed = False

    # -- the frontend's side

    def put(self, data: bytes) -> int:
        with self.mutex:
            if self._write_fd < 0:
                return len(data)
            taken = max(0, min(len(data), BUFFER - len(self._out)))
            self._out += self.encoded(data[:taken])
            if taken < len(data):
                self._refused = True
            if taken:
                self.io.wake()
        return taken

    def unsent(self) -> int:
        with self.mutex:
            self._refused = self._refused or bool(self._out)
            return len(self._out)

    def push(self) -> None:
        while self._write_fd >= 0 and self._out:
            before = len(self._out)
            self._send()
            if len(self._out) == before:
                break

    def hang_up(self) -> None:
        if self._read_fd >= 0 or self._write_fd >= 0:
            self.peer_left()

    def encoded(self, data: bytes) -> bytes:
        """How `data` goes over the wire."""
        return data

    def decoded(self, data: bytes) -> bytes:
        """What came over the wire, as the frontend gets it.  On the IO thread."""
        return data

    def accept_input(self) -> None:
        if not self._in:
            return
        frontend = self.frontend
        while self._in and frontend is not None:
            room = frontend.chr_can_receive()
            if room <= 0:
                return
            with self.mutex:
                full = len(self._in) >= BUFFER
                data = bytes(self._in[:room])
                del self._in[:room]
            if full:
                self.io.wake()
            self.bytes_in += len(data)
            frontend.chr_receive(data)

    def detach(self) -> None:
        super().detach()
        with self.mutex:
            self._refused = False

    def _move(self, io: Io, lock: Any, then: Callable[[], None]) -> None:
        def gone() -> None:
            # Between the two nobody serves the descriptors.
            self.io, self.lock = io, lock
            if self._closed:
                io.call(self._shut)
                return
            io.add(self)
            io.call(then)

        self.io.remove(self, gone)

    def close(self) -> None:
        self._closed = True
        self.io.remove(self, self._shut)

    # -- the IO thread's side

    def peer_came(self, read_fd: int, write_fd: int, first: bytes = b"") -> None:
        """Somebody is there, who gets `first` before anything else."""
        with self.mutex:
            self._read_fd, self._write_fd = read_fd, write_fd
            self._out[:] = first + self._early
            self._early.clear()
            self._refused = False
        self.connected_event.set()
        self._tell(OPENED)

    def peer_left(self) -> None:
        """Nobody is there any more: what is still to be sent is dropped, what came is kept."""
        with self.mutex:
            fds = {self._read_fd, self._write_fd} - {-1}
            self._read_fd = self._write_fd = -1
            self._out.clear()
            refused, self._refused = self._refused, False
        self.connected_event.clear()
        for fd in fds:
            self.close_fd(fd)
        self._tell(CLOSED)
        if refused:
            self._tell("")

    def read_peer(self, size: int) -> bytes:
        """Reads from the peer's descriptor, as os.read."""
        return os.read(self._read_fd, size)

    def close_fd(self, fd: int) -> None:
        """Closes a descriptor of the peer; for kinds that hold it in an object or keep it."""
        os.close(fd)

    def interests(self) -> dict[int, int]:
        found: dict[int, int] = {}
        with self.mutex:
            # A monitor is read only as far as it takes.
            room = len(self._in) < BUFFER and (self.host_end is None or self.host_end.chr_can_receive() > 0)
            if self._read_fd >= 0 and room:
                found[self._read_fd] = READ
            if self._write_fd >= 0 and self._out:
                found[self._write_fd] = found.get(self._write_fd, 0) | WRITE
        return found

    def ready(self, fd: int, events: int) -> None:
        if events & WRITE and fd == self._write_fd:
            self._send()
        if events & READ and fd == self._read_fd:
            self._receive()

    def poll_after(self) -> float | None:
        return None

    def poll(self) -> None:
        """Nothing to do from time to time."""

    def end_of_input(self) -> None:
        """The peer will send nothing more."""
        self.peer_left()

    def _receive(self) -> None:
        data = received(lambda: self.read_peer(min(CHUNK, BUFFER - len(self._in))))
        if data is None:
            return
        if not data:
            self.end_of_input()
            return
        data = self.decoded(data)
        with self.mutex:
            self._in += data
        with self.lock:
            self.accept_input()

    def _send(self) -> None:
        with self.mutex:
            data = bytes(self._out[:CHUNK])
        try:
            sent = os.write(self._write_fd, data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.peer_left()
            return
        with self.mutex:
            del self._out[:sent]
            refused, self._refused = self._refused, False
        if refused:
            self._tell("")

    def _tell(self, event: str) -> None:
        """An event to the frontend, under the lock; "" means room to write."""
        with self.lock:
            if self.frontend is not None and not self._closed:
                if event:
                    self.frontend.chr_event(event)
                else:
                    self.frontend.chr_writable()

    def _shut(self) -> None:
        """The last act, on the IO thread: send what can be sent at once, close."""
        self.push()
        with self.mutex:
            fds = {self._read_fd, self._write_fd} - {-1}
            self._read_fd = self._write_fd = -1
        for fd in fds:
            self.close_fd(fd)

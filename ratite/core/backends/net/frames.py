"""Netdevs with a descriptor on which a frame is one read or write: sockets for datagrams, network interfaces.

What the guest sends is written at once as far as the host takes it, by whoever flushes; the rest and all input are the IO
thread's.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from ratite.core.backends.io import READ, WRITE, received
from ratite.core.backends.net.netdev import FRAME_MAX, HostNetdev

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet

_BATCH = 64  # frames read at once


class FrameNetdev(HostNetdev):
    """A descriptor that a kind sets, -1 where there is none; `_head` stands before each frame."""

    TYPE: ClassVar[str] = "netdev-frames"
    ABSTRACT: ClassVar[bool] = True
    WAITING: ClassVar[int] = 256  # frames

    def __init__(self, id: str, owner: NetdevSet) -> None:
        super().__init__(id, owner)
        # The descriptor; ours once `open` has succeeded.
        self._fd = -1
        self._head = b""
        self._out: deque[bytes] = deque()

    def close(self) -> None:
        self._closed = True
        self.owner.io.remove(self, self._shut)

    def _write_frame(self, frame: bytes) -> None:
        """Sends one; OSError."""
        os.write(self._fd, self._head + frame)

    def _gone(self) -> None:
        """A read gave nothing: the other end may be no more."""

    # -- the frontend's side

    def send(self, frame: bytes) -> bool:
        with self._mutex:
            if self._fd < 0:
                self.frames_dropped += 1
                return True
            if len(self._out) >= self.WAITING:
                self._refused = True
                return False
            self._out.append(frame)
        self.frames_out += 1
        return True

    def _push(self) -> None:
        """Writes what the interface takes; the mutex is held."""
        while self._out and self._fd >= 0:
            try:
                self._write_frame(self._out[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # nobody is there, or takes no such frame
                self.frames_dropped += 1
            self._out.popleft()

    # -- the IO thread's side

    def interests(self) -> dict[int, int]:
        with self._mutex:
            if self._fd < 0:
                return {}
            return {self._fd: (0 if self._frames else READ) | (WRITE if self._out else 0)}

    def ready(self, fd: int, events: int) -> None:
        if events & WRITE:
            self._send_rest()
        if events & READ:
            self._receive(fd)

    def _receive(self, fd: int) -> None:
        frames = []
        for _ in range(_BATCH):
            data = received(lambda: os.read(fd, FRAME_MAX + len(self._head)))
            if not data:
                if data is not None:
                    self._gone()
                break
            frames.append(data[len(self._head) :])
        if frames:
            self._came(frames)

    def _shut(self) -> None:
        with self._mutex:
            fd, self._fd = self._fd, -1
            self._out.clear()
        if fd >= 0:
            self._close_fd(fd)

    def _close_fd(self, fd: int) -> None:
        """For kinds that hold it in an object."""
        os.close(fd)

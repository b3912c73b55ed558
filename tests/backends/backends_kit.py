"""What the tests of chardevs share: a frontend that tells what happened to it, sets of chardevs, peers at UNIX sockets."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ratite.core.backends.chardev import Line
from ratite.core.backends.set import ChardevSet

TIMEOUT = 60.0


class Front:
    """A frontend that takes `room` bytes at a time and tells a queue what happened."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.line: Line | None = None
        self.data = b""
        self.said: queue.Queue[str | bytes] = queue.Queue()

    def chr_can_receive(self) -> int:
        return self.room

    def chr_receive(self, data: bytes) -> None:
        assert len(data) <= self.room
        self.data += data
        self.said.put(data)

    def chr_event(self, name: str) -> None:
        self.said.put(name)

    def chr_writable(self) -> None:
        self.said.put("writable")

    def until(self, what: str) -> None:
        while self.said.get(timeout=TIMEOUT) != what:
            pass

    def expect(self, what: str | bytes) -> None:
        assert self.said.get(timeout=TIMEOUT) == what


@contextmanager
def chardev_set() -> Iterator[ChardevSet]:
    """A set of chardevs as a machine has it."""
    made = ChardevSet(threading.RLock())
    try:
        yield made
    finally:
        made.close()


def unix(path: Path, **rest):
    return {"addr": {"type": "unix", "data": {"path": str(path)}}, **rest}


def client(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(TIMEOUT)
    made.connect(str(path))
    return made

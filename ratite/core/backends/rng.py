"""Sources of randomness: `rng-builtin` (the host kernel's generator) and `rng-random` (a device or file).

    frontend ──request(size, done)──> backend ──done(bytes)──> frontend       in order, under the machine lock

`rng-builtin` answers at once; `rng-random` reads on the IO thread, so a slow device holds up nobody.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from ratite.core import log
from ratite.core.backends.io import READ
from ratite.core.hostfiles import HostFiles, files_of
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config, debug
from ratite.qapi.errors import GenericError

Done = Callable[[bytes], None]


class RngBackend(Obj):
    """A source of random bytes: the part that all kinds have."""

    TYPE: ClassVar[str] = "rng-backend"
    KIND: ClassVar[str] = "object"
    ABSTRACT: ClassVar[bool] = True

    given_bytes = debug("uint64", 0, "bytes that were given out")

    def request(self, size: int, done: Done) -> None:
        """Calls `done` with 1 to `size` bytes, now or later.  Under the machine lock."""
        raise NotImplementedError

    def forget(self, done: Done) -> None:
        """Requests of this `done` aren't answered any more."""


class RngBuiltin(RngBackend):
    """The host kernel's random numbers."""

    TYPE: ClassVar[str] = "rng-builtin"

    def request(self, size: int, done: Done) -> None:
        self.given_bytes += size
        done(os.urandom(size))


class RngRandom(RngBackend):
    """Random numbers read from a device or file of the host."""

    TYPE: ClassVar[str] = "rng-random"

    filename = config("str", "/dev/urandom", "path to read from")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._fd = -1
        self._waiting: deque[tuple[int, Done]] = deque()

    def check_property(self, name: str, value: Any) -> None:
        if name == "filename":
            os.close(_open(value, files_of(self)))

    def realize(self) -> None:
        self._fd = _open(self.filename, files_of(self))
        self.machine.chardevs.io.add(self)

    def unrealize(self) -> None:
        fd, self._fd = self._fd, -1
        self._waiting.clear()
        self.machine.chardevs.io.remove(self, lambda: os.close(fd))

    def request(self, size: int, done: Done) -> None:
        self._waiting.append((size, done))
        self.machine.chardevs.io.wake()

    def forget(self, done: Done) -> None:
        for entry in [entry for entry in self._waiting if entry[1] == done]:
            self._waiting.remove(entry)

    # -- the IO thread's side

    def interests(self) -> dict[int, int]:
        return {self._fd: READ} if self._fd >= 0 and self._waiting else {}

    def ready(self, fd: int, events: int) -> None:
        try:
            data = os.read(fd, min(self._waiting[0][0], 1 << 16)) if self._waiting else b""
        except (BlockingIOError, InterruptedError, IndexError):
            return
        except OSError as error:
            log.error("random numbers can't be read", object=self.path, error=str(error))
            data = b""
        with self.machine.lock:
            if self._waiting and data:
                size, done = self._waiting.popleft()
                self.given_bytes += len(data)
                done(data[:size])
            elif self._waiting:
                # The end of a file: nothing more will come, and whoever asked goes on waiting.
                log.warn("no more random numbers", object=self.path, filename=self.filename)
                self._waiting.clear()

    def poll_after(self) -> float | None:
        return None

    def poll(self) -> None:
        """Nothing to do from time to time."""


def _open(path: str, files: HostFiles) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return files.open(path, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not open '{path}': {reason}") from None

"""The log of a chardev (`logfile`): everything that its frontend sends, in a file.

The IO thread writes it, so that no guest waits for the host's disk.  What the file can't take is dropped, which is logged
once: input of any speed must not fill the daemon's memory.
"""

from __future__ import annotations

import os
import threading

from ratite.core import log
from ratite.core.backends.io import IoThread
from ratite.core.hostfiles import HostFiles
from ratite.qapi.errors import GenericError

BUFFER = 1 << 20  # bytes that wait to be written

_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)


class LogFile:
    """The file at `path`, continued (`append`) or made new.  GenericError."""

    def __init__(self, path: str, append: bool, io: IoThread, files: HostFiles) -> None:
        try:
            self._fd = files.open(path, _FLAGS | (os.O_APPEND if append else os.O_TRUNC), 0o666)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise GenericError(f"Could not create '{path}': {reason}") from None
        self._path = path
        self._io = io
        self._mutex = threading.Lock()
        self._waiting = bytearray()
        self._told = False

    def add(self, data: bytes) -> None:
        """Any thread; never waits."""
        with self._mutex:
            first = not self._waiting
            lost = len(self._waiting) + len(data) > BUFFER
            if not lost:
                self._waiting += data
        if lost:
            self._tell("more came than could be written")
        elif first and data:
            self._io.call(self._write)

    def close(self) -> None:
        """Writes the rest and closes, soon."""
        self._io.call(self._end)

    def _write(self) -> None:
        while True:
            with self._mutex:
                data = bytes(self._waiting)
            if not data:
                return
            try:
                done = os.write(self._fd, data)
            except OSError as error:
                self._tell(error.strerror or "")
                done = len(data)
            with self._mutex:
                del self._waiting[:done]

    def _end(self) -> None:
        self._write()
        os.close(self._fd)

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            log.warn("chardev log lost bytes", file=self._path, reason=reason)

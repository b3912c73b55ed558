"""-daemonize: the process goes into the background, and whoever started it goes on once everything is ready.

    starter ──fork──> session leader ──fork──> the daemon
       └─── waits for one byte of a pipe ─────────┘   b"\\0": ready, exit 0;  the pipe closed without it: exit 1

Forked before a thread exists.  What fails meanwhile is told on the starter's standard error, which the daemon keeps until then.
"""

from __future__ import annotations

import os
import sys
from typing import Any


class Background:
    """The daemon's side; `begin` returns in the daemon only."""

    def __init__(self, ready: int) -> None:
        self._ready = ready

    @classmethod
    def begin(cls) -> Background:
        """Fork; the starter waits here, and ends with the daemon's word."""
        waiting, ready = os.pipe()
        child = os.fork()
        if child:
            os.close(ready)
            told = _read(waiting)
            if not told:
                os.waitpid(child, 0)
            os._exit(0 if told else 1)
        os.close(waiting)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.umask(0o027)
        return cls(ready)

    def release(self, keep_output: bool = False) -> None:
        """Everything is there: leave the terminal and the folder, and let the starter go.

        `keep_output`: standard error is where the log goes.
        """
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if keep_output else (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._ready, b"\0")
        os.close(self._ready)


def absolute(backend: dict[str, Any]) -> None:
    """A chardev's socket by its whole path, since it is removed by it when the process has gone into another folder."""
    address = backend["data"].get("addr", {})
    if address.get("type") == "unix":
        address["data"]["path"] = os.path.abspath(address["data"]["path"])


def _read(fd: int) -> bytes:
    sys.stdout.flush()
    return os.read(fd, 1)

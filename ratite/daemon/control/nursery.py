"""The control plane's side of the zygote: starts it, asks it for children, hears of their ends, starts it again.

    none ──start()──> starting ──{"ready"}──> ready ──its socket ends──> starting again (at once; if it lived for less than
                                                                        two seconds, one second later)
Requests wait while it isn't ready.  Those that were under way when it died fail with `ZygoteDied`: nobody knows whether a
child was made, so who wants one asks again with other sockets, and closes these, by which that child ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.daemon.control import zygote

if TYPE_CHECKING:
    from ratite.daemon.log import Log

QUICK_DEATH_SECONDS = 2.0
RETRY_SECONDS = 1.0

# What a child inherits of the environment: nothing that could be somebody's secret.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR", "TZ", "XDG_CACHE_HOME")
_PREFIXES = ("RATITE_", "MALLOC_", "LD_LIBRARY_PATH", "PYTHONMALLOC")


class BirthError(Exception):
    """No child could be made; the text says why."""


class ZygoteDied(BirthError):
    """The zygote died meanwhile; another one is or will be there."""


Born = Callable[[int, int], None]


class _Wish(NamedTuple):
    """A request for a child."""

    number: int
    request: dict[str, Any]
    fds: Sequence[int]
    born: Born
    done: Future[None]


class Nursery:
    """See the module's head.  `exited(pid, wait status)` is called for each child that ends while its zygote lives."""

    def __init__(
        self, loop: AbstractEventLoop, log: Log, allow: Sequence[str], exited: Callable[[int, int], None]
    ) -> None:
        self._loop = loop
        self._log = log
        self._allow = allow
        self._exited = exited
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._started = 0.0
        self._ready = False
        self._closed = False
        self._count = 0
        self._waiting: deque[_Wish] = deque()
        self._asked: dict[int, _Wish] = {}
        self.restarts = 0

    @property
    def pid(self) -> int:
        """The zygote's process id, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Exec the zygote."""
        if self._closed or self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            path = os.pathsep.join(os.path.abspath(place) for place in sys.path)
            command = [sys.executable, "-P", zygote.__file__, path, str(theirs.fileno()), *self._allow]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=_environment(), start_new_session=True
            )
        ours.setblocking(False)
        self._sock = ours
        self._ready = False
        self._started = time.monotonic()
        self._loop.add_reader(ours.fileno(), self._readable)

    def fork(self, request: dict[str, Any], fds: Sequence[int], born: Born) -> Future[None]:
        """Make a child that gets copies of `fds`; `born(pid, pidfd)` is called before anything is heard of its end.

        BirthError.  `fds` may be closed when the future is done.
        """
        future: Future[None] = self._loop.create_future()
        self._count += 1
        self._waiting.append(_Wish(self._count, request, fds, born, future))
        self._ask()
        return future

    def close(self) -> None:
        """No more children; the zygote ends, those that live stay."""
        self._closed = True
        self._drop()
        self._refuse("the control plane is ending")

    def _ask(self) -> None:
        while self._ready and self._waiting and self._sock is not None:
            wish = self._waiting[0]
            if not wish.done.done():
                data = json.dumps({**wish.request, "id": wish.number}).encode()
                try:
                    socket.send_fds(self._sock, [data], wish.fds)
                except (BlockingIOError, InterruptedError):
                    self._loop.add_writer(self._sock.fileno(), self._writable)
                    return
                except OSError:
                    # It is dying; the reader hears of it.
                    return
                self._asked[wish.number] = wish
            self._waiting.popleft()

    def _writable(self) -> None:
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
        self._ask()

    def _readable(self) -> None:
        assert self._sock is not None, "a reader is there"
        try:
            data, fds, _flags, _address = socket.recv_fds(self._sock, zygote.REQUEST_MAX, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._died()
            return
        message = json.loads(data)
        if "ready" in message:
            self._ready = True
            self._ask()
        elif "exited" in message:
            self._exited(message["exited"], message["status"])
        else:
            self._born(message, fds)

    def _born(self, message: dict[str, Any], fds: list[int]) -> None:
        wish = self._asked.pop(message["id"], None)
        if wish is None or wish.done.done():
            # Nobody waits any more: its monitor's other end is closed, so it ends by itself.
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            wish.done.set_exception(BirthError(message["error"]))
        else:
            wish.born(message["pid"], fds[0])
            wish.done.set_result(None)

    def _died(self) -> None:
        lived = time.monotonic() - self._started
        self._drop()
        if self._closed:
            return
        self.restarts += 1
        self._log.warning("the zygote died and is started again", lived=round(lived, 1))
        asked, self._asked = self._asked, {}
        for wish in asked.values():
            if not wish.done.done():
                wish.done.set_exception(ZygoteDied("the zygote died"))
        if lived > QUICK_DEATH_SECONDS:
            self.start()
        else:
            self._loop.call_later(RETRY_SECONDS, self.start)

    def _drop(self) -> None:
        self._ready = False
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        process, self._process = self._process, None
        if process is not None:
            # It has no state that anybody would miss, and an answer of the kernel to a kill is prompt.
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def _refuse(self, why: str) -> None:
        for wish in (*self._waiting, *self._asked.values()):
            if not wish.done.done():
                wish.done.set_exception(BirthError(why))
                wish.done.exception()
        self._waiting.clear()
        self._asked.clear()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith(_PREFIXES)}

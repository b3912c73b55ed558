"""`iothread`: a thread that does the host I/O of the disks that name it, instead of a thread for each image.

    disk's worker ──kick(worker)──> thread: some of the worker's requests, then the next worker's

Before it sleeps it polls, for a time that grows when work came soon after it had given up, and shrinks when it came late:
`poll-max-ns`, `poll-grow`, `poll-shrink`, as QEMU has them.  Left out: pools of more threads.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Protocol

from ratite.core.objects.obj import Obj
from ratite.core.objects.props import tunable
from ratite.qapi.errors import GenericError

BATCH = 16
_GROW = 2
_FIRST_NS = 4000


class Client(Protocol):
    """What has work for the thread."""

    def serve(self, most: int) -> bool:
        """Do at most so many requests; whether there may be more.  On the thread."""


class IoThread(Obj):
    """A thread for the I/O of disks."""

    TYPE: ClassVar[str] = "iothread"
    KIND: ClassVar[str] = "object"

    poll_max_ns = tunable("int64", 32768, "how long it polls before it sleeps, at most; 0: not at all", unit="ns")
    poll_grow = tunable("int64", 0, "what that time is multiplied by when work comes soon after; 0: 2")
    poll_shrink = tunable("int64", 0, "what it is divided by when work comes late; 0: it becomes none")
    aio_max_batch = tunable("int64", 0, "requests of one disk that it does before it looks at the next; 0: 16")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._todo: SimpleQueue[Client | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended: threading.Thread | None = None
        self._polls_ns = 0

    def check_property(self, name: str, value: Any) -> None:
        """Everything there is is a number of something."""
        if value < 0:
            raise GenericError(f"{name} value must be in range [0, {(1 << 63) - 1}]")

    @property
    def thread_id(self) -> int:
        """The host's number of the thread; 0 while there is none."""
        return (self._thread.native_id or 0) if self._thread is not None else 0

    def realize(self) -> None:
        self._thread = threading.Thread(target=self._main, name=f"ratite-{self.id}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            raise GenericError(f"'{self.path}' can't have a thread: {error}") from None

    def unrealize(self) -> None:
        self._todo.put(None)
        self._ended, self._thread = self._thread, None

    def kick(self, client: Client) -> bool:
        """It has one request more; False: the thread has ended.  Under the machine lock."""
        if self._thread is None:
            return False
        self._todo.put(client)
        return True

    def wait_ended(self) -> None:
        """Until the thread, which was told to end, has done what it was given.  On any thread but it."""
        if self._ended is not None:
            self._ended.join()

    def _main(self) -> None:
        todo = self._todo
        ending = False
        while not (ending and todo.empty()):
            client = self._next(todo)
            if client is None:
                ending = True
            elif client.serve(self.aio_max_batch or BATCH):
                todo.put(client)

    def _next(self, todo: SimpleQueue[Client | None]) -> Client | None:
        start = time.monotonic_ns()
        end = start + min(self._polls_ns, self.poll_max_ns)
        while True:
            try:
                return todo.get_nowait()
            except Empty:
                if time.monotonic_ns() >= end:
                    break
        found = todo.get()
        waited = time.monotonic_ns() - start
        if waited <= self.poll_max_ns:
            self._polls_ns = min(self._polls_ns * (self.poll_grow or _GROW) or _FIRST_NS, self.poll_max_ns)
        else:
            self._polls_ns = self._polls_ns // self.poll_shrink if self.poll_shrink else 0
        return found

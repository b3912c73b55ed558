"""The IO thread: one a machine, for the byte streams of its backends; started by the first that needs it.

    any thread                     io thread
    call(f) ──── queue, wake socket ───> f()
    wake()  ──── wake socket ──────────> asks every handler for its interest again
                                       select; handler.ready(events)

Handlers live on this thread: their descriptors are registered, used and closed nowhere else, so a number can't be taken
over by another file while it is being waited for.  A handler that raises is dropped and logged; the others go on.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ratite.core import log

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
# Seconds that it waits at most before it looks around: hosts count milliseconds in 32 bits.
LONGEST = 86400.0


def received(read: Callable[[], bytes]) -> bytes | None:
    """What a read that doesn't block gives: None where nothing is there yet, nothing (b"") at the end, an error's too."""
    try:
        return read()
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


class Handler(Protocol):
    """Something with descriptors on the IO thread."""

    def interests(self) -> dict[int, int]:
        """Descriptor → READ and/or WRITE: what to wait for now."""

    def ready(self, fd: int, events: int) -> None:
        """`events` came for `fd`."""

    def poll_after(self) -> float | None:
        """Host seconds until `poll` should be called anyway; None: never."""

    def poll(self) -> None:
        """The time given by `poll_after` passed, or something else happened meanwhile."""


class Io(Protocol):
    """What serves handlers: an IoThread, or a loop of somebody else's.  Every method may be called on any thread."""

    def add(self, handler: Handler) -> None:
        """Serves `handler` from now on."""

    def remove(self, handler: Handler, then: Callable[[], None]) -> None:
        """Serves `handler` no more, and calls `then` where it was served when that is certain."""

    def call(self, function: Callable[[], None]) -> None:
        """Calls `function` where handlers are served, soon, in order."""

    def wake(self) -> None:
        """Makes it ask every handler for its interest again."""


class IoThread:
    """See the module's head.  Every method may be called on any thread."""

    def __init__(self, name: str = "ratite-io") -> None:
        self._name = name
        self._calls: deque[Callable[[], None]] = deque()
        self._handlers: list[Handler] = []
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = self._ended = False
        self._woken = False
        self._wake_r: socket.socket | None = None
        self._wake_w: socket.socket | None = None

    @property
    def running(self) -> bool:
        """Whether the thread was started and not stopped."""
        return self._thread is not None

    def add(self, handler: Handler) -> None:
        """Serves `handler` from now on."""
        self.call(lambda: self._handlers.append(handler))

    def remove(self, handler: Handler, then: Callable[[], None]) -> None:
        """Serves `handler` no more, and calls `then` on the IO thread when that is certain (to close descriptors)."""

        def gone() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)
            then()

        self.call(gone)

    def call(self, function: Callable[[], None]) -> None:
        """Calls `function` on the IO thread, soon, in order; starts the thread.  Once that was stopped, calls it now."""
        with self._mutex:
            ended = self._ended
            if not ended:
                self._start()
                self._calls.append(function)
        if ended:
            _quietly(function)
        else:
            self.wake()

    def wake(self) -> None:
        """Makes the thread look around; many wakes before it does are one."""
        with self._mutex:
            if self._woken or self._wake_w is None:
                return
            self._woken = True
            self._wake_w.send(b"!")

    def sync(self, timeout: float = 10.0) -> bool:
        """Waits until everything called before is done; not to be used under the machine's lock."""
        if self._thread is None:
            return True
        done = threading.Event()
        self.call(done.set)
        return done.wait(timeout)

    def stop(self, timeout: float = 5.0) -> None:
        """Does what was called before, then ends the thread, for good.  Not to be used under the machine's lock."""
        thread = self._thread
        if thread is not None:
            self.call(self._stop_now)
            if thread is not threading.current_thread():
                thread.join(timeout)
        with self._mutex:
            self._thread, self._ended = None, True
            late, self._calls = self._calls, deque()
        for function in late:
            _quietly(function)

    def _stop_now(self) -> None:
        self._stopping = True

    def _start(self) -> None:
        """Under the mutex."""
        if self._thread is None:
            self._wake_r, self._wake_w = socket.socketpair()  # a pipe can't be selected everywhere
            self._wake_r.setblocking(False)
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        # poll() and not epoll(): regular files are always ready in the one and refused by the other
        selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
        wake = self._wake_r
        assert wake is not None
        wake_fd = wake.fileno()
        selector.register(wake_fd, READ)
        try:
            while not self._stopping:
                timeout = self._prepare(selector, wake_fd)
                for key, events in selector.select(None if timeout is None else min(timeout, LONGEST)):
                    if key.fd != wake_fd:
                        self._guarded(key.data, key.data.ready, key.fd, events)
                self._drain(wake)
                for handler in tuple(self._handlers):
                    if handler.poll_after() is not None:
                        self._guarded(handler, handler.poll)
        finally:
            with self._mutex:
                selector.close()
                wake.close()
                if self._wake_w is not None:
                    self._wake_w.close()
                self._wake_r = self._wake_w = None
                self._woken = False

    def _prepare(self, selector: selectors.BaseSelector, wake_fd: int) -> float | None:
        wanted: dict[int, tuple[int, Handler]] = {}
        timeout: float | None = None
        for handler in self._handlers:
            for fd, events in handler.interests().items():
                if events:
                    wanted[fd] = (events, handler)
            after = handler.poll_after()
            if after is not None:
                timeout = after if timeout is None else min(timeout, after)
        for key in list(selector.get_map().values()):
            if key.fd != wake_fd and wanted.get(key.fd) != (key.events, key.data):
                selector.unregister(key.fd)
        present = selector.get_map()
        for fd, (events, handler) in wanted.items():
            if fd not in present:
                selector.register(fd, events, handler)
        return timeout

    def _drain(self, wake: socket.socket) -> None:
        with self._mutex:
            self._woken = False
            with contextlib.suppress(BlockingIOError):
                wake.recv(4096)
        while self._calls:
            _quietly(self._calls.popleft())

    def _guarded(self, handler: Handler, function: Callable[..., None], *args: int) -> None:
        try:
            function(*args)
        except Exception as error:
            log.error("io handler failed and was dropped", handler=repr(handler), error=repr(error))
            if handler in self._handlers:
                self._handlers.remove(handler)


def _quietly(function: Callable[[], None]) -> None:
    """What fails is logged."""
    try:
        function()
    except Exception as error:
        log.error("io call failed", error=repr(error))

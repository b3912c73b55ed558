"""The daemon's loop: calls what has become ready, what is due, and what was handed over, one after the other.

    select ──> descriptors that are ready ──> timers that are due ──> what was asked for soon ──> select …

asyncio's loops have the same methods and more, and serve a daemon just as well (`Loop`).  A daemon knows no tasks and no
streams, though, and importing asyncio takes longer than all else before its first reply.
"""

from __future__ import annotations

import selectors
import signal
import socket
from bisect import insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol

    class Delayed(Protocol):
        """What is to be called later."""

        def cancel(self) -> None:
            """Never call it."""

    class Loop(Protocol):
        """What a daemon asks of the loop that it runs on.  Every method on the loop's own thread but `call_soon_threadsafe`."""

        def call_soon(self, callback: Callable[..., object], *args: Any) -> object:
            """Call it in the next turn."""

        def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> object:
            """As `call_soon`, on any thread; RuntimeError once the loop is closed."""

        def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Delayed:
            """Call it after `delay` seconds."""

        def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
            """Call it whenever there is something to read at `fd`, in place of what was called before."""

        def remove_reader(self, fd: int) -> bool:
            """Not any more; whether it was."""

        def add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
            """Call it whenever `fd` takes something."""

        def remove_writer(self, fd: int) -> bool:
            """Not any more; whether it was."""

        def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
            """Call it when the signal comes."""

        def run_forever(self) -> None:
            """Serve until `stop`."""

        def stop(self) -> None:
            """End at the end of this turn."""

        def close(self) -> None:
            """Let go of everything."""


Call = partial[object]
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Timer:
    """A call at a time (of `monotonic`)."""

    __slots__ = ("_loop", "call", "when")

    def __init__(self, loop: EventLoop, when: float, call: Call) -> None:
        self._loop = loop
        self.when = when
        self.call = call

    def cancel(self) -> None:
        """Never call it."""
        self._loop.forget(self)


class EventLoop:
    """A `Loop`.  `failed` is told what a callback raised; the loop goes on."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        # By what is waited for: each descriptor's call.
        self._calls: dict[int, dict[int, Call]] = {_READ: {}, _WRITE: {}}
        # The next one first.
        self._timers: list[Timer] = []
        self._soon: deque[Call] = deque()
        self._signals: list[int] = []
        self._stopping = self._closed = False
        # Other threads, and the kernel for signals, wake it by a byte; `_waking`: one is on its way.
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._waking = False
        self.add_reader(self._woken.fileno(), self._drain)

    # -- calls

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """See `Loop`."""
        self._soon.append(partial(callback, *args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        """See `Loop`."""
        if self._closed:
            raise RuntimeError("the loop is closed")
        self._soon.append(partial(callback, *args))
        # It is seen before the next select, or by the byte.
        if not self._waking:
            self._waking = True
            with suppress(OSError):
                self._waker.send(b"!")

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """See `Loop`."""
        timer = Timer(self, monotonic() + delay, partial(callback, *args))
        insort(self._timers, timer, key=_when)
        return timer

    def forget(self, timer: Timer) -> None:
        """It is not called, if it wasn't yet."""
        with suppress(ValueError):
            self._timers.remove(timer)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """See `Loop`."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(sig, lambda number, frame: self.call_soon_threadsafe(callback, *args))
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(sig, False)
        self._signals.append(sig)

    # -- descriptors

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """See `Loop`."""
        self._watch(_READ, fd, partial(callback, *args))

    def remove_reader(self, fd: int) -> bool:
        """See `Loop`."""
        return self._watch(_READ, fd, None)

    def add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """See `Loop`."""
        self._watch(_WRITE, fd, partial(callback, *args))

    def remove_writer(self, fd: int) -> bool:
        """See `Loop`."""
        return self._watch(_WRITE, fd, None)

    def _watch(self, event: int, fd: int, call: Call | None) -> bool:
        """Whether something else was called before."""
        calls = self._calls[event]
        had = fd in calls
        others = sum(other for other, each in self._calls.items() if other != event and fd in each)
        if call is None:
            calls.pop(fd, None)
            if had and others:
                self._selector.modify(fd, others)
            elif had:
                self._selector.unregister(fd)
            return had
        if not had and others:
            self._selector.modify(fd, others | event)
        elif not had:
            self._selector.register(fd, event)
        calls[fd] = call
        return had

    # -- turns

    def run_forever(self) -> None:
        """See `Loop`."""
        while True:
            self._turn()
            if self._stopping:
                self._stopping = False
                return

    def stop(self) -> None:
        """See `Loop`."""
        self._stopping = True

    def _turn(self) -> None:
        ready = [
            (calls, key.fd, calls[key.fd])
            for key, events in self._selector.select(self._patience())
            for event, calls in self._calls.items()
            if events & event
        ]
        for calls, fd, call in ready:
            # One before may have closed it, and the number be another file's by now.
            if calls.get(fd) is call:
                self._do(call)
        now = monotonic()
        while self._timers and self._timers[0].when <= now:
            self._do(self._timers.pop(0).call)
        for _ in range(len(self._soon)):
            self._do(self._soon.popleft())

    def _patience(self) -> float | None:
        """Seconds that it may wait."""
        if self._soon or self._stopping:
            return 0
        return max(0, self._timers[0].when - monotonic()) if self._timers else None

    def _do(self, call: Call) -> None:
        try:
            call()
        except Exception as error:
            self._failed(error)

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        # Not before: a byte sent in between would be read, and nobody send another.
        self._waking = False

    def close(self) -> None:
        """See `Loop`.  Signals mean again what they mean to every program."""
        self._closed = True
        for sig in self._signals:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        if self._signals:
            signal.set_wakeup_fd(-1)
        self._selector.close()
        self._woken.close()
        self._waker.close()


def _when(timer: Timer) -> float:
    return timer.when

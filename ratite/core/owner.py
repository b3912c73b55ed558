"""The machine's one owner thread: does everything that clients ask of the machine, in order, and fires its timers.

    any thread ──post(fn)──> queue ──> owner: with machine.lock: fn()  ──> Future
    clock.wake ────────────────────────> owner: with machine.lock: clock.fire_due()
                                  └────> or the keeper, a thread that waits anyway and does that in the owner's place

A Future's result is set without the lock held.  A fault in a timer's callback is logged and goes no further.  With
`inline` there is no thread: work is done where it is posted, and timers fire by `clock.advance()` (tests of devices).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ratite.core import log
from ratite.core.future import Future

if TYPE_CHECKING:
    from ratite.core.clock import VirtualClock

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_Work = tuple["Future[Any] | None", Callable[..., Any], tuple[Any, ...]]


def on_owner(function: _F) -> _F:
    """Marks a function that only the owner thread calls, under the machine lock."""
    return function


def on_vcpu(function: _F) -> _F:
    """Marks a function that vCPU threads call."""
    return function


class Owner:
    """See the module's head."""

    def __init__(self, name: str, lock: Any, clock: VirtualClock, inline: bool = False) -> None:
        self.inline = inline
        self._lock = lock
        self._clock = clock
        self._queue: deque[_Work] = deque()
        # Leaf lock: nothing is taken while it is held.
        self._cond = threading.Condition()
        self._woken = False
        self._ending = False
        self._keeper: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._main, name=f"ratite-{name}", daemon=True)
        clock.wake = self.wake
        if not inline:
            self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the owner."""
        return self.inline or threading.current_thread() is self._thread

    def post(self, fn: Callable[..., _T], *args: Any) -> Future[_T]:
        """Have `fn(*args)` done on the owner thread after what was posted before; never blocks."""
        future: Future[_T] = Future()
        with self._cond:
            refused = self._ending
            if not refused and not self.inline:
                self._queue.append((future, fn, args))
                self._cond.notify()
        if refused:
            future.set_exception(RuntimeError("the machine has ended"))
        elif self.inline:
            self._do((future, fn, args))
        return future

    def soon(self, fn: Callable[[], Any]) -> None:
        """As `post`, for what nobody waits for: a fault is logged.  Nothing happens once the machine has ended."""
        if self.inline:
            self._do_quietly(fn)
            return
        with self._cond:
            if not self._ending:
                self._queue.append((None, fn, ()))
                self._cond.notify()

    def call(self, fn: Callable[..., _T], *args: Any) -> _T:
        """`post` and wait for the result; called on the owner thread it is done at once.  Not for the loop thread."""
        if self.is_current:
            with self._lock:
                return fn(*args)
        return self.post(fn, *args).result()

    def wake(self) -> None:
        """The clock's earliest deadline changed.  Who fires timers looks at it anyway before he waits."""
        with self._cond:
            keeper = self._keeper
            if keeper is None and threading.get_ident() != self._thread.ident:
                self._woken = True
                self._cond.notify()
        if keeper is not None:
            keeper()

    def keep_clock(self, told: Callable[[], None]) -> bool:
        """The caller fires the timers from now on, by `fire`, until `leave_clock`; False when somebody else does already.
        `told` is called when the earliest deadline came nearer, under the machine lock, on any thread; it must not block."""
        with self._cond:
            if self._keeper is not None or self.inline:
                return False
            self._keeper = told
            return True

    def leave_clock(self) -> None:
        """The owner fires the timers again.  Takes a leaf lock."""
        with self._cond:
            self._keeper = None
            self._woken = True
            self._cond.notify()

    def fire(self) -> float | None:
        """Fire what is due, on the thread that keeps the clock; seconds until the next timer, None when none will come
        without a change."""
        with self._lock:
            self._fire()
            return self.clock_delay()

    def clock_delay(self) -> float | None:
        """Seconds until the next timer; under the machine lock."""
        delay = self._clock.delay()
        return None if delay is None else delay / 1e9

    def end(self) -> None:
        """Do what is queued, then end; waits for it unless the owner itself asks."""
        with self._cond:
            self._ending = True
            self._cond.notify()
        if not self.inline and threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _main(self) -> None:
        while True:
            delay = None if self._keeper is not None else self.fire()
            with self._cond:
                if not self._queue and not self._woken and not self._ending:
                    kept = self._keeper is not None
                    self._cond.wait(None if delay is None or kept else min(delay, threading.TIMEOUT_MAX))
                self._woken = False
                work = self._queue.popleft() if self._queue else None
                if work is None and self._ending:
                    return
            if work is not None:
                self._do(work)

    def _fire(self) -> None:
        if self._clock.running:
            try:
                self._clock.fire_due()
            except Exception as exc:
                log.error("timer callback failed", error=f"{type(exc).__name__}: {exc}", exc_info=True)

    def _do(self, work: _Work) -> None:
        future, fn, args = work
        if future is None:
            self._do_quietly(fn)
            return
        try:
            with self._lock:
                result = fn(*args)
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)

    def _do_quietly(self, fn: Callable[[], Any]) -> None:
        try:
            with self._lock:
                fn()
        except Exception as exc:
            log.error("work on the owner thread failed", error=f"{type(exc).__name__}: {exc}", exc_info=True)

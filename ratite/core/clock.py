"""The machine's virtual clock: nanoseconds that pass only while the machine runs.

    stopped ──start()──> running ──stop()──> stopped          now() is monotonic over both

All of a machine's time is this clock; no device knows another.  Timers are kept in a heap and fired by the
machine's owner thread, or a vCPU's that waits anyway, under the machine lock, in the order of their deadlines, those of one
deadline in the order of arming.  `arm`, `cancel` and `fire_due` are called under the machine lock; `now` on any thread.

`source` gives host nanoseconds.  A manual clock has none: it moves by `advance()`, which fires each timer at
exactly its deadline (tests, and the deterministic kind of time).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from operator import itemgetter

Source = Callable[[], int]

_ROOM = 64  # entries of the heap that are kept without a look at what they are


class Timer:
    """One deadline of the virtual clock.  `deadline` in ns, None while it isn't armed."""

    __slots__ = ("_clock", "callback", "deadline")

    def __init__(self, clock: VirtualClock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self.callback = callback
        self.deadline: int | None = None

    def arm(self, deadline: int) -> None:
        """Fire once at `deadline` (virtual ns; one in the past fires at once); replaces what was armed."""
        self.deadline = deadline
        self._clock._enter(self, deadline)

    def arm_after(self, delay: int) -> None:
        """Fire once `delay` ns from now."""
        self.arm(self._clock.now() + delay)

    def cancel(self) -> None:
        """Don't fire."""
        self.deadline = None


class VirtualClock:
    """See the module's head.  `wake` is called when the earliest deadline came nearer or the clock started."""

    def __init__(self, source: Source | None = None, *, manual: bool = False) -> None:
        self.manual = manual
        self._source: Source = source or time.monotonic_ns
        # (virtual ns at the mark, host ns at the mark or None while stopped): one tuple, so that readers need no lock.
        self._mark: tuple[int, int | None] = (0, None)
        # Host's time of day, ns since 1970, at virtual time 0; a manual clock starts with 1970.
        self._epoch: int | None = 0 if manual else None
        self._heap: list[tuple[int, int, Timer]] = []
        self._armed = 0
        self._room = _ROOM
        self.wake: Callable[[], None] = _nothing

    @property
    def running(self) -> bool:
        """Whether time passes."""
        return self._mark[1] is not None

    def now(self) -> int:
        """Virtual nanoseconds."""
        base, since = self._mark
        if since is None or self.manual:
            return base
        return base + self._source() - since

    @property
    def offset(self) -> int | None:
        """What time.monotonic_ns() is ahead of now(); None where time stands or has another source."""
        base, since = self._mark
        if since is None or self.manual or self._source is not time.monotonic_ns:
            return None
        return since - base

    def time_of_day(self) -> int:
        """Nanoseconds since 1970: the host's when the clock first started, counted on in virtual time."""
        if self._epoch is None:
            return time.time_ns()
        return self._epoch + self.now()

    def start(self) -> None:
        """Let time pass."""
        if self._epoch is None:
            self._epoch = time.time_ns() - self._mark[0]
        if not self.running:
            self._mark = (self._mark[0], 0 if self.manual else self._source())
            self.wake()

    def stop(self) -> None:
        """Let time stand still."""
        self._mark = (self.now(), None)

    def set(self, now: int) -> None:
        """Put a stopped clock to `now` ns (restoring a machine)."""
        self._mark = (now, None)

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer, not armed; `callback` runs under the machine lock, on the owner thread or a vCPU's; it must not block."""
        return Timer(self, callback)

    def advance(self, ns: int) -> None:
        """Move a manual clock by `ns`, firing every timer that falls due, each at its deadline."""
        target = self.now() + ns
        while (deadline := self.next_deadline()) is not None and deadline <= target:
            self._mark = (max(deadline, self._mark[0]), self._mark[1])
            self.fire_due()
        self._mark = (target, self._mark[1])

    def next_deadline(self) -> int | None:
        """Virtual ns of the earliest armed timer, or None."""
        heap = self._heap
        while heap and heap[0][2].deadline != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def delay(self) -> int | None:
        """Host ns until the earliest timer (0: due); None when none will come without a change."""
        if self._mark[1] is None:
            return None
        deadline = self.next_deadline()
        return None if deadline is None else max(deadline - self.now(), 0)

    def fire_due(self) -> int:
        """Fire what is due now; gives how many.  A timer that a callback arms for now waits for the next call."""
        now = self.now()
        last = self._armed
        fired = 0
        while (deadline := self.next_deadline()) is not None and deadline <= now and self._heap[0][1] <= last:
            timer = heappop(self._heap)[2]
            timer.deadline = None
            timer.callback()
            fired += 1
        return fired

    def _enter(self, timer: Timer, deadline: int) -> None:
        self._armed += 1
        first = self._heap[0][0] if self._heap else None
        heappush(self._heap, (deadline, self._armed, timer))
        if len(self._heap) > self._room:
            self._sweep()
        if first is None or deadline < first:
            self.wake()

    def _sweep(self) -> None:
        """Drops what was cancelled or armed anew since: a guest that does so again and again must not fill the host."""
        armed: dict[Timer, tuple[int, int, Timer]] = {}
        for entry in sorted(self._heap, key=itemgetter(1)):
            if entry[2].deadline == entry[0]:
                armed[entry[2]] = entry
        self._heap[:] = armed.values()
        heapify(self._heap)
        self._room = max(_ROOM, 2 * len(self._heap))


def _nothing() -> None:
    pass

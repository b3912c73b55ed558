"""The life of a vCPU's thread: start, run, park, wake, unplug.  Knows no accelerator and no object model.

                 ┌────────── resume() ──────────┐
    start() ──> parked <── request_park() ── running <──wake()── halted
                 │  └────── hold(True) ────> held ──hold(False)──> running
            finish() ──> ended

    parked    the machine doesn't run; the CPU's state may be looked at
    running   inside vcpu.run(), no lock held
    halted    the guest sleeps; ends when vcpu.has_work() says so. Or it polls memory: ends at whatever is asked of the
              CPU, or after a moment; of a guest that has nothing to do this thread fires the machine's timers meanwhile
    held      the machine runs, but a line (halt, reset) or power keeps this CPU from running

The thread's own lock is next to a leaf: nothing but the owner's queue is taken while it is held, so that `wake`,
`request_park`, `hold` and `request_reset` may be called with or without the machine lock, on any thread.  What the machine
must know goes to `listener`, called with no lock held.  A fault inside the engine parks the thread; it never dies of one.

Who polls wakes for timer ticks, so the CPU itself waits for them, and no other thread need wake first.  It *keeps* the clock
over the short stay in the guest that follows, as long as no timer is due soon, and leaves it to the owner where that isn't
short.  Only of a guest that has nothing else to do: on a host with other work a thread may be kept off its core meanwhile, and
a kernel that measures its delays between two ticks must not lose one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ratite.core.accel.base import Vcpu

PARKED, RUNNING, HALTED, HELD, ENDED = "parked", "running", "halted", "held", "ended"

# A kick that comes just before run() may be lost; it is repeated at this distance until it has worked.
KICK_AGAIN_S = 0.01
# Devices may change what a guest polls without an interrupt; longer naps would save nothing that can be measured.
NAP_S = 0.025
# The clock is kept while the guest runs if no timer is due for so long, which is longer than it then runs.
KEPT_S = 0.001
END_S = 2.0
PARK_S = 5.0


class Listener(Protocol):
    """What the thread tells; called on the vCPU's thread with no lock held."""

    def vcpu_parked(self) -> None:
        """The thread has just parked, or ended."""

    def vcpu_panicked(self, detail: str) -> None:
        """The guest can do nothing more on this CPU; the thread parks."""

    def vcpu_failed(self, error: BaseException) -> None:
        """The engine raised; the thread parks."""


class Clock(Protocol):
    """Who fires the machine's timers; see Owner."""

    def keep_clock(self, told: Callable[[], None]) -> bool:
        """Whether the caller fires them from now on."""

    def leave_clock(self) -> None:
        """The caller does no more.  Takes a leaf lock."""

    def fire(self) -> float | None:
        """Fire what is due; seconds until the next.  Takes the machine's lock."""

    def clock_delay(self) -> float | None:
        """Seconds until the next; under the machine's lock."""


class CpuThread:
    """See the module's head."""

    def __init__(self, name: str, vcpu: Vcpu, listener: Listener, clock: Clock) -> None:
        self._vcpu = vcpu
        self._listener = listener
        self._clock = clock
        self._keeps = False  # set by the thread itself alone, taken back under the lock
        self._due = 0.0  # when the next timer is, by time.monotonic(), if it keeps the clock; 0: to be found out
        self._changed = False  # that time is not the one that was just found out
        self._lock = threading.RLock()
        self._cond = threading.Condition(self._lock)
        self._want = PARKED
        self._state = PARKED
        self._held = False
        # The guest sleeps until has_work(); to be changed from outside only while the thread is parked.
        self.asleep = False
        self._reset_pc: int | None = None
        self._ident = 0
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    # -- any thread

    @property
    def state(self) -> str:
        """One of the states drawn above."""
        return self._state

    @property
    def parked(self) -> bool:
        """Whether the vCPU's state may be looked at."""
        return self._state in (PARKED, ENDED)

    @property
    def native_id(self) -> int:
        """The host's thread id; 0 before start()."""
        return self._thread.native_id or 0

    def start(self) -> None:
        """Start the thread, parked."""
        self._thread.start()

    def resume(self) -> None:
        """Run, unless the thread was told to end."""
        self._tell(RUNNING)

    def request_park(self) -> None:
        """Leave the guest soon; doesn't wait.  vcpu_parked() follows unless the thread is parked already."""
        self._tell(PARKED)
        self.kick()

    def kick(self) -> None:
        """Make run() return soon."""
        if self._state == RUNNING:
            self._vcpu.kick()

    def wake(self) -> None:
        """A line changed: look whether a halted guest has work."""
        # It is RUNNING no more before it looks for work the last time. Where it fires a timer itself, it looks afterwards.
        if self._state != RUNNING and threading.get_ident() != self._ident:
            with self._lock:
                self._cond.notify_all()

    def hold(self, held: bool) -> None:
        """Keep the CPU from running while the machine runs, or let it go."""
        with self._lock:
            self._held = held
            self._cond.notify_all()
        if held:
            self.kick()

    def request_reset(self, pc: int) -> None:
        """Reset the CPU to `pc` before it executes anything more; at once when it isn't running."""
        with self._lock:
            self._reset_pc = pc
            if self._state in (PARKED, HELD):
                self._reset_now()
            self._cond.notify_all()
        self.kick()

    def finish(self) -> None:
        """End the thread soon; doesn't wait.  A parked one doesn't touch the vCPU any more."""
        with self._lock:
            self._reset_pc = None
        self._tell(ENDED)
        self.kick()

    @property
    def ended(self) -> bool:
        """Whether the thread has left the vCPU for good."""
        return self._state == ENDED or not self._thread.is_alive()

    def _tell(self, want: str) -> None:
        with self._lock:
            if self._want != ENDED:
                self._want = want
                self._cond.notify_all()

    # -- the thread itself

    def _main(self) -> None:
        self._ident = threading.get_ident()
        while self._wait_to_run():
            try:
                exit = self._vcpu.run()
            except BaseException as exc:
                self._park_itself()
                self._listener.vcpu_failed(exc)
                continue
            if exit.kind == "idle":
                self._nap()
                continue
            if self._keeps:
                with self._lock:
                    self._leave_clock()
            if exit.kind == "halt":
                self.asleep = True
            elif exit.kind == "panic":
                self._park_itself()
                self._listener.vcpu_panicked(exit.detail)
        self._listener.vcpu_parked()

    def _nap(self) -> None:
        """The guest polls.  Whoever asks something of the CPU does so before he takes the condition."""
        with self._lock:
            self._state = HALTED
            if not self._vcpu.dozing:  # any more: its next stay in the guest has no end
                self._leave_clock()
        if not self._keeps and self._vcpu.dozing:
            self._due = 0.0
            self._keeps = self._clock.keep_clock(self._told)
        now = time.monotonic()
        over = now + NAP_S
        while True:
            if self._keeps and self._due <= now:
                self._fire()
            with self._lock:
                until = min(self._due, over) if self._keeps else over
                if self._asked() or (now := time.monotonic()) >= over:
                    return
                if now < until:
                    self._cond.wait(until - now)
            now = time.monotonic()

    def _asked(self) -> bool:
        """Whether a nap is over; under the lock."""
        return self._want != RUNNING or self._held or self._reset_pc is not None or not self._vcpu.undisturbed()

    def _fire(self) -> None:
        """Timers that are due; and when the next will be."""
        self._changed = False
        delay = self._clock.fire()
        due = math.inf if delay is None else time.monotonic() + delay
        with self._lock:
            self._due = 0.0 if self._changed else due

    def _told(self) -> None:
        """The earliest deadline came nearer; under the machine's lock, any thread."""
        napping = self._state == HALTED
        if napping and threading.get_ident() == self._ident:
            return  # it is firing, and looks at it afterwards
        delay = None if napping else self._clock.clock_delay()
        with self._lock:
            self._changed = True
            self._due = 0.0
            if self._state == HALTED:
                self._cond.notify_all()
            elif delay is None or delay < KEPT_S:
                self._leave_clock()

    def _leave_clock(self) -> None:
        """Under the lock."""
        if self._keeps:
            self._keeps = False
            self._clock.leave_clock()

    def _park_itself(self) -> None:
        with self._lock:
            if self._want == RUNNING:
                self._want = PARKED

    def _wait_to_run(self) -> bool:
        """Wait until the guest may run; False when the thread is to end."""
        while True:
            with self._lock:
                if self._reset_pc is not None:
                    self._reset_now()
                if self._want != RUNNING or self._held:
                    self._leave_clock()
                if self._want == ENDED:
                    self._state = ENDED
                    return False
                if self._want == PARKED:
                    fresh = self._state != PARKED
                    self._state = PARKED
                    if not fresh:
                        self._cond.wait()
                        continue
                elif self._held:
                    self._state = HELD
                    self._cond.wait()
                    continue
                elif self.asleep:
                    self._state = HALTED
                    if self._vcpu.has_work():
                        self.asleep = False
                    else:
                        self._cond.wait()
                    continue
                else:
                    if self._keeps and self._due - time.monotonic() < KEPT_S:
                        self._leave_clock()
                    self._state = RUNNING
                    return True
            # Newly parked; told with no lock held.
            self._listener.vcpu_parked()

    def _reset_now(self) -> None:
        pc, self._reset_pc = self._reset_pc, None
        if pc is not None:
            self.asleep = False
            self._vcpu.reset(pc)

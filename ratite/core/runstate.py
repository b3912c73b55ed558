"""Running, pausing and ending a machine: the vCPU threads, the virtual clock, the status, the events.

                             cont()
    prelaunch ──────────────────────────────> running
       ^                                      │  ^
       │ reset() while not running     stop() │  │ cont()
       │                                      v  │
       └──────────────────────────────────── paused
       │                                       (guest-panicked: a CPU can't fetch its trap handler; cont() tries again)
       │                                       (io-error: a disk failed and is to stop the machine; cont() tries again)
       │                                       (watchdog: one fired, and is to stop the machine)
       └── shutdown, internal-error: only reset() leads out

What a guest did (panic, power-off, reset) reaches the owner through its queue, stamped with the `epoch` it happened in:
a reset that comes first begins a new one, and what is left of the former life is dropped.

A vCPU that doesn't park: what a client asked (stop, a look at registers, a map) is refused and the machine runs on; what
can't be refused (panic, power-off, fault of the engine) stops the machine all the same.

Everything runs on the owner thread under the machine lock, except what is marked @on_vcpu.  Nothing waits with the
lock held: parking waits on `changed`, a Condition of the machine lock, which lets vCPU threads finish the MMIO access
they are in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.core import log
from ratite.core.actions import UNTOLD
from ratite.core.cpu.thread import END_S, KICK_AGAIN_S, PARK_S, CpuThread
from ratite.core.owner import on_vcpu
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.machine import Machine

PRELAUNCH, RUNNING, PAUSED = "prelaunch", "running", "paused"
PANICKED, SHUTDOWN, INTERNAL_ERROR = "guest-panicked", "shutdown", "internal-error"


class Snapshot(NamedTuple):
    """What other threads may read at any time without a lock."""

    status: str
    running: bool
    phase: str


class Panic(NamedTuple):
    """Why the machine stopped: the CPU's path, its pc, the cause in words."""

    cpu: str
    pc: int
    cause: str


class RunState:
    """See the module's head.  `threads` holds the vCPU threads by their CPU, `cpus` the realized CPUs by number."""

    def __init__(self, machine: Machine, lock: Any) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._quiet = 0
        self.changed = threading.Condition(lock)
        self.status = PRELAUNCH
        self.threads: dict[Cpu, CpuThread] = {}
        self.cpus: dict[int, Cpu] = {}
        self.panic: Panic | None = None
        self._asked_shutdown = False
        self._asked_reset = False
        # CPUs that panicked and are to stay so while the others run.
        self._gave_up: set[Cpu] = set()
        # Called when guests go on after a stop, before they do.
        self.on_resume: list[Callable[[], None]] = []
        # Counts resets.
        self.epoch = 0

    @property
    def running(self) -> bool:
        """Whether guests run."""
        return self.status == RUNNING

    # -- from clients

    def cont(self) -> None:
        """Let the guests run; nothing when they do.  GenericError when only a reset helps."""
        if self.running:
            return
        if self.status in (SHUTDOWN, INTERNAL_ERROR):
            raise GenericError("Resetting the Virtual Machine is required")
        self.panic = None
        self._gave_up.clear()
        self._set(RUNNING)
        self._machine.emit("RESUME")
        self._clock.start()
        for tell in tuple(self.on_resume):
            tell()
        self._resume_all()

    def stop(self) -> None:
        """Park every vCPU and stop the clock; nothing when they are.  GenericError (and it runs on): a CPU didn't park."""
        if self.running:
            self._park_or_go_on()
            self._stopped(PAUSED)

    def reset(self, guest: bool = False, reason: str = "") -> None:
        """Everything to its state after power-on; guests go on running if they did.  Or a power-off (actions.py)."""
        reason = reason or ("guest-reset" if guest else "host-qmp-system-reset")
        if self._machine.actions.reboot == "shutdown":
            self._power_off(guest, reason, 0)
            return
        with self.quiesced():
            self.epoch += 1
            self._machine.reset_members()
            self._asked_shutdown = self._asked_reset = False
            self._gave_up.clear()
        self.panic = None
        if not self.running:
            self._set(PRELAUNCH)
        self._machine.emit("RESET", guest=guest, reason=reason)

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        """Inside, no vCPU executes: a map may change, registers may be looked at.  The clock goes on.  May be nested."""
        if not self._quiet and self.running:
            self._park_or_go_on()
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1
            if not self._quiet and self.running:
                self._resume_all()

    @property
    def quiet(self) -> bool:
        """Whether no vCPU executes."""
        return self._quiet > 0 or not self.running

    # -- from guests

    @on_vcpu
    def request_shutdown(self, cause: str, exit_code: int) -> None:
        """A device was told to power off; never blocks.  Under the machine lock."""
        if not self._asked_shutdown:
            self._asked_shutdown = True
            for thread in self.threads.values():
                thread.request_park()
            self._machine.owner.post(self._guest_shutdown, cause, exit_code, self.epoch)

    @on_vcpu
    def request_reset(self, reason: str) -> None:
        """A device was told to reset the machine; never blocks.  Under the machine lock."""
        if not self._asked_reset:
            self._asked_reset = True
            for thread in self.threads.values():
                thread.request_park()
            self._machine.owner.post(self._guest_reset, reason, self.epoch)

    def request_stop(self, status: str) -> None:
        """A disk's error or a watchdog stops the machine; never blocks.  Under the machine lock."""
        if self.running:
            for thread in self.threads.values():
                thread.request_park()
            self._machine.owner.post(self._device_stop, status, self.epoch)

    def _device_stop(self, status: str, epoch: int) -> None:
        if epoch == self.epoch:
            self._stop_anyway(status)

    def _guest_shutdown(self, cause: str, exit_code: int, epoch: int) -> None:
        if epoch == self.epoch:
            self._power_off(True, cause, exit_code)

    def _power_off(self, guest: bool, cause: str, exit_code: int) -> None:
        """SHUTDOWN; then the machine's end, or a stop where shutdowns are to be one."""
        machine = self._machine
        machine.emit("SHUTDOWN", guest=guest, reason=cause, code=exit_code)
        stays = machine.actions.shutdown == "pause"
        self._stop_anyway(SHUTDOWN, event=stays)
        if machine.on_shutdown is not None and not stays:
            machine.on_shutdown(cause, exit_code)

    def _guest_reset(self, reason: str, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self._asked_reset = False
        try:
            self.reset(True, reason)
        except GenericError as exc:
            log.error("guest reset failed", reason=exc.desc)
            self._stop_anyway(INTERNAL_ERROR)

    def cpu_panicked(self, cpu: Cpu, cause: str, epoch: int) -> None:
        """A CPU could do nothing more in that epoch: keep the cause, tell, and do what was chosen for panics."""
        if cpu not in self.threads or epoch != self.epoch:
            return
        self.panic = Panic(cpu.path, cpu.pc(), cause)
        cpu.panic = f"{cause} at pc {self.panic.pc:#x}"
        log.warn("guest panicked", cpu=cpu.path, pc=hex(self.panic.pc), cause=cause)
        action = self._machine.actions.panic
        if action in ("none", UNTOLD):
            self._gave_up.add(cpu)
            if action != UNTOLD:
                self._machine.emit("GUEST_PANICKED", action="run")
            return
        if action in ("shutdown", "exit-failure"):
            self._machine.emit("GUEST_PANICKED", action="poweroff")
            self._power_off(True, "guest-panic", int(action == "exit-failure"))
            return
        was_running = self.running
        if was_running:
            self._stop_anyway(PANICKED, event=False)
        elif self.status == PAUSED:  # another CPU panicked or a client stopped the machine first
            self._set(PANICKED)
        # told when it is so: who asks for the status on hearing of it gets the new one
        self._machine.emit("GUEST_PANICKED", action="pause")
        if was_running:
            self._machine.emit("STOP")

    def cpu_failed(self, cpu: Cpu, error: BaseException, epoch: int) -> None:
        """The engine raised in that epoch: our fault, so the machine stops with `internal-error`."""
        log.error("engine failed", cpu=cpu.path, error=f"{type(error).__name__}: {error}", exc_info=error)
        if epoch != self.epoch:
            return
        cpu.panic = f"engine: {type(error).__name__}: {error}"
        if self.running:
            self._stop_anyway(INTERNAL_ERROR)
        elif self.status == PAUSED:
            self._set(INTERNAL_ERROR)

    def _stop_anyway(self, status: str, event: bool = True) -> None:
        """Stop; a CPU that doesn't park is logged and left behind."""
        if self.running:
            self._park_all()
            self._stopped(status, event)

    def _stopped(self, status: str, event: bool = True) -> None:
        self._clock.stop()
        self._set(status)
        if event:
            self._machine.emit("STOP")

    # -- vCPU threads

    def add_thread(self, cpu: Cpu, thread: CpuThread) -> None:
        """A CPU was realized: its thread starts, parked.  RuntimeError when the host has no thread left."""
        thread.start()
        self.threads[cpu] = thread
        self.cpus[max(self.cpus, default=-1) + 1] = cpu

    def remove_thread(self, cpu: Cpu) -> bool:
        """A CPU goes; the machine is quiet.  False when its thread still holds the vCPU."""
        thread = self.threads.pop(cpu, None)
        self._gave_up.discard(cpu)
        self.cpus = {number: other for number, other in self.cpus.items() if other is not cpu}
        if thread is None:
            return True
        parked = thread.parked
        thread.finish()
        return parked

    def end_threads(self) -> list[str]:
        """End every thread, busy or not, within END_S; gives the paths of those that didn't."""
        for thread in self.threads.values():
            thread.finish()
        deadline = time.monotonic() + END_S
        while (left := [c for c, t in self.threads.items() if not t.ended]) and time.monotonic() < deadline:
            self.changed.wait(KICK_AGAIN_S)
            for cpu in left:
                self.threads[cpu].kick()
        return [cpu.path for cpu in left]

    def _park_all(self) -> list[str]:
        """Park every thread; gives the paths of the CPUs that didn't within PARK_S."""
        for thread in self.threads.values():
            thread.request_park()
        deadline = time.monotonic() + PARK_S
        while (busy := [c for c, t in self.threads.items() if not t.parked]) and time.monotonic() < deadline:
            self.changed.wait(KICK_AGAIN_S)
            for cpu in busy:
                self.threads[cpu].kick()
        for cpu in busy:
            log.error("vCPU did not stop", cpu=cpu.path, seconds=PARK_S)
        return [f"'{cpu.path}'" for cpu in busy]

    def _park_or_go_on(self) -> None:
        wedged = self._park_all()
        if wedged:
            self._resume_all()
            raise GenericError(f"CPU {', '.join(wedged)} did not stop within {PARK_S:g} seconds")

    def _resume_all(self) -> None:
        for cpu, thread in self.threads.items():
            if cpu not in self._gave_up:
                thread.resume()

    def _set(self, status: str) -> None:
        self.status = status
        self._machine.publish()

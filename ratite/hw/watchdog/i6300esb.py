"""The watchdog timer of Intel's 6300ESB I/O controller, a PCI function: datasheet 300641, "Watchdog Timer (WDT)".

                 enable, reload              preload 1 passed                preload 2 passed
    off ────────────────────────> stage 1 ────────────────────> stage 2 ────────────────────> off, WDT_TIMEOUT; the
                                     ^──────── reload ──────────────┘                          machine's watchdog action

A write to a preload register or of WDT_RELOAD counts only behind the bytes 0x80 and 0x86 at the reload register.  Free running
the timer knows stage 2 alone, begins it anew, and tells by WDT_TIMEOUT.  WDT_TIMEOUT outlives resets, so that the next driver
learns why it was started.

Left out: the interrupt at the end of stage 1, which chipsets route (its status bit is there), and SMI.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ratite.core.memory import MmioRegion
from ratite.core.objects.props import debug, state
from ratite.hw.pci.function import PciFunction

CONFIG, LOCK = 0x60, 0x68  # in configuration space
OUTPUT_OFF, FAST, INT_TYPE, NO_INT = 0x20, 4, 3, 3
LOCKED, ENABLE, FREE_RUNNING = 1, 2, 4
PRELOAD_1, PRELOAD_2, STATUS, RELOAD = 0x00, 0x04, 0x08, 0x0C  # in memory
INT_ACTIVE, WDT_RELOAD, WDT_TIMEOUT = 1, 0x100, 0x200
COUNT_MAX = 0xFFFFF
UNLOCK = (0x80, 0x86)
MHZ = 33  # of the PCI bus
OFF = 0


class I6300esb(PciFunction):
    """Watchdog of Intel's 6300ESB."""

    TYPE: ClassVar[str] = "i6300esb"
    PCI_VENDOR: ClassVar[int] = 0x8086
    PCI_DEVICE: ClassVar[int] = 0x25AB
    PCI_CLASS: ClassVar[int] = 0x088000
    PIN: ClassVar[int] = 0

    preload: list[int] = state("list:uint32", [COUNT_MAX, COUNT_MAX], "what each stage counts down from")
    status: int = state("uint8", 0, "general interrupt status")
    timeout: bool = state("bool", False, "WDT_TIMEOUT: stage 2 has passed")
    unlocked: int = state("uint8", 0, "bytes of the sequence that let the next write count", maximum=2)
    stage: int = state("uint8", OFF, "which stage runs; 0: none", maximum=2)
    stage_end: int = state("int64", 0, "when it has passed", unit="ns")
    fired: int = debug("uint64", 0, "times that the machine's watchdog action was asked for")

    def build(self) -> None:
        super().build()
        self.conf.declare(CONFIG, 2, 0, OUTPUT_OFF | FAST | INT_TYPE)
        # What a write does to the lock register depends on what it holds.
        self.conf.declare(LOCK, 1, 0)
        self.add_bar(0, MmioRegion(f"{self.id}/wdt", 16, self, self._load, self._store, access=(1, 4), impl=(1, 4)))

    def realize(self) -> None:
        super().realize()
        self._timer = self.machine.clock.timer(self._passed)

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def reset_function(self) -> None:
        self.preload = [COUNT_MAX, COUNT_MAX]
        self.status = self.unlocked = 0
        self._stop()
        super().reset_function()

    def post_load(self) -> None:
        super().post_load()
        if self.stage:
            self._timer.arm(self.stage_end)
        else:
            self._timer.cancel()

    def config_write(self, offset: int, size: int, value: int) -> None:
        super().config_write(offset, size, value)
        if offset <= LOCK < offset + size:
            self._lock_written(value >> 8 * (LOCK - offset) & (LOCKED | ENABLE | FREE_RUNNING))

    def _lock_written(self, value: int) -> None:
        was = self.conf.get(LOCK, 1)
        if was & LOCKED:
            return
        self.conf.put(LOCK, 1, value)
        if not value & ENABLE:
            self._stop()
        elif not was & ENABLE:
            self._begin(self._first)

    # -- memory

    def _load(self, offset: int, size: int, access: Any) -> int:
        values = {STATUS: self.status, RELOAD: WDT_TIMEOUT if self.timeout else 0}
        register = offset & ~3
        return values.get(register, 0) >> 8 * (offset - register) & (1 << 8 * size) - 1

    def _store(self, offset: int, size: int, value: int, access: Any) -> None:
        if offset == RELOAD and self.unlocked < 2 and value == UNLOCK[self.unlocked]:
            self.unlocked += 1
            return
        if self.unlocked < 2:
            self.unlocked = int(offset == RELOAD and value == UNLOCK[0])
            return
        self.unlocked = 0
        if offset in (PRELOAD_1, PRELOAD_2):
            self.preload[offset // 4] = value & COUNT_MAX
        elif offset == STATUS:
            self.status &= ~(value & INT_ACTIVE)
        elif offset == RELOAD:
            if value & WDT_TIMEOUT:
                self.timeout = False
            if value & WDT_RELOAD and self.stage:
                self._begin(self._first)

    # -- counting

    @property
    def _first(self) -> int:
        return 2 if self.conf.get(LOCK, 1) & FREE_RUNNING else 1

    def _begin(self, stage: int) -> None:
        ticks = self.preload[stage - 1] << (5 if self.conf.get(CONFIG, 2) & FAST else 15)
        self.stage = stage
        # One more: a timer that is given nothing to count must not be asked again at this very instant, for ever.
        self.stage_end = self.machine.clock.now() + ticks * 1000 // MHZ + 1
        self._timer.arm(self.stage_end)

    def _stop(self) -> None:
        self.stage = OFF
        self._timer.cancel()

    def _passed(self) -> None:
        if self.stage == 1:
            if self.conf.get(CONFIG, 2) & INT_TYPE != NO_INT:
                self.status |= INT_ACTIVE
            self._begin(2)
            return
        self.timeout = True
        if self.conf.get(LOCK, 1) & FREE_RUNNING:
            self._begin(2)
            return
        self._stop()
        if not self.conf.get(CONFIG, 2) & OUTPUT_OFF:
            self.fired += 1
            self.machine.watchdog_fired()

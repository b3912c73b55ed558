"""xlnx.xps-timer: two 32-bit timers after Xilinx DS573 (AXI Timer).

Modelled, for each: generate mode, counting up and down, auto reload, load, enable, enable-all, interrupt.  Nothing ticks: a
count follows from the virtual clock, and a timer of that clock is armed only while an interrupt could come.

    counting down from C:   C, C-1, … 0, FFFFFFFF, TLR, TLR-1, … 0, FFFFFFFF, TLR, …      (ARHT)
    tick                    0  1      C  C+1       C+2                                    TINT is set at FFFFFFFF
    counting up is the mirror image; without ARHT the count stays where it rolled over

so the period is TLR + 2 clocks down and FFFFFFFF - TLR + 2 up, as the data sheet says.

Left out: capture triggers (in capture mode the counter runs free and captures nothing), the PWM and generate outputs,
the freeze input, the 64-bit cascade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state
from ratite.core.regs import RegArray

MDT, UDT, GENT, CAPT, ARHT, LOAD, ENIT, ENT, TINT, PWMA, ENALL = (1 << n for n in range(11))
_ASKS = ENIT | TINT
MAX = 0xFFFFFFFF
SECOND = 1_000_000_000
_COUNTERS = (0x8, 0x18)  # TCR0, TCR1


class XlnxTimer(MmioDevice):
    """AXI Timer.  Xilinx DS573."""

    TYPE: ClassVar[str] = "xlnx.xps-timer"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x20, (1, 4), (4, 4), "endianness")}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["xlnx,xps-timer-1.00.a", "xlnx,opb-timer-1.00.b"],
            "properties": {"clock-frequency": "clock-frequency", "endianness": {"guest-endianness": True}},
        },
    )

    clock_frequency: int = config("uint32", 62_000_000, "clock of the counters", unit="Hz", minimum=1)
    endianness = config("str", "little", "byte order of the registers", values=("little", "big"))

    TCSR = RegArray(0x0, count=2, stride=0x10, reserved=0xFFFFF800, w1c=TINT, text="control and status")
    TLR = RegArray(0x4, count=2, stride=0x10, text="load register")
    TCR = RegArray(0x8, count=2, stride=0x10, access="ro", saved=False, text="counter")

    # a running count is `base` at tick `start`; a stopped one is `base`
    base: list[int] = state("list:uint32", [0, 0], "count at the tick `start`")
    start: list[int] = state("list:int64", [0, 0], "tick of the virtual clock at which the count was `base`")
    told: list[int] = state("list:uint64", [0, 0], "roll-overs since `start` that have set TINT")
    running: list[bool] = state("list:bool", [False, False], "whether the count changes with the clock")

    # -- life cycle

    def wire(self) -> None:
        super().wire()
        self._irq = self.out("irq")
        self._now = self.clock.now
        self._timers = tuple(self.timer(partial(self._due, n)) for n in range(2))

    def unrealize(self) -> None:
        for timer in self._timers:
            timer.cancel()
        super().unrealize()

    def fdt_node(self, tree: DeviceTree) -> None:
        node = tree.node(self, "timer", ("xlnx,xps-timer-1.00.a",))
        node["clock-frequency"] = self.clock_frequency
        node["xlnx,count-width"], node["xlnx,one-timer-only"] = 32, 0
        for n in range(2):
            node[f"xlnx,gen{n}-assert"] = node[f"xlnx,trig{n}-assert"] = 1

    def reset(self) -> None:
        super().reset()
        self.base, self.start, self.told, self.running = [0, 0], [0, 0], [0, 0], [False, False]
        self.post_load()

    def post_load(self) -> None:
        self.TCR = [0, 0]
        for n in range(2):
            self._arm(n)
        self._update()

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        """The counters without a look into the table: guests take their time from them."""
        if size == 4 and offset in _COUNTERS:
            return self._count(offset >> 4)
        return super().mmio_read(region, offset, size, access)

    def mmio_reader(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[], int] | None:
        if size == 4 and offset in _COUNTERS:
            return partial(self._count, offset >> 4)
        return super().mmio_reader(region, offset, size, access)

    # -- counting

    def _tick(self) -> int:
        return self._now() * self.clock_frequency // SECOND

    def _to_go(self, n: int) -> int:
        """Ticks from the base to the last count before the roll-over."""
        return self.base[n] if self.TCSR[n] & UDT else MAX - self.base[n]

    def _period(self, n: int) -> int:
        return (self.TLR[n] if self.TCSR[n] & UDT else MAX - self.TLR[n]) + 2

    def _count(self, n: int) -> int:
        """The counter's value now. Guests ask for it several times a tick: it calls as little as can be."""
        base, tcsr = self.base[n], self.TCSR[n]
        if not self.running[n]:
            return base
        passed = self._now() * self.clock_frequency // SECOND - self.start[n]
        down = tcsr & UDT
        beyond = passed - (base if down else MAX - base) - 1  # 0: at the roll-over
        if tcsr & MDT or passed >= 0 > beyond:
            return (base - passed if down else base + passed) & MAX
        phase = beyond % self._period(n) if passed >= 0 and tcsr & ARHT else 0
        if not phase:
            return MAX if down else 0
        return self.TLR[n] - (phase - 1) if down else self.TLR[n] + phase - 1

    def _at_reload(self, n: int) -> bool:
        """Whether the counter stands at a roll-over, to be loaded with the next tick."""
        beyond = self._tick() - self.start[n] - self._to_go(n) - 1
        return self.running[n] and beyond >= 0 and beyond % self._period(n) == 0

    def _catch_up(self, n: int) -> None:
        """Sets TINT for roll-overs that weren't told yet."""
        tcsr = self.TCSR[n]
        if not self.running[n] or tcsr & MDT:
            return
        beyond = self._tick() - self.start[n] - self._to_go(n) - 1
        if beyond < 0:
            return
        rollovers = 1 + (beyond // self._period(n) if tcsr & ARHT else 0)
        if rollovers > self.told[n]:
            self.told[n] = rollovers
            self.TCSR[n] |= TINT

    def _rebase(self, n: int, count: int) -> None:
        """Counts on from `count` as of now, by the present TCSR."""
        tcsr = self.TCSR[n]
        self.base[n], self.start[n], self.told[n] = count, self._tick(), 0
        self.running[n] = bool(tcsr & ENT) and not tcsr & LOAD

    def _arm(self, n: int, ahead: bool = False) -> None:
        """Wakes at the next roll-over, if that would change the interrupt; `ahead`: also if the guest has to acknowledge this
        one first, as it does within the period where nothing is wrong."""
        timer = self._timers[n]
        tcsr = self.TCSR[n]
        if not self.running[n] or tcsr & MDT or not tcsr & ENIT or (tcsr & TINT and not (ahead and tcsr & ARHT)):
            timer.cancel()
            return
        if self.told[n] and not tcsr & ARHT:
            timer.cancel()
            return
        tick = self.start[n] + self._to_go(n) + 1 + (self.told[n] * self._period(n) if self.told[n] else 0)
        deadline = -(-tick * SECOND // self.clock_frequency)
        if timer.deadline != deadline:
            timer.arm(deadline)

    def _due(self, n: int) -> None:
        waiting = self.TCSR[n] & TINT
        self._catch_up(n)
        # Armed here it wakes nobody, while the guest's acknowledgement would wake the clock's thread each time.
        self._arm(n, ahead=not waiting)
        self._update()

    def _update(self) -> None:
        first, second = self.TCSR
        self._irq.set(first & _ASKS == _ASKS or second & _ASKS == _ASKS)

    # -- registers

    @TCR.on_read
    def _tcr_read(self, n: int, value: int) -> int:
        return self._count(n)

    @TCSR.on_read
    def _tcsr_read(self, n: int, value: int) -> int:
        tcsr = self.TCSR
        if not tcsr[n] & TINT:
            self._catch_up(n)
            if tcsr[n] & TINT:  # seen before the clock's timer came to tell
                self._arm(n)
                self._update()
        return tcsr[n]

    @TCSR.on_write
    def _tcsr_written(self, n: int, value: int, old: int) -> None:
        new = self.TCSR[n]
        self.TCSR[n] = old
        self._catch_up(n)
        if not value & TINT:
            new |= self.TCSR[n] & TINT
        other_enable = 0
        if value & ENALL:
            new |= ENT
            other_enable = ENT | ENALL
        self._set_control(n, new)
        other = 1 - n
        if other_enable or self.TCSR[other] & ENALL:
            self._catch_up(other)
            self._set_control(other, self.TCSR[other] & ~ENALL | other_enable)
        self._update()

    def _set_control(self, n: int, new: int) -> None:
        changed = (new ^ self.TCSR[n]) & (MDT | UDT | ARHT | LOAD | ENT)
        count = self._count(n) if changed else 0
        self.TCSR[n] = new
        if new & LOAD:
            self._rebase(n, self.TLR[n])
        elif changed:
            self._rebase(n, count)
        self._arm(n)

    @TLR.on_write
    def _tlr_written(self, n: int, value: int, old: int) -> None:
        new = self.TLR[n]
        self.TLR[n] = old
        self._catch_up(n)
        count, reload = self._count(n), self._at_reload(n)
        self.TLR[n] = new
        if self.TCSR[n] & LOAD:
            self._rebase(n, new)
        elif self.told[n] and self.TCSR[n] & ARHT:  # the periods to come are others
            self._rebase(n, new if reload else count)
            self.start[n] += reload
        self._arm(n)

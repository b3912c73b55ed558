"""goldfish_rtc: real-time clock after Google's "Goldfish Virtual Hardware" (GOLDFISH-VIRTUAL-HARDWARE.TXT, "RTC").

    0x00 R  TIME_LOW          low half of the time; keeps the high half for TIME_HIGH
         W                    sets the time, with TIME_HIGH as written before
    0x04 R  TIME_HIGH         as it was when TIME_LOW was read
    0x08 W  ALARM_LOW         arms the alarm, with ALARM_HIGH as written before
    0x0C W  ALARM_HIGH
    0x10 W  IRQ_ENABLED       bit 0: the line irq is high while an alarm has gone off
    0x14 W  CLEAR_ALARM       disarms
    0x18 R  ALARM_STATUS      1 while an alarm is armed
    0x1C W  CLEAR_INTERRUPT   the alarm that has gone off is forgotten

Times are nanoseconds since 1970, 64 bits.  The clock shows the host's time of day when the machine first started and goes
on with the machine's virtual clock: it stands while the machine is paused.  `offset` is added; what a guest sets stays
over a reset.  An alarm in the past goes off at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import Described
from ratite.core.objects.props import config, state
from ratite.core.regs import Reg

ONES = (1 << 64) - 1
FAR = 1 << 62  # virtual ns: nothing is armed beyond (146 years)


class GoldfishRtc(MmioDevice):
    """Real-time clock with an alarm.  Goldfish Virtual Hardware."""

    TYPE: ClassVar[str] = "goldfish_rtc"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x1000, (4, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = ({"compatible": ["google,goldfish-rtc"]},)

    FDT = Described("rtc", ("google,goldfish-rtc",))

    offset: int = config("int64", 0, "added to the host's time of day", unit="ns")
    big_endian: bool = config("bool", False, "byte order of the registers")

    TIME_LOW = Reg(0x00, saved=False, text="time, low half")
    TIME_HIGH = Reg(0x04, text="time, high half: kept by a read of time-low, taken by a write of it")
    ALARM_LOW = Reg(0x08, text="alarm, low half")
    ALARM_HIGH = Reg(0x0C, text="alarm, high half")
    IRQ_ENABLED = Reg(0x10, reserved=0xFFFFFFFE, text="interrupt enable")
    CLEAR_ALARM = Reg(0x14, access="wo", saved=False, text="disarms the alarm")
    ALARM_STATUS = Reg(0x18, access="ro", text="1 while the alarm is armed")
    CLEAR_INTERRUPT = Reg(0x1C, access="wo", saved=False, text="forgets the alarm that has gone off")

    time_delta: int = state("uint64", 0, "what the guest added to the time by setting it, modulo 2^64", unit="ns")
    fired: bool = state("bool", False, "an alarm has gone off")

    def windows(self) -> Mapping[str, Window]:
        return {"regs": Window(0x1000, (4, 4), endianness="big" if self.big_endian else "little")}

    def wire(self) -> None:
        super().wire()
        self._irq = self.out("irq")
        self._timer = self.timer(self._update)

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self.fired = False
        self.post_load()

    def post_load(self) -> None:
        self._update()

    def time(self) -> int:
        """The time now, ns since 1970."""
        return self.clock.time_of_day() + self.offset + self.time_delta & ONES

    def _update(self) -> None:
        """The alarm goes off when its time has come, else the timer is armed for it."""
        self._timer.cancel()
        if self.ALARM_STATUS:
            left = (self.ALARM_HIGH << 32 | self.ALARM_LOW) - self.time()
            if left <= 0:
                self.ALARM_STATUS = 0
                self.fired = True
            elif (deadline := self.clock.now() + left) < FAR:
                self._timer.arm(deadline)
        self._irq.set(self.fired and self.IRQ_ENABLED)

    @TIME_LOW.on_read
    def _time_read(self, value: int) -> int:
        now = self.time()
        self.TIME_HIGH = now >> 32
        return now & 0xFFFFFFFF

    @TIME_LOW.on_write
    def _time_written(self, value: int, old: int) -> None:
        self.TIME_LOW = 0
        self.time_delta = (self.TIME_HIGH << 32 | value) - self.clock.time_of_day() - self.offset & ONES
        self._update()

    @ALARM_LOW.on_write
    def _alarm_written(self, value: int, old: int) -> None:
        self.ALARM_STATUS = 1
        self._update()

    @IRQ_ENABLED.on_write
    def _enable_written(self, value: int, old: int) -> None:
        self._update()

    @CLEAR_ALARM.on_write
    def _disarmed(self, value: int, old: int) -> None:
        self.CLEAR_ALARM = self.ALARM_STATUS = 0
        self._update()

    @CLEAR_INTERRUPT.on_write
    def _cleared(self, value: int, old: int) -> None:
        self.CLEAR_INTERRUPT = 0
        self.fired = False
        self._update()

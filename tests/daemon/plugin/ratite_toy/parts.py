"""CPUs and a device."""

from typing import ClassVar

from ratite.core.cpu.base import Cpu
from ratite.core.device import MmioDevice, Window
from ratite.core.objects.props import config, tunable
from ratite.core.regs import Reg


class Toy64Cpu(Cpu):
    """A little-endian CPU of 64 bits."""

    TYPE = "toy64-cpu"
    TARGETS = ("toy64",)
    LINES: ClassVar = {"irq": 3}
    RESET_PC = 0x1000
    behaviour = config("str", "sleep", "what it does instead of running", values=("sleep", "busy", "wedge", "panic"))


class ToyBeCpu(Toy64Cpu):
    """A big-endian CPU of 32 bits."""

    TYPE = "toybe-cpu"
    TARGETS = ("toybe",)


class Lever(MmioDevice):
    """A device whose only register powers the machine off."""

    TYPE = "toy-lever"
    REGIONS: ClassVar = {"regs": Window(0x10)}
    INPUTS: ClassVar = {"in": 1}
    OUTPUTS: ClassVar = {"irq": 1}
    speed = config("uint8", 3, "how fast", maximum=9, unit="Hz")
    hold = tunable("str", "", "a FIFO: setting it holds the machine until somebody has written there", setter="_hold")
    POWER = Reg(0x0)

    def _hold(self, path: str) -> None:
        with open(path) as fifo:
            fifo.read()

    @POWER.on_write
    def _power(self, value: int, old: int) -> None:
        self.machine.request_shutdown("guest-shutdown", value)

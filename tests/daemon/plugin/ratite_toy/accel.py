"""An accelerator whose vCPUs have registers and no program."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from ratite.core.accel.base import Accelerator, Exit, Vcpu
from ratite.core.isa.state import StateField


class ToyVcpu(Vcpu):
    """Sleeps, keeps busy, hangs for good or panics, as the CPU's property says."""

    def __init__(self, cpu: Any) -> None:
        self._behaviour = cpu.behaviour
        self._kicked = threading.Event()
        self._values: dict[tuple[str, int], int] = {}
        self._width = cpu.cluster.bits

    def run(self) -> Exit:
        """Run nothing."""
        if self._behaviour == "panic":
            return Exit(Exit.PANIC, "no trap handler")
        if self._behaviour == "wedge":
            while True:
                time.sleep(1)
        while not self._kicked.is_set():
            if self._behaviour == "sleep":
                self._kicked.wait(1)
        self._kicked.clear()
        return Exit(Exit.KICKED)

    def step(self, count: int = 1) -> Exit:
        """No step."""
        return Exit(Exit.BUDGET)

    def kick(self) -> None:
        """Leave run."""
        self._kicked.set()

    def set_line(self, bit: int, level: bool) -> None:
        """Nobody listens."""

    def has_work(self) -> bool:
        """Always."""
        return True

    def fields(self) -> Iterable[StateField]:
        """A pc and four registers."""
        return (
            StateField("pc", self._width, names=("pc",)),
            StateField("x", self._width, count=4, names=("x0", "x1", "x2", "x3")),
        )

    def get(self, name: str, index: int = 0) -> int:
        """As set."""
        return self._values.get((name, index), 0)

    def set(self, name: str, value: int, index: int = 0) -> None:
        """Keep."""
        self._values[name, index] = value

    def reset(self, pc: int) -> None:
        """Only the pc."""
        self._values = {("pc", 0): pc, ("x", 1): 0xABC}

    def invalidate(self, ram: Any, offset: int, size: int) -> None:
        """Nothing is kept."""

    def remap(self) -> None:
        """Nothing is kept."""

    def flush_tlb(self) -> None:
        """Nothing is kept."""

    @property
    def instructions(self) -> int:
        """None."""
        return 0

    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        """Words of data."""
        return [(addr + at, code[at : at + 4], f".word {code[at : at + 4].hex()}") for at in range(0, len(code), 4)]

    def close(self) -> None:
        """Nothing to free."""


class ToyAccelerator(Accelerator):
    """See the module's head."""

    NAME = "toy"

    @classmethod
    def probe(cls) -> str | None:
        """Always."""
        return None

    def create_vcpu(self, cpu: Any, index: int) -> Vcpu:
        """A vCPU that runs nothing."""
        return ToyVcpu(cpu)

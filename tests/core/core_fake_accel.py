"""An accelerator for tests: its guest is a Python callable `program(vcpu)` that runs until it gives an Exit.

`vcpu.cpu` is the port; the state is pc (64 bits), x0..x3, irq_lines.  Without a program a vCPU
counts instructions until kicked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ratite.core.accel.base import Accelerator, CpuPort, Exit, RamBlock, Vcpu
from ratite.core.isa.state import StateField

FIELDS = (StateField("pc", 64), StateField("x", 64, 4), StateField("irq_lines", 32, hidden=True))


class FakeVcpu(Vcpu):
    """See the module's head."""

    def __init__(self, cpu: CpuPort, index: int) -> None:
        super().__init__()
        self.cpu = cpu
        self.index = index
        self.values = {"pc": [0], "x": [0, 0, 0, 0], "irq_lines": [0]}
        self.kicked = threading.Event()
        self.in_run = threading.Event()
        self.remaps = 0
        self.closed = False
        self.count = 0
        self.dozes = True

    def run(self) -> Exit:
        self.in_run.set()
        program: Callable[[FakeVcpu], Exit | None] | None = getattr(self.cpu, "program", None)
        try:
            while not self.kicked.is_set():
                self.count += 1
                if program is not None:
                    came = program(self)
                    if came is not None:
                        return came
                else:
                    self.kicked.wait(0.001)
            return Exit(Exit.KICKED)
        finally:
            self.kicked.clear()
            self.in_run.clear()

    def step(self, count: int = 1) -> Exit:
        self.count += count
        return Exit(Exit.BUDGET)

    def kick(self) -> None:
        self.kicked.set()

    def set_line(self, bit: int, level: bool) -> None:
        lines = self.values["irq_lines"][0]
        self.values["irq_lines"][0] = lines | 1 << bit if level else lines & ~(1 << bit)

    def undisturbed(self) -> bool:
        return not self.kicked.is_set() and not self.values["irq_lines"][0]

    @property
    def dozing(self) -> bool:
        return self.dozes

    def has_work(self) -> bool:
        return self.values["irq_lines"][0] != 0

    def fields(self) -> Iterable[StateField]:
        return FIELDS

    def get(self, name: str, index: int = 0) -> int:
        return self.values[name][index]

    def set(self, name: str, value: int, index: int = 0) -> None:
        if value == 13:
            raise ValueError("unlucky")
        self.values[name][index] = value

    def reset(self, pc: int) -> None:
        self.values["pc"] = [pc]
        self.values["x"] = [0, 0, 0, 0]
        self.set_reset_values()

    def invalidate(self, ram: RamBlock, offset: int, size: int) -> None:
        pass

    def remap(self) -> None:
        self.remaps += 1

    def flush_tlb(self) -> None:
        pass

    @property
    def instructions(self) -> int:
        return self.count

    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        return []

    def close(self) -> None:
        self.closed = True


class FakeAccelerator(Accelerator):
    """Usable everywhere."""

    NAME = "fake"

    @classmethod
    def probe(cls) -> str | None:
        return None

    def create_vcpu(self, cpu: CpuPort, index: int) -> Vcpu:
        return FakeVcpu(cpu, index)


class NoAccelerator(Accelerator):
    """Usable nowhere."""

    NAME = "none"

    @classmethod
    def probe(cls) -> str | None:
        return "no such hardware here"

    def create_vcpu(self, cpu: CpuPort, index: int) -> Any:
        raise AssertionError

"""Accelerator ``interp``: the Python evaluator. It runs everywhere, needs nothing, and judges the native tiers.

Its atomic operations are atomic among evaluated CPUs (the interpreter lock), not against native ones: a cluster that
shares memory with a native cluster and needs atomics across should be native too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from typing import Literal

from ratite.core.accel.base import Accelerator, CpuPort, Decoded, Exit, RamBlock, RamRange, Vcpu
from ratite.core.isa.emitter import EXECUTE
from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField

_PAGE_BITS = 12
_LONGEST = 16  # bytes of an instruction, of any ISA


class PortMemory:
    """A CPU's view of memory as the evaluator wants it: RAM directly, the rest over the port."""

    def __init__(self, port: CpuPort, big_endian: bool, word: int, bus_error: type[Exception]) -> None:
        self._port = port
        self._order: Literal["big", "little"] = "big" if big_endian else "little"
        self._mask = (1 << word) - 1
        self._bus_error = bus_error
        self._rows: list[tuple[int, int, memoryview, RamRange]] = []
        self.remap()

    def remap(self) -> None:
        """Takes the port's ranges anew."""
        self._rows = [
            (r.start, r.start + r.size, memoryview((ctypes.c_char * r.size).from_address(r.host)).cast("B"), r)
            for r in self._port.ram_ranges()]

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        """Whether atomics may go there."""
        return any(s <= addr and addr + size <= e and not (for_write and r.readonly) for s, e, _, r in self._rows)

    def load(self, addr: int, size: int) -> int:
        for start, end, view, _ in self._rows:
            if start <= addr and addr + size <= end:
                return int.from_bytes(view[addr - start:addr - start + size], self._order)
        if addr & (size - 1):  # in two halves, as the native slow path does
            half = size // 2
            parts = (self.load(addr, half), self.load(addr + half & self._mask, half))
            low, high = parts if self._order == "little" else parts[::-1]
            return low | high << 8 * half
        try:
            return self._port.mmio_load(addr, size)
        except self._bus_error:
            raise MemoryFault from None

    def store(self, addr: int, size: int, value: int) -> None:
        for start, end, view, r in self._rows:
            if start <= addr and addr + size <= end and not r.readonly:
                view[addr - start:addr - start + size] = value.to_bytes(size, self._order)
                r.ram.code.written(addr - start + r.offset, size)
                return
        if addr & (size - 1):
            half = size // 2
            low, high = value & (1 << 8 * half) - 1, value >> 8 * half
            first, second = (low, high) if self._order == "little" else (high, low)
            self.store(addr, half, first)
            self.store(addr + half & self._mask, half, second)
            return
        try:
            self._port.mmio_store(addr, size, value)
        except self._bus_error:
            raise MemoryFault from None

    def _row(self, addr: int) -> tuple[RamRange, int]:
        """The range that holds ``addr``, and the offset in its RAM."""
        for start, end, _, r in self._rows:
            if start <= addr < end:
                return r, addr - start + r.offset
        raise MemoryFault

    def reserve(self, addr: int) -> int:
        """A token for the line of RAM at ``addr``."""
        r, offset = self._row(addr)
        return r.ram.code.reserved.take(offset)

    def reserved(self, addr: int, token: int) -> bool:
        """Whether nothing was stored into the line since."""
        r, offset = self._row(addr)
        return r.ram.code.reserved.give(offset, token)

    def clock(self) -> int:
        """Virtual nanoseconds."""
        return self._port.clock_ns()

    def notify(self, number: int, value: int) -> None:
        """To the CPU object."""
        self._port.on_notify(number, value)

    def ask(self, number: int, value: int) -> int:
        """The CPU object's answer."""
        return self._port.on_ask(number, value)

    def fetch(self, addr: int, size: int) -> bytes:
        """Instructions come from whole pages of RAM only, as in the native tiers."""
        page = addr & -(1 << _PAGE_BITS)
        for start, end, view, _ in self._rows:
            if start <= page and page + (1 << _PAGE_BITS) <= end:
                return bytes(view[addr - start:addr - start + size])
        raise MemoryFault


class EvalVcpu(Vcpu):
    """See ``Vcpu``; ``cpu`` is the evaluator."""

    def __init__(self, isa: Isa, port: CpuPort, bus_error: type[Exception]) -> None:
        super().__init__()
        self.isa: Isa = isa
        self._memory = PortMemory(port, isa.big_endian, isa.word, bus_error)
        self.cpu = Evaluator(isa, self._memory)
        self._leave = False
        self._tell: Callable[[list[Decoded]], None] | None = None
        self._told: set[int] = set()

    def watch_code(self, tell: Callable[[list[Decoded]], None] | None) -> bool:
        self._tell = tell
        self._told.clear()
        return True

    def _step(self) -> str:
        """A step, and before it what is about to be executed, if nobody knows yet."""
        tell, isa = self._tell, self.isa
        at = self.cpu.physical(self.cpu.pc_value, EXECUTE) if tell is not None else None
        if tell is not None and at is not None and at not in self._told:
            self._told.add(at)
            size = 1 << _PAGE_BITS
            with suppress(MemoryFault):
                code = self._memory.fetch(at, min(_LONGEST, size - at % size))
                tell((isa.disassemble(at, code) or [(at, code[: isa.parcel], "")])[:1])
        return self.cpu.step()

    def run(self) -> Exit:
        step = self._step if self._tell is not None else self.cpu.step
        while not self._leave:
            outcome = step()
            if outcome != Evaluator.RAN:
                if outcome == Evaluator.PANIC:
                    return self._panic()
                if not self.cpu.wakes():
                    return Exit(Exit.HALT)
        self._leave = False
        return Exit(Exit.KICKED)

    def step(self, count: int = 1) -> Exit:
        for _ in range(count):
            outcome = self._step()
            if outcome == Evaluator.PANIC:
                return self._panic()
            if outcome == Evaluator.HALTED:
                return Exit(Exit.HALT)
        return Exit(Exit.BUDGET)

    def _panic(self) -> Exit:
        addr = self.cpu.panic_info[1]
        return Exit(Exit.PANIC, f"no instruction can be fetched at {addr:#x}, where the trap handler starts")

    def kick(self) -> None:
        self._leave = True

    def set_line(self, bit: int, level: bool) -> None:
        lines = self.cpu.irq_lines
        self.cpu.irq_lines = lines | 1 << bit if level else lines & ~(1 << bit)

    def has_work(self) -> bool:
        return self.cpu.wakes()

    def fields(self) -> Iterable[StateField]:
        return self.isa.layout

    def get(self, name: str, index: int = 0) -> int:
        if name == "pc":
            return self.cpu.pc_value
        if name == "irq_lines":
            return self.cpu.irq_lines
        if name == "ctx":
            return self.isa.contexts.index(self.cpu.ctx)
        return self.cpu.state[name][index]

    def set(self, name: str, value: int, index: int = 0) -> None:
        self.cpu.changed()
        if name == "pc":
            self.cpu.pc_value = value & self.cpu.mask & -self.isa.parcel
        elif name == "irq_lines":
            self.cpu.irq_lines = value
        elif name == "ctx":
            self.cpu.ctx = self.isa.contexts[value]
        elif index or not self.isa.layout[name].zero:
            self.cpu.state[name][index] = value & (1 << self.isa.layout[name].width) - 1

    def reset(self, pc: int) -> None:
        for field in self.isa.layout:
            self.cpu.state[field.name] = [field.reset] * field.count
        self.set_reset_values()
        self.cpu.ctx = ""
        self.cpu.reservation = None
        self.cpu.trapped = False
        self.set("pc", pc)

    def invalidate(self, ram: RamBlock, offset: int, size: int) -> None:
        """Nothing is kept that could be stale: decoding is by the instruction's bits."""

    def remap(self) -> None:
        self._memory.remap()

    def flush_tlb(self) -> None:
        """There is none."""

    @property
    def instructions(self) -> int:
        return self.cpu.executed

    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        return self.isa.disassemble(addr, code)

    def close(self) -> None:
        """Holds no host memory of its own."""


class InterpAccelerator(Accelerator):
    """The evaluator as an accelerator."""

    NAME = "interp"

    @classmethod
    def probe(cls) -> str | None:
        return None

    def create_vcpu(self, cpu: CpuPort, index: int) -> Vcpu:
        from ratite.core.memory import BusError

        module, _, function = cpu.ISA.partition(":")
        isa: Isa = getattr(import_module(module), function)(cpu.isa_config())
        return EvalVcpu(isa, cpu, BusError)

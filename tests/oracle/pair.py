"""The evaluator and a native CPU side by side on one memory layout, compared cheaply after every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ratite.core.accel.base import Exit, RamRange, Vcpu
from ratite.core.accel.interp import EvalVcpu
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.tiers import Tier

CODE_LIMIT = 8 << 20
LINE = 64


class Span:
    """A run of guest memory: where it starts, its size, where it lies in the RAM."""

    __slots__ = ("offset", "readonly", "size", "start")

    def __init__(self, start: int, size: int, offset: int, readonly: bool = False) -> None:
        self.start = start
        self.size = size
        self.offset = offset
        self.readonly = readonly


class OraclePort:
    """A CPU over ``ram`` at ``spans``; nothing answers anywhere else."""

    def __init__(self, builder: str, config: Mapping[str, object], ram: ToyRam, spans: Sequence[Span]) -> None:
        self.ISA = builder
        self.ram = ram
        self._config = config
        self._spans = spans

    def isa_config(self) -> Mapping[str, object]:
        return self._config

    def ram_ranges(self) -> Sequence[RamRange]:
        return [RamRange(s.start, s.size, self.ram.address + s.offset, self.ram, s.offset, s.readonly)  # type: ignore[arg-type]
                for s in self._spans]

    def clock_offset(self) -> int | None:
        """There is no clock."""
        return None

    def load_site(self, addr: int, size: int) -> None:
        """There is no quicker way."""

    def store_site(self, addr: int, size: int) -> None:
        """There is no quicker way."""

    def mmio_load(self, addr: int, size: int) -> int:
        raise BusError("unmapped", addr)

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        raise BusError("unmapped", addr)

    def on_notify(self, number: int, value: int) -> None:
        """Nothing comes of it."""

    def on_ask(self, number: int, value: int) -> int:
        return 0


def refill(cpu: Vcpu, ram: ToyRam, offset: int, data: bytes) -> None:
    """Writes ``data``, as far as it is not there: what is the same stays decoded and compiled."""
    old = ram.map[offset:offset + len(data)]
    if old == data:
        return
    for at in range(0, len(data), LINE):
        line = data[at:at + LINE]
        if line != old[at:at + LINE]:
            ram.map[offset + at:offset + at + len(line)] = line
            cpu.invalidate(ram, offset + at, len(line))  # type: ignore[arg-type]


class Pair:
    """``left`` evaluates, ``right`` runs native code, in compiled regions where ``tier`` is 1 or 2."""

    def __init__(
        self, builder: str, config: Mapping[str, object], spans: Sequence[Span], library: NativeLibrary, tier: int = 0,
    ) -> None:
        native = library.get(builder, config)
        self.isa: Isa = native.isa
        size = max(s.offset + s.size for s in spans)
        self.rams = (ToyRam(size), ToyRam(size))
        ports = [OraclePort(builder, config, ram, spans) for ram in self.rams]
        self.left = EvalVcpu(self.isa, ports[0], BusError)
        self.tier = Tier(tier)
        self.right = NativeVcpu(native, ports[1], BusError, CODE_LIMIT, self.tier.manager)  # type: ignore[arg-type]
        arrays = self.right._arrays
        self._files: list[tuple[Evaluator, str, Any]] = [(self.left.cpu, f.name, arrays[f.name]) for f in self.isa.layout]

    def fill(self, image: bytes) -> None:
        """New contents of the whole RAM."""
        for cpu, ram in ((self.left, self.rams[0]), (self.right, self.rams[1])):
            refill(cpu, ram, 0, image)

    def start(self, pc: int, state: Mapping[tuple[str, int], int], lines: int = 0) -> None:
        for cpu in (self.left, self.right):
            cpu.reset(pc)
            cpu.set("irq_lines", lines)
            for (name, index), value in state.items():
                cpu.set(name, value, index)

    def step(self, count: int) -> tuple[int, str, str]:
        """Both go on by one, or by about ``count`` if that is more: (steps done, kind of exit, differences)."""
        if count == 1:
            ended = self.right.step()
            other = self.left.step()
            done = 1
        else:
            done, ended = self.right.advance(count)
            other = self.left.step(done)
            if ended.kind == Exit.PANIC:  # finding nothing to fetch takes no step
                other = self.left.step()
        return done, ended.kind, self.differences(other.kind, ended.kind)

    def differences(self, kind: str, other: str) -> str:
        """What differs now, as text; "" for nothing."""
        bad = [f"{name} {cpu.state[name]} / {array[:]}" for cpu, name, array in self._files if cpu.state[name] != array[:]]
        left, right = self.left, self.right
        if kind != other:
            bad.append(f"exit {kind} / {other}")
        if left.cpu.pc_value != right.get("pc"):
            bad.append(f"pc {left.cpu.pc_value:#x} / {right.get('pc'):#x}")
        if left.cpu.ctx and self.isa.contexts.index(left.cpu.ctx) != right.get("ctx"):
            bad.append(f"context {left.cpu.ctx} / {right.get('ctx')}")
        if left.cpu.executed != right.instructions:
            bad.append(f"instructions {left.cpu.executed} / {right.instructions}")
        if left.cpu.traps != right.traps:
            bad.append(f"traps {left.cpu.traps} / {right.traps}")
        return "; ".join(bad)

    def memory_differs(self) -> str:
        a, b = self.rams[0].map[:], self.rams[1].map[:]
        if a == b:
            return ""
        at = next(k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        return f"memory at offset {at:#x}: {a[at:at + 8].hex()} / {b[at:at + 8].hex()}"

    def close(self) -> None:
        self.right.close()

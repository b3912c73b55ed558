"""The evaluator and a native CPU side by side on one memory layout, compared cheaply after every step."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from ratite.core.accel.base import CpuPort, Exit, RamRange, Vcpu
from ratite.core.accel.interp import EvalVcpu
from ratite.core.engine import block as B
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.recorder import Recorder
from tests.oracle.tiers import Tier
from tests.oracle.written import HEAD, WrittenEvaluator, WrittenVcpu

BUILDER = "ratite.targets.riscv.isa:build"
CODE_LIMIT = 8 << 20
LINE = 64
CODES = MappingProxyType({1: "B", 2: "H", 4: "I", 8: "Q"})  # of struct, by size
KINDS = MappingProxyType({Evaluator.RAN: Exit.BUDGET, Evaluator.HALTED: Exit.HALT, Evaluator.PANIC: Exit.PANIC})


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
    for page in range(0, len(data), 16 * LINE):
        if old[page:page + 16 * LINE] == data[page:page + 16 * LINE]:
            continue
        for at in range(page, min(page + 16 * LINE, len(data)), LINE):
            line = data[at:at + LINE]
            if line != old[at:at + LINE]:
                ram.map[offset + at:offset + at + len(line)] = line
                cpu.invalidate(ram, offset + at, len(line))  # type: ignore[arg-type]


def parts_of(isa: Isa) -> list[tuple[int, int]]:
    """Of a record, what is state: all but the elements that take what is written to those that read 0."""
    edges = [HEAD]
    for f in isa.layout:
        if f.zero:
            edges += [HEAD + f.offset + f.size * f.count, HEAD + f.offset + f.size * f.slots]
    return list(zip(edges[::2], [*edges[1::2], HEAD + isa.layout.size], strict=True))


class Pair:
    """``left`` evaluates, ``right`` runs native code, in compiled regions where ``tier`` is 1 or 2; each with a RAM of ``size``
    bytes of its own, behind a port that ``make_port`` makes. ``known``: see WrittenEvaluator; None: the plain evaluator."""

    def __init__(
        self, native: NativeIsa, make_port: Callable[[ToyRam], CpuPort], size: int, tier: int = 0,
        known: Collection[str] | None = (),
    ) -> None:
        self.isa: Isa = native.isa
        self.rams = (ToyRam(size), ToyRam(size))
        ports = [make_port(ram) for ram in self.rams]
        self.left = EvalVcpu(self.isa, ports[0], BusError) if known is None else \
            WrittenVcpu(self.isa, ports[0], BusError, known)
        self.tier = Tier(tier)
        self.right = NativeVcpu(native, ports[1], BusError, CODE_LIMIT, self.tier.manager)
        self.recorder = Recorder(self.right)
        self._parts = parts_of(self.isa)

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

    def singles(self, count: int) -> tuple[int, str, str]:
        """Both go on by up to ``count`` instructions, each compared: (steps done, kind of exit, differences)."""
        done, kind = self.recorder.run(count)
        cpu, size, view = self.left.cpu, self.recorder.size, self.recorder.view
        outcome = cpu.RAN
        for k in range(done):
            pc = cpu.pc_value
            outcome = cpu.step()
            if self.packed() != view[k * size:(k + 1) * size]:
                return k + 1, kind, f"step {k + 1}, from {pc:#x}: {self.recorded(k)}"
            if outcome != cpu.RAN and k < done - 1:
                return k + 1, kind, f"step {k + 1}, from {pc:#x}: exit {outcome} / none"
        if kind == Exit.PANIC or (kind == Exit.HALT and outcome == cpu.RAN):
            outcome = cpu.step()  # neither finding nothing to fetch nor beginning to wait takes a step
        return done, kind, self.differences(KINDS[outcome], kind)

    def burst(self, count: int) -> tuple[int, str, str]:
        """As ``singles``, but for about ``count`` instructions at once."""
        done, ended = self.right.advance(count)
        cpu = self.left.cpu
        outcome, left = cpu.RAN, done
        while left and outcome == cpu.RAN:
            outcome = cpu.step()
            left -= 1
        if left:
            return done, ended.kind, f"exit {outcome} / {ended.kind}, {left} before"
        if ended.kind == Exit.PANIC or (ended.kind == Exit.HALT and outcome == cpu.RAN):
            outcome = cpu.step()
        return done, ended.kind, self.differences(KINDS[outcome], ended.kind)

    def packed(self) -> bytearray:
        """What the evaluator's CPU is in, as a record is."""
        cpu = self.left.cpu
        if isinstance(cpu, WrittenEvaluator):
            return cpu.packed()
        block = bytearray(self.recorder.size)
        struct.pack_into("<3Q", block, 0, cpu.pc_value, self.isa.contexts.index(cpu.ctx), cpu.traps)
        for f in self.isa.layout:
            struct.pack_into(f"<{f.count}{CODES[f.size]}", block, HEAD + f.offset, *cpu.state[f.name])
        return block

    def recorded(self, k: int) -> str:
        """How record ``k`` differs from the evaluator's state, as text."""
        size = self.recorder.size
        return "; ".join(self._texts(bytes(self.packed()), bytes(self.recorder.view[k * size:(k + 1) * size])))

    def _texts(self, ours: bytes, theirs: bytes) -> list[str]:
        heads = (struct.unpack_from("<3Q", block) for block in (ours, theirs))
        bad = [f"{name} {a:#x} / {b:#x}" for name, a, b in zip(("pc", "context", "traps"), *heads, strict=True) if a != b]
        for f in self.isa.layout:
            sides = [struct.unpack_from(f"<{f.count}{CODES[f.size]}", block, HEAD + f.offset) for block in (ours, theirs)]
            bad += [f"{f.names[n]} {a:#x} / {b:#x}" for n, (a, b) in enumerate(zip(*sides, strict=True)) if a != b]
        return bad

    def differences(self, kind: str, other: str) -> str:
        """What differs now, as text; "" for nothing."""
        left, right = self.left.cpu, self.right
        ours, base = self.packed(), B.BASE - HEAD
        same = left.pc_value == right.get("pc") and ours[8:16] == right._map[B.BASE + B.CTX:B.BASE + B.CTX + 8] and \
            left.traps == right.traps and all(ours[a:b] == right._map[base + a:base + b] for a, b in self._parts)
        bad = []
        if not same:
            theirs = struct.pack("<3Q", right.get("pc"), right.get("ctx"), right.traps)
            bad = self._texts(bytes(ours), theirs + right._map[B.BASE:base + len(ours)])
        if kind != other:
            bad.append(f"exit {kind} / {other}")
        if left.executed != right.instructions:
            bad.append(f"instructions {left.executed} / {right.instructions}")
        return "; ".join(bad)

    def lines(self, lines: int) -> None:
        """Input lines of both."""
        self.left.set("irq_lines", lines)
        self.right.set("irq_lines", lines)

    def memory_differs(self) -> str:
        a, b = self.rams[0].map[:], self.rams[1].map[:]
        if a == b:
            return ""
        at = next(k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        return f"memory at offset {at:#x}: {a[at:at + 8].hex()} / {b[at:at + 8].hex()}"

    def close(self) -> None:
        self.right.close()


def paired(
    config: Mapping[str, object], spans: Sequence[Span], library: NativeLibrary, tier: int = 0,
    known: Collection[str] | None = (),
) -> Pair:
    """Of RISC-V."""
    size = max(s.offset + s.size for s in spans)
    return Pair(library.get(BUILDER, config), lambda ram: OraclePort(BUILDER, config, ram, spans), size, tier, known)

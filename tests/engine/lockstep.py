"""Two executors of one ISA side by side: same start, same steps, every field compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from ratite.core.accel.base import Exit, Vcpu
from ratite.core.accel.interp import EvalVcpu
from ratite.core.engine.native import NativeIsa
from ratite.core.engine.region.manager import RegionManager
from ratite.core.engine.region.policy import Policy
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyPort, ToyRam

CODE_LIMIT = 4 << 20


class Eager(Policy):
    """Every place that a jump comes to is compiled at once, as far as code goes, decoded or not. ``tier``: 1 or 2; ``window``:
    whether regions go by windows."""

    def __init__(self, tier: int = 1, *, window: bool = False) -> None:
        super().__init__(threshold=1, synchronous=True)
        self.tier = tier
        self.window = window
        self.attempts = 1 << 30
        self.covered = 0

    def limits(self, tier: int, *, calls: bool = False, window: bool = False) -> dict[str, object]:
        return {**super().limits(self.tier, calls=self.tier == 2, window=self.window), "eager": True, "instructions": 48}

    def passes(self, tier: int) -> str:
        return super().passes(self.tier)


class Pair:
    """``left`` evaluates, ``right`` runs native code; each has RAM of its own with the same bytes."""

    def __init__(
        self, isa: Isa, native: NativeIsa, make_port: Callable[[ToyRam], ToyPort], size: int,
        regions: RegionManager | None = None,
    ) -> None:
        self.isa = isa
        self.rams = (ToyRam(size), ToyRam(size))
        self.ports = tuple(make_port(ram) for ram in self.rams)
        self.left: Vcpu = EvalVcpu(isa, self.ports[0], BusError)
        self.right = NativeVcpu(native, self.ports[1], BusError, CODE_LIMIT, regions)
        self.both: tuple[Vcpu, Vcpu] = (self.left, self.right)

    def write(self, offset: int, data: bytes) -> None:
        """The same bytes into both RAMs, with the marks honoured."""
        for cpu, ram in zip(self.both, self.rams, strict=True):
            ram.map[offset:offset + len(data)] = data
            cpu.invalidate(ram, offset, len(data))  # type: ignore[arg-type]

    def start(self, pc: int, state: Mapping[tuple[str, int], int]) -> None:
        for cpu in self.both:
            cpu.reset(pc)
            for (name, index), value in state.items():
                cpu.set(name, value, index)

    def lines(self, mask: int) -> None:
        for bit in range(12):
            for cpu in self.both:
                cpu.set_line(bit, bool(mask >> bit & 1))

    def step(self, count: int = 1) -> str:
        """Both go on; the kind of exit. AssertionError with the differences."""
        if count == 1:
            exits = [cpu.step() for cpu in self.both]
        else:
            done, ended = self.right.advance(count)
            exits = [self.left.step(done), ended]
            # neither finding nothing to fetch nor beginning to wait takes a step
            if ended.kind == Exit.PANIC or (ended.kind == Exit.HALT and exits[0].kind == Exit.BUDGET):
                exits[0] = self.left.step()
        assert exits[0].kind == exits[1].kind, (exits, self.where())
        self.compare()
        return exits[0].kind

    def where(self) -> str:
        pc = self.left.get("pc")
        return f"pc {pc:#x} / {self.right.get('pc'):#x}"

    def compare(self) -> None:
        bad = []
        for name in ("pc", "ctx"):
            if self.left.get(name) != self.right.get(name):
                bad.append((name, self.left.get(name), self.right.get(name)))
        for field in self.isa.layout:
            for k in range(field.count):
                a, b = self.left.get(field.name, k), self.right.get(field.name, k)
                if a != b:
                    bad.append((f"{field.name}[{k}]", hex(a), hex(b)))
        if self.left.instructions != self.right.instructions:
            bad.append(("instructions", self.left.instructions, self.right.instructions))
        assert not bad, (bad, self.where())

    def compare_memory(self) -> None:
        assert self.rams[0].map[:] == self.rams[1].map[:]
        assert self.ports[0].log == self.ports[1].log

    def close(self) -> None:
        self.right.close()


def random_state(rng: random.Random, isa: Isa, addresses: list[int]) -> dict[tuple[str, int], int]:
    """Values for every field: small numbers, addresses and anything."""
    state = {}
    for field in isa.layout:
        for k in range(field.count):
            kind = rng.random()
            value = rng.choice(addresses) + rng.randrange(-8, 64) if kind < 0.5 else (
                rng.randrange(-4, 16) if kind < 0.7 else rng.getrandbits(field.width))
            state[field.name, k] = value & (1 << field.width) - 1
    return state

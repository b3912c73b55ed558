"""Evaluator against tier 0, MicroBlaze: `python -m tests.oracle.microblaze_evaluator --count N --seed S --endian be|le`.

Random valid, mutated and random encodings over random state, with holes, a read-only range and a device in memory; every
field, pc, context and the counts after every instruction and trap, memory after every episode. One episode in four runs
threaded (tier 0 at full speed) and is compared where it stops.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence

from ratite.core.accel.base import Exit, RamRange
from ratite.core.engine import block as B
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.isa.isa import Isa
from ratite.targets.microblaze.isa import build
from ratite.targets.microblaze.stream import LINE_GET, LINE_PUT
from tests.engine.lockstep import Pair
from tests.engine.toy import ToyPort, ToyRam
from tests.oracle.microblaze_gen import Ledger, Maker, number

ISA = "ratite.targets.microblaze.isa:build"
EXCEPTIONS = {
    "unaligned-exceptions": True, "dopb-bus-exception": True, "iopb-bus-exception": True, "ill-opcode-exception": True,
    "div-zero-exception": True,
}
#: configurations, taken in turn
CONFIGS: tuple[Mapping[str, object], ...] = (
    EXCEPTIONS,
    {},
    {**EXCEPTIONS, "use-stack-protection": True, "opcode-0x0-illegal": True, "exclusive-access": False, "use-barrel": False,
     "base-vectors": 0x400, "pvr": 1},
    {**EXCEPTIONS, "use-mmu": 3},
    {**EXCEPTIONS, "use-mmu": 3, "mmu-zones": 3, "mmu-tlb-access": 2, "base-vectors": 0x400, "exclusive-access": False},
    {"use-mmu": 2},
    {"use-mmu": 1, "unaligned-exceptions": True},
    {**EXCEPTIONS, "fsl-links": 16, "use-extended-fsl-instr": True, "fsl-exception": True},
    {"fsl-links": 3, "use-mmu": 3, "mmu-privileged-instr": 1},
    {"use-div": False, "use-hw-mul": 1, "use-msr-instr": False, "use-pcmp-instr": False, "use-reorder-instr": False, "pvr": 0},
)
SHARD = 20_000
_PLACES = (0x40, 0x400, 0x1000, 0x2FF0, 0x3000, 0x8000, 0x9000, 0xAFF0, 0xC000, 0xCFF8, 0xF0000, 0x20000)
_CODE, _WORDS, _SIZE = 0x1000, 96, 0x7000


class Port(ToyPort):
    """RAM at 0 and at 0x8000, read-only memory at 0xC000, a counter at 0xF0000, nothing else."""

    ISA = ISA

    def __init__(self, ram: ToyRam, config: Mapping[str, object]) -> None:
        super().__init__(ram)
        self.config = config

    def ram_ranges(self) -> Sequence[RamRange]:
        host = self.ram.address
        return [RamRange(start, size, host + offset, self.ram, offset, readonly)  # type: ignore[arg-type]
                for start, size, offset, readonly in (
                    (0, 0x3000, 0, False), (0x8000, 0x3000, 0x3000, False), (0xC000, 0x1000, 0x6000, True))]


class MicroblazePair(Pair):
    """Compares quickly; looks closely where something differs."""

    def __init__(self, isa: Isa, native: NativeIsa, config: Mapping[str, object]) -> None:
        super().__init__(isa, native, lambda ram: Port(ram, config), _SIZE)
        self._fields = [(self.left.cpu.state[f.name], self.right._arrays[f.name]) for f in isa.layout]  # type: ignore[attr-defined]

    def start(self, pc: int, state: Mapping[tuple[str, int], int]) -> None:
        super().start(pc, state)
        self._fields = [
            (self.left.cpu.state[f.name], self.right._arrays[f.name]) for f in self.isa.layout]  # type: ignore[attr-defined]

    def compare(self) -> None:
        left, words = self.left.cpu, self.right._words  # type: ignore[attr-defined]
        same = left.pc_value == words[B.PC].value and left.executed == self.right.instructions and \
            left.traps == words[B.TRAPS].value and self.isa.contexts.index(left.ctx) == words[B.CTX].value
        if not same or any(a != b[:] for a, b in self._fields):
            super().compare()
            assert same, ("traps", left.traps, words[B.TRAPS].value)


class Run:
    """Episodes of one byte order."""

    def __init__(self, library: NativeLibrary, endian: str, configs: Sequence[Mapping[str, object]] = CONFIGS) -> None:
        self.pairs: list[MicroblazePair] = []
        for config in configs:
            full = {**config, "big": endian == "be"}
            self.pairs.append(MicroblazePair(build(full), library.get(ISA, full), full))

    def shard(self, seed: str, count: int) -> tuple[int, list[str]]:
        """At least ``count`` instructions and traps; (how many, differences)."""
        rng = random.Random(seed)
        done, differences, at = 0, [], rng.randrange(len(self.pairs))
        while done < count:
            pair = self.pairs[at % len(self.pairs)]
            at += 1
            before = _total(pair)
            episode = f"{seed}/{rng.getrandbits(48):x}"
            try:
                _episode(pair, random.Random(episode))
            except AssertionError as error:
                differences.append(f"{episode} (configuration {(at - 1) % len(self.pairs)}): {error}")
            done += _total(pair) - before
        return done, differences

    def close(self) -> None:
        for pair in self.pairs:
            pair.close()


def _total(pair: MicroblazePair) -> int:
    return int(pair.right.instructions + pair.right.traps)


def _episode(pair: MicroblazePair, rng: random.Random) -> None:
    maker = Maker(pair.isa, rng, 4 * _WORDS // 2)
    order = "big" if pair.isa.big_endian else "little"

    def code(words: int) -> bytes:
        return b"".join(maker.word(0.1, 0.04).to_bytes(4, order) for _ in range(words))  # type: ignore[arg-type]

    pair.write(_CODE - 2 * _WORDS, code(_WORDS))
    pair.write(0x0, code(24))
    pair.write(0x400, code(24))
    if "pid" in pair.isa.layout and rng.random() < 0.7:
        pair.write(0, _handlers(pair.isa))
    state = {}
    for field in pair.isa.layout:
        for k in range(field.count):
            state[field.name, k] = number(rng, _PLACES) & (1 << field.width) - 1
    state["msr", 0] = rng.getrandbits(15)
    if "pid" in pair.isa.layout:
        state |= _translations(rng, state["pid", 0])
    state["rset", 0], state["rclear", 0] = rng.choice(((2, 0), (0, 8), (0x100, 0x200)))
    pair.start(_CODE, state)
    _lines(pair, rng, rng.choice((0, 0, 0, 1, 2, 4, 8, rng.getrandbits(4))))
    if rng.random() < 0.25:  # from the normal context, where both look at the lines first
        pair.step(rng.randrange(2, 800))
    else:
        ctx = rng.choice((0, *range(len(pair.isa.contexts))))
        for cpu in pair.both:
            cpu.set("ctx", ctx)
        for n in range(192):
            if pair.step() == Exit.HALT:
                assert pair.left.has_work() == pair.right.has_work(), pair.where()
            if n % 16 == 15 and rng.random() < 0.3:
                _lines(pair, rng, rng.getrandbits(4))
    pair.compare_memory()
    for port in pair.ports:
        port.log.clear()


def _lines(pair: MicroblazePair, rng: random.Random, lines: int) -> None:
    """Input lines, and what stream links say where there are any: mostly that they are ready."""
    links = 0
    if "stall" in pair.isa.layout:
        links = sum((rng.random() < 0.9) << bit for bit in range(LINE_GET, LINE_PUT + 16))
    for cpu in pair.both:
        cpu.set("irq_lines", links)
    pair.lines(lines)


def _handlers(isa: Isa) -> bytes:
    """Vectors that lead back: behind what failed, or to what was interrupted."""
    nop = isa.assemble("or", rd=0, ra=0, rb=0)
    return b"".join((
        nop * 2, isa.assemble("rtbd", ra=16, imm=4), nop, isa.assemble("rtid", ra=14, imm=0), nop,
        isa.assemble("rtbd", ra=16, imm=0), nop, isa.assemble("rted", ra=17, imm=4), nop))


def _translations(rng: random.Random, pid: int) -> dict[tuple[str, int], int]:
    """A TLB in which the places that programs know are mostly mapped, half of them where they are."""
    state = {}
    for n in range(64):
        size = rng.choice((0, 0, 1, 1, 1, 1, 2, 3, rng.randrange(8)))
        kind = rng.random()
        place = rng.choice(_PLACES) & -0x400 if kind < 0.9 else rng.getrandbits(32)
        page = (1 << 10 + 2 * size) - 1
        other = place if rng.random() < 0.6 else rng.choice(_PLACES)
        valid = 0x40 if rng.random() < 0.4 else 0
        state["tlbhi", n] = (place & ~page) | size << 7 | valid
        access = rng.choice((0x300, 0x300, 0x300, 0x200, 0x100, 0))
        state["tlblo", n] = (other & ~page & 0xFFFFFC00) | access | rng.choice((0, 0x10, 0x20, rng.getrandbits(4) << 4)) \
            | (rng.random() < 0.05)
        state["tlbtid", n] = rng.choice((0, 0, pid, rng.getrandbits(8)))
    if rng.random() < 0.8:  # the code, as it lies
        state["tlbhi", 0], state["tlblo", 0], state["tlbtid", 0] = 0x140, 0x300, 0
    state["zpr", 0] = rng.choice((0x40000000, 0x7FFFFFFF, 0x55555555, 0xAAAAAAAA, 0xFFFFFFFF, 0, rng.getrandbits(32)))
    state["tlbsmall", 0] = 1
    state["behind", 0] = rng.choice((4, 8))
    return state


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=1e5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--endian", choices=("be", "le"), default="be")
    parser.add_argument("--ledger", default="")
    options = parser.parse_args(arguments)
    ledger = Ledger(options.ledger, {"oracle": "microblaze-evaluator", "endian": options.endian, "seed": options.seed})
    shard, total, failed = ledger.done()
    run = Run(NativeLibrary(), options.endian)
    while total < options.count:
        count, differences = run.shard(f"{options.seed}:{shard}", min(SHARD, int(options.count)))
        ledger.add(shard, count, differences)
        shard, total, failed = shard + 1, total + count, failed + len(differences)
        for text in differences[:3]:
            print(text, flush=True)
    run.close()
    print(f"microblaze-evaluator {options.endian}: {total} instructions and traps, seed {options.seed}, {shard} shards, "
          f"commit {ledger.key['commit']}, {failed} differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

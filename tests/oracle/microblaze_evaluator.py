"""Evaluator against native code, MicroBlaze: `python -m tests.oracle.microblaze_evaluator --count N --endian be|le [--tier 2]`.

Random valid, mutated and random encodings over random state, with holes, a read-only range and a device in memory; every
field, pc, context and the counts after every instruction and trap, memory after every episode. One episode in four runs
threaded (tier 0 at full speed) and is compared where it stops. With ``--tier`` the same code is run from many states, in
bursts, since a region has no boundaries of instructions.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence

from ratite.core.accel.base import Exit, RamRange
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.isa.isa import Isa
from ratite.targets.microblaze.stream import LINE_GET, LINE_PUT
from tests.engine.toy import ToyPort, ToyRam
from tests.oracle.driver import Job, command, plainly
from tests.oracle.ledger import Chunk
from tests.oracle.microblaze_gen import Maker, number
from tests.oracle.pair import Pair

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
ALIKE, STEPS, PLACES = 200, 200, 8  # episodes in regions with the same code, how long they are, where they begin
_PLACES = (0x40, 0x400, 0x1000, 0x2FF0, 0x3000, 0x8000, 0x9000, 0xAFF0, 0xC000, 0xCFF8, 0xF0000, 0x20000)
_CODE, _WORDS, _SIZE = 0x1000, 96, 0x7000
# start, size, offset, read-only
_RANGES = ((0, 0x3000, 0, False), (0x8000, 0x3000, 0x3000, False), (0xC000, 0x1000, 0x6000, True))


class Port(ToyPort):
    """RAM at 0 and at 0x8000, read-only memory at 0xC000, a counter at 0xF0000, nothing else."""

    ISA = ISA

    def __init__(self, ram: ToyRam, config: Mapping[str, object]) -> None:
        super().__init__(ram)
        self.config = config

    def ram_ranges(self) -> Sequence[RamRange]:
        host = self.ram.address
        return [RamRange(start, size, host + offset, self.ram, offset, readonly)  # type: ignore[arg-type]
                for start, size, offset, readonly in _RANGES]


class MicroblazePair(Pair):
    """With a device that keeps what it was told."""

    def __init__(self, native: NativeIsa, config: Mapping[str, object], tier: int, *, plain: bool = False) -> None:
        self.ports: list[Port] = []

        def make(ram: ToyRam) -> Port:
            self.ports.append(Port(ram, config))
            return self.ports[-1]

        super().__init__(native, make, _SIZE, tier, None if plain else ("number",))

    def memory_differs(self) -> str:
        logs = [port.log.copy() for port in self.ports]
        for port in self.ports:
            port.log.clear()
        return super().memory_differs() or ("" if logs[0] == logs[1] else f"device {logs[0]} / {logs[1]}")


class Run:
    """Episodes of one byte order."""

    def __init__(
        self, library: NativeLibrary, endian: str, configs: Sequence[Mapping[str, object]] = CONFIGS, tier: int = 0,
        *, plain: bool = False,
    ) -> None:
        self.tier = tier
        self.pairs: list[MicroblazePair] = []
        for config in configs:
            full = {**config, "big": endian == "be"}
            self.pairs.append(MicroblazePair(library.get(ISA, full), full, tier, plain=plain))

    def chunk(self, seed: int | str, count: int) -> Chunk:
        """At least ``count`` instructions and traps."""
        rng = random.Random(seed)
        at = rng.randrange(len(self.pairs))
        done = 0
        differences: list[str] = []
        traps, compiled = (sum(counts) for counts in zip(*map(_counts, self.pairs), strict=True))
        while done < count and len(differences) < 10:
            pair = self.pairs[at % len(self.pairs)]
            at += 1
            before = _total(pair)
            episode = f"{seed}/{rng.getrandbits(48):x}"
            text = _alike(pair, episode) if self.tier else _episode(pair, random.Random(episode))
            if text:
                differences.append(f"{episode} (configuration {(at - 1) % len(self.pairs)}): {text}")
            done += _total(pair) - before
        after = (sum(counts) for counts in zip(*map(_counts, self.pairs), strict=True))
        return Chunk(done, next(after) - traps, differences, next(after) - compiled)

    def close(self) -> None:
        for pair in self.pairs:
            pair.close()


def _counts(pair: MicroblazePair) -> tuple[int, int]:
    """Traps, and instructions in regions."""
    return pair.right.traps, pair.right.compiled_instructions


def _total(pair: MicroblazePair) -> int:
    return int(pair.right.instructions + pair.right.traps)


def _code(pair: MicroblazePair, rng: random.Random, words: int) -> bytes:
    maker = Maker(pair.isa, rng, 4 * _WORDS // 2)
    order = "big" if pair.isa.big_endian else "little"
    return b"".join(maker.word(0.1, 0.04).to_bytes(4, order) for _ in range(words))  # type: ignore[arg-type]


def _returning(pair: MicroblazePair, rng: random.Random) -> bytes:
    """The code at 0: empty, or vectors that lead back."""
    return _handlers(pair.isa) if "pid" in pair.isa.layout and rng.random() < 0.7 else b""


def _begin(pair: MicroblazePair, rng: random.Random, pc: int) -> None:
    """From any state."""
    state = {}
    for field in pair.isa.layout:
        for k in range(field.count):
            state[field.name, k] = number(rng, _PLACES) & (1 << field.width) - 1
    state["msr", 0] = rng.getrandbits(15)
    if "pid" in pair.isa.layout:
        state |= _translations(rng, state["pid", 0])
    state["rset", 0], state["rclear", 0] = rng.choice(((2, 0), (0, 8), (0x100, 0x200)))
    pair.start(pc, state)
    _lines(pair, rng, rng.choice((0, 0, 0, 1, 2, 4, 8, rng.getrandbits(4))))


def _episode(pair: MicroblazePair, rng: random.Random) -> str:
    """The first difference."""
    image = bytearray(pair.rams[0].map[:])
    for at, code in ((_CODE - 2 * _WORDS, _code(pair, rng, _WORDS)), (0, _code(pair, rng, 24)), (0x400, _code(pair, rng, 24)),
                     (0, _returning(pair, rng))):
        image[at:at + len(code)] = code
    pair.fill(bytes(image))
    _begin(pair, rng, _CODE)
    text, kind = "", Exit.BUDGET
    if rng.random() < 0.25:  # from the normal context, where both look at the lines first
        _, _, text = pair.burst(rng.randrange(2, 800))
        return text or pair.memory_differs()
    ctx = rng.choice((0, *range(len(pair.isa.contexts))))
    for cpu in (pair.left, pair.right):
        cpu.set("ctx", ctx)
    total = 0
    while total < 192 and kind != Exit.PANIC:
        done, kind, text = pair.singles(16)
        total += max(1, done)
        if not text and kind == Exit.HALT and pair.left.has_work() != pair.right.has_work():
            text = "it has work"
        if text:
            return text
        if rng.random() < 0.3:
            _lines(pair, rng, rng.getrandbits(4))
    return pair.memory_differs()


def _alike(pair: MicroblazePair, seed: str) -> str:
    """Episodes with the same code, which is compiled; the first difference."""
    rng = random.Random(seed)
    pair.tier.reseed(seed)
    image = _returning(pair, rng)
    image += _code(pair, rng, (_SIZE - len(image)) // 4)
    places = [start + rng.randrange(0, size, 4) for start, size, _, _ in rng.choices(_RANGES, k=PLACES)]
    for _ in range(ALIKE):
        pair.fill(image)
        _begin(pair, rng, rng.choice(places))
        total = 0
        while total < STEPS:
            done, kind, text = pair.burst(rng.randrange(2, 60))
            total += done
            if text:
                return text
            if kind != Exit.BUDGET or not _inside(pair):
                break
        text = pair.memory_differs()
        if text:
            return text
    return ""


def _lines(pair: MicroblazePair, rng: random.Random, lines: int) -> None:
    """Input lines, and what stream links say where there are any: mostly that they are ready."""
    links = 0
    if "stall" in pair.isa.layout:
        links = sum((rng.random() < 0.9) << bit for bit in range(LINE_GET, LINE_PUT + 16))
    pair.lines(links | lines)


def _inside(pair: MicroblazePair) -> bool:
    """Whether code goes on in memory. Elsewhere it may be all 0, which leads nowhere."""
    pc = pair.left.get("pc")
    return any(start <= pc < start + size for start, size, _, _ in _RANGES)


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


def job(args: Namespace) -> Job:
    run = Run(NativeLibrary(), args.endian, tier=args.tier, plain=args.plain)
    return Job(run.pairs[0].tier.named("microblaze-evaluator"), args.endian, run.chunk, run)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, endian=True, tier=True, more=plainly, count=100_000, chunk=20_000))

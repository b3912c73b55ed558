"""Soak: the evaluator against native code on random RISC-V code, state compared after every instruction.

    python -m tests.oracle.riscv_evaluator --count 10000000 --seed 1 --xlen 64 --ledger soak.jsonl [--tier 2]

An image of random code fills a RAM with a hole, a read-only part and one for data; episodes run over it from random states, in
single steps (lines changing in between; native code records what each left) or in short bursts of the threaded
interpreter. What evaluates is written down as Python first (``written``), but with ``--plain``. Everything may trap,
handlers are more random code, and stores hit code. One chunk is one seed, and reproduces alone.

A region has no boundaries of instructions: with ``--tier`` all goes by bursts, which end where the region looks at its
budget, and many episodes begin at the same few places, so that what was compiled there is run.
"""

from __future__ import annotations

import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.isa.isa import Insn
from ratite.core.isa.value import signed
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.isa import csr_table
from tests.oracle.driver import Job, command, plainly
from tests.oracle.fp_operands import operand
from tests.oracle.ledger import Chunk
from tests.oracle.pair import Pair, Span, paired
from tests.oracle.riscv_floats import is_float
from tests.oracle.streams import numbers, random_word, wild

CODE = (Span(0x10000, 0x4000, 0), Span(0x15000, 0x4000, 0x4000), Span(0x19000, 0x1000, 0x8000, readonly=True))
DATA = Span(0x1B000, 0x2000, 0x9000)  # where nothing jumps to, so that stores go past the check for code
SPANS = (*CODE, DATA)
CODE_SIZE, SIZE = 0x9000, 0xB000
STEPS = 500
EPISODES, ENTRIES = (20, 3000, 3000), 8  # of an image, by tier; places at which those in regions begin
POOL = 4000
FLOATS = 0.3  # of the instructions of floating point that come up are taken
KNOWN = ("csr", "rm", "funct3")  # operands of which each value gets evaluating code of its own
RARE = ("wfi", "fence.i", "ecall", "ebreak", "mret")
MEMORY = ("lb", "lh", "lw", "ld", "lr", "sb", "sh", "sw", "sd", "sc")
LINES = (1 << 3, 1 << 7, 1 << 11)


class Stream:
    """Random images and states of one seed. Three registers hold addresses most of the time, so that code lives on. Loads,
    stores and accesses to registers come up four times as often as each other kind of instruction."""

    lines_used: tuple[int, ...] = LINES
    longest = 50  # instructions between two looks

    def __init__(self, pair: Pair, seed: int) -> None:
        self.rng = random.Random(seed)
        self.isa = pair.isa
        self.csrs: list[int] = list(csr_table(Features({"word-size": self.isa.word})))
        groups: dict[str, list[Insn]] = {}
        for insn in self.isa.insns:
            groups.setdefault(insn.like, []).append(insn)
        often = (*MEMORY, "csr")
        self.groups = [group for name, group in groups.items() for _ in range(4 if name.startswith(often) else 1)]
        self.bases = (2, self.rng.randrange(8, 16), self.rng.randrange(8, 16))
        self.pool = [self._one() for _ in range(POOL)]

    def image(self) -> bytes:
        """A RAM full of code, and data; a part of the pool is new each time."""
        for _ in range(POOL // 20):
            self.pool[self.rng.randrange(POOL)] = self._one()
        return b"".join(self.rng.choices(self.pool, k=CODE_SIZE // 2))[:CODE_SIZE] + self.rng.randbytes(DATA.size)

    def _one(self) -> bytes:
        rng, isa = self.rng, self.isa
        if rng.random() < 0.06:
            return wild(rng, isa, isa.insns)
        insn = rng.choice(rng.choice(self.groups))
        if (insn.name in RARE and rng.random() < 0.9) or (is_float(insn) and rng.random() > FLOATS):
            return self._one()
        word = random_word(rng, insn)
        found = isa.decode(word, insn.length)
        if found is None:
            return isa.to_bytes(word, insn.length)
        insn, operands = found
        if operands.get("rd") in self.bases and rng.random() < 0.85:
            return self._one()
        values = {field: signed(operands[operand], isa.word) if isa.fields[field].signed else operands[operand]
                  for operand, field in insn.operands.items()}
        self._tame(insn, values)
        return isa.to_bytes(insn.pattern.encode(values, isa.fields), insn.length)

    def _tame(self, insn: Insn, values: dict[str, int]) -> None:
        """Operands that let code go on: known registers, near targets, addresses in RAM."""
        rng = self.rng
        if "csr" in values:
            if rng.random() < 0.9:
                values["csr"] = rng.choice(self.csrs)
        elif insn.relative:
            if insn.length == 4 and rng.random() < 0.8:
                values["imm"] = rng.randrange(-256, 256) & ~1
        elif insn.like[:2] in (*MEMORY, "am") and "rs1" in values and rng.random() < 0.9:
            values["rs1"] = rng.choice(self.bases)
            if "imm" in values and rng.random() < 0.8:
                values["imm"] = rng.randrange(-64, 64)

    def address(self) -> int:
        span = self.rng.choice(SPANS)
        at = span.start + self.rng.choice((0, span.size, self.rng.randrange(span.size))) + self.rng.randrange(-8, 9)
        return at & -8 if self.rng.random() < 0.6 else at

    def code_address(self) -> int:
        span = self.rng.choice(CODE)
        return span.start + self.rng.randrange(0, span.size, 2)

    def state(self) -> dict[tuple[str, int], int]:
        rng, word = self.rng, self.isa.word
        state = {("x", k): self.address() if rng.random() < 0.3 else numbers(rng, word) for k in range(1, 32)}
        for k in self.bases:
            state["x", k] = rng.choice(CODE[:2] * 3 + CODE[2:] + (DATA,) * 5).start + 8 * rng.randrange(0x1FF)
        state["mtvec", 0] = self.code_address() & -4 | rng.getrandbits(1)
        state["mepc", 0] = self.code_address() & -self.isa.parcel
        state["mstatus", 0] = 0x1800 | rng.getrandbits(2) << 3 & 8 | rng.getrandbits(1) << 7
        state["mie", 0] = sum(rng.choice((0, line)) for line in LINES)
        for name in ("mcause", "mtval", "mscratch", "mhartid", "mcycle", "minstret"):
            state[name, 0] = numbers(rng, word)
        state["mcountinhibit", 0] = rng.choice((0, 0, 1, 4, 5))
        if "f" in self.isa.layout:
            state["mstatus", 0] |= self.fs()
            state["fflags", 0], state["frm", 0] = rng.getrandbits(5), rng.choice((0, 0, 1, 2, 3, 4, 5, 6, 7))
            for k in range(32):
                state["f", k] = operand(64, rng) if rng.random() < 0.5 else operand(32, rng) | 0xFFFFFFFF << 32
        return state

    def between(self, pair: Pair) -> None:
        """Called where both stand at the same place in an episode."""

    def fs(self) -> int:
        """mstatus.FS, and SD where it is dirty."""
        fs = self.rng.choice((0, 1, 2, 3, 3, 3))
        return fs << 13 | (fs == 3) << self.isa.word - 1

    def lines(self) -> int:
        return sum(self.rng.choice((0, 0, line)) for line in self.lines_used) | (self.rng.getrandbits(16) << 16)


def run_chunk(pair: Pair, seed: int, count: int, make: Callable[[Pair, int], Stream] = Stream) -> Chunk:
    """Compares ``count`` instructions of the stream of ``seed``, or a little more."""
    stream, tier = make(pair, seed), pair.tier.number
    pair.tier.reseed(seed)
    rng, steps = stream.rng, 0
    before, compiled = pair.left.cpu.traps, pair.right.compiled_instructions
    differences: list[str] = []
    episode = 0
    while steps < count and not differences:
        image = stream.image()
        places = [stream.code_address() & -pair.isa.parcel for _ in range(ENTRIES)]
        for _ in range(EPISODES[tier]):
            episode += 1
            pair.fill(image)
            lines = stream.lines() if rng.random() < 0.3 else 0
            place = rng.choice(places) if tier else stream.code_address() & -pair.isa.parcel
            pair.start(place, stream.state(), lines)
            done, text = run_episode(pair, stream, not tier and rng.random() < 0.5)
            steps += done
            if text:
                differences.append(f"episode {episode}: {text}")
                break
            if steps >= count:
                break
    return Chunk(steps, pair.left.cpu.traps - before, differences, pair.right.compiled_instructions - compiled)


def run_episode(pair: Pair, stream: Stream, single: bool) -> tuple[int, str]:
    """Up to STEPS instructions; (how many, the first difference)."""
    rng, total, traps = stream.rng, 0, pair.left.cpu.traps
    while total < STEPS:
        pc = pair.left.cpu.pc_value
        if total:
            stream.between(pair)
        if single and total and rng.random() < 0.8:
            pair.lines(stream.lines())
        done, kind, text = (pair.singles if single else pair.burst)(rng.randrange(2, stream.longest))
        total += done
        if text:
            return total, f"{'singles' if single else 'burst'} of {done} from {pc:#x}: {where(pair, pc)}: {text}"
        if kind == Exit.PANIC or pair.left.cpu.traps - traps > 20 + total // 4:  # a handler that only traps
            break
    return total, pair.memory_differs()


def where(pair: Pair, pc: int) -> str:
    """The instruction at ``pc``, as it is now."""
    for span in SPANS:
        if span.start <= pc < span.start + span.size:
            at = pc - span.start + span.offset
            rows = pair.isa.disassemble(pc, pair.rams[0].map[at:at + 4])
            return rows[0][2] if rows else "?"
    return "no code"


def more(parser: ArgumentParser) -> None:
    plainly(parser)
    parser.add_argument("--without", default="", help="extensions to leave out, as in 'a c'")


def job(args: Namespace) -> Job:
    off = args.without.split()
    config: dict[str, object] = {"word-size": args.xlen, "f": True, "d": True, **dict.fromkeys(off, False)}
    pair = paired(config, SPANS, NativeLibrary(), args.tier, None if args.plain else KNOWN)
    return Job(pair.tier.named("riscv-evaluator"), pair.isa.name, lambda seed, count: run_chunk(pair, seed, count), pair)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, xlen=True, tier=True, more=more, count=100_000, chunk=200_000))

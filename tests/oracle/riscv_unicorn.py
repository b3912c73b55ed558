"""Soak: native code against unicorn on random RISC-V code of machine mode, compared by memory after each batch.

    python -m tests.oracle.riscv_unicorn --count 100000000 --seed 1 --xlen 64 --ledger soak.jsonl [--tier 2]

A program runs one random body (100 to 2,000 instructions) from many random states: it loads registers from a row of a table,
runs the body, stores registers, mcause, mtval and mepc into the row, and goes on with the next row. So a batch is a body from
one state, and its digest is the row and the data area. What is counted is what the bodies execute. Half of the bodies have
floating point. What this judge can't judge is in docs/oracles.md.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace

from unicorn import riscv_const

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from tests.oracle.driver import Job, command
from tests.oracle.ledger import Chunk
from tests.oracle.riscv_bodies import Bodies
from tests.oracle.riscv_rows import DATA, MCAUSE, MEPC, MSCRATCH, MTVAL, Program, States, describe, room
from tests.oracle.unicorn_pair import START, UnicornPair, smallest

STATES = (64, 2048, 2048)  # by tier: compiling takes long, so what was compiled runs longer
CODE = 0x4000  # bytes of a program
POOL, POOL_LIFE = 1500, 200  # items of a pool; bodies made from it
FLOATS = 0.25  # share of items
MSTATUS, FS_INITIAL = 0x300, 0x2000
MISC = 0x100  # bytes behind all else


class Judged(UnicornPair):
    """Programs of machine mode: code, data and the table, one behind the other."""

    def __init__(self, xlen: int, library: NativeLibrary, tier: int = 0) -> None:
        self.states = STATES[tier]
        self.rows = CODE + DATA
        super().__init__({"word-size": xlen, "f": True, "d": True}, library, self.rows + room(self.states) + 4096, tier)

    def run(self, program: bytes, end: int, rest: bytes) -> str:
        """Runs it on both; what went wrong, "" for nothing. ``rest``: data and table."""
        self.both({0: program, CODE: rest})
        self.cpu.invalidate(self.ram, 0, len(program))
        self.cpu.reset(START)
        self.cpu.set("mscratch", START + self.rows)
        self.cpu.set("mtvec", 0)
        self.cpu.set("mstatus", self.cpu.get("mstatus") | FS_INITIAL)
        self.uc.ctl_remove_cache(START, START + len(program))
        problem = self._judge_csrs() or self.judge(START, START + end)
        _, ended = self.cpu.advance(100_000_000)
        if ended.kind != Exit.HALT or self.cpu.get("pc") != START + end + 4:
            problem += f"; {ended!r}, {self.native_state()}"
        return problem or self.differences()

    def differences(self) -> str:
        """Between the RAMs."""
        at = self.first_difference()
        if at is None:
            return ""
        tables = (ram.map[self.rows:self.rows + room(self.states)] for ram in (self.ram, self.judge_ram))
        return describe(self.isa, self.states, *tables) or f"data at {at:#x}"

    def _judge_csrs(self) -> str:
        """mscratch to the table, FS as ours, the CSRs that are compared to 0, by a little code of its own."""
        a = self.isa.assemble
        code = b"".join(a("csrrw", rd=0, csr=n, rs1=0) for n in (MEPC, MCAUSE, MTVAL))
        code += a("csrrw", rd=0, csr=MSCRATCH, rs1=31) + a("csrrc", rd=0, csr=MSTATUS, rs1=29)
        code += a("csrrs", rd=0, csr=MSTATUS, rs1=30)
        for k, value in ((29, 0x6000), (30, FS_INITIAL), (31, START + self.rows)):
            self.uc.reg_write(riscv_const.UC_RISCV_REG_X0 + k, value)
        at = self.size - MISC
        self.both({at: code})
        return self.judge(START + at, START + at + len(code))


def run_chunk(judged: Judged, seed: int, count: int) -> Chunk:
    """Compares ``count`` instructions of bodies or a little more."""
    rng = random.Random(seed)
    judged.tier.reseed(seed)
    done = made = 0
    compiled = judged.cpu.compiled_instructions
    while done < count:
        if made % POOL_LIFE == 0:
            bodies = Bodies(judged.isa, rng, POOL, FLOATS * (seed + made // POOL_LIFE & 1))
            program, states = Program(bodies), States(rng, bodies, judged.states)
        made += 1
        items = rng.choices(bodies.pool, k=rng.randrange(70, 600))
        rest = rng.randbytes(DATA) + states.table([START + CODE])

        def run(items: list[bytes], program: Program = program, rest: bytes = rest) -> str:
            return judged.run(*program.around(b"".join(items)), rest)

        before = judged.cpu.instructions
        problem = run(items)
        done += judged.cpu.instructions - before - program.overhead * judged.states
        if problem:
            text = f"body {made}: {problem}\n{smallest(items, run, judged)}"
            return Chunk(done, 0, [text], judged.cpu.compiled_instructions - compiled)
    return Chunk(done, 0, [], judged.cpu.compiled_instructions - compiled)


def job(args: Namespace) -> Job:
    judged = Judged(args.xlen, NativeLibrary(), args.tier)
    return Job(judged.tier.named("riscv-unicorn"), judged.isa.name, lambda seed, count: run_chunk(judged, seed, count), judged)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, xlen=True, tier=True, count=1_000_000, chunk=20_000_000))

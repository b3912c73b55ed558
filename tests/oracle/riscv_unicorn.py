"""Soak: tier 0 against unicorn on random RISC-V code, compared by memory after each batch.

    python -m tests.oracle.riscv_unicorn --count 100000000 --seed 1 --xlen 64 --ledger soak.jsonl

A program runs one random body (100 to 1,000 instructions) from several random states: it loads x1…x31 from a row of a
table, runs the body, stores x1…x31, mcause, mtval and mepc into the row, and goes on with the next row. So a batch is a
body from one state, and its digest is the row and the data area. What is counted is what the bodies execute.
What this judge can't judge is in docs/oracles.md.
"""

from __future__ import annotations

import argparse
import random
import sys
from functools import partial
from pathlib import Path

import unicorn
from unicorn import riscv_const

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.ledger import Chunk, Ledger, soak
from tests.oracle.pair import CODE_LIMIT, OraclePort, Span
from tests.oracle.riscv_bodies import Bodies
from tests.oracle.streams import numbers

BUILDER = "ratite.targets.riscv.isa:build"
START, SIZE = 0x10000, 0x8000
CODE, ROWS, DATA = 0, 0x4000, 0x6000  # offsets: program, table of states, data
ROW = 0x400  # a row: 0: there is one; from 8: x1…x31; 0x200: x1…x31 afterwards and CSRs
STATES = 7
POOL, POOL_LIFE = 3000, 400  # items of a pool; bodies made from it


class Program:
    """The code around a body."""

    def __init__(self, bodies: Bodies) -> None:
        a, word = bodies.a, bodies.isa.word
        load, store, n = ("ld", "sd", 8) if word == 64 else ("lw", "sw", 4)
        self.n = n
        self.head = a("csrrs", rd=31, csr=0x340, rs1=0) + b"".join(
            a(load, rd=k, rs1=31, imm=n * k) for k in range(1, 32))
        out = a("csrrw", rd=31, csr=0x340, rs1=31) + b"".join(a(store, rs1=31, rs2=k, imm=0x200 + n * k) for k in range(1, 31))
        for k, csr in enumerate((0x340, 0x341, 0x342, 0x343)):
            out += a("csrrs", rd=1, csr=csr, rs1=0) + a(store, rs1=31, rs2=1, imm=0x200 + n * (31 + k))
        out += a("addi", rd=31, rs1=31, imm=ROW) + a("csrrw", rd=0, csr=0x340, rs1=31)
        out += a(load, rd=1, rs1=31, imm=0) + a("beq", rs1=1, rs2=0, imm=8)
        self.tail = out
        self.back = partial(a, "jal", rd=0)
        self.stop = a("wfi")
        self.overhead = len(self.head) // 4 + len(out) // 4 + 1  # instructions per state besides the body

    def around(self, body: bytes) -> tuple[bytes, int]:
        """(program, address where it ends)."""
        code = self.head + body + self.tail
        code += self.back(imm=-len(code))
        return code + self.stop, START + len(code)


class Judged:
    """Tier 0 and unicorn, each with a RAM of its own."""

    def __init__(self, xlen: int, library: NativeLibrary) -> None:
        config: dict[str, object] = {"word-size": xlen}
        native = library.get(BUILDER, config)
        self.isa = native.isa
        self.xlen = xlen
        self.ram, self.judge_ram = ToyRam(SIZE), ToyRam(SIZE)
        self.cpu = NativeVcpu(native, OraclePort(BUILDER, config, self.ram, [Span(START, SIZE, 0)]), BusError, CODE_LIMIT)
        self.uc = unicorn.Uc(
            unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64 if xlen == 64 else unicorn.UC_MODE_RISCV32)
        self.uc.mem_map_ptr(START, SIZE, unicorn.UC_PROT_ALL, self.judge_ram.address)

    def run(self, program: bytes, end: int, rest: bytes) -> str:
        """Runs it on both; what went wrong, "" for nothing. ``rest``: the RAM from ROWS on."""
        for ram in (self.ram, self.judge_ram):
            ram.map[CODE:CODE + len(program)] = program
            ram.map[ROWS:SIZE] = rest
        self.cpu.invalidate(self.ram, 0, len(program))  # type: ignore[arg-type]
        self.cpu.reset(START)
        self.cpu.set("mscratch", START + ROWS)
        self.cpu.set("mtvec", 0)
        self.uc.ctl_remove_cache(START, START + len(program))
        self.uc.reg_write(riscv_const.UC_RISCV_REG_X31, START + ROWS)
        problem = ""
        try:
            self._judge_csrs()
            self.uc.emu_start(START, end)
        except unicorn.UcError as error:
            problem = f"unicorn: {error} at {self.uc.reg_read(riscv_const.UC_RISCV_REG_PC):#x}"
        _, ended = self.cpu.advance(1_000_000)
        if ended.kind != Exit.HALT or self.cpu.get("pc") != end + 4:
            problem += f"; tier 0: {ended!r} at {self.cpu.get('pc'):#x}, mcause {self.cpu.get('mcause'):#x}, " \
                       f"mepc {self.cpu.get('mepc'):#x}"
        return problem

    def _judge_csrs(self) -> None:
        """mscratch to the table, the CSRs that are compared to 0, by a little code of its own."""
        a = self.isa.assemble
        code = b"".join(a("csrrw", rd=0, csr=n, rs1=0) for n in (0x341, 0x342, 0x343)) + a("csrrw", rd=0, csr=0x340, rs1=31)
        at = SIZE - 0x100  # behind all else, and put back
        kept = self.judge_ram.map[at:at + len(code)]
        self.judge_ram.map[at:at + len(code)] = code
        self.uc.emu_start(START + at, START + at + len(code))
        self.judge_ram.map[at:at + len(code)] = kept

    def close(self) -> None:
        self.cpu.close()


def run_chunk(judged: Judged, seed: int, count: int, keep: str = "/tmp") -> Chunk:
    """Compares ``count`` instructions of bodies or a little more. A program that tells a difference is kept in the folder
    ``keep``."""
    rng = random.Random(seed)
    done = made = 0
    differences: list[str] = []
    while done < count and not differences:
        if made % POOL_LIFE == 0:
            bodies = Bodies(judged.isa, rng, POOL)
            program = Program(bodies)
        made += 1
        code, end = program.around(bodies.body(rng.randrange(70, 600)))
        rest = table(rng, bodies, program.n)
        before = judged.cpu.instructions
        problem = judged.run(code, end, rest)
        done += judged.cpu.instructions - before - program.overhead * STATES
        if problem or judged.ram.map[ROWS:SIZE] != judged.judge_ram.map[ROWS:SIZE]:
            differences.append(f"body {made}: {problem or describe(judged, bodies, program)}")
            if keep:
                Path(keep, f"riscv-unicorn-{judged.xlen}-{seed}-{made}.bin").write_bytes(code.ljust(ROWS, b"\0") + rest)
    return Chunk(done, 0, differences)


def table(rng: random.Random, bodies: Bodies, n: int) -> bytes:
    """States and data: the bases hold addresses, the other registers anything."""
    rows = []
    for _ in range(STATES):
        values = [1, *(numbers(rng, 8 * n) for _ in range(31))]
        for base in bodies.bases:
            values[base] = START + DATA + 0x800 + 8 * rng.randrange(0x10)
        rows.append(b"".join(v.to_bytes(n, "little") for v in values).ljust(ROW, b"\0"))
    return b"".join(rows).ljust(DATA - ROWS, b"\0") + rng.randbytes(SIZE - DATA)


def describe(judged: Judged, bodies: Bodies, program: Program) -> str:
    """The first row that differs, or where the data does."""
    n, ours, theirs = program.n, judged.ram.map, judged.judge_ram.map
    names = [*(judged.isa.layout["x"].names[k] for k in range(31)), "t6", "mepc", "mcause", "mtval"]
    for k in range(STATES):
        at = ROWS + k * ROW + 0x200
        bad = []
        for slot, name in enumerate(names):
            a, b = (int.from_bytes(m[at + n * slot:at + n * slot + n], "little") for m in (ours, theirs))
            if a != b:
                bad.append(f"{name} {a:#x} / {b:#x}")
        if bad:
            return f"state {k}: " + "; ".join(bad)
    at = next((k for k in range(ROWS, SIZE) if ours[k] != theirs[k]), 0)
    return f"data at {at:#x}: {ours[at:at + 8].hex()} / {theirs[at:at + 8].hex()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--xlen", type=int, choices=(32, 64), default=64)
    parser.add_argument("--chunk", type=int, default=5_000_000)
    parser.add_argument("--ledger")
    args = parser.parse_args()
    judged = Judged(args.xlen, NativeLibrary())
    ledger = Ledger(args.ledger, "riscv-unicorn", judged.isa.name)
    return 1 if soak(ledger, args.seed, args.count, partial(run_chunk, judged), args.chunk) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Soak: every floating-point instruction of RISC-V in every rounding mode on directed operands, tiers 0, 1 and 2 against
qemu-system-riscv64 or -riscv32.

    python -m tests.oracle.riscv_fp_qemu --count 205000000 --xlen 64 --qemu PATH --ledger soak.jsonl

A seed is two tables of operands (see ``fp_operands``) and one of four programs, which differ in registers, in where the
rounding mode comes from and in whether NX is set before (then QEMU too lets its host compute): a loop per instruction and
mode that writes what is in the f and in the x register behind it, and fflags. ``--no-fma``: tier 0 alone, without the host's
fused multiply-add. QEMU runs it on memory that it shares, each tier on its own; the results are compared as a whole, and
where they differ the first row is looked for. Nothing is left out.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from array import array

from ratite.core.accel.base import Exit
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Insn, Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.driver import Job, command
from tests.oracle.fp_operands import table
from tests.oracle.ledger import Chunk
from tests.oracle.pair import BUILDER, CODE_LIMIT, Span
from tests.oracle.riscv_fp import DYN, ROW, cases, native_of, width_of
from tests.oracle.riscv_qemu import FINISHER, START, SerialPort, qemu_of
from tests.oracle.tiers import Loops, Tier

ROWS = 8192  # of a table
PROGRAMS, PROGRAM = 4, 0x10000  # how many, bytes of each
TABLES = 0x100000  # behind the programs
SPARE = 8 << 20  # behind everything, where QEMU puts its device tree
INPUTS, ENDS, OUTPUTS, SECOND, SECOND_END = 10, 11, 16, 20, 21  # x registers: the tables' rows and ends, and the results
TIERS = (0, 1, 2)
Pairs = list[tuple[Insn, int | None]]


def result_size(isa: Isa) -> int:
    """Bytes of a row's results: the f register, the x register, fflags."""
    return 8 + 2 * isa.word // 8


def program(isa: Isa, pairs: Pairs, number: int) -> bytes:
    """Program ``number`` of PROGRAMS: x10 and x11 are the ends of the table of singles, x20 and x21 of that of doubles, x16
    is where results go."""
    a, rng = isa.assemble, random.Random(f"registers {number}")
    code = [a("lui", upper=0x6000, rd=5), a("csrrs", rd=0, csr=0x300, rs1=5)]
    for insn, mode in pairs:
        begin, end = (SECOND, SECOND_END) if width_of(insn) == 64 else (INPUTS, ENDS)
        code += [a("addi", rd=6, rs1=begin, imm=0), a("addi", rd=7, rs1=end, imm=0)]
        code += [a("csrrwi", rd=0, csr=2, zimm=mode if mode is not None and number & 1 else 0)]
        body = b"".join(_body(isa, rng, insn, mode, bool(number & 1), number >> 1))
        code += [body, a("bne", rs1=6, rs2=7, imm=-len(body))]
    code += [a("lui", rd=5, upper=FINISHER), a("lui", rd=6, upper=0x5000), a("addi", rd=6, rs1=6, imm=0x555)]
    code += [a("sw", rs1=5, rs2=6, imm=0), a("wfi"), a("jal", rd=0, imm=-4)]
    return b"".join(code)


def _body(isa: Isa, rng: random.Random, insn: Insn, mode: int | None, dynamic: bool, flags: int) -> list[bytes]:
    """Of the loop: x6 is the row; ``flags``: what fflags is before."""
    a, fields = isa.assemble, insn.pattern.pieces
    load, store = ("ld", "sd") if isa.word == 64 else ("lw", "sw")
    fs = rng.sample(range(32), 3)
    fd = rng.choice((*fs, *range(32)))  # one of the operands' now and then
    values = {"fd": fd, "rd": rng.choice((12, 13)), "fs1": fs[0], "fs2": fs[1], "fs3": fs[2], "rs1": 12}
    if mode is not None:
        values["rm"] = DYN if dynamic else mode
    code = [] if fd in fs else [a("fld", fd=fd, rs1=6, imm=8)]
    code += [a("fld", fd=f, rs1=6, imm=8 * k) for k, f in enumerate(fs)]
    code += [a(load, rd=12, rs1=6, imm=24), a("addi", rd=13, rs1=0, imm=0), a("csrrwi", rd=0, csr=1, zimm=flags)]
    code += [a(insn.name, **{n: v for n, v in values.items() if n in fields}), a("csrrs", rd=14, csr=1, rs1=0)]
    code += [a("fsd", fs2=fd, rs1=OUTPUTS, imm=0), a(store, rs2=values["rd"], rs1=OUTPUTS, imm=8)]
    code += [a(store, rs2=14, rs1=OUTPUTS, imm=8 + isa.word // 8), a("addi", rd=OUTPUTS, rs1=OUTPUTS, imm=result_size(isa))]
    return [*code, a("addi", rd=6, rs1=6, imm=ROW)]


def _load_address(isa: Isa, rd: int, value: int) -> bytes:
    """lui and addi; on RV64 the upper half is cleared by shifts."""
    low = (value + 0x800 & 0xFFF) - 0x800
    upper = value - low & 0xFFFFFFFF
    code = isa.assemble("lui", rd=rd, upper=upper - (1 << 32 if upper >> 31 else 0))
    code += isa.assemble("addi", rd=rd, rs1=rd, imm=low)
    if isa.word == 64:
        code += isa.assemble("slli", rd=rd, rs1=rd, shamt=32) + isa.assemble("srli", rd=rd, rs1=rd, shamt=32)
    return code


class Judged:
    """Three native CPUs, each with memory of its own, and the QEMU at ``qemu``."""

    def __init__(
        self, xlen: int, qemu: str, rows: int = ROWS, tiers: tuple[int, ...] = TIERS, fma: bool | None = None,
    ) -> None:
        config: dict[str, object] = {"word-size": xlen, "f": True, "d": True}
        native = native_of(config, fma)
        self.isa, self.xlen, self.qemu, self.rows = native.isa, xlen, qemu, rows
        self.pairs = cases(self.isa)
        self.programs = [program(self.isa, self.pairs, n) for n in range(PROGRAMS)]
        assert max(map(len, self.programs)) <= PROGRAM and PROGRAMS * PROGRAM + PROGRAM <= TABLES
        self.results = TABLES + 2 * ROW * rows
        self.result = result_size(self.isa)
        self.used = self.results + self.result * rows * len(self.pairs)
        self.size = -(-self.used // (1 << 20)) * (1 << 20)
        self.tiers = [Tier(number, Loops) for number in tiers]
        self.rams = [ToyRam(self.size) for _ in tiers]
        self.cpus = []
        for ram, tier in zip(self.rams, self.tiers, strict=True):
            tier.reseed("floats")
            port = SerialPort(BUILDER, config, ram, [Span(START, self.size, 0)])
            self.cpus.append(NativeVcpu(native, port, BusError, CODE_LIMIT, tier.manager))  # type: ignore[arg-type]
        for ram in self.rams:
            ram.map[:TABLES] = self.image(0)

    def image(self, number: int) -> bytes:
        """All programs, each in its place behind the beginning, which goes to that of ``number``."""
        ends = {INPUTS: TABLES, ENDS: TABLES + ROW * self.rows, OUTPUTS: self.results}
        ends |= {SECOND: ends[ENDS], SECOND_END: ends[ENDS] + ROW * self.rows}
        head = b"".join(_load_address(self.isa, rd, START + at) for rd, at in ends.items())
        head += self.isa.assemble("jal", rd=0, imm=PROGRAM * (number + 1) - len(head))
        parts = [head, *self.programs]
        return b"".join(part.ljust(PROGRAM, b"\0") for part in parts).ljust(TABLES, b"\0")

    def operands(self, seed: int) -> bytes:
        """Both tables."""
        return b"".join(table(width, self.rows, random.Random(f"{width} {seed}")).tobytes() for width in (32, 64))

    def native(self, k: int, number: int, operands: bytes) -> None:
        cpu, ram = self.cpus[k], self.rams[k]
        head = self.image(number)[:PROGRAM]
        if ram.map[:PROGRAM] != head:
            ram.map[:PROGRAM] = head
            cpu.invalidate(ram, 0, PROGRAM)  # type: ignore[arg-type]
        ram.map[TABLES:self.results] = operands
        ram.map[self.results:self.used] = b"\xAA" * (self.used - self.results)
        cpu.reset(START)
        ended = cpu.run()
        assert ended.kind == Exit.HALT, (ended, hex(cpu.get("mcause")), hex(cpu.get("mepc")))

    def by_qemu(self, number: int, operands: bytes) -> bytes:
        """The results. Its memory is a file that it maps and we read."""
        file = os.memfd_create("guest")
        try:
            size = self.size + SPARE
            os.ftruncate(file, size)
            os.pwrite(file, self.image(number), 0)
            os.pwrite(file, operands, TABLES)
            subprocess.run(
                [self.qemu, "-M", "virt,memory-backend=ram", "-m", str(size >> 20), "-nodefaults", "-display", "none",
                 "-bios", "none", "-cpu", f"rv{self.xlen}",
                 "-object", f"memory-backend-file,id=ram,size={size},mem-path=/proc/self/fd/{file},share=on"],
                check=True, timeout=600, capture_output=True, pass_fds=(file,))
            return os.pread(file, self.used - self.results, self.results)
        finally:
            os.close(file)

    def chunk(self, seed: int, count: int) -> Chunk:
        """One pair of tables, in every instruction, mode and tier."""
        number, operands = seed % PROGRAMS, self.operands(seed)
        want = self.by_qemu(number, operands)
        differences: list[str] = []
        compiled = 0
        for k, tier in enumerate(self.tiers):
            before = self.cpus[k].compiled_instructions
            self.native(k, number, operands)
            compiled += self.cpus[k].compiled_instructions - before
            if self.rams[k].map[self.results:self.used] != want:
                differences += self.differences(want, k, f"tier {tier.number} program {number}", operands)
        return Chunk(self.rows * len(self.pairs), 0, differences, compiled)

    def differences(self, want: bytes, k: int, where: str, operands: bytes) -> list[str]:
        """The first row of each instruction and mode that differs."""
        found, size, rows = [], self.result, array("Q", operands)
        part = size * self.rows
        for n, (insn, mode) in enumerate(self.pairs):
            theirs = want[n * part:(n + 1) * part]
            ours = self.rams[k].map[self.results + n * part:self.results + (n + 1) * part]
            for at in range(0, 0 if ours == theirs else part, size):
                if ours[at:at + size] != theirs[at:at + size]:
                    row = at // size * 8 + (8 * self.rows if width_of(insn) == 64 else 0)
                    judged, got = (" ".join(map(hex, self.words(side[at:at + size]))) for side in (theirs, ours))
                    found.append(f"{where} {insn.name} mode {mode}: {' '.join(map(hex, rows[row:row + 4]))}: "
                                 f"f, x, flags {judged}, native {got}")
                    break
        return found

    def words(self, results: bytes) -> list[int]:
        """Of one row."""
        return [*array("Q", results[:8]), *array("Q" if self.xlen == 64 else "I", results[8:])]

    def close(self) -> None:
        for cpu in self.cpus:
            cpu.close()


def _more(parser: ArgumentParser) -> None:
    parser.add_argument("--no-fma", action="store_true")
    parser.add_argument("--qemu", help="qemu-system-riscv64 or -riscv32; the one in PATH unless told")


def job(args: Namespace) -> Job | str:
    try:
        qemu = qemu_of(args)
    except FileNotFoundError as error:
        return str(error)
    judged = Judged(args.xlen, qemu, tiers=(0,), fma=False) if args.no_fma else Judged(args.xlen, qemu)
    what = "tier 0 without FMA" if args.no_fma else "tiers 0, 1, 2"
    return Job("fp qemu", f"rv{args.xlen}, {len(judged.pairs)} pairs, {what}", judged.chunk, judged)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, count=1, chunk=1, xlen=True, more=_more))

"""Soak: every floating-point instruction of RISC-V in every rounding mode on directed operands, native code against a judge.

    python -m tests.oracle.riscv_fp --judge reference --count 1000000 --ledger soak.jsonl
    python -m tests.oracle.riscv_fp --judge unicorn --count 100000000 --ledger soak.jsonl

A guest program goes over a table of operands and writes results and flags into its rows. The judge is the evaluator, which
computes with ``softfloat``, instruction by instruction ("reference"), or unicorn on the same program ("unicorn"), whose
table must be the same afterwards. ``--count``: operations per instruction and rounding mode; a chunk is one instruction in
one mode. ``--no-fma``: native code without the host's fused multiply-add. What runs is RV64 or (``--xlen 32``) RV32.
"""

from __future__ import annotations

import argparse
import random
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import unicorn
from unicorn import riscv_const

from ratite.core.accel.base import Exit
from ratite.core.engine.compiler import compile_text
from ratite.core.engine.elf import LoadedObject
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.engine.tier0 import Tier0
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.fp import FORMATS
from ratite.core.isa.isa import Insn, Isa
from ratite.core.memory import BusError
from ratite.targets.riscv.isa import build
from tests.engine.toy import ToyRam
from tests.oracle.fp_operands import table
from tests.oracle.ledger import Chunk, Ledger, soak
from tests.oracle.pair import BUILDER, CODE_LIMIT, OraclePort, Span

START, TABLE, ROW = 0x10000, 0x2000, 64
ROWS = 32768
RD_F, RD_X = 4, 13
MODES = range(5)
DYN = 7


def cases(isa: Isa) -> list[tuple[Insn, int | None]]:
    """(instruction, rounding mode or None) of everything that computes."""
    found: list[tuple[Insn, int | None]] = []
    for insn in isa.insns:
        fields = insn.pattern.pieces
        if insn.like == insn.name and {"fs1", "fd"} & set(fields) and "imm" not in fields:
            found += [(insn, mode) for mode in MODES] if "rm" in fields else [(insn, None)]
    return found


def width_of(insn: Insn) -> int:
    """Of its operands in f registers."""
    if insn.name in ("fcvt.s.d", "fcvt.d.s"):
        return 64 if insn.name.endswith(".d") else 32
    return 64 if ".d" in insn.name else 32


class Case:
    """An instruction with its registers, in a rounding mode: static where ``dynamic`` is not set. Its program."""

    def __init__(self, isa: Isa, insn: Insn, mode: int | None, dynamic: bool) -> None:
        self.insn = insn
        self.frm = mode if mode is not None and dynamic else 0
        values = {"fd": RD_F, "rd": RD_X, "fs1": 1, "fs2": 2, "fs3": 3, "rs1": 12}
        if mode is not None:
            values["rm"] = DYN if dynamic else mode
        self.code = isa.assemble(insn.name, **{n: v for n, v in values.items() if n in insn.pattern.pieces})
        self.program = self._program(isa)

    def _program(self, isa: Isa) -> bytes:
        """x10: the table, x11: its end, x15: frm."""
        a = isa.assemble
        load, store = ("ld", "sd") if isa.word == 64 else ("lw", "sw")
        head = a("lui", upper=0x6000, rd=5) + a("csrrs", rd=0, csr=0x300, rs1=5) + a("csrrw", rd=0, csr=2, rs1=15)
        body = b"".join(a("fld", fd=k + 1, rs1=10, imm=8 * k) for k in range(3))
        body += a("fld", fd=RD_F, rs1=10, imm=0) + a(load, rd=12, rs1=10, imm=24) + a("addi", rd=RD_X, rs1=0, imm=0)
        body += a("csrrw", rd=0, csr=1, rs1=0) + self.code + a("csrrs", rd=14, csr=1, rs1=0)
        body += a("fsd", fs2=RD_F, rs1=10, imm=32) + a(store, rs2=RD_X, rs1=10, imm=40) + a(store, rs2=14, rs1=10, imm=48)
        body += a("addi", rd=10, rs1=10, imm=ROW)
        body += a("bne", rs1=10, rs2=11, imm=-len(body))
        return head + body + a("wfi")


def unboxed(want: array[int], got: array[int]) -> None:
    """The upper halves of single results are taken from one table into the other: unicorn knows no boxing."""
    halves, ours = (memoryview(rows).cast("B").cast("I") for rows in (want, got))
    for k in range(9, len(ours), 16):
        ours[k] = halves[k]


def known_of_unicorn(name: str, operands: array[int]) -> bool:
    """Whether unicorn does not do what the specification says: minimum and maximum of a signaling NaN and a number (§11.6
    as of 2.2), the flag of infinity times 0 plus a quiet NaN (§11.6)."""
    f = FORMATS[64 if ".d" in name else 32]
    a, b, c = (n & (1 << f.width) - 1 for n in operands)
    if name.startswith(("fmin", "fmax")):
        return any((n & f.sign - 1) > f.infinity and not n & f.quiet for n in (a, b))
    if name.startswith(("fmadd", "fmsub", "fnm")):
        sizes = {n & f.sign - 1 for n in (a, b)}
        return sizes == {0, f.infinity} and (c & f.sign - 1) > f.infinity
    return False


def native_of(config: Mapping[str, object], fma: bool | None) -> NativeIsa:
    """Native code with the host's fused multiply-add or without; None: if the host has it."""
    if fma is None:
        return NativeLibrary().get(BUILDER, config)
    isa = build(config)
    return NativeIsa(isa, LoadedObject(compile_text(Tier0(isa, fma).text())), BUILDER, config, f"fma {fma}")


class Judged:
    """Native code over a table of its own; see the module."""

    def __init__(self, xlen: int, rows: int = ROWS, fma: bool | None = None) -> None:
        config: dict[str, object] = {"word-size": xlen, "f": True, "d": True}
        native = native_of(config, fma)
        self.isa = native.isa
        self.xlen = xlen
        self.rows = rows
        self._tables: dict[tuple[int, int, bool], bytes] = {}
        self.size = -(-(TABLE + rows * ROW) // 4096) * 4096  # whole pages
        self.ram, self.judge_ram = ToyRam(self.size), ToyRam(self.size)
        self.cpu = NativeVcpu(native, OraclePort(BUILDER, config, self.ram, [Span(START, self.size, 0)]), BusError, CODE_LIMIT)
        self.evaluator = Evaluator(build(config), None)  # type: ignore[arg-type]  # it touches no memory
        self.uc = unicorn.Uc(
            unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64 if xlen == 64 else unicorn.UC_MODE_RISCV32)
        self.uc.mem_map_ptr(START, self.size, unicorn.UC_PROT_ALL, self.judge_ram.address)

    def native(self, case: Case, operands: bytes) -> None:
        self.ram.map[:len(case.program)] = case.program
        self.cpu.invalidate(self.ram, 0, TABLE)  # type: ignore[arg-type]
        self.ram.map[TABLE:TABLE + self.rows * ROW] = operands
        self.cpu.reset(START)
        for index, value in ((10, START + TABLE), (11, START + TABLE + self.rows * ROW), (15, case.frm)):
            self.cpu.set("x", value, index)
        ended = self.cpu.run()
        assert ended.kind == Exit.HALT, (ended, hex(self.cpu.get("mcause")))

    def by_unicorn(self, case: Case, operands: bytes) -> array[int]:
        self.judge_ram.map[:len(case.program)] = case.program
        self.judge_ram.map[TABLE:TABLE + self.rows * ROW] = operands
        self.uc.ctl_remove_cache(START, START + TABLE)
        for index, value in ((10, START + TABLE), (11, START + TABLE + self.rows * ROW), (15, case.frm)):
            self.uc.reg_write(riscv_const.UC_RISCV_REG_X0 + index, value)
        self.uc.emu_start(START, START + len(case.program) - 4)
        return array("Q", self.judge_ram.map[TABLE:TABLE + self.rows * ROW])

    def by_reference(self, case: Case, operands: bytes) -> array[int]:
        """Rows as the evaluator would leave them; it executes the instruction alone."""
        e = self.evaluator
        semantics, operand = e._prepare(case.code)
        rows = array("Q", operands)
        state, mask = e.state, (1 << self.xlen) - 1
        f, x, flags = state["f"], state["x"], state["fflags"]
        state["mstatus"][0], state["frm"][0] = 0x6000, case.frm
        for at in range(0, len(rows), 8):
            f[1], f[2], f[3], x[12] = rows[at], rows[at + 1], rows[at + 2], rows[at + 3] & mask
            f[RD_F], x[RD_X], flags[0] = f[1], 0, 0
            semantics(e, operand)
            rows[at + 4], rows[at + 5], rows[at + 6] = f[RD_F], x[RD_X], flags[0]
        return rows

    def operands(self, width: int, seed: int, boxed: bool) -> bytes:
        """The table of a seed, for all instructions."""
        key = (width, seed, boxed)
        if key not in self._tables:
            if len(self._tables) >= 64:
                self._tables.clear()
            self._tables[key] = table(width, self.rows, random.Random(repr(key)), boxed).tobytes()
        return self._tables[key]

    def soaked(self, insn: Insn, mode: int | None, judge: str, seed: int, count: int) -> Chunk:
        """As ``soak`` wants it."""
        return self.chunk(insn, mode, seed, judge)

    def chunk(self, insn: Insn, mode: int | None, seed: int, judge: str) -> Chunk:
        """One table."""
        case = Case(self.isa, insn, mode, bool(seed & 1))
        operands = self.operands(width_of(insn), seed, judge == "unicorn")
        self.native(case, operands)
        want = self.by_unicorn(case, operands) if judge == "unicorn" else self.by_reference(case, operands)
        got = array("Q", self.ram.map[TABLE:TABLE + self.rows * ROW])
        if judge == "unicorn" and (insn.name == "fmv.w.x" or (".s" in insn.name and insn.name != "fcvt.d.s")):
            unboxed(want, got)
        known = known_of_unicorn if judge == "unicorn" else None
        return Chunk(self.rows, 0, [] if want == got else list(self._differences(case, mode, want, got, known)))

    def _differences(
        self, case: Case, mode: int | None, want: array[int], got: array[int], known: Callable[[str, array[int]], bool] | None,
    ) -> Iterator[str]:
        for at in range(0, len(want), 8):
            if want[at:at + 8] != got[at:at + 8] and not (known and known(case.insn.name, want[at:at + 3])):
                parts = (want[at:at + 4], want[at + 4:at + 7], got[at + 4:at + 7])
                operands, judged, ours = (" ".join(map(hex, row)) for row in parts)
                yield f"{case.insn.name} mode {mode} frm {case.frm}: {operands}: f, x, flags {judged}, native {ours}"
                return


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", choices=("reference", "unicorn"), default="reference")
    parser.add_argument("--count", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--xlen", type=int, choices=(32, 64), default=64)
    parser.add_argument("--no-fma", action="store_true")
    parser.add_argument("--only", default="", help="instructions whose names start so")
    parser.add_argument("--ledger", default=None)
    args = parser.parse_args(argv)
    judged = Judged(args.xlen, fma=False if args.no_fma else None)
    bad = 0
    for insn, mode in cases(judged.isa):
        if not insn.name.startswith(args.only):
            continue
        config = f"rv{args.xlen} {insn.name} {'' if mode is None else mode}{' no fma' if args.no_fma else ''}"
        ledger = Ledger(args.ledger, f"fp {args.judge}", config)
        left = args.count - ledger.total("count")
        if left > 0:
            print(config, end=": ")
            bad += soak(ledger, args.seed, left, partial(judged.soaked, insn, mode, args.judge), ROWS)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

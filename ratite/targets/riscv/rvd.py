"""D: double-precision floating point (RISC-V Unprivileged ISA 20191213 chapter 12). Its fld and fsd are whole accesses on
RV32 too."""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.targets.riscv.rvf import arithmetic, comparisons, integers, load, moves, read, rounded, store, write


def declare(isa: Isa) -> None:
    """RV32D, and with 64-bit words RV64D."""
    load(isa, "fld", "011", 8)
    store(isa, "fsd", "011", 8)
    arithmetic(isa, ".d", "01", 64)
    comparisons(isa, ".d", "01", 64)
    integers(isa, ".d", "01", 64)
    if isa.word == 64:
        moves(isa, ".d", "01", 64)

    @isa.insn("fcvt.s.d", "01000 00 00001 fs1 rm fd 1010011", "{rd}, {rs1}, {rm}", where=lambda i: i.rm.ne(5) & i.rm.ne(6))
    def narrow(e: Emitter, i: Operands) -> None:
        a = read(e, 64, i.rs1)
        rounded(e, i, lambda mode: write(e, i.rd, e.fp_convert(64, 32, a, mode)))

    @isa.insn("fcvt.d.s", "01000 01 00000 fs1 rm fd 1010011", "{rd}, {rs1}, {rm}", where=lambda i: i.rm.ne(5) & i.rm.ne(6))
    def widen(e: Emitter, i: Operands) -> None:
        a = read(e, 32, i.rs1)
        rounded(e, i, lambda mode: write(e, i.rd, e.fp_convert(32, 64, a, mode)))

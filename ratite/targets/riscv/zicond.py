"""Zicond: conditional zero (RISC-V Integer Conditional Operations 1.0)."""

from __future__ import annotations

from ratite.core.isa.isa import Isa
from ratite.targets.riscv.rvi import register_op


def declare(isa: Isa) -> None:
    """czero.eqz and czero.nez."""
    isa.insn("czero.eqz", "0000111 rs2 rs1 101 rd 0110011", "{rd}, {rs1}, {rs2}")(
        register_op(lambda a, b: a.e.select(b.eq(0), 0, a)))
    isa.insn("czero.nez", "0000111 rs2 rs1 111 rd 0110011", "{rd}, {rs1}, {rs2}")(
        register_op(lambda a, b: a.e.select(b.ne(0), 0, a)))

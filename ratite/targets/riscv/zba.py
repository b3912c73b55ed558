"""Zba: address generation (RISC-V Bit-Manipulation ISA 1.0.0 §2.1)."""

from __future__ import annotations

from functools import partial

from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.rvi import immediate_shift, register_op


def declare(isa: Isa) -> None:
    """sh1add … and, on RV64, the forms on an unsigned word."""
    for n, funct3 in ((1, "010"), (2, "100"), (3, "110")):
        isa.insn(f"sh{n}add", f"0010000 rs2 rs1 {funct3} rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(partial(_add, n)))
        if isa.word == 64:
            isa.insn(f"sh{n}add.uw", f"0010000 rs2 rs1 {funct3} rd 0111011", "{rd}, {rs1}, {rs2}")(
                register_op(partial(_add_uw, n)))
    if isa.word == 64:
        isa.insn("add.uw", "0000100 rs2 rs1 000 rd 0111011", "{rd}, {rs1}, {rs2}")(register_op(partial(_add_uw, 0)))
        isa.insn("slli.uw", "000010 shamt[5:0] rs1 001 rd 0011011", "{rd}, {rs1}, {shamt}")(
            immediate_shift(lambda a, b: (a & 0xFFFFFFFF) << b))


def _add(n: int, a: V, b: V) -> V:
    return (a << n) + b


def _add_uw(n: int, a: V, b: V) -> V:
    return ((a & 0xFFFFFFFF) << n) + b

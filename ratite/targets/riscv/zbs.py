"""Zbs: single bits (RISC-V Bit-Manipulation ISA 1.0.0 §2.4)."""

from __future__ import annotations

from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.rvi import immediate_shift, register_op


def declare(isa: Isa) -> None:
    """bclr, bext, binv, bset and the forms with an immediate."""
    amount = "0 shamt[4:0]" if isa.word == 32 else "shamt[5:0]"
    for name, funct6, funct3, op in (
        ("bclr", "010010", "001", lambda a, bit: a & ~bit), ("binv", "011010", "001", V.__xor__),
        ("bset", "001010", "001", V.__or__),
    ):
        def made(a: V, b: V, op: object = op) -> V:
            assert callable(op)
            result = op(a, a.e.const(1, a.width) << (b & a.width - 1))
            assert isinstance(result, V)
            return result

        isa.insn(name, f"{funct6}0 rs2 rs1 {funct3} rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(made))
        isa.insn(name + "i", f"{funct6} {amount} rs1 {funct3} rd 0010011", "{rd}, {rs1}, {shamt}")(immediate_shift(made))
    isa.insn("bext", "0100100 rs2 rs1 101 rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(_extract))
    isa.insn("bexti", f"010010 {amount} rs1 101 rd 0010011", "{rd}, {rs1}, {shamt}")(immediate_shift(_extract))


def _extract(a: V, b: V) -> V:
    return (a >> (b & a.width - 1)) & 1

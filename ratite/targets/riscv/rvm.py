"""M: multiplication and division (RISC-V Unprivileged ISA 20191213 chapter 7). Division never traps (§7.2)."""

from __future__ import annotations

from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.rvi import register_op, word_op


def _div(a: V, b: V) -> V:
    none = b.eq(0)
    return a.e.select(none, -1, a.sdiv(_divisor(a, b, none)))


def _rem(a: V, b: V) -> V:
    none = b.eq(0)
    return a.e.select(none, a, a.srem(_divisor(a, b, none)))


def _divisor(a: V, b: V, none: V) -> V:
    """1 where the quotient does not exist or overflows: the smallest number over -1 is itself, its remainder 0."""
    overflow = a.eq(1 << a.width - 1) & b.eq(-1)
    return a.e.select(none | overflow, 1, b)


def _divu(a: V, b: V) -> V:
    none = b.eq(0)
    return a.e.select(none, -1, a.udiv(a.e.select(none, 1, b)))


def _remu(a: V, b: V) -> V:
    none = b.eq(0)
    return a.e.select(none, a, a.urem(a.e.select(none, 1, b)))


def declare(isa: Isa) -> None:
    """mul … remu, and on RV64 the operations on 32 bits."""
    for name, funct3, op in (
        ("mul", "000", V.__mul__), ("mulh", "001", lambda a, b: a.mulh(b, True, True)),
        ("mulhsu", "010", lambda a, b: a.mulh(b, True, False)), ("mulhu", "011", lambda a, b: a.mulh(b, False, False)),
        ("div", "100", _div), ("divu", "101", _divu), ("rem", "110", _rem), ("remu", "111", _remu),
    ):
        isa.insn(name, f"0000001 rs2 rs1 {funct3} rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(op))
        if isa.word == 64 and not name.startswith("mulh"):
            isa.insn(name + "w", f"0000001 rs2 rs1 {funct3} rd 0111011", "{rd}, {rs1}, {rs2}")(
                register_op(word_op(op)))

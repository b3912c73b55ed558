"""Zbb: basic bit manipulation (RISC-V Bit-Manipulation ISA 1.0.0 §2.2)."""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.value import V
from ratite.targets.riscv.rvi import immediate_shift, register_op, word_op


def declare(isa: Isa) -> None:
    """All of it, as the word size has it."""
    xlen = isa.word
    for name, funct7, funct3, op in (
        ("andn", "0100000", "111", lambda a, b: a & ~b), ("orn", "0100000", "110", lambda a, b: a | ~b),
        ("xnor", "0100000", "100", lambda a, b: ~(a ^ b)), ("min", "0000101", "100", lambda a, b: _pick(a.slt(b), a, b)),
        ("minu", "0000101", "101", lambda a, b: _pick(a.ult(b), a, b)),
        ("max", "0000101", "110", lambda a, b: _pick(a.slt(b), b, a)),
        ("maxu", "0000101", "111", lambda a, b: _pick(a.ult(b), b, a)),
        ("rol", "0110000", "001", rol), ("ror", "0110000", "101", ror),
    ):
        isa.insn(name, f"{funct7} rs2 rs1 {funct3} rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(op))
    amount = "0 shamt[4:0]" if xlen == 32 else "shamt[5:0]"
    isa.insn("rori", f"011000 {amount} rs1 101 rd 0010011", "{rd}, {rs1}, {shamt}")(immediate_shift(ror))
    for name, code, one in (
        ("clz", 0x600, V.clz), ("ctz", 0x601, V.ctz), ("cpop", 0x602, V.popcount),
        ("sext.b", 0x604, lambda a: a.trunc(8).sext(xlen)), ("sext.h", 0x605, lambda a: a.trunc(16).sext(xlen)),
    ):
        isa.insn(name, f"{code:012b} rs1 001 rd 0010011", "{rd}, {rs1}")(_unary(one))
    isa.insn("orc.b", "001010000111 rs1 101 rd 0010011", "{rd}, {rs1}")(_unary(_orc))
    isa.insn("rev8", f"{'011010111000' if xlen == 64 else '011010011000'} rs1 101 rd 0010011", "{rd}, {rs1}")(
        _unary(V.bswap))
    isa.insn("zext.h", f"0000100 00000 rs1 100 rd {'0111011' if xlen == 64 else '0110011'}", "{rd}, {rs1}")(
        _unary(lambda a: a & 0xFFFF))
    if xlen == 64:
        _words(isa)


def _words(isa: Isa) -> None:
    for name, code, one in (("clzw", 0x600, V.clz), ("ctzw", 0x601, V.ctz), ("cpopw", 0x602, V.popcount)):
        isa.insn(name, f"{code:012b} rs1 001 rd 0011011", "{rd}, {rs1}")(_unary(_low(one)))
    for name, funct3, op in (("rolw", "001", rol), ("rorw", "101", ror)):
        isa.insn(name, f"0110000 rs2 rs1 {funct3} rd 0111011", "{rd}, {rs1}, {rs2}")(register_op(word_op(op)))
    isa.insn("roriw", "0110000 shamt[4:0] rs1 101 rd 0011011", "{rd}, {rs1}, {shamt}")(immediate_shift(word_op(ror)))


def _low(one: Callable[[V], V]) -> Callable[[V], V]:
    return lambda a: one(a.trunc(32)).sext(64)


def _unary(one: Callable[[V], V]) -> Semantics:
    return lambda e, i: e.set_reg("x", i.rd, one(e.reg("x", i.rs1)))


def _pick(c: V, a: V, b: V) -> V:
    return a.e.select(c, a, b)


def rol(a: V, b: V) -> V:
    """Rotated left by the low bits of ``b``."""
    n = b & a.width - 1
    return a << n | a >> ((-n) & a.width - 1)


def ror(a: V, b: V) -> V:
    """Rotated right by the low bits of ``b``."""
    n = b & a.width - 1
    return a >> n | a << ((-n) & a.width - 1)


def _orc(a: V) -> V:
    """Every byte that is not 0 becomes all ones."""
    value = a
    for shift in (1, 2, 4):
        value = value | (value >> shift) & _spread(0xFF >> shift, a.width)
    low = value & _spread(1, a.width)
    return (low << 8) - low


def _spread(byte: int, width: int) -> int:
    return sum(byte << k for k in range(0, width, 8))

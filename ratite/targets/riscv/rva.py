"""A: atomic operations (RISC-V Unprivileged ISA 20191213 chapter 8).

Every operation is sequentially consistent, which aq and rl may not be weaker than; so the four encodings of one share
their semantics. A misaligned address is an address-misaligned exception (§8.2, §8.4).
"""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.operands import Operands
from ratite.targets.riscv.rvi import rs1, rs2

_ORDER = (("", "00"), (".rl", "01"), (".aq", "10"), (".aqrl", "11"))
_AMOS = (("amoswap", "00001", "xchg"), ("amoadd", "00000", "add"), ("amoxor", "00100", "xor"), ("amoand", "01100", "and"),
         ("amoor", "01000", "or"), ("amomin", "10000", "min"), ("amomax", "10100", "max"), ("amominu", "11000", "umin"),
         ("amomaxu", "11100", "umax"))


def declare(isa: Isa) -> None:
    """lr, sc and the amos, of words and, on RV64, doublewords."""
    for suffix, funct3, size in ((".w", "010", 4), (".d", "011", 8))[:isa.word // 32]:
        _orders(isa, "lr" + suffix, "00010", f"00000 rs1 {funct3} rd 0101111", "{rd}, ({rs1})", _lr(size))
        rest, asm = f"rs2 rs1 {funct3} rd 0101111", "{rd}, {rs2}, ({rs1})"
        _orders(isa, "sc" + suffix, "00011", rest, asm, _sc(size))
        for name, funct5, op in _AMOS:
            _orders(isa, name + suffix, funct5, rest, asm, _amo(op, size))


def _orders(isa: Isa, name: str, funct5: str, rest: str, asm: str, semantics: Semantics) -> None:
    for suffix, bits in _ORDER:
        if suffix:
            isa.alias(name + suffix, f"{funct5} {bits} {rest}", asm, name)
        else:
            isa.insn(name, f"{funct5} {bits} {rest}", asm)(semantics)


def _lr(size: int) -> Semantics:
    def semantics(e: Emitter, i: Operands) -> None:
        e.set_reg("x", i.rd, e.load_reserved(rs1(e, i), size).sext(e.word))

    return semantics


def _sc(size: int) -> Semantics:
    def semantics(e: Emitter, i: Operands) -> None:
        stored = e.store_conditional(rs1(e, i), rs2(e, i).trunc(8 * size))
        e.set_reg("x", i.rd, (stored ^ 1).zext(e.word))

    return semantics


def _amo(op: str, size: int) -> Semantics:
    def semantics(e: Emitter, i: Operands) -> None:
        e.set_reg("x", i.rd, e.amo(op, rs1(e, i), rs2(e, i).trunc(8 * size)).sext(e.word))

    return semantics

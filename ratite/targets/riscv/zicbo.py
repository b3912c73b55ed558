"""Zicbom and Zicboz: cache blocks (RISC-V Cache Management Operations 1.0.1). A block is 64 bytes.

There is no cache: what a clean, flush or inval leaves to be seen is that it is permitted and translated. It is permitted
where a load is; a fault is that of a store (§2.5.2). cbo.inval does what cbo.flush does, as §2.5.3 lets it.
"""

from __future__ import annotations

from ratite.core.isa.emitter import LOAD_FAULT, LOAD_PAGE, STORE_FAULT, STORE_PAGE, Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import CBCFE, CBIE, CBZE, M, U, privilege
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.traps import ILLEGAL

BLOCK = 64


def declare(isa: Isa, f: Features) -> None:
    """cbo.clean, cbo.flush, cbo.inval where there is Zicbom, cbo.zero where there is Zicboz."""
    if f.has("zicbom"):
        _manage(isa, f, "cbo.inval", 0, CBIE)
        _manage(isa, f, "cbo.clean", 1, CBCFE)
        _manage(isa, f, "cbo.flush", 2, CBCFE)
    if f.has("zicboz"):
        @isa.insn("cbo.zero", "000000000100 rs1 010 00000 0001111", "({rs1})")
        def zero(e: Emitter, i: Operands) -> None:
            _permit(e, f, i.rs1, 4, CBZE)
            base = e.reg("x", i.rs1) & -BLOCK
            for at in range(0, BLOCK, isa.word // 8):
                e.store(base + at, e.const(0))


def _permit(e: Emitter, f: Features, rs1: V, number: int, bits: int) -> None:
    """Below M as menvcfg and, for U, senvcfg say (§2.6)."""
    if not f.has("u"):
        return
    mode = privilege(e)
    barred = mode.ne(M) & (e.get("menvcfg") & bits).eq(0)
    if f.has("s"):
        barred = barred | mode.eq(U) & (e.get("senvcfg") & bits).eq(0)
    word = rs1.zext(e.word) << 15 | (number << 20 | 0x200F)
    e.if_(barred, lambda: e.routine("trap", ILLEGAL, word))


def _manage(isa: Isa, f: Features, name: str, number: int, bits: int) -> None:
    @isa.insn(name, f"{number:012b} rs1 010 00000 0001111", "({rs1})")
    def semantics(e: Emitter, i: Operands) -> None:
        _permit(e, f, i.rs1, number, bits)
        addr = e.reg("x", i.rs1)

        def failed(kind: V) -> None:
            kind = e.select(kind.eq(LOAD_PAGE), STORE_PAGE, e.select(kind.eq(LOAD_FAULT), STORE_FAULT, kind))
            e.routine("fault", kind, addr)

        e.load(addr, 1, failed)

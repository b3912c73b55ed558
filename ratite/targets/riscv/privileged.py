"""Instructions of the modes: mret, sret, wfi, sfence.vma and Svinval (RISC-V Privileged ISA 1.12 §3.3, §4.2; chapter 7)."""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import MIE, MPIE, MPP, MPRV, SIE, SPIE, SPP, TSR, TVM, TW, M, S, U, privilege
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.traps import ILLEGAL

_MRET, _SRET, _WFI = 0x30200073, 0x10200073, 0x10500073


def declare(isa: Isa, f: Features) -> None:
    """Those that the hart's modes have."""
    _mret(isa, f)
    _wfi(isa, f)
    if f.has("s"):
        _sret(isa, f)
        _fences(isa, f)


def _illegal_if(e: Emitter, c: V, word: V | int) -> None:
    e.if_(c, lambda: e.routine("trap", ILLEGAL, word))


def _leave(e: Emitter, f: Features, status: V, mode: V, target: V) -> None:
    """To ``mode``; below M, MPRV goes with it (§3.1.6.3), from 1.12 on."""
    e.set("mstatus", status if f.version < 12 else e.select(mode.eq(M), status, status & ~MPRV))
    e.set("priv", mode.trunc(2))
    e.modes_changed()
    e.jump(target, poll=True)


def _mret(isa: Isa, f: Features) -> None:
    @isa.insn("mret", "001100000010 00000 000 00000 1110011")
    def mret(e: Emitter, i: Operands) -> None:
        if f.has("u"):
            _illegal_if(e, privilege(e).ne(M), _MRET)
        status, target = e.get("mstatus"), e.get("mepc") & -isa.parcel
        after = status & ~MIE | (status & MPIE) >> 4 | MPIE
        if not f.has("u"):
            e.set("mstatus", after | MPP)
            e.jump(target, poll=True)
            return
        mode = status.bits(12, 11)
        mode = e.select(mode.eq(2), M, mode)  # no such mode: only a state set from outside holds it
        _leave(e, f, after & ~MPP, mode, target)


def _sret(isa: Isa, f: Features) -> None:
    @isa.insn("sret", "000100000010 00000 000 00000 1110011")
    def sret(e: Emitter, i: Operands) -> None:
        status, mode = e.get("mstatus"), privilege(e)
        _illegal_if(e, mode.eq(U) | mode.eq(S) & (status & TSR).ne(0), _SRET)
        after = status & ~(SIE | SPP) | (status & SPIE) >> 4 | SPIE
        _leave(e, f, after, (status & SPP) >> 8, e.get("sepc") & -isa.parcel)


def _wfi(isa: Isa, f: Features) -> None:
    @isa.insn("wfi", "000100000101 00000 000 00000 1110011")
    def wfi(e: Emitter, i: Operands) -> None:
        """§3.1.6.5, §3.3.3: never waits where TW is set, nor in U under S."""
        if f.has("u"):
            mode, timed = privilege(e), (e.get("mstatus") & TW).ne(0)
            _illegal_if(e, mode.eq(U) | mode.ne(M) & timed if f.has("s") else mode.ne(M) & timed, _WFI)
        e.halt()


def _fences(isa: Isa, f: Features) -> None:
    """Every translation of this hart goes, or those of one page; an ASID narrows nothing."""

    def fence(e: Emitter, i: Operands, base: int) -> None:
        mode, rs1, rs2 = privilege(e), i.rs1, i.rs2
        word = rs1.zext(e.word) << 15 | rs2.zext(e.word) << 20 | base
        _illegal_if(e, mode.eq(U) | mode.eq(S) & (e.get("mstatus") & TVM).ne(0), word)
        e.if_(rs1.eq(0), e.flush_tlb, lambda: e.flush_tlb(e.reg("x", rs1)))
        e.refetch()

    @isa.insn("sfence.vma", "0001001 rs2 rs1 000 00000 1110011", "{rs1}, {rs2}")
    def sfence_vma(e: Emitter, i: Operands) -> None:
        fence(e, i, 0x12000073)

    if not f.has("svinval"):
        return

    @isa.insn("sinval.vma", "0001011 rs2 rs1 000 00000 1110011", "{rs1}, {rs2}")
    def sinval_vma(e: Emitter, i: Operands) -> None:
        fence(e, i, 0x16000073)

    def order(word: int) -> None:
        @isa.insn("sfence.w.inval" if word >> 20 == 0x180 else "sfence.inval.ir", f"{word >> 20:012b} 00000 000 00000 1110011")
        def semantics(e: Emitter, i: Operands) -> None:
            """sinval.vma waits for nothing, so there is nothing to order."""
            _illegal_if(e, privilege(e).eq(U), word)
            e.refetch()

    order(0x18000073)
    order(0x18100073)

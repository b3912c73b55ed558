"""Traps of machine mode: entry, causes, interrupts (RISC-V Privileged ISA 1.12 §3.1.6–§3.1.16, §3.3).

Choices where the specification leaves them: mtval is the address of a failed or misaligned access or of an ebreak, the
instruction's bits for an illegal one, else 0; a trap takes an LR's reservation away, mret does not.
"""

from __future__ import annotations

from ratite.core.isa.emitter import FETCH_FAULT, LOAD_FAULT, LOAD_MISALIGNED, STORE_FAULT, STORE_MISALIGNED, Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import INTERRUPTS, MEI, MIE, MPIE, MPP, MSI, MTI

# causes (table 3.6)
FETCH_MISALIGNED, FETCH_ACCESS, ILLEGAL, BREAKPOINT = 0, 1, 2, 3
LOAD_ALIGN, LOAD_ACCESS, STORE_ALIGN, STORE_ACCESS, ECALL_M = 4, 5, 6, 7, 11

_CAUSES = ((LOAD_FAULT, LOAD_ACCESS), (STORE_FAULT, STORE_ACCESS), (FETCH_FAULT, FETCH_ACCESS),
           (LOAD_MISALIGNED, LOAD_ALIGN), (STORE_MISALIGNED, STORE_ALIGN))


def declare(isa: Isa) -> None:
    """The routines ``trap(cause, tval)``, ``illegal``, ``fault``, ``interrupt`` and ``wake``."""
    isa.routine("trap")(_trap)
    isa.routine("illegal")(_illegal)
    isa.routine("fault")(_fault)
    isa.routine("interrupt")(_interrupt)
    isa.routine("wake")(lambda e: _pending(e).ne(0))


def _trap(e: Emitter, cause: V, tval: V) -> None:
    """Trap entry, §3.1.6.1, §3.1.7."""
    status, vector = e.get("mstatus"), e.get("mtvec")
    e.set("mepc", e.pc())
    e.set("mcause", cause)
    e.set("mtval", tval)
    e.set("mstatus", status & ~(MIE | MPIE) | (status & MIE) << 4 | MPP)
    e.clear_reservation()
    vectored = vector.bit(0) & cause.slt(0)
    e.trap_jump((vector & ~3) + e.select(vectored, cause << 2, 0))


def _illegal(e: Emitter, word: V) -> None:
    e.routine("trap", ILLEGAL, word)


def _fault(e: Emitter, kind: V, addr: V) -> None:
    cause = e.const(0)
    for k, code in _CAUSES:
        cause = e.select(kind.eq(k), code, cause)
    e.routine("trap", cause, addr)


def _pending(e: Emitter) -> V:
    """Interrupts that are pending and enabled, §3.1.9; WFI looks at no more than these, §3.3.3."""
    return e.get("irq_lines").trunc(e.word) & e.get("mie") & INTERRUPTS


def _interrupt(e: Emitter) -> None:
    """In the order MEI, MSI, MTI, §3.1.9."""
    pending = _pending(e)

    def deliver() -> None:
        number = e.select(pending.bit(MEI), MEI, e.select(pending.bit(MSI), MSI, e.const(MTI)))
        e.routine("trap", number | 1 << e.word - 1, 0)

    e.if_(pending.ne(0) & (e.get("mstatus") & MIE).ne(0), deliver)

"""Traps: entry, delegation, causes, interrupts (RISC-V Privileged ISA 1.12 §3.1.6–§3.1.16, §3.3, §4.1).

Choices where the specification leaves them: xtval is the address of a failed or misaligned access or of an ebreak, the
instruction's bits for an illegal one, 0 for one that is illegal while mstatus.FS is Off, else 0; a trap takes an LR's
reservation away, mret and sret do not.
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.emitter import (
    FETCH_FAULT,
    FETCH_PAGE,
    LOAD_FAULT,
    LOAD_MISALIGNED,
    LOAD_PAGE,
    STORE_FAULT,
    STORE_MISALIGNED,
    STORE_PAGE,
    Emitter,
)
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import (
    MEI,
    MIE,
    MPIE,
    MPP,
    MSI,
    MTI,
    SEI,
    SIE,
    SPIE,
    SPP,
    SSI,
    STI,
    M,
    S,
    U,
    privilege,
)
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.supervisor import pending

# causes (table 3.6)
FETCH_MISALIGNED, FETCH_ACCESS, ILLEGAL, BREAKPOINT = 0, 1, 2, 3
LOAD_ALIGN, LOAD_ACCESS, STORE_ALIGN, STORE_ACCESS = 4, 5, 6, 7
ECALL_U = 8  # from S: 9, from M: 11
FETCH_PAGED, LOAD_PAGED, STORE_PAGED = 12, 13, 15

_CAUSES = ((LOAD_FAULT, LOAD_ACCESS), (STORE_FAULT, STORE_ACCESS), (FETCH_FAULT, FETCH_ACCESS), (LOAD_MISALIGNED, LOAD_ALIGN),
           (STORE_MISALIGNED, STORE_ALIGN), (LOAD_PAGE, LOAD_PAGED), (STORE_PAGE, STORE_PAGED), (FETCH_PAGE, FETCH_PAGED))


def declare(isa: Isa, f: Features) -> None:
    """The routines ``trap(cause, tval)``, ``illegal``, ``fault``, ``interrupt`` and ``wake``."""
    isa.routine("trap")(_trap(f))
    isa.routine("illegal")(_illegal)
    isa.routine("fault")(_fault)
    isa.routine("interrupt")(_interrupt(f))
    # §3.3.3: WFI looks at no more than what is pending and enabled
    isa.routine("wake")(lambda e: (pending(e, f) & e.get("mie")).ne(0))


def _trap(f: Features) -> Callable[[Emitter, V, V], None]:
    """Trap entry, §3.1.6.1, §3.1.7, §3.1.8."""

    def enter(e: Emitter, prefix: str, mode: int, status: V, cause: V, tval: V) -> None:
        vector = e.get(prefix + "tvec")
        e.set(prefix + "epc", e.pc())
        e.set(prefix + "cause", cause)
        e.set(prefix + "tval", tval)
        e.set("mstatus", status)
        e.clear_reservation()
        if f.has("u"):
            e.set("priv", mode)
            e.modes_changed()
        vectored = vector.bit(0) & cause.slt(0)
        e.trap_jump((vector & ~3) + e.select(vectored, cause << 2, 0))

    def machine(e: Emitter, cause: V, tval: V) -> None:
        status = e.get("mstatus")
        mode = privilege(e) << 11 if f.has("u") else e.const(MPP)
        enter(e, "m", M, status & ~(MIE | MPIE | MPP) | (status & MIE) << 4 | mode, cause, tval)

    def supervisor(e: Emitter, cause: V, tval: V) -> None:
        status = e.get("mstatus")
        enter(e, "s", S, status & ~(SIE | SPIE | SPP) | (status & SIE) << 4 | (privilege(e) & 1) << 8, cause, tval)

    def trap(e: Emitter, cause: V, tval: V) -> None:
        if f.has("s"):
            given = e.select(cause.slt(0), e.get("mideleg"), e.get("medeleg"))
            below = privilege(e).ule(S) & (given >> (cause & f.xlen - 1)).trunc(1)
            e.if_(below, lambda: supervisor(e, cause, tval))
        machine(e, cause, tval)

    return trap


def _illegal(e: Emitter, word: V) -> None:
    e.routine("trap", ILLEGAL, word)


def _fault(e: Emitter, kind: V, addr: V) -> None:
    cause = e.const(0)
    for k, code in _CAUSES:
        cause = e.select(kind.eq(k), code, cause)
    e.routine("trap", cause, addr)


def _interrupt(f: Features) -> Callable[[Emitter], None]:
    """§3.1.9: those for M first, of each mode in the order MEI, MSI, MTI, SEI, SSI, STI."""

    def take(e: Emitter, wanted: V) -> None:
        def deliver() -> None:
            number = e.const(MTI)
            for k in (STI, SSI, SEI, MTI, MSI, MEI) if f.has("s") else (MTI, MSI, MEI):
                number = e.select(wanted.bit(k), k, number)
            e.routine("trap", number | 1 << f.xlen - 1, 0)

        e.if_(wanted.ne(0), deliver)

    def interrupt(e: Emitter) -> None:
        ready = pending(e, f) & e.get("mie")

        def choose() -> None:
            status, mode = e.get("mstatus"), privilege(e)
            for_m = mode.ne(M) | (status & MIE).ne(0)
            if not f.has("s"):
                take(e, e.select(for_m, ready, 0))
                return
            for_s = mode.eq(U) | mode.eq(S) & (status & SIE).ne(0)
            given = e.get("mideleg")
            first = e.select(for_m, ready & ~given, 0)
            take(e, e.select(first.ne(0), first, e.select(for_s, ready & given, 0)))

        e.if_(ready.ne(0), choose)

    return interrupt

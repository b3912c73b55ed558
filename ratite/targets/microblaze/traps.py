"""Exceptions, interrupts and hardware breaks. UG984, "Reset, Interrupts, Exceptions, and Break"."""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.value import V
from ratite.targets.microblaze.kit import (
    EC_IBUS,
    EC_ILLEGAL,
    ESR_DS,
    IMM,
    LINK_BREAK,
    LINK_EXCEPTION,
    LINK_INTERRUPT,
    MSR_BIP,
    MSR_EE,
    MSR_EIP,
    MSR_IE,
    SLOTS,
    Kit,
)
from ratite.targets.microblaze.stream import INTERRUPTIBLE, STALLED

VECTOR_INTERRUPT, VECTOR_BREAK, VECTOR_EXCEPTION = 0x10, 0x18, 0x20

#: bits of irq_lines
LINE_IRQ, LINE_BREAK, LINE_NM_BREAK, LINE_WAKEUP = 0, 1, 2, 3
LINES = 0xF


def declare(k: Kit) -> None:
    """The routines."""
    _exception(k)
    if k.translated:
        _storage(k)
    _illegal(k)
    _fault(k)
    _interrupt(k)


def _enter(k: Kit, e: Emitter, vector: int) -> None:
    e.set("reservation", 0)
    if k.c.fsl_links:
        e.set("stall", 0)
    e.clear_reservation()
    e.trap_jump(e.const(k.c.base_vectors + vector))


def _exception(k: Kit) -> None:
    @k.isa.routine("exception")
    def exception(e: Emitter, esr: V) -> None:
        if e.ctx in SLOTS:  # r17 is "invalid" then; the handler goes by BTR
            e.set("btr", e.get("btarget"))
            esr = esr | ESR_DS
        e.set("esr", esr)
        e.set_reg("r", LINK_EXCEPTION, e.pc() + 4)
        k.set_msr(e, k.privileged_msr((e.get("msr") & ~MSR_EE) | MSR_EIP))
        _enter(k, e, VECTOR_EXCEPTION)


def _storage(k: Kit) -> None:
    @k.isa.routine("storage")
    def storage(e: Emitter, esr: V, addr: V) -> None:
        """An MMU exception, whatever MSR[EE] is: r17 leads back to the instruction, its prefix or its branch."""
        back: V | int = 4 if e.ctx == IMM else 0
        if e.ctx in SLOTS:
            e.set("btr", e.get("btarget"))
            esr, back = esr | ESR_DS, e.get("behind").zext(32)
        e.set("esr", esr)
        e.set("ear", addr)
        e.set_reg("r", LINK_EXCEPTION, e.pc() - back)
        k.set_msr(e, k.privileged_msr((e.get("msr") & ~MSR_EE) | MSR_EIP))
        _enter(k, e, VECTOR_EXCEPTION)


def _illegal(k: Kit) -> None:
    """An illegal opcode that raises nothing does nothing."""

    @k.isa.routine("illegal")
    def illegal(e: Emitter, word: V) -> None:
        if k.c.ill_opcode_exception:
            e.if_(k.enabled(e), lambda: e.routine("exception", EC_ILLEGAL))
        k.end(e)


def _fault(k: Kit) -> None:
    """A fetch from nowhere. It reads 0, an addition without effect, where that is no exception."""

    @k.isa.routine("fault")
    def fault(e: Emitter, kind: V, addr: V) -> None:
        k.mmu_fault(e, kind, addr)
        if k.c.iopb_bus_exception:
            e.if_(k.enabled(e), lambda: _bus(e, addr))
        if k.c.opcode_0x0_illegal and k.c.ill_opcode_exception:
            e.if_(k.enabled(e), lambda: e.routine("exception", EC_ILLEGAL))
        if e.ctx in SLOTS:
            k.finish(e)
        else:
            e.jump(e.pc() + 4)

    def _bus(e: Emitter, addr: V) -> None:
        e.set("ear", addr)
        e.routine("exception", EC_IBUS)


def _interrupt(k: Kit) -> None:
    """In the order of priority: non-maskable break, break, interrupt. The non-maskable one is taken whatever MSR says, but
    not again before RTBD (the signal stands for one clock cycle in hardware, for longer here)."""

    @k.isa.routine("interrupt")
    def interrupt(e: Emitter) -> None:
        lines = e.get("irq_lines")
        e.if_(lines.ne(0), lambda: _look(e, lines))

    def _look(e: Emitter, lines: V) -> None:
        nm_break, plain_break, irq = _deliverable(e, lines)
        e.if_(nm_break, lambda: _take_break(e, True))
        e.if_(plain_break, lambda: _take_break(e, False))
        e.if_(irq, lambda: _take_interrupt(e))

    def _take_break(e: Emitter, masked: bool) -> None:
        if masked:
            e.set("nmbreak", 1)
        e.set_reg("r", LINK_BREAK, e.pc() & -4)
        k.set_msr(e, k.privileged_msr(e.get("msr")) | MSR_BIP)
        _enter(k, e, VECTOR_BREAK)

    def _take_interrupt(e: Emitter) -> None:
        e.set_reg("r", LINK_INTERRUPT, e.pc() & -4)
        k.set_msr(e, k.privileged_msr(e.get("msr")) & ~MSR_IE)
        _enter(k, e, VECTOR_INTERRUPT)

    @k.isa.routine("wake")
    def wake(e: Emitter) -> V:
        """Any line wakes from sleep, enabled or not (UG984, "Sleep and Pause Functionality"); from a stream instruction the
        link does, and an interrupt that is taken."""
        lines = e.get("irq_lines")
        any_line = (lines & LINES).ne(0)
        if not k.c.fsl_links:
            return any_line
        stall = e.get("stall")
        moved = (lines >> (stall & (INTERRUPTIBLE - 1)).zext(64)).bit(0)
        nm_break, plain_break, irq = _deliverable(e, lines)
        taken = (stall & INTERRUPTIBLE).ne(0) & (nm_break | plain_break | irq)
        return e.select((stall & STALLED).ne(0), moved | taken, any_line)


def _deliverable(e: Emitter, lines: V) -> tuple[V, V, V]:
    """Whether a non-maskable break, a break, an interrupt would be taken now."""
    msr = e.get("msr")
    idle = (msr & (MSR_BIP | MSR_EIP)).eq(0)
    return lines.bit(LINE_NM_BREAK) & ~e.get("nmbreak"), lines.bit(LINE_BREAK) & idle, \
        lines.bit(LINE_IRQ) & idle & (msr & MSR_IE).ne(0)


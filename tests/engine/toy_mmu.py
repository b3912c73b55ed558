"""The toy ISA with an MMU: one table of words, one word a page, at physical ``root``.

    31…12 page number, 6 not accessed yet (cleared by the walk), 5 large (16 pages), 4 user, 3 dirty, 2 execute, 1 write, 0 read

Modes: 0 physical, 1 supervisor, 2 user. Traps enter mode 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ratite.core.isa.emitter import (
    EXECUTE,
    FETCH_PAGE,
    LOAD_FAULT,
    LOAD_PAGE,
    READ,
    STORE_PAGE,
    WRITE,
    Emitter,
)
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from tests.engine import toy

PAGES = 64
R, W, X, D, U, LARGE, NEW = 1, 2, 4, 8, 16, 32, 64


def build(config: Mapping[str, object]) -> Isa:
    """As toy's; the name tells them apart."""
    base = toy.build(config)
    isa = Isa(
        base.name + "mmu", word=base.word, big_endian=base.big_endian, fields=toy.FIELDS,
        state=[*(StateField(f.name, f.width, f.count, zero=f.zero) for f in base.layout),
               StateField("root", base.word), StateField("mode", 8), StateField("noted", base.word)],
        parcel=2, default_length=2, lengths=((1, 1, 4),), contexts=("slot", "wide"), mmu_modes=3)
    for insn in base.insns:
        isa._add(insn)
    isa.routines.update(base.routines)
    isa.routine("trap")(_trap)
    isa.routine("modes")(lambda e: (e.get("mode").zext(e.word), e.get("mode").zext(e.word)))
    isa.routine("translate")(_translate)

    @isa.insn("mode", "imm 000000 001000 0001", "{imm}", contexts=("",))
    def mode(e: Emitter, i: Operands) -> None:
        e.set("mode", (i.imm & 1).trunc(8) + 1)
        e.modes_changed()
        e.refetch()

    @isa.insn("flush", "imm rs 000 001001 0001", "{rs}", contexts=("",))
    def flush(e: Emitter, i: Operands) -> None:
        e.flush_tlb(e.reg("r", i.rs))
        e.refetch()

    @isa.insn("flushall", "imm 000000 001010 0001", contexts=("",))
    def flushall(e: Emitter, i: Operands) -> None:
        e.flush_tlb()
        e.refetch()

    @isa.insn("note", "imm rs 000 001011 0001", "{rs}", contexts=("",))
    def note(e: Emitter, i: Operands) -> None:
        e.set("noted", e.reg("r", i.rs))
        e.notify(3, e.reg("r", i.rs))
        e.next()

    return isa


def _trap(e: Emitter, cause: V, epc: V) -> None:
    e.set("cause", cause)
    e.set("epc", epc)
    e.set("enable", 0)
    e.set("mode", 1)
    e.modes_changed()
    e.clear_reservation()
    e.trap_jump(e.get("vector"))


def _translate(e: Emitter, addr: V, access: V, mode: V) -> None:
    word = addr.width
    e.if_(mode.eq(0), lambda: e.mapped(addr.zext(64), 7, 12))
    kind = e.select(access.eq(EXECUTE), FETCH_PAGE, e.select(access.eq(WRITE), e.const(STORE_PAGE), LOAD_PAGE))
    number = addr >> 12
    e.if_(number.uge(PAGES), lambda: e.unmapped(kind))
    where = (e.get("root") + (number << 2)).zext(64)
    entry = e.phys_load(where, 4, lambda k: e.unmapped(LOAD_FAULT))
    need = e.select(access.eq(READ), R, e.select(access.eq(WRITE), e.const(W), X)).trunc(32)
    e.if_((entry & need).eq(0), lambda: e.unmapped(kind))
    e.if_(mode.eq(2) & (entry & U).eq(0), lambda: e.unmapped(kind))

    def seen() -> None:
        stored = e.phys_swap(where, entry, entry & ~NEW, lambda k: e.unmapped(kind))
        e.if_(stored ^ 1, lambda: e.unmapped(kind))

    e.if_((entry & NEW).ne(0), seen)
    entry = entry & ~NEW

    def dirty() -> None:
        stored = e.phys_swap(where, entry, entry | D, lambda k: e.unmapped(STORE_PAGE))
        e.if_(stored ^ 1, lambda: e.unmapped(STORE_PAGE))

    e.if_(access.eq(WRITE) & (entry & D).eq(0), dirty)
    allowed = (entry & (R | X)) | e.select(access.eq(WRITE) | (entry & D).ne(0), entry & W, 0)
    done = partial(_mapped, e, addr, entry, allowed.zext(word) if word > 32 else allowed)
    e.if_((entry & LARGE).ne(0), lambda: done(16), lambda: done(12))


def _mapped(e: Emitter, addr: V, entry: V, allowed: V, bits: int) -> None:
    low = addr.zext(64) & ((1 << bits) - 1)
    e.mapped((entry & -(1 << bits)).zext(64) | low, allowed, bits)

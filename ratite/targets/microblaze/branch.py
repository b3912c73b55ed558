"""Branches, calls, returns, breaks and the imm prefix. UG984, chapter 5: br, bri, brk, brki, b*, b*i, rts*, imm, mbar.

A delayed branch leaves its target in ``btarget`` and the next instruction to the context of the delay slot.
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.microblaze.kit import (
    DS,
    MSR_BIP,
    MSR_EE,
    MSR_EIP,
    MSR_IE,
    MSR_UM,
    MSR_UMS,
    MSR_VM,
    MSR_VMS,
    RDS,
    Kit,
)

VECTOR_USER, VECTOR_BREAK = 0x8, 0x18


def declare(k: Kit) -> None:
    """All of them."""
    _imm(k)
    _unconditional(k)
    _conditional(k)
    _returns(k)
    _breaks(k)
    _barrier(k)


def _imm(k: Kit) -> None:
    @k.control("imm", "101100 00000 00000 imm", "{imm}")
    def imm(e: Emitter, i: Operands) -> None:
        e.set("immhi", i.imm << 16)
        e.next_in("imm")


def _delayed(k: Kit, e: Emitter, target: V) -> None:
    e.set("btarget", target)
    k.slot_of(e)
    e.next_in(DS)


def _user_vector(k: Kit, e: Emitter, target: V) -> None:
    """A call of C_BASE_VECTORS + 8 leaves user and virtual mode, behind its delay slot ("Privileged Instructions")."""

    def leave() -> None:
        e.set("btarget", target)
        k.slot_of(e)
        e.set("rclear", MSR_UM | MSR_VM | MSR_UMS | MSR_VMS)
        e.set("rset", (e.get("msr") & (MSR_UM | MSR_VM)) << 1)
        e.next_in(RDS)

    if k.c.use_mmu:
        e.if_(target.eq(k.c.base_vectors + VECTOR_USER), leave)
    _delayed(k, e, target)


def _unconditional(k: Kit) -> None:
    """Bits of the rA field: D (delay slot) A (absolute) L (link)."""
    for name, bits in (
        ("br", "00000"), ("brd", "10000"), ("brld", "10100"), ("bra", "01000"), ("brad", "11000"), ("brald", "11100"),
    ):
        _register_branch(k, name, bits)
        _immediate_branch(k, name.replace("r", "ri", 1) if name == "br" else _with_i(name), bits)


def _with_i(name: str) -> str:
    """br -> bri, brd -> brid, brald -> bralid: the i stands before the d."""
    return name[:-1] + "id" if name.endswith("d") else name + "i"


def _register_branch(k: Kit, name: str, bits: str) -> None:
    delay, absolute, link = (ch == "1" for ch in bits[:3])

    @k.control(name, f"100110 {'rd' if link else '00000'} {bits} rb 00000000000", "{rd}, {rb}" if link else "{rb}")
    def branch(e: Emitter, i: Operands) -> None:
        b = k.rb(e, i)
        target = b if absolute else e.pc() + b
        if link:
            k.set_rd(e, i, e.pc())
        if delay:
            _delayed(k, e, target)
        else:
            e.jump(target)


def _immediate_branch(k: Kit, name: str, bits: str) -> None:
    delay, absolute, link = (ch == "1" for ch in bits[:3])

    @k.control(
        name, f"101110 {'rd' if link else '00000'} {bits} imm", "{rd}, {imm}" if link else "{imm}",
        relative="" if absolute else "imm")
    def branch(e: Emitter, i: Operands) -> None:
        if link:
            k.set_rd(e, i, e.pc())
        if name == "bralid":
            _user_vector(k, e, k.imm(e, i))
        elif delay:
            _delayed(k, e, k.imm(e, i) if absolute else e.pc() + k.imm(e, i))
        elif absolute or e.ctx:
            e.jump(k.imm(e, i) if absolute else e.pc() + k.imm(e, i))
        else:
            e.jump_rel(i)


def _conditional(k: Kit) -> None:
    rows: tuple[tuple[str, str, Callable[[V], V]], ...] = (
        ("beq", "000", lambda a: a.eq(0)), ("bne", "001", lambda a: a.ne(0)), ("blt", "010", lambda a: a.slt(0)),
        ("ble", "011", lambda a: a.sle(0)), ("bgt", "100", lambda a: a.sgt(0)), ("bge", "101", lambda a: a.sge(0)),
    )
    for name, code, test in rows:
        for delay in (False, True):
            d = "d" if delay else ""
            _register_condition(k, name + d, f"{int(delay)}0{code}", test, delay)
            _immediate_condition(k, f"{name}i{d}", f"{int(delay)}0{code}", test, delay)


def _register_condition(k: Kit, name: str, bits: str, test: Callable[[V], V], delay: bool) -> None:
    @k.control(name, f"100111 {bits} ra rb 00000000000", "{ra}, {rb}")
    def branch(e: Emitter, i: Operands) -> None:
        c, target = test(k.ra(e, i)), e.pc() + k.rb(e, i)
        if delay:
            _delayed(k, e, e.select(c, target, e.pc() + 8))
        else:
            e.if_(c, lambda: e.jump(target))
            k.end(e)


def _immediate_condition(k: Kit, name: str, bits: str, test: Callable[[V], V], delay: bool) -> None:
    @k.control(name, f"101111 {bits} ra imm", "{ra}, {imm}", relative="imm")
    def branch(e: Emitter, i: Operands) -> None:
        c = test(k.ra(e, i))
        if delay:
            _delayed(k, e, e.pc() + e.select(c, k.imm(e, i), 8))
        elif e.ctx:
            e.if_(c, lambda: e.jump(e.pc() + k.imm(e, i)))
            k.end(e)
        else:
            e.branch(c, i)


def _returns(k: Kit) -> None:
    @k.control("rtsd", "101101 10000 ra imm", "{ra}, {imm}")
    def rtsd(e: Emitter, i: Operands) -> None:
        _delayed(k, e, k.ra(e, i) + k.imm(e, i))

    # what MSR bits each sets and clears behind its delay slot; the modes that were saved come back too
    modes = (MSR_UM if k.c.use_mmu else 0) | (MSR_VM if k.translated else 0)
    for name, bits, to_set, to_clear in (
        ("rtid", "10001", MSR_IE, 0), ("rtbd", "10010", 0, MSR_BIP), ("rted", "10100", MSR_EE, MSR_EIP),
    ):
        @k.control(name, f"101101 {bits} ra imm", "{ra}, {imm}")
        def back(e: Emitter, i: Operands, name: str = name, to_set: int = to_set, to_clear: int = to_clear) -> None:
            k.privileged(e)
            e.set("btarget", k.ra(e, i) + k.imm(e, i))
            e.set("rset", to_set)
            e.set("rclear", to_clear | modes)
            k.slot_of(e)
            e.next_in(RDS)


def _breaks(k: Kit) -> None:
    """Software breaks; ``brki rD, 0x18`` is a debugger's breakpoint and does not set BIP, whatever C_BASE_VECTORS is
    (UG984, "Software Breaks"). In user mode ``brki`` may go to the vectors of the user and the break alone."""

    @k.control("brk", "100110 rd 01100 rb 00000000000", "{rd}, {rb}")
    def brk(e: Emitter, i: Operands) -> None:
        k.privileged(e)
        target = k.rb(e, i)
        k.set_rd(e, i, e.pc())
        e.set("msr", e.get("msr") | MSR_BIP)
        _clear_reservation(e)
        e.jump(target)

    @k.control("brki", "101110 rd 01100 imm", "{rd}, {imm}")
    def brki(e: Emitter, i: Operands) -> None:
        target, msr = k.imm(e, i), e.get("msr")
        bip = e.select(target.eq(VECTOR_BREAK), e.const(0), MSR_BIP)
        if k.c.use_mmu:
            vector = target.eq(k.c.base_vectors + VECTOR_USER) | target.eq(k.c.base_vectors + VECTOR_BREAK)
            k.privileged(e, vector ^ 1)
            k.set_msr(e, e.select(vector, k.privileged_msr(msr), msr) | bip)
        else:
            e.set("msr", msr | bip)
        k.set_rd(e, i, e.pc())
        _clear_reservation(e)
        e.jump(target)


def _clear_reservation(e: Emitter) -> None:
    e.set("reservation", 0)
    e.clear_reservation()


def _barrier(k: Kit) -> None:
    """Memory barrier; operands 16, 24 (hibernate) and 8 (suspend) sleep (UG984, "mbar")."""

    @k.control("mbar", "101110 kind 00010 0000000000000100", "{imm}")
    def mbar(e: Emitter, i: Operands) -> None:
        sleeps = (i.imm & 0x18).ne(0)
        k.privileged(e, sleeps)
        e.fence()
        e.if_(sleeps, e.halt)
        if e.ctx:
            e.next()
        else:
            e.flush_code()

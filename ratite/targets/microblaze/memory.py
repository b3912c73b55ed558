"""Loads and stores. UG984, chapter 5: lbu … swx; "Exception Causes"; "Stack protection"."""

from __future__ import annotations

from types import MappingProxyType

from ratite.core.isa.emitter import LOAD_MISALIGNED, STORE_MISALIGNED, Emitter
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.microblaze.kit import EC_DBUS, EC_STACK, EC_UNALIGNED, ESR_RX, ESR_S, ESR_W, Kit

#: names and opcode bits by size in bytes
_SIZES = MappingProxyType({1: ("b", "00"), 2: ("h", "01"), 4: ("w", "10")})


def declare(k: Kit) -> None:
    """All of them, as far as they are configured."""
    for size, (letter, code) in _SIZES.items():
        load = f"l{letter}{'' if size == 4 else 'u'}"
        _load(k, load, f"110 0{code}", size, False)
        _load_immediate(k, f"{load}i", f"111 0{code}", size)
        _store(k, f"s{letter}", f"110 1{code}", size, False)
        _store_immediate(k, f"s{letter}i", f"111 1{code}", size)
        if k.c.use_reorder_instr:
            _load(k, f"{load}r", f"110 0{code}", size, True)
            _store(k, f"s{letter}r", f"110 1{code}", size, True)
    _exclusive(k)


def _place(addr: V, size: int, reverse: bool) -> V:
    """Where the reversed forms find a byte or a halfword: mirrored in its word."""
    return addr ^ (4 - size) if reverse and size < 4 else addr


def _check_stack(k: Kit, e: Emitter, base: V, addr: V) -> None:
    """An access by way of r1 must stay between SLR and SHR; ``base``: width 1, whether r1 is used."""
    if k.c.use_stack_protection:
        bad = base & (addr.ult(e.get("slr")) | addr.ugt(e.get("shr"))) & k.enabled(e)
        e.if_(bad, lambda: e.routine("exception", EC_STACK))


def _refuse(k: Kit, e: Emitter, misaligned: V, addr: V, ess: V) -> None:
    """Raises the exception of a failed access where it is configured and enabled, else comes back."""

    def unaligned() -> None:
        if k.c.unaligned_exceptions:
            e.if_(k.enabled(e), lambda: _raise(e, ess | EC_UNALIGNED, addr))

    def bus() -> None:
        if k.c.dopb_bus_exception:
            e.if_(k.enabled(e), lambda: _raise(e, e.const(EC_DBUS), addr))

    e.if_(misaligned, unaligned, bus)


def _raise(e: Emitter, esr: V, addr: V) -> None:
    e.set("ear", addr)
    e.routine("exception", esr)


def _specific(size: int, store: bool, register: V) -> V:
    """ESR[ESS] of an unaligned access."""
    return ((register & 31) << ESR_RX) | ((ESR_W if size == 4 else 0) | (ESR_S if store else 0))


def _read(k: Kit, e: Emitter, i: Operands, addr: V, size: int, reverse: bool) -> None:
    place = _place(addr, size, reverse)

    def aligned(kind: V) -> V:
        k.mmu_fault(e, kind, place & -size)
        return e.const(0, 8 * size)

    def failed(kind: V) -> V:
        k.mmu_fault(e, kind, place)
        misaligned = kind.eq(LOAD_MISALIGNED)
        _refuse(k, e, misaligned, place, _specific(size, False, i.rd))
        # not an exception: the low address bits do not count, and nothing there reads 0
        return e.load(place & -size, size, otherwise=aligned)

    value = e.load(place, size, otherwise=failed)
    if reverse and size > 1:
        value = value.bswap()
    k.set_rd(e, i, value.zext(32))


def _write(k: Kit, e: Emitter, i: Operands, addr: V, size: int, reverse: bool) -> None:
    place = _place(addr, size, reverse)
    value = e.reg("r", i.rs).trunc(8 * size)
    if reverse and size > 1:
        value = value.bswap()

    def failed(kind: V) -> None:
        k.mmu_fault(e, kind, place)
        misaligned = kind.eq(STORE_MISALIGNED)
        _refuse(k, e, misaligned, place, _specific(size, True, i.rs))
        e.store(place & -size, value, otherwise=lambda kind: k.mmu_fault(e, kind, place & -size))

    e.store(place, value, otherwise=failed)


def _indexed(k: Kit, e: Emitter, i: Operands) -> V:
    addr = k.ra(e, i) + k.rb(e, i)
    _check_stack(k, e, i.ra.eq(1) | i.rb.eq(1), addr)
    return addr


def _displaced(k: Kit, e: Emitter, i: Operands) -> V:
    addr = k.ra(e, i) + k.imm(e, i)
    _check_stack(k, e, i.ra.eq(1), addr)
    return addr


def _load(k: Kit, name: str, code: str, size: int, reverse: bool) -> None:
    @k.op(name, f"{code} rd ra rb 0{int(reverse)}000000000", "{rd}, {ra}, {rb}")
    def load(e: Emitter, i: Operands) -> None:
        _read(k, e, i, _indexed(k, e, i), size, reverse)


def _load_immediate(k: Kit, name: str, code: str, size: int) -> None:
    @k.op(name, f"{code} rd ra imm", "{rd}, {ra}, {imm}")
    def load(e: Emitter, i: Operands) -> None:
        _read(k, e, i, _displaced(k, e, i), size, False)


def _store(k: Kit, name: str, code: str, size: int, reverse: bool) -> None:
    @k.op(name, f"{code} rs ra rb 0{int(reverse)}000000000", "{rs}, {ra}, {rb}")
    def store(e: Emitter, i: Operands) -> None:
        _write(k, e, i, _indexed(k, e, i), size, reverse)


def _store_immediate(k: Kit, name: str, code: str, size: int) -> None:
    @k.op(name, f"{code} rs ra imm", "{rs}, {ra}, {imm}")
    def store(e: Emitter, i: Operands) -> None:
        _write(k, e, i, _displaced(k, e, i), size, False)


def _exclusive(k: Kit) -> None:
    """LWX sets the reservation bit and clears C. SWX stores if the bit is set (and, with exclusive access on the bus, if
    nobody wrote there since), tells in C whether it did not, and clears the bit. Neither minds low address bits."""

    @k.op("lwx", "110010 rd ra rb 10000000000", "{rd}, {ra}, {rb}")
    def lwx(e: Emitter, i: Operands) -> None:
        addr = _indexed(k, e, i) & -4

        def failed(kind: V) -> V:  # no RAM: a register, or nothing at all
            def bus(kind: V) -> V:
                k.mmu_fault(e, kind, addr)
                _refuse(k, e, e.const(0, 1), addr, e.const(0))
                return e.const(0)

            return e.load(addr, 4, otherwise=bus)

        value = e.load_reserved(addr, 4, otherwise=failed) if k.c.exclusive_access else _plain(k, e, addr)
        e.set("reservation", 1)
        k.set_carry(e, e.const(0, 1))
        k.set_rd(e, i, value)

    @k.op("swx", "110110 rs ra rb 10000000000", "{rs}, {ra}, {rb}")
    def swx(e: Emitter, i: Operands) -> None:
        addr = _indexed(k, e, i) & -4
        value = e.reg("r", i.rs)
        if k.c.exclusive_access:
            def failed(kind: V) -> V:
                k.mmu_fault(e, kind, addr)
                _refuse(k, e, e.const(0, 1), addr, e.const(0))
                return e.const(0, 1)

            done = e.store_conditional(addr, value, otherwise=failed)
            k.set_carry(e, done ^ 1)
        else:
            held = e.get("reservation")

            def lost(kind: V) -> None:
                k.mmu_fault(e, kind, addr)
                _refuse(k, e, e.const(0, 1), addr, e.const(0))

            e.if_(held, lambda: e.store(addr, value, otherwise=lost))
            k.set_carry(e, held ^ 1)
        e.set("reservation", 0)


def _plain(k: Kit, e: Emitter, addr: V) -> V:
    def failed(kind: V) -> V:
        k.mmu_fault(e, kind, addr)
        _refuse(k, e, e.const(0, 1), addr, e.const(0))
        return e.const(0)

    return e.load(addr, 4, otherwise=failed)

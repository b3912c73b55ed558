"""Supervisor mode's registers (RISC-V Privileged ISA 1.12 §4.1).

    sstatus            the part of mstatus that supervisor mode may see
    sie, sip           the part of mie and mip that mideleg gives; SSIP alone can be written in sip
    stvec, sepc        like mtvec and mepc;   scause, stval, sscratch   every bit writable
    satp               a mode that isn't there leaves it as it was; ASIDs of 16 bits (RV32: 9) are kept; a change of satp
                       flushes all, so that no translation of another space is left, and a fence of one ASID is one of all
    senvcfg            as menvcfg's lower word
"""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.riscv.counters import NOTE_SSIP
from ratite.targets.riscv.csrs import (
    CBIE,
    FS,
    MXR,
    SEI,
    SIE,
    SPIE,
    SPP,
    SSI,
    STCE,
    STI,
    SUM,
    SUPERVISOR_INTERRUPTS,
    TVM,
    UXL64,
    Csr,
    S,
    env_bits,
    field,
    interrupts,
    privilege,
    write_status,
)
from ratite.targets.riscv.features import Features

#: satp's MODE by extension (table 4.4)
SV32, SV39, SV48, SV57 = 1, 8, 9, 10


def state_fields(f: Features) -> list[StateField]:
    """The state behind the registers; the rest is machine mode's."""
    xlen = f.xlen
    rows = [
        StateField("stvec", xlen, text="trap vector of supervisor mode"),
        StateField("sepc", xlen, text="pc of the trap"),
        StateField("scause", xlen, text="cause of the trap"),
        StateField("stval", xlen, text="value of the trap: an address or an instruction"),
        StateField("sscratch", xlen, text="scratch register of supervisor mode"),
        StateField("satp", xlen, text="root of the page table and its mode"),
        StateField("scounteren", 32, text="counters that user mode may read"),
    ]
    if f.version >= 12:
        rows.append(StateField("senvcfg", xlen, text="what user mode may do"))
    return rows


def pending(e: Emitter, f: Features) -> V:
    """mip: the input lines and what software made pending (Privileged 1.12 §3.1.9; Sstc 1.0 §2.3)."""
    bits = interrupts(f)
    lines = e.get("irq_lines").trunc(f.xlen)
    if not f.has("s"):
        return lines & bits
    if not f.has("sstc"):
        return lines & (bits & ~(1 << STI)) | e.get("mip")
    return lines & e.select(_timed(e), bits, e.const(bits & ~(1 << STI))) | e.get("mip") & _writable(e, f)


def _timed(e: Emitter) -> V:
    return (e.get("menvcfg") & STCE).ne(0)


def _writable(e: Emitter, f: Features) -> V:
    """Bits of mip that are software's: STIP too, unless it follows stimecmp."""
    everything = e.const(SUPERVISOR_INTERRUPTS)
    return e.select(_timed(e), 1 << SSI | 1 << SEI, everything) if f.has("sstc") else everything


def mip(f: Features) -> Csr:
    """mip; where there is no supervisor mode, writes do nothing."""
    if not f.has("s"):
        return Csr(0x344, "mip", lambda e: pending(e, f))

    def kept(e: Emitter) -> V:
        """SEIP is set and cleared by what software wrote, whatever its line does (§3.1.9)."""
        return e.get("mip") | e.get("irq_lines").trunc(f.xlen) & (1 << SSI)

    return Csr(0x344, "mip", lambda e: pending(e, f), lambda e, v: _write_pending(e, v, _writable(e, f)), then="poll",
               kept=kept)


def _write_pending(e: Emitter, value: V, mask: V) -> None:
    """Bits of ``mask``. A rising line SSI stands for a write of SSIP: where that is taken back, the line's bit is too."""
    e.set("mip", e.get("mip") & ~mask | value & mask)
    taken_back = e.get("irq_lines").bit(SSI) & mask.bit(SSI) & (value.bit(SSI) ^ 1)
    e.if_(taken_back, lambda: e.notify(NOTE_SSIP, e.const(0)))


def csrs(f: Features) -> list[Csr]:
    """All of them but scounteren and stimecmp."""
    xlen = f.xlen
    fs = FS if f.has("f") else 0
    writable = SIE | SPIE | SPP | SUM | MXR | fs
    seen = writable | (UXL64 if xlen == 64 else 0) | (1 << xlen - 1 if fs else 0)

    def enabled(e: Emitter) -> V:
        return e.get("mie") & e.get("mideleg")

    def enable(e: Emitter, value: V) -> None:
        e.set("mie", e.get("mie") & ~e.get("mideleg") | value & e.get("mideleg"))

    def clear_or_set(e: Emitter, value: V) -> None:
        _write_pending(e, value, e.get("mideleg") & (1 << SSI))

    rows = [
        Csr(0x100, "sstatus", lambda e: e.get("mstatus") & seen, lambda e, v: write_status(e, f, v, writable)),
        Csr(0x104, "sie", enabled, enable, then="poll"),
        field(0x105, "stvec", ~2),
        field(0x140, "sscratch"),
        field(0x141, "sepc", -2 if f.has("c") else -4),
        field(0x142, "scause"),
        field(0x143, "stval"),
        Csr(0x144, "sip", lambda e: pending(e, f) & e.get("mideleg"), clear_or_set, then="poll"),
        Csr(0x180, "satp", lambda e: e.get("satp"), lambda e, v: _write_satp(e, f, v), guard=_trapped_vm, then="refetch"),
    ]
    if f.version >= 12:
        rows.append(Csr(0x10A, "senvcfg", lambda e: e.get("senvcfg"), lambda e, v: _write_senvcfg(e, f, v)))
    return rows


def _write_senvcfg(e: Emitter, f: Features, value: V) -> None:
    bits = env_bits(f) & 0xFF
    if bits & CBIE:  # the encoding 2 is reserved: the old one stays
        value = e.select((value & CBIE).eq(2 << 4), value & ~CBIE | e.get("senvcfg") & CBIE, value)
    e.set("senvcfg", value & bits)


def _trapped_vm(e: Emitter) -> V:
    return privilege(e).eq(S) & (e.get("mstatus") & TVM).ne(0)


def _write_satp(e: Emitter, f: Features, value: V) -> None:
    mode = value >> 31 if f.xlen == 32 else value >> 60
    known = mode.eq(0)
    for name, number in (("sv32", SV32), ("sv39", SV39), ("sv48", SV48), ("sv57", SV57)):
        if f.has(name):
            known = known | mode.eq(number)

    def change() -> None:
        e.set("satp", value)
        e.flush_tlb()

    e.if_(known & value.ne(e.get("satp")), change)

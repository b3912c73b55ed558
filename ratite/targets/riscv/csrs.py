"""Control and status registers (RISC-V Privileged ISA 1.12 chapters 2–4; Unprivileged 20191213 §10.1): what they are made
of, and those of machine mode.

    mstatus   as far as the modes and F go: MPP keeps its value where an absent mode is written; SD follows FS
    mtvec     bit 1 is 0: modes direct and vectored, base 4-aligned  mie       bits of the interrupts there are
    mepc      aligned to an instruction                              misa      read-only
    mcause, mtval, mscratch   every bit writable                     mcountinhibit   CY, IR writable
    mip       SSIP, SEIP and, unless Sstc gives it, STIP writable    medeleg   all but ecall from M; mideleg SSI, STI, SEI
    mvendorid, marchid, mimpid, mconfigptr, mhpmcounter3…31, mhpmevent3…31, mstatush: read-only 0

Left out, so illegal instructions: hpmcounter3…31, triggers; with no lower mode also medeleg, mideleg, mcounteren, menvcfg
(§3.1.8, §3.1.11, §3.1.18).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.riscv.features import Features

# of mstatus (figures 3.7, 3.8)
SIE, MIE, SPIE, MPIE, SPP, MPP, FS = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8, 3 << 11, 3 << 13
MPRV, SUM, MXR, TVM, TW, TSR = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22
UXL64, SXL64 = 2 << 32, 2 << 34
# interrupt numbers, which are the bits of mip, mie and the hart's input lines
SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11
MACHINE_INTERRUPTS = 1 << MSI | 1 << MTI | 1 << MEI
SUPERVISOR_INTERRUPTS = 1 << SSI | 1 << STI | 1 << SEI
# of menvcfg
FIOM, CBIE, CBCFE, CBZE, ADUE, PBMTE, STCE = 1, 3 << 4, 1 << 6, 1 << 7, 1 << 61, 1 << 62, 1 << 63
# privilege levels
U, S, M = 0, 1, 3

Reader = Callable[[Emitter], V]
Writer = Callable[[Emitter, V], object]


class Csr:
    """One register. ``write`` None: writes are taken and do nothing (numbers 0xC00 and up are read-only: a write is an
    illegal instruction). ``guard``: gives a value of width 1, set where any use is illegal now. ``then``: "poll" where a write
    may let a pending interrupt through, "refetch" where it may change what is fetched next. ``kept``: what a set or clear
    works on, where that is not what is read."""

    __slots__ = ("guard", "kept", "name", "number", "read", "then", "write")

    def __init__(
        self, number: int, name: str, read: Reader, write: Writer | None = None, *, guard: Reader | None = None,
        then: str = "", kept: Reader | None = None,
    ) -> None:
        self.number = number
        self.name = name
        self.read = read
        self.write = write
        self.guard = guard
        self.then = then
        self.kept = kept or read

    @property
    def read_only(self) -> bool:
        """By its number (Privileged 1.12 §2.1)."""
        return self.number >> 10 == 3


class CsrRange:
    """Registers ``first`` … ``last`` that one piece of code serves: ``read(e, number)``, ``write(e, number, value)``."""

    __slots__ = ("first", "last", "read", "then", "write")

    def __init__(
        self, first: int, last: int, read: Callable[[Emitter, V], V],
        write: Callable[[Emitter, V, V], object] | None = None, then: str = "",
    ) -> None:
        self.first = first
        self.last = last
        self.read = read
        self.write = write
        self.then = then


# -- helpers for semantics

def privilege(e: Emitter) -> V:
    """The current mode, as a word: U, S or M."""
    return e.get("priv").zext(e.word)


def require_fp(e: Emitter) -> None:
    """Ends the instruction as an illegal one while mstatus.FS is Off (Privileged 1.12 §3.1.6.6)."""
    e.if_((e.get("mstatus") & FS).eq(0), lambda: e.routine("trap", 2, 0))


def fs_dirty(e: Emitter) -> None:
    """The floating-point state was changed: FS becomes Dirty, and SD with it."""
    e.set("mstatus", e.get("mstatus") | (FS | 1 << e.word - 1))


def field(number: int, name: str, mask: int = -1, then: str = "", guard: Reader | None = None) -> Csr:
    """A register that is a state field; ``mask``: writable bits."""

    def write(e: Emitter, value: V) -> None:
        e.set(name, value & mask)

    return Csr(number, name, lambda e: e.get(name), write, then=then, guard=guard)


def constant(number: int, name: str, value: int = 0) -> Csr:
    """A register that reads ``value``."""
    return Csr(number, name, lambda e: e.const(value))


def halves(number: int, name: str, state: str, xlen: int, write: Writer, *, high: int, then: str = "",
           guard: Reader | None = None) -> list[Csr]:
    """A 64-bit state field as one register, or as two where xlen is 32, the upper one at ``high``. ``write`` gets the
    whole new value."""

    def half(low: int) -> Csr:
        part = ((1 << xlen) - 1) << low

        def put(e: Emitter, value: V) -> None:
            write(e, e.get(state) & ~part | value.zext(64) << low)

        return Csr(high if low else number, name + ("h" if low else ""), lambda e: (e.get(state) >> low).trunc(xlen), put,
                   then=then, guard=guard)

    return [half(low) for low in range(0, 64, xlen)]


# -- mstatus

def status_bits(f: Features) -> int:
    """Writable bits of mstatus."""
    bits = MIE | MPIE
    if f.has("u"):
        bits |= MPP | MPRV | TW
    if f.has("s"):
        bits |= SIE | SPIE | SPP | SUM | MXR | TVM | TSR
    if f.has("f"):
        bits |= FS
    return bits


def status_reset(f: Features) -> int:
    """mstatus out of reset: MPP can only be M where there is no other mode; xlen of the lower modes is fixed."""
    if not f.has("u"):
        return MPP
    return 0 if f.xlen == 32 else UXL64 | (SXL64 if f.has("s") else 0)


def write_status(e: Emitter, f: Features, value: V, mask: int) -> None:
    """mstatus, or the part of it in ``mask`` (sstatus); what follows from its change."""
    old = e.get("mstatus")
    new = old & ~mask | value & mask
    if mask & MPP:
        mode = value.bits(12, 11)
        legal = mode.ne(2) if f.has("s") else mode.eq(U) | mode.eq(M)
        new = e.select(legal, new, new & ~MPP | old & MPP)
    if mask & FS:
        dirty = new.bits(14, 13).eq(3).zext(f.xlen)
        new = new & ~(1 << f.xlen - 1) | dirty << f.xlen - 1
    e.set("mstatus", new)
    changed = old ^ new
    if f.mmu_modes:
        if mask & MXR:
            e.if_((changed & MXR).ne(0), e.flush_tlb)
        if mask & (MPRV | MPP | SUM):
            e.if_((changed & (MPRV | MPP | SUM)).ne(0), e.modes_changed)
    e.if_((new & ~old & (MIE | SIE)).ne(0), e.poll)


# -- machine mode

def state_fields(f: Features) -> list[StateField]:
    """The state behind machine mode's registers."""
    xlen = f.xlen
    rows = [
        StateField("priv", 2, text="privilege level: 0 U, 1 S, 3 M", reset=M),
        StateField("mstatus", xlen, text="machine status", reset=status_reset(f)),
        StateField("mtvec", xlen, text="trap vector"),
        StateField("mepc", xlen, text="pc of the trap"),
        StateField("mcause", xlen, text="cause of the trap"),
        StateField("mtval", xlen, text="value of the trap: an address or an instruction"),
        StateField("mscratch", xlen, text="scratch register of machine mode"),
        StateField("mie", xlen, text="interrupts enabled"),
        StateField("mhartid", xlen, text="number of the hart"),
    ]
    if f.has("s"):
        rows += [
            StateField("medeleg", xlen, text="exceptions that go to supervisor mode"),
            StateField("mideleg", xlen, text="interrupts that go to supervisor mode"),
            StateField("mip", xlen, text="interrupts made pending by software"),
        ]
    if f.has("u") and f.version >= 12:
        reset = ADUE if f.has("svadu") and not f.has("svade") else 0
        rows += [
            StateField("menvcfg", 64, text="what lower modes may do", reset=reset),
        ]
    if f.has("u"):
        rows.append(StateField("mcounteren", 32, text="counters that lower modes may read"))
    return rows


def misa(f: Features) -> int:
    """Privileged 1.12 §3.1.1."""
    value = (1 if f.xlen == 32 else 2) << f.xlen - 2
    for letter in f.letters:
        value |= 1 << ord(letter) - ord("a")
    if f.has("zba") and f.has("zbb") and f.has("zbs"):
        value |= 1 << 1  # B, which is these three (Bit-Manipulation ISA 1.0.0 chapter 3)
    return value


def interrupts(f: Features) -> int:
    """Bits of mie that are there."""
    return MACHINE_INTERRUPTS | (SUPERVISOR_INTERRUPTS if f.has("s") else 0)


def env_bits(f: Features) -> int:
    """Writable bits of menvcfg; the lower word's are senvcfg's too."""
    bits = FIOM
    for name, mask in (("zicbom", CBIE | CBCFE), ("zicboz", CBZE), ("svadu", ADUE), ("svpbmt", PBMTE), ("sstc", STCE)):
        if f.has(name):
            bits |= mask
    return bits


def machine_csrs(f: Features) -> list[Csr]:
    """Registers of machine mode but the counters, PMP and mip."""
    xlen = f.xlen
    rows = [
        Csr(0x300, "mstatus", lambda e: e.get("mstatus"), lambda e, v: write_status(e, f, v, status_bits(f))),
        constant(0x301, "misa", misa(f)),
        field(0x304, "mie", interrupts(f), then="poll"),
        field(0x305, "mtvec", ~2),
        field(0x340, "mscratch"),
        field(0x341, "mepc", -2 if f.has("c") else -4),
        field(0x342, "mcause"),
        field(0x343, "mtval"),
        constant(0xF11, "mvendorid"),
        constant(0xF12, "marchid"),
        constant(0xF13, "mimpid"),
        Csr(0xF14, "mhartid", lambda e: e.get("mhartid")),
    ]
    if f.version >= 12:
        rows.append(constant(0xF15, "mconfigptr"))
    if f.version >= 12 and xlen == 32:
        rows.append(constant(0x310, "mstatush"))
    if f.has("s"):
        rows += [field(0x302, "medeleg", 0xB3FF), field(0x303, "mideleg", SUPERVISOR_INTERRUPTS, then="poll")]
    if f.has("u") and f.version >= 12:
        rows += halves(0x30A, "menvcfg", "menvcfg", xlen, lambda e, v: _write_menvcfg(e, f, v), high=0x31A, then="poll")
    return rows


def _write_menvcfg(e: Emitter, f: Features, value: V) -> None:
    bits = env_bits(f)
    old = e.get("menvcfg")
    if bits & CBIE:  # the encoding 2 is reserved: the old one stays
        value = e.select((value & CBIE).eq(2 << 4), value & ~CBIE | old & CBIE, value)
    new = value & bits
    e.set("menvcfg", new)
    if bits & (ADUE | PBMTE):
        e.if_(((old ^ new) & (ADUE | PBMTE)).ne(0), e.flush_tlb)


def table_of(rows: Sequence[Csr]) -> Mapping[int, Csr]:
    """Registers by number."""
    table = {row.number: row for row in rows}
    if len(table) != len(rows):
        raise AssertionError("a CSR number is declared twice")
    return MappingProxyType(table)


def zero_ranges(f: Features) -> list[CsrRange]:
    """The many registers that read 0 and take any write: mhpmcounter3…31, their high halves on RV32 and mhpmevent3…31
    (§3.1.10)."""
    groups = (0xB00, 0xB80, 0x320) if f.xlen == 32 else (0xB00, 0x320)
    return [CsrRange(group + 3, group + 31, lambda e, number: e.const(0)) for group in groups]

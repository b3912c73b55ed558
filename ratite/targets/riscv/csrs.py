"""Control and status registers of a hart with machine mode only (RISC-V Privileged ISA 1.12 §2.2, §3.1; Unprivileged
20191213 §10.1).

    mstatus   MIE, MPIE writable; MPP is always 3, the rest 0        mie       MSIE, MTIE, MEIE writable
    mtvec     bit 1 is 0: modes direct and vectored, base 4-aligned  mip       the input lines; writes do nothing
    mepc      aligned to an instruction                              misa      read-only
    mcause, mtval, mscratch   every bit writable                     mcountinhibit   CY, IR writable
    mcycle, minstret, cycle, instret: instructions executed, no cycle model
    mvendorid, marchid, mimpid, mconfigptr, mhpmcounter3…31, mhpmevent3…31, mstatush: read-only 0

Left out, so illegal instructions: time (its reads may trap, §3.1.11), hpmcounter3…31, PMP (zero entries, §3.7.1), medeleg,
mideleg, mcounteren, menvcfg (no lower mode, §3.1.8, §3.1.11, §3.1.18), triggers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V

MIE, MPIE, MPP = 1 << 3, 1 << 7, 3 << 11  # of mstatus
MSI, MTI, MEI = 3, 7, 11  # interrupt numbers, which are the bits of mip, mie and the hart's input lines
INTERRUPTS = 1 << MSI | 1 << MTI | 1 << MEI
CY, IR = 1, 4  # of mcountinhibit

Reader = Callable[[Emitter], V]
Writer = Callable[[Emitter, V], object]


class Csr:
    """One register. ``write`` None: writes are taken and do nothing (numbers 0xC00 and up are read-only: a write is an
    illegal instruction). ``polls``: a write may let a pending interrupt through."""

    __slots__ = ("name", "number", "polls", "read", "write")

    def __init__(self, number: int, name: str, read: Reader, write: Writer | None = None, *, polls: bool = False) -> None:
        self.number = number
        self.name = name
        self.read = read
        self.write = write
        self.polls = polls

    @property
    def read_only(self) -> bool:
        """By its number (Privileged 1.12 §2.1)."""
        return self.number >> 10 == 3


def state_fields(xlen: int) -> list[StateField]:
    """The state behind the registers. ``mcycle`` and ``minstret`` hold what is added to the count of instructions, or
    the value itself while inhibited."""
    return [
        StateField("mstatus", xlen, text="machine status", reset=MPP),
        StateField("mtvec", xlen, text="trap vector"),
        StateField("mepc", xlen, text="pc of the trap"),
        StateField("mcause", xlen, text="cause of the trap"),
        StateField("mtval", xlen, text="value of the trap: an address or an instruction"),
        StateField("mscratch", xlen, text="scratch register of machine mode"),
        StateField("mie", xlen, text="interrupts enabled"),
        StateField("mhartid", xlen, text="number of the hart"),
        StateField("mcountinhibit", 32, text="counters that stand"),
        StateField("mcycle", 64, text="mcycle minus the instructions executed", hidden=True),
        StateField("minstret", 64, text="minstret minus the instructions executed", hidden=True),
    ]


def _field(number: int, name: str, mask: int = -1, fixed: int = 0, polls: bool = False) -> Csr:
    """A register that is a state field: ``mask``: writable bits, ``fixed``: bits that are always set."""

    def write(e: Emitter, value: V) -> None:
        e.set(name, value & mask | fixed)

    return Csr(number, name, lambda e: e.get(name), write, polls=polls)


def _constant(number: int, name: str, value: int = 0) -> Csr:
    return Csr(number, name, lambda e: e.const(value))


def _inhibited(e: Emitter, bit: int) -> V:
    return (e.get("mcountinhibit") & bit).ne(0)


def _ticks(e: Emitter, inhibited: V, behind: int) -> V:
    """What is added to a counter's state: instructions before this one, or with it (``behind`` 1)."""
    return e.select(inhibited, 0, e.instructions() + behind)


def _set_counter(e: Emitter, name: str, bit: int, value: V) -> None:
    """The next instruction reads ``value`` (Unprivileged 20191213 §10.1, Privileged 1.12 §3.1.10)."""
    e.set(name, value - _ticks(e, _inhibited(e, bit), 1))


def _counter(number: int, name: str, field: str, bit: int, xlen: int, writable: bool) -> Iterator[Csr]:
    """A 64-bit counter: one register, or two halves where xlen is 32 (the high half 0x80 further)."""

    def current(e: Emitter, behind: int) -> V:
        return e.get(field) + _ticks(e, _inhibited(e, bit), behind)

    def half(low: int, label: str) -> Csr:
        part = ((1 << xlen) - 1) << low

        def write(e: Emitter, value: V) -> None:
            _set_counter(e, field, bit, current(e, 1) & ~part | value.zext(64) << low)

        return Csr(number + (0x80 if low else 0), label, lambda e: (current(e, 0) >> low).trunc(xlen),
                   write if writable else None)

    yield half(0, name)
    if xlen == 32:
        yield half(32, name + "h")


def _write_inhibit(e: Emitter, value: V) -> None:
    """Counters keep their value over the change; the writing instruction still counts as before."""
    new = value.trunc(32) & (CY | IR)
    for field, bit in (("mcycle", CY), ("minstret", IR)):
        now = e.get(field) + _ticks(e, _inhibited(e, bit), 1)
        e.set(field, now - _ticks(e, (new & bit).ne(0), 1))
    e.set("mcountinhibit", new)


def misa(xlen: int, extensions: str) -> int:
    """Privileged 1.12 §3.1.1."""
    value = (1 if xlen == 32 else 2) << xlen - 2
    for letter in extensions:
        value |= 1 << ord(letter) - ord("a")
    return value


def csr_table(xlen: int, extensions: str) -> Mapping[int, Csr]:
    """Registers by number; ``extensions``: letters as in "imac"."""
    ialign = 2 if "c" in extensions else 4
    rows = [
        _field(0x300, "mstatus", MIE | MPIE, MPP, polls=True),
        _constant(0x301, "misa", misa(xlen, extensions)),
        _field(0x304, "mie", INTERRUPTS, polls=True),
        _field(0x305, "mtvec", ~2),
        Csr(0x320, "mcountinhibit", lambda e: e.get("mcountinhibit").zext(xlen), _write_inhibit),
        _field(0x340, "mscratch"),
        _field(0x341, "mepc", -ialign),
        _field(0x342, "mcause"),
        _field(0x343, "mtval"),
        Csr(0x344, "mip", lambda e: e.get("irq_lines").trunc(xlen) & INTERRUPTS),
        *_counter(0xB00, "mcycle", "mcycle", CY, xlen, True),
        *_counter(0xB02, "minstret", "minstret", IR, xlen, True),
        *_counter(0xC00, "cycle", "mcycle", CY, xlen, False),
        *_counter(0xC02, "instret", "minstret", IR, xlen, False),
        _constant(0xF11, "mvendorid"),
        _constant(0xF12, "marchid"),
        _constant(0xF13, "mimpid"),
        Csr(0xF14, "mhartid", lambda e: e.get("mhartid")),
        _constant(0xF15, "mconfigptr"),
    ]
    if xlen == 32:
        rows.append(_constant(0x310, "mstatush"))
    return MappingProxyType({row.number: row for row in rows})


def reads_zero(number: V) -> V:
    """Whether ``number`` is one of the many registers that read 0 and take any write: mhpmcounter3…31, their high halves
    on RV32 and mhpmevent3…31 (§3.1.10)."""
    row = number & ~31
    group = row.eq(0xB00) | row.eq(0x320)
    if number.width == 32:
        group = group | row.eq(0xB80)
    return group & (number & 31).uge(3)


_NAMES: Mapping[int, str] = MappingProxyType({
    **{n: row.name for n, row in csr_table(32, "i").items()},
    **{base + n: f"{name}{n}{half}" for n in range(3, 32)
       for base, name, half in ((0xB00, "mhpmcounter", ""), (0xB80, "mhpmcounter", "h"), (0x320, "mhpmevent", ""))},
})


def csr_name(number: int) -> str:
    """A register's name as assemblers know it, else its number."""
    return _NAMES.get(number, hex(number))

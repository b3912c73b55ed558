"""Counters and time (RISC-V Unprivileged ISA 20191213 §10.1; Privileged 1.12 §3.1.10–§3.1.12, §3.2.1; Sstc 1.0).

    mcycle, minstret, cycle, instret   instructions executed, no cycle model
    time                               the machine's virtual clock at `timebase-frequency`, plus what the hart's mtimer said
    stimecmp (Sstc)                    the CPU object is told, arms a timer and drives the hart's line STI
"""

from __future__ import annotations

from collections.abc import Iterator

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import STCE, Csr, M, Reader, S, U, halves, privilege
from ratite.targets.riscv.features import Features

CY, TM, IR = 1, 2, 4  # of mcountinhibit, mcounteren, scounteren
SECOND = 1_000_000_000
#: what ``e.notify`` tells the CPU object: stimecmp was written; the guest took back SSIP, which a line had set
NOTE_STIMECMP, NOTE_SSIP = 0, 1


def state_fields(f: Features) -> list[StateField]:
    """``mcycle`` and ``minstret`` hold what is added to the count of instructions, or the value itself while inhibited."""
    rows = [
        StateField("mcountinhibit", 32, text="counters that stand"),
        StateField("mcycle", 64, text="mcycle minus the instructions executed", hidden=True),
        StateField("minstret", 64, text="minstret minus the instructions executed", hidden=True),
    ]
    if f.frequency:
        rows.append(StateField("time_delta", 64, text="time minus the ticks of the virtual clock", hidden=True))
    if f.has("sstc"):
        rows.append(StateField("stimecmp", 64, text="when the supervisor timer interrupt comes", reset=(1 << 64) - 1))
    return rows


def csrs(f: Features) -> list[Csr]:
    """All of them."""
    xlen = f.xlen
    rows = [
        *_counter(0xB00, "mcycle", "mcycle", CY, xlen, None),
        *_counter(0xB02, "minstret", "minstret", IR, xlen, None),
    ]
    if f.version >= 11:
        rows.append(Csr(0x320, "mcountinhibit", lambda e: e.get("mcountinhibit").zext(xlen), _write_inhibit))
    if f.has("zicntr"):
        rows += _counter(0xC00, "cycle", "mcycle", CY, xlen, _barred(f, CY))
        rows += _counter(0xC02, "instret", "minstret", IR, xlen, _barred(f, IR))
    if f.has("u"):
        enabled = CY | IR | (TM if f.frequency else 0)
        rows.append(_enables(0x306, "mcounteren", enabled, xlen))
        if f.has("s"):
            rows.append(_enables(0x106, "scounteren", enabled, xlen))
    if f.frequency and f.has("zicntr"):
        def part(low: int) -> Csr:
            return Csr(0xC81 if low else 0xC01, "timeh" if low else "time",
                       lambda e: (time_now(e, f.frequency) >> low).trunc(xlen), guard=_barred(f, TM))

        rows += [part(low) for low in range(0, 64, xlen)]
    if f.has("sstc"):
        rows += halves(0x14D, "stimecmp", "stimecmp", xlen, _write_stimecmp, high=0x15D, then="poll", guard=_no_stimecmp)
    return rows


def _enables(number: int, name: str, bits: int, xlen: int) -> Csr:
    return Csr(number, name, lambda e: e.get(name).zext(xlen), lambda e, v: e.set(name, v.trunc(32) & bits))


def _barred(f: Features, bit: int) -> Reader | None:
    """Lower modes read a counter only where mcounteren (and, for U, scounteren) lets them."""
    if not f.has("u"):
        return None

    def guard(e: Emitter) -> V:
        mode = privilege(e)
        barred = mode.ne(M) & (e.get("mcounteren") & bit).eq(0)
        return barred | mode.eq(U) & (e.get("scounteren") & bit).eq(0) if f.has("s") else barred

    return guard


def time_now(e: Emitter, frequency: int) -> V:
    """The register ``time`` (64 bits)."""
    ns = e.clock()
    if SECOND % frequency == 0:
        ticks = ns.udiv(SECOND // frequency)
    else:  # seconds apart from the rest, so that nothing overflows
        ticks = ns.udiv(SECOND) * frequency + (ns.urem(SECOND) * frequency).udiv(SECOND)
    return ticks + e.get("time_delta")


def _no_stimecmp(e: Emitter) -> V:
    """Sstc 1.0 §2.2: below M only with menvcfg.STCE and mcounteren.TM."""
    return privilege(e).eq(S) & ((e.get("menvcfg") & STCE).eq(0) | (e.get("mcounteren") & TM).eq(0))


def _write_stimecmp(e: Emitter, value: V) -> None:
    e.set("stimecmp", value)
    e.notify(NOTE_STIMECMP, value)


def _inhibited(e: Emitter, bit: int) -> V:
    return (e.get("mcountinhibit") & bit).ne(0)


def _ticks(e: Emitter, inhibited: V, behind: int) -> V:
    """What is added to a counter's state: instructions before this one, or with it (``behind`` 1)."""
    return e.select(inhibited, 0, e.instructions() + behind)


def _set_counter(e: Emitter, name: str, bit: int, value: V) -> None:
    """The next instruction reads ``value`` (Unprivileged 20191213 §10.1, Privileged 1.12 §3.1.10)."""
    e.set(name, value - _ticks(e, _inhibited(e, bit), 1))


def _counter(number: int, name: str, state: str, bit: int, xlen: int, guard: Reader | None) -> Iterator[Csr]:
    """A 64-bit counter: one register, or two halves where xlen is 32 (the high half 0x80 further). Those below 0xC00 are
    writable."""

    def current(e: Emitter, behind: int) -> V:
        return e.get(state) + _ticks(e, _inhibited(e, bit), behind)

    def half(low: int, label: str) -> Csr:
        part = ((1 << xlen) - 1) << low

        def write(e: Emitter, value: V) -> None:
            _set_counter(e, state, bit, current(e, 1) & ~part | value.zext(64) << low)

        return Csr(number + (0x80 if low else 0), label, lambda e: (current(e, 0) >> low).trunc(xlen),
                   write if number < 0xC00 else None, guard=guard)

    yield half(0, name)
    if xlen == 32:
        yield half(32, name + "h")


def _write_inhibit(e: Emitter, value: V) -> None:
    """Counters keep their value over the change; the writing instruction still counts as before."""
    new = value.trunc(32) & (CY | IR)
    for state, bit in (("mcycle", CY), ("minstret", IR)):
        now = e.get(state) + _ticks(e, _inhibited(e, bit), 1)
        e.set(state, now - _ticks(e, (new & bit).ne(0), 1))
    e.set("mcountinhibit", new)

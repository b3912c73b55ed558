"""Memory management: the unified TLB, its registers, zones, and translation. UG984, "Virtual-Memory Management"; registers
after "Process Identifier Register" … "Translation Look-Aside Buffer Search Index Register".

Modes of translation: 0 real, 1 virtual and privileged, 2 virtual and user. An entry larger than a page is told to the engine
as single pages; when it goes, so does everything the engine has kept.

Not here: physical addresses beyond 32 bits, a page's byte order (TLBHI[E] reads 0), TLBHI[U0], TLBLO[M] (fixed to 0 there too).
Where several entries match, which UG984 leaves open, the first does. A page of ours with an entry of 1 KiB in it is never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ratite.core.isa.emitter import EXECUTE, WHOLE, WRITE, Emitter
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.microblaze.config import Config
from ratite.targets.microblaze.kit import (
    EC_DATA_MISS,
    EC_DATA_STORAGE,
    EC_FETCH_MISS,
    EC_FETCH_STORAGE,
    ESR_DIZ,
    ESR_S,
    MSR_UM,
    MSR_VM,
    Kit,
)

ENTRIES = 64
REAL, PRIVILEGED, USER = 0, 1, 2
PID, ZPR, TLBX, TLBLO, TLBHI, TLBSX = range(0x1000, 0x1006)
INDEX = frozenset((TLBX, TLBSX))  # registers that say which entry is meant
TAG, VALID, SIZE_SHIFT = 0xFFFFFC00, 0x40, 7
RPN, EX, WR, ZSEL_SHIFT, GUARDED = 0xFFFFFC00, 0x200, 0x100, 4, 1
MISS = 1 << 31
_HI_WRITABLE = TAG | 7 << SIZE_SHIFT | VALID
_LO_WRITABLE = 0xFFFFFFFD
_PAGE_BITS = 12
_READ, _WRITE = 1, 2  # bits of C_MMU_TLB_ACCESS


def state(c: Config) -> list[StateField]:
    """The fields that ``c`` has."""
    if c.use_mmu < 2:
        return []
    return [
        StateField("pid", 8, text="process identifier"),
        StateField("zpr", 32, text="zone protection register"),
        StateField("tlbx", 32, text="TLB index register"),
        StateField("tlblo", 32, ENTRIES, text="TLB entry, data", hidden=True),
        StateField("tlbhi", 32, ENTRIES, text="TLB entry, tag", hidden=True),
        StateField("tlbtid", 8, ENTRIES, text="TLB entry, process", hidden=True),
        StateField("tlbsmall", 1, text="an entry of less than a page was written", hidden=True),
        StateField("behind", 8, text="bytes from the delay slot back to its branch or that one's prefix", hidden=True),
    ]


def modes(c: Config) -> int:
    """How many modes of translation there are."""
    return 3 if c.use_mmu > 1 else 0


def smallest(c: Config) -> int:
    """log2 of the smallest page; 0: none is."""
    return 10 if c.use_mmu > 1 else 0


def declare(k: Kit) -> None:
    """The routines of translation."""
    if not k.translated:
        return

    @k.isa.routine("modes")
    def modes(e: Emitter) -> tuple[V, V]:
        msr = e.get("msr")
        user = e.select((msr & MSR_UM).ne(0), e.const(USER), PRIVILEGED)
        mode = e.select((msr & MSR_VM).ne(0), user, REAL)
        return mode, mode

    @k.isa.routine("translate")
    def translate(e: Emitter, addr: V, access: V, mode: V) -> None:
        e.if_(mode.eq(REAL), lambda: e.mapped(addr.zext(64), 7, WHOLE))
        found = _search(e, addr)

        def miss() -> None:
            store = e.select(access.eq(WRITE), e.const(EC_DATA_MISS | ESR_S), EC_DATA_MISS)
            e.unmapped(e.select(access.eq(EXECUTE), EC_FETCH_MISS, store))

        e.if_(found.eq(ENTRIES), miss)
        _allowed(k, e, addr, access, mode, found)


def _size(e: Emitter, hi: V) -> V:
    """log2 of an entry's size."""
    return ((hi >> SIZE_SHIFT) & 7) * 2 + 10


def _search(e: Emitter, addr: V) -> V:
    """Number of the entry that translates ``addr`` for the present process, else ENTRIES."""
    pid = e.get("pid")

    def matches(n: V) -> V:
        hi, tid = e.reg("tlbhi", n), e.reg("tlbtid", n)
        differ = (hi ^ addr) >> _size(e, hi)
        return (hi & VALID).ne(0) & differ.eq(0) & (tid.eq(0) | tid.eq(pid))

    return e.find(ENTRIES, matches)


def _zone(k: Kit, e: Emitter, lo: V) -> V:
    """The zone's two bits; a zone that is not implemented has 11 ("Zone Protection")."""
    zone = (lo >> ZSEL_SHIFT) & 15
    bits = (e.get("zpr") >> ((zone ^ 15) * 2)) & 3
    return bits if k.c.mmu_zones == 16 else e.select(zone.ult(k.c.mmu_zones), bits, 3)


def _allowed(k: Kit, e: Emitter, addr: V, access: V, mode: V, n: V) -> None:
    """Terminator: what entry ``n`` allows ("TLB Access Failures", "Zone Protection Register")."""
    hi, lo = e.reg("tlbhi", n), e.reg("tlblo", n)
    zone, user = _zone(k, e, lo), mode.eq(USER)
    shut = user & zone.eq(0)
    free = zone.eq(3) | (zone.eq(2) & (user ^ 1))
    rights = e.select(free, e.const(7), ((lo & (WR | EX)) >> 7) | 1)
    rights = e.select((lo & GUARDED).ne(0), rights & 3, rights)  # nothing is fetched from a guarded page
    rights = e.select(shut, 0, rights)

    def refuse() -> None:
        store = e.select(access.eq(WRITE), e.const(EC_DATA_STORAGE | ESR_S), EC_DATA_STORAGE)
        kind = e.select(access.eq(EXECUTE), EC_FETCH_STORAGE, store)
        e.unmapped(kind | e.select(shut, e.const(ESR_DIZ), 0))

    e.if_(((rights >> access) & 1).eq(0), refuse)
    bits = _size(e, hi)
    inside = (e.const(1) << bits) - 1
    phys = (lo & RPN & ~inside) | (addr & inside) if k.c.use_mmu == 3 else addr
    e.if_(e.get("tlbsmall"), lambda: _shared(e, addr, phys, rights))
    e.mapped(phys.zext(64), rights, _PAGE_BITS)


def _shared(e: Emitter, addr: V, phys: V, rights: V) -> None:
    """Maps no whole page where a smaller entry is in it."""

    def small(n: V) -> V:
        hi = e.reg("tlbhi", n)
        return (hi & (VALID | 7 << SIZE_SHIFT)).eq(VALID) & ((hi ^ addr) >> _PAGE_BITS).eq(0)

    e.if_(e.find(ENTRIES, small).ne(ENTRIES), lambda: e.mapped(phys.zext(64), rights, 10))


# -- registers

def readable(k: Kit, e: Emitter) -> Mapping[int, Callable[[], V]]:
    """What mfs reads, by number."""
    if not k.translated:
        return {}
    rows: dict[int, Callable[[], V]] = {}
    if k.c.mmu_tlb_access:
        rows[TLBX] = lambda: e.get("tlbx")
    if k.c.mmu_tlb_access & _READ:
        rows[PID] = lambda: e.get("pid").zext(32)
        rows[ZPR] = lambda: e.get("zpr")
        rows[TLBLO] = lambda: e.reg("tlblo", e.get("tlbx") & (ENTRIES - 1))
        rows[TLBHI] = lambda: _read_high(e)
    return rows


def _read_high(e: Emitter) -> V:
    """Outside of user mode the entry's TID goes to PID."""
    n = e.get("tlbx") & (ENTRIES - 1)
    value = e.reg("tlbhi", n)
    e.if_((e.get("msr") & MSR_UM).eq(0), lambda: _set_pid(e, e.reg("tlbtid", n)))
    return value


def _set_pid(e: Emitter, pid: V) -> None:
    def change() -> None:
        e.set("pid", pid)
        e.flush_tlb()

    e.if_(e.get("pid").ne(pid), change)


def writable(k: Kit, e: Emitter, value: V) -> Mapping[int, Callable[[], None]]:
    """What mts writes, by number."""
    if not k.translated:
        return {}
    rows: dict[int, Callable[[], None]] = {
        TLBX: lambda: e.set("tlbx", value & (ENTRIES - 1)),
        TLBLO: lambda: _set_entry(e, "tlblo", value & (_LO_WRITABLE if k.c.use_mmu == 3 else _LO_WRITABLE & ~RPN)),
        TLBHI: lambda: _set_entry(e, "tlbhi", value & _HI_WRITABLE),
    }
    if k.c.mmu_tlb_access & _WRITE:
        rows[PID] = lambda: _set_pid(e, value.trunc(8))
        rows[ZPR] = lambda: _set_zones(k, e, value)
        rows[TLBSX] = lambda: _look_up(e, value)
    return rows


def _set_zones(k: Kit, e: Emitter, value: V) -> None:
    zones = value & ((1 << 32) - (1 << 32 - 2 * k.c.mmu_zones))

    def change() -> None:
        e.set("zpr", zones)
        e.flush_tlb()

    e.if_(e.get("zpr").ne(zones), change)


def _look_up(e: Emitter, value: V) -> None:
    found = _search(e, value)
    e.set("tlbx", e.select(found.eq(ENTRIES), (e.get("tlbx") & (ENTRIES - 1)) | MISS, found))


def _set_entry(e: Emitter, half: str, value: V) -> None:
    """Writes one half of the entry at TLBX; what the engine knows by the old entry or would know by the new one goes."""
    n = e.get("tlbx") & (ENTRIES - 1)
    old = e.reg("tlbhi", n)
    e.set_reg(half, n, value)
    _forget(e, old)
    if half == "tlbhi":
        e.set_reg("tlbtid", n, e.get("pid"))
        e.set("tlbsmall", e.get("tlbsmall") | (value & (VALID | 7 << SIZE_SHIFT)).eq(VALID))
        _forget(e, value)


def _forget(e: Emitter, hi: V) -> None:
    page = _size(e, hi).ule(_PAGE_BITS)
    e.if_((hi & VALID).ne(0), lambda: e.if_(page, lambda: e.flush_tlb(hi & TAG), lambda: e.flush_tlb()))

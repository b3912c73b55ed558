"""Address translation: Sv32, Sv39, Sv48, Sv57 and physical memory protection (RISC-V Privileged ISA 1.12 §3.7, §4.3–§4.6;
Svnapot, Svpbmt chapters 5 and 6; Svadu 1.0).

    mode      0 M      1 U      2 S      3 S with SUM           (data accesses: of MPP while MPRV is set)

MXR, satp, menvcfg and PMP are no part of a mode: their change flushes. Choices: a page table entry that another CPU changes
under a walk makes the walk start again; D, A and U of an entry that points on are reserved and must be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ratite.core.isa.emitter import EXECUTE, FETCH_FAULT, LOAD_FAULT, LOAD_PAGE, READ, WHOLE, WRITE, Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import ADUE, MPRV, MXR, PBMTE, SUM, M, U, privilege
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.supervisor import SV32, SV39, SV48, SV57

MODE_M, MODE_U, MODE_S, MODE_SUM = 0, 1, 2, 3
# of a page table entry (figures 4.15, 4.18)
PTE_V, PTE_R, PTE_W, PTE_X, PTE_U, PTE_A, PTE_D = 1, 2, 4, 8, 16, 64, 128
PTE_N, PTE_PBMT, PTE_RESERVED = 1 << 63, 3 << 61, 0x7F << 54
# what the functions answer: FAILED with the fault's kind (or, from a walk, whether PAGE or ACCESS), else an address or entry
FAILED = 1 << 63
PAGE, ACCESS = 0, 1
_LEVEL = 56  # where a walk's answer has the level
_LEAF_LEVEL = 54  # where the entry found has it

assert (READ, WRITE, EXECUTE) == (0, 1, 2) and FETCH_FAULT == LOAD_FAULT + EXECUTE


def declare(isa: Isa, f: Features) -> None:
    """The routines ``modes`` and ``translate`` and the functions of the walk."""
    isa.routine("modes")(partial(_modes, f))
    isa.routine("translate")(_translate(f))
    if f.has("s"):
        walk = _Walk(f)
        isa.function("walk", 1)(walk.start)
        isa.function("resolve", 2)(walk.resolve)
        for level in range(walk.levels):
            isa.function(f"walk{level}", 2)(partial(walk.level, level))


def _modes(f: Features, e: Emitter) -> tuple[V, V]:
    if not f.has("u"):
        return e.const(MODE_M), e.const(MODE_M)
    status, code = e.get("mstatus"), privilege(e)
    data = e.select((code.eq(M)) & (status & MPRV).ne(0), status.bits(12, 11), code)
    supervisor = e.const(MODE_S) + (status & SUM).ne(0).zext(e.word) if f.has("s") else e.const(MODE_U)

    def number(mode: V, other: V) -> V:
        return e.select(mode.eq(M), MODE_M, e.select(mode.eq(U), MODE_U, other))

    return number(data, supervisor), number(code, e.const(MODE_S if f.has("s") else MODE_U))


def _translate(f: Features) -> Callable[[Emitter, V, V, V], None]:
    def finish(e: Emitter, phys: V, allowed: V, bits: V | int, access: V, mode: V) -> None:
        if f.has("pmp"):
            allowed = allowed & e.function("pmp", phys, mode.eq(MODE_M).zext(64)).trunc(e.word)
            e.if_(((allowed >> access) & 1).eq(0), lambda: e.unmapped(access + LOAD_FAULT))
        e.mapped(phys, allowed, bits)

    def paged(e: Emitter, addr: V, access: V, mode: V) -> None:
        at = addr.zext(64)
        entry = e.function("resolve", at, access.zext(64) | mode.zext(64) << 2)
        e.if_(entry.bit(63), lambda: e.unmapped(entry.trunc(e.word) & 0xFF))
        level = (entry >> _LEAF_LEVEL) & 7
        bits = level * (9 if f.xlen == 64 else 10) + 12
        offset = (e.const(1, 64) << bits) - 1
        pages = (entry >> 10) & ((1 << 44 if f.xlen == 64 else 1 << 22) - 1)
        if f.has("svnapot"):
            napot = entry.bit(62)
            bits, offset = e.select(napot, 16, bits), e.select(napot, 0xFFFF, offset)
        finish(e, (pages << 12) & ~offset | at & offset, (entry >> 1).trunc(e.word) & 7, bits, access, mode)

    def translate(e: Emitter, addr: V, access: V, mode: V) -> None:
        if f.has("s"):
            on = mode.ne(MODE_M) & (e.get("satp") >> (60 if f.xlen == 64 else 31)).ne(0)
            e.if_(on, lambda: paged(e, addr, access, mode))
        bits: V = e.const(12, 64)
        if f.has("pmp"):
            free = mode.eq(MODE_M) & e.function("pmp_locked").eq(0)
            bits = e.select(free, e.const(WHOLE, 64), bits)
        else:
            bits = e.const(WHOLE, 64)
        finish(e, addr.zext(64), e.const(7), bits, access, mode)

    return translate


class _Walk:
    """The functions of the walk for one hart's configuration."""

    def __init__(self, f: Features) -> None:
        self.f = f
        self.wide = f.xlen == 64
        self.size = 8 if self.wide else 4
        self.index_bits = 9 if self.wide else 10
        self.modes = {number: levels for name, number, levels in
                      (("sv32", SV32, 2), ("sv39", SV39, 3), ("sv48", SV48, 4), ("sv57", SV57, 5)) if f.has(name)}
        self.levels = max(self.modes.values(), default=0)

    def start(self, e: Emitter, va: V) -> None:
        """walk(va): where the leaf entry is and, from bit _LEVEL on, its level; or FAILED with PAGE or ACCESS. Bits above the
        address that a mode translates must equal its highest (§4.4.1)."""
        satp = e.get("satp")
        table = (satp.zext(64) & ((1 << 44 if self.wide else 1 << 22) - 1)) << 12

        def enter(levels: int) -> None:
            if self.wide:
                above = va.sar(12 + 9 * levels - 1)
                e.if_((above + 1).ugt(1), lambda: e.answer(e.const(FAILED | PAGE, 64)))
            e.answer(e.function(f"walk{levels - 1}", table, va))

        cases: Mapping[int, Callable[[], object]] = {n: partial(enter, levels) for n, levels in self.modes.items()}
        # another mode is in satp only where a state was set from outside
        e.switch(satp >> (60 if self.wide else 31), cases, lambda: e.answer(e.const(FAILED | PAGE, 64)))

    def level(self, level: int, e: Emitter, table: V, va: V) -> None:
        """walkN(table, va): as walk, from a table of level N on."""
        index = (va >> (12 + self.index_bits * level)) & ((1 << self.index_bits) - 1)
        at = table + index * self.size
        no_access = partial(e.answer, e.const(FAILED | ACCESS, 64))
        if self.f.has("pmp"):
            e.if_((e.function("pmp", at, e.const(0, 64)) & 1).eq(0), no_access)
        entry = e.phys_load(at, self.size, lambda kind: no_access()).zext(64)
        leaf = (entry & (PTE_R | PTE_W | PTE_X)).ne(0)
        e.if_((entry & PTE_V).ne(0) & leaf, lambda: e.answer(at | level << _LEVEL))
        bad = (entry & PTE_V).eq(0) | leaf
        if level == 0:
            e.answer(e.const(FAILED | PAGE, 64))
            return
        reserved = PTE_D | PTE_A | PTE_U | (PTE_N | PTE_PBMT | PTE_RESERVED if self.wide else 0)
        bad = bad | (entry & reserved).ne(0)
        e.if_(bad, lambda: e.answer(e.const(FAILED | PAGE, 64)))
        pages = (entry >> 10) & ((1 << 44 if self.wide else 1 << 22) - 1)
        e.answer(e.function(f"walk{level - 1}", pages << 12, va))

    def resolve(self, e: Emitter, va: V, how: V) -> None:
        """resolve(va, access | mode << 2): the leaf entry as it may be used from now on, its A and D set as the access
        needs: bits 1 to 3 what it allows, from bit _LEAF_LEVEL on its level, bit 62 Svnapot's; or FAILED with a fault."""
        access, mode = how & 3, how >> 2
        found = e.function("walk", va)
        page_fault = (access + LOAD_PAGE) | FAILED
        access_fault = (access + LOAD_FAULT) | FAILED
        e.if_(found.bit(63), lambda: e.answer(e.select(found.bit(0), access_fault, page_fault)))
        at, level = found & ((1 << _LEVEL) - 1), found >> _LEVEL
        entry = e.phys_load(at, self.size, lambda kind: e.answer(access_fault)).zext(64)
        e.if_(self._refuses(e, entry, level, access, mode), lambda: e.answer(page_fault))
        needed = (access.eq(WRITE).zext(64) << 7) | PTE_A
        e.if_((entry & needed).ne(needed), lambda: self._touch(e, va, how, at, entry, level, needed))
        e.answer(self._answer(e, entry, level))

    def _allowed(self, e: Emitter, entry: V) -> V:
        """R, W and X at their places in an entry; MXR makes what can be executed readable."""
        mxr = (e.get("mstatus") & MXR).ne(0)
        readable = entry & PTE_R | e.select(mxr, (entry & PTE_X) >> 2, 0)
        return entry & (PTE_W | PTE_X) | readable

    def _refuses(self, e: Emitter, entry: V, level: V, access: V, mode: V) -> V:
        """Steps 3 to 6 of §4.3.2, but for A and D."""
        rights = entry & (PTE_R | PTE_W | PTE_X)
        bad = (entry & PTE_V).eq(0) | rights.eq(0) | (rights & (PTE_R | PTE_W)).eq(PTE_W)
        # READ 0, WRITE 1, EXECUTE 2 stand for the bits 1, 2, 3
        bad = bad | ((self._allowed(e, entry) >> (access + 1)) & 1).eq(0)
        users = (entry & PTE_U).ne(0)
        bad = bad | e.select(mode.eq(MODE_U), users ^ 1, users & (access.eq(EXECUTE) | mode.ne(MODE_SUM)))
        inside = (e.const(1, 64) << (level * self.index_bits)) - 1
        bad = bad | ((entry >> 10) & inside).ne(0)
        if not self.wide:
            return bad
        reserved = e.const(PTE_RESERVED | PTE_N | PTE_PBMT, 64)
        if self.f.has("svnapot"):
            napot = (entry & PTE_N).ne(0)
            bad = bad | napot & (level.ne(0) | entry.bits(13, 10).ne(8))  # 64 KiB is the only size there is
            reserved = reserved & ~PTE_N
        if self.f.has("svpbmt"):
            on = (e.get("menvcfg") & PBMTE).ne(0)
            bad = bad | (entry & PTE_PBMT).eq(PTE_PBMT)
            reserved = e.select(on, reserved & ~PTE_PBMT, reserved)
        return bad | (entry & reserved).ne(0)

    def _touch(self, e: Emitter, va: V, how: V, at: V, entry: V, level: V, needed: V) -> None:
        """A or D is to be set: by a fault's handler (Svade) or here."""
        f, access = self.f, how & 3
        page_fault, access_fault = (access + LOAD_PAGE) | FAILED, (access + LOAD_FAULT) | FAILED
        if f.has("svade") and not f.has("svadu"):
            e.answer(page_fault)
            return
        if f.has("svadu"):
            e.if_((e.get("menvcfg") & ADUE).eq(0), lambda: e.answer(page_fault))
        if f.has("pmp"):
            e.if_((e.function("pmp", at, e.const(0, 64)) & 2).eq(0), lambda: e.answer(access_fault))
        new, width = entry | needed, 8 * self.size
        done = e.phys_swap(at, entry.trunc(width), new.trunc(width), lambda kind: e.answer(access_fault))
        e.if_(done ^ 1, lambda: e.answer(e.function("resolve", va, how)))  # changed meanwhile: the walk starts again
        e.answer(self._answer(e, new, level))

    def _answer(self, e: Emitter, entry: V, level: V) -> V:
        """A page that is not dirty yet can't be written past the check."""
        allowed = self._allowed(e, entry)
        allowed = e.select((entry & PTE_D).ne(0), allowed, allowed & ~PTE_W)
        kept = entry & (((1 << 44 if self.wide else 1 << 22) - 1) << 10)
        napot = (entry & PTE_N) >> 1 if self.f.has("svnapot") else 0
        return kept | allowed | level << _LEAF_LEVEL | napot

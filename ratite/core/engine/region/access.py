"""How a region reaches memory, without a call where that is possible; what it does not find so is tier 0's.

- Through the mode's *windows*, where the whole space of addresses maps to itself: one comparison.
- Else by the TLB. Accesses of a block that lie near each other behind one base (a frame, a structure) are a *group*: the first
  of them looks up the page that all are in, the others need nothing more. A block is written twice: the first time for
  nothing but to see its accesses. Where a group is not in one page, tier 0 goes on.

What was found holds until the block's end: whatever takes translations away makes the CPU leave first (sfence, changed modes,
requests of others), and an entry that is overwritten meanwhile is no less true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ratite.core.engine import block as B
from ratite.core.engine.ir import CPU_SCOPE, RAM_SCOPE
from ratite.core.engine.threaded import DirectEmitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.reserve import LINE_BITS

Key = tuple[int, int]  # distance from the base, context

_SPAN = 256  # bytes of a group at the most: a longer one is in two pages too often


class Access(NamedTuple):
    """One of a block: ``amount`` behind the value ``base``."""

    base: str
    amount: int
    size: int
    write: bool


class Group(NamedTuple):
    """Accesses that are looked up together: all are inside [low, high) behind their base; ``size``: the largest."""

    number: int
    low: int
    high: int
    write: bool
    size: int


def groups(accesses: list[Access], *, aligned: bool) -> dict[int, Group]:
    """By the index of an access. ``aligned``: each must be aligned, which its group's look tells of all at once."""
    found: dict[int, Group] = {}
    by_base: dict[str, list[int]] = {}
    for k, access in enumerate(accesses):
        if not aligned or access.amount % access.size == 0:  # else it is not where the base is
            by_base.setdefault(access.base, []).append(k)
    number = 0
    for members in by_base.values():
        members.sort(key=lambda k: accesses[k].amount)
        while members:
            low = accesses[members[0]].amount
            inside = [k for k in members if accesses[k].amount + accesses[k].size - low <= _SPAN]
            members = members[len(inside):]
            if len(inside) > 1:
                high = max(accesses[k].amount + accesses[k].size for k in inside)
                write, size = any(accesses[k].write for k in inside), max(accesses[k].size for k in inside)
                group = Group(number, low // size * size if aligned else low, high, write, size)
                found.update(dict.fromkeys(inside, group))
                number += 1
    return found


class RegionMemory(DirectEmitter):
    """Loads and stores. ``calls``: whether a TLB miss is dealt with by a call (else tier 0 executes the instruction);
    ``window``: RAM is reached through the mode's windows. ``values``: what is known by now of registers and of what else lives
    as long; ``sums``: what is another value and a constant; ``pending``: instructions of this block before the current one;
    ``wrote``: the current one has changed something."""

    def __init__(self, isa: Isa, shape: B.Shape, *, calls: bool, window: bool) -> None:
        super().__init__(isa, shape)
        self.calls = calls
        self.window = window and not calls
        self.off = 0
        self.pending = 0
        self.wrote = False
        self.values: dict[tuple[str, int], V] = {}
        self.sums: dict[str, tuple[V, int]] = {}
        self.deopts: dict[str, tuple[Key, int]] = {}
        self.accesses: list[Access] = []  # of the block, so far
        self.groups: Mapping[int, Group] = {}
        self._must_leave = False

    def begin_block(self, plan: Mapping[int, Group]) -> None:
        """Nothing is known of registers."""
        self.values.clear()
        self.pending = 0
        self.accesses.clear()
        self.groups = plan

    def tlb_base(self) -> str:
        return "%tlb" if self.isa.mmu_modes else super().tlb_base()

    def load(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        if self.calls or self.wrote:
            return super().load(addr, size, otherwise)
        width = 8 * size
        if self.window:
            host = self.let(f"getelementptr i8, ptr %w.r.host, i64 {self._inside(addr, size, 'r').ref}")
        else:
            host, _ = self._found(addr, size, False)
        return self.swapped(self.v(self.let(f"load i{width}, ptr {host}, align 1{RAM_SCOPE}"), width))

    def store(self, addr: V, value: V, otherwise: Callable[[V], object] | None = None) -> None:
        if self.wrote:
            super().store(addr, value, otherwise)
            self._must_leave = True  # it may have been a store into this very code
            return
        width = value.width
        if self.window:
            a = self._inside(addr, width // 8, "w")
            host = self.let(f"getelementptr i8, ptr %w.w.host, i64 {a.ref}")
            word = self.let(f"getelementptr i16, ptr %w.w.lines, i64 {a.sar(LINE_BITS).ref}")
        else:
            a = addr.zext(64)
            host, words = self._found(addr, width // 8, True)
            word = self.let(f"getelementptr i16, ptr {words}, i64 {(a >> LINE_BITS).ref}")
        self.wrote = True
        self.put(f"store i{width} {self.swapped(value).ref}, ptr {host}, align 1{RAM_SCOPE}")
        over = (a, width // 8) if self.isa.misaligned == "native" and width > 8 else None
        self.break_reservation(word, over=over)

    def _parts(self, addr: V) -> tuple[V, int]:
        return self.sums.get(str(addr.ref), (addr, 0))

    def _found(self, addr: V, size: int, write: bool) -> tuple[str, str]:
        """(host address of ``addr``, the reservations' words as the TLB has them): see _looked_up."""
        base, amount = self._parts(addr)
        group = self.groups.get(len(self.accesses))
        self.accesses.append(Access(str(base.ref), amount, size, write))
        if group is None:
            return self._looked_up(addr, size, size, write)
        keys = (f"page {group.number}", -1), (f"lines {group.number}", -1)  # they live as long as what is known of registers
        if keys[0] not in self.values:
            low = addr if amount == group.low else base + group.low
            found = self._looked_up(low, group.high - group.low, group.size, group.write)
            for key, name in zip(keys, found, strict=True):
                self.values[key] = self.v(name, 64)
        host = self.at(str(self.values[keys[0]].ref), amount - group.low)
        return host, str(self.values[keys[1]].ref)

    def _looked_up(self, addr: V, span: int, size: int, write: bool) -> tuple[str, str]:
        """For [addr, addr + span); elsewhere the instruction is tier 0's. What can be written can be read."""
        a, entry, hit = self._probe(addr, span, write, size)
        self._unless_deopt(hit)
        words = self.let(f"load ptr, ptr {self.at(entry, 24)}{CPU_SCOPE}") if write else "null"
        return self._host(entry, a), words

    def _inside(self, addr: V, size: int, which: str) -> V:
        """Distance of ``addr`` from the high end of window ``which``, 64 bits; elsewhere the instruction is tier 0's."""
        base, amount = self._parts(addr) if self.word == 64 else (addr, 0)
        key = (f"window {which} {base.ref}", -1)  # lives as long as what is known of registers
        distance = self.values.get(key)
        if distance is None:
            distance = self.values[key] = base.zext(64) - self.v(f"%w.{which}.high", 64)
        if amount:
            distance = distance + amount
        self._unless_deopt(distance.ugt(self.v(f"%w.{which}.floor", 64)))
        if size > 1 and self.isa.misaligned == "fault":
            self._unless_deopt((distance & (size - 1)).eq(0))
        return distance

    def _unless_deopt(self, hit: V) -> None:
        on = self.new_label()
        number = self.number
        label = f"D{self.off}.{number}".replace("-", "m")
        self.deopts[label] = ((self.off, number), self.pending)
        self.fork(str(hit.ref), on, label, likely=True)
        self.label(on)

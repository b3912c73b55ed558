"""Loops that only count: one register goes up or down by a constant until a branch has had enough.

Such a loop computes nothing that takes more than one instruction: it is there to take time. Kernels measure how many rounds
a clock tick takes and wait by that number for the rest of their lives. Were the loop compiled, its speed would change a lot
at a moment that nobody knows, mostly in the midst of that measurement: the measurement begins anew with a range four times
as large, and waits that were measured before become too short, those measured after, where they run in tier 0, too long.
So these loops stay in tier 0, in every run and wherever they stand, and a round takes the same time from first to last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ratite.core.engine import block as B
from ratite.core.engine.region.emit import Flow, Key, RegionEmitter, Unsuitable
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V

_LONGEST = 4  # instructions of a round: count, compare, branch, what stands in a delay slot


class Unit(Protocol):
    """What is asked of an instruction: see form.Unit."""

    flow: Flow
    key: Key
    length: int
    semantics: Callable[..., object]
    values: dict[str, int]


def countdowns(isa: Isa, shape: B.Shape, table: Mapping[str, int], units: Mapping[Key, Unit]) -> set[Key]:
    """Those of ``units`` that are in such loops."""
    found: set[Key] = set()
    for unit in units.values():
        for head in unit.flow.targets:
            chain = _round(units, head, unit) if head[0] <= unit.key[0] else []
            if chain and _only_counts(isa, shape, table, chain):
                found.update(each.key for each in chain)
    return found


def _round(units: Mapping[Key, Unit], head: Key, last: Unit) -> list[Unit]:
    """The straight code from ``head`` to ``last``, which leads back there or on; empty where it is none, or long."""
    chain: list[Unit] = []
    key: Key | None = head
    while key is not None and len(chain) < _LONGEST:
        unit = units.get(key)
        if unit is None:
            return []
        chain.append(unit)
        if unit is last:
            return chain if unit.flow.then is None and not unit.flow.dynamic else []
        if unit.flow.targets:
            return []
        key = unit.flow.then
    return []


def _only_counts(isa: Isa, shape: B.Shape, table: Mapping[str, int], chain: list[Unit]) -> bool:
    e = _Round(isa, shape, table)
    e.begin_block({})
    try:
        for unit in chain:
            e.dead, e.pending = False, 0
            e.unit(unit.key, unit.length, unit.semantics, e.known(unit.values))
    except Unsuitable:
        return False
    written = {place for place in e.written if not isa.layout[place[0]].private}  # flags are what they are
    if e.more or len(written) != 1 or e.accesses or any("call " in line and "@llvm." not in line for line in e.out):
        return False
    (counter,) = written
    before, after = e.live.get(counter), e.values.get(counter)
    if before is None or after is None:
        return False
    base, step = e.sums.get(str(after.ref), (after, 0))
    return base.ref == before.ref and step != 0


class _Round(RegionEmitter):
    """Writes a round for nothing. ``live``: registers that it reads as it finds them; ``more``: it sets other fields."""

    def __init__(self, isa: Isa, shape: B.Shape, table: Mapping[str, int]) -> None:
        super().__init__(isa, shape, table, {}, calls=False, lazy=True)
        self.live: dict[tuple[str, int], V] = {}
        self.more = False

    def reg(self, file: str, index: V | int) -> V:
        place = file, self._index(index)
        known = place in self.values
        value = super().reg(file, index)
        if not known and place in self.values:
            self.live.setdefault(place, value)
        return value

    def set(self, name: str, value: V | int) -> None:
        self.more |= not self.isa.layout[name].private
        super().set(name, value)

"""Random MicroBlaze code and state for the oracles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ratite.core.isa.isa import Insn, Isa

_WORD = 0xFFFFFFFF
_NICE = (0, 1, 2, 4, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x8000, 0xFF)


class Maker:
    """Random encodings of ``isa``. ``reach``: bytes that relative branches go at most; ``skip``: instructions to leave out."""

    def __init__(self, isa: Isa, rng: random.Random, reach: int, skip: Callable[[Insn], bool] = lambda _: False) -> None:
        self.isa = isa
        self.rng = rng
        self.reach = reach
        self.insns = [n for n in isa.insns if not skip(n)]

    def operand(self, insn: Insn, name: str) -> int:
        """A random value of field ``name``."""
        rng, field = self.rng, self.isa.fields[name]
        width = field.width
        if field.file:
            return rng.randrange(32)
        if name == insn.relative:
            return rng.randrange(-self.reach, self.reach) & -4
        if name == "number":
            return rng.choice((0, 1, 3, 5, 7, 0xB, 0xD, 0x800, 0x802, *range(0x1000, 0x1006), 0x2000, 0x200C,
                               rng.getrandbits(14)))
        if field.signed:
            return rng.choice((rng.randrange(-64, 64), rng.randrange(-1 << width - 1, 1 << width - 1)))
        return rng.getrandbits(width)

    def valid(self) -> int:
        """The word of one valid instruction."""
        insn = self.rng.choice(self.insns)
        return insn.pattern.encode({name: self.operand(insn, name) for name in insn.pattern.pieces}, self.isa.fields)

    def word(self, mutated: float, wild: float) -> int:
        """A valid instruction, one with a bit or two flipped, or anything."""
        kind = self.rng.random()
        if kind < wild:
            return self.rng.getrandbits(32)
        word = self.valid()
        if kind < wild + mutated:
            word ^= 1 << self.rng.randrange(32)
            if self.rng.random() < 0.5:
                word ^= 1 << self.rng.randrange(32)
        return word


def number(rng: random.Random, places: Sequence[int]) -> int:
    """A register's value: an address near one of ``places``, a telling number or anything."""
    kind = rng.random()
    if kind < 0.45:
        return (rng.choice(places) + rng.randrange(-16, 16) * rng.choice((1, 4))) & _WORD
    if kind < 0.7:
        return rng.choice(_NICE)
    return rng.getrandbits(32)

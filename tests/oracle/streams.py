"""Random encodings of any ISA: valid ones, ones with a few bits changed, and any bits at all."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ratite.core.isa.isa import Insn, Isa


def random_word(rng: random.Random, insn: Insn) -> int:
    """An encoding that fits ``insn``'s pattern."""
    pattern = insn.pattern
    return rng.getrandbits(pattern.bits) & ~pattern.mask | pattern.match


def mutated(rng: random.Random, word: int, bits: int) -> int:
    """``word`` with one to three bits changed."""
    for _ in range(rng.randrange(1, 4)):
        word ^= 1 << rng.randrange(bits)
    return word


def wild(rng: random.Random, isa: Isa, insns: Sequence[Insn]) -> bytes:
    """One encoding: mostly valid, a tenth mutated, some random."""
    kind = rng.random()
    if kind < 0.04:
        length = rng.choice(sorted({n.length for n in insns}))
        return isa.to_bytes(rng.getrandbits(8 * length), length)
    insn = rng.choice(insns)
    word = random_word(rng, insn)
    if kind < 0.14:
        word = mutated(rng, word, 8 * insn.length)
    return isa.to_bytes(word, insn.length)


def numbers(rng: random.Random, width: int) -> int:
    """A value of ``width`` bits: small, near a power of two, or anything."""
    kind = rng.random()
    if kind < 0.3:
        value = rng.randrange(-16, 17)
    elif kind < 0.6:
        value = (1 << rng.randrange(width)) + rng.randrange(-2, 3)
    else:
        value = rng.getrandbits(width)
    return value & (1 << width) - 1

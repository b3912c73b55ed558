"""Directed operands of floating-point operations: the edges of every range, and pairs whose result is near one."""

from __future__ import annotations

import random
from array import array

from ratite.core.isa.fp import FORMATS, Format


def edge(f: Format, rng: random.Random) -> int:
    """A number from around the ends of the ranges: zero, subnormal, smallest, largest, infinite, NaN."""
    one = 1 << f.p - 1  # of the exponent
    base = rng.choice((0, 1, one // 2, one, f.bias * one, f.infinity - one, f.infinity, f.infinity | f.quiet))
    return max(0, min(f.sign - 1, base + rng.choice((0, 0, 0, 1, -1, 2, -2, 3))))


def fraction(f: Format, rng: random.Random) -> int:
    """Bits below the hidden one: few set, long runs, ends, anything."""
    n = f.p - 1
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice((0, 1, 2, 3, (1 << n) - 1, (1 << n) - 2, 1 << n - 1, (1 << n - 1) - 1, (1 << n - 1) + 1))
    if kind == 1:
        return 1 << rng.randrange(n) | 1 << rng.randrange(n)
    if kind == 2:
        return (1 << n) - (1 << rng.randrange(n)) | rng.getrandbits(2)
    if kind == 3:
        return (1 << rng.randrange(n + 1)) - 1
    if kind == 4:
        return rng.getrandbits(8) << n - 8
    if kind == 5:
        return rng.getrandbits(n // 2) << n - n // 2
    return rng.getrandbits(n)


def operand(width: int, rng: random.Random) -> int:
    """One operand of ``width`` bits."""
    f = FORMATS[width]
    sign = rng.getrandbits(1) << width - 1
    kind = rng.randrange(10)
    if kind == 0:
        return rng.getrandbits(width)
    if kind == 1:
        return sign | edge(f, rng)
    if kind == 2:  # subnormal
        return sign | fraction(f, rng) >> rng.randrange(f.p - 1)
    if kind == 3:  # near the ends: products and quotients under- and overflow
        near = rng.choice((1, f.top - 1, f.bias // 2, f.bias + f.bias // 2, f.p, f.top - f.p))
        exponent = near + rng.randrange(-4, 5)
    elif kind in (4, 5):  # near the ends of integers
        exponent = f.bias + rng.choice((0, 7, 15, 30, 31, 32, 52, 62, 63, 64)) + rng.randrange(-2, 3)
    elif kind == 6:
        exponent = f.bias + rng.randrange(-f.p - 2, f.p + 3)
    else:  # near one another: sums cancel
        exponent = f.bias + rng.randrange(-3, 4)
    return sign | max(0, min(f.top - 1, exponent)) << f.p - 1 | fraction(f, rng)


def integer(rng: random.Random) -> int:
    """64 bits: a number of any size, or near a power of two."""
    value = rng.getrandbits(64) >> rng.randrange(64) if rng.random() < 0.6 else (1 << rng.randrange(64)) + rng.randrange(-3, 4)
    return (-value if rng.getrandbits(1) else value) & (1 << 64) - 1


def related(width: int, a: int, rng: random.Random) -> int:
    """An operand that is close to ``a`` or to its negative, or much like it some binades away."""
    f = FORMATS[width]
    apart = rng.choice((0, 0, 1, -1, 2, f.p - 1, f.p, f.p + 1, -f.p))
    value = max(0, (a & f.sign - 1) + (apart << f.p - 1) + rng.choice((0, 0, 1, -1, 2))) & f.sign - 1
    return value | rng.getrandbits(1) << width - 1


def table(width: int, rows: int, rng: random.Random, boxed: bool = False) -> array[int]:
    """``rows`` rows of eight words: three operands of ``width`` bits (singles boxed for RISC-V D, mostly), an integer, and
    four for results. Rows draw from a pool, in which pairs are related. ``boxed``: every single is."""
    pool = min(20000, 2 * rows)
    singles = [operand(width, rng) for _ in range(pool)]
    pairs = [(a, related(width, a, rng)) for a in singles[:pool // 2]]
    ints = [integer(rng) for _ in range(pool // 4)]
    box = 0xFFFFFFFF << 32 if width == 32 else 0
    at = array("Q", bytes(64 * rows))
    at[0::8] = array("Q", [a | box for a in rng.choices(singles, k=rows)])
    at[1::8] = array("Q", [a | box for a in rng.choices(singles, k=rows)])
    at[2::8] = array("Q", [a | box for a in rng.choices(singles, k=rows)])
    at[3::8] = array("Q", rng.choices(ints, k=rows))
    for k in range(0, rows, 2):
        a, b = rng.choice(pairs)
        at[8 * k] = a | box
        at[8 * k + rng.choice((1, 1, 2))] = b | box
    if box and not boxed:
        for k in range(0, rows, 97):
            at[8 * k + rng.randrange(3)] = rng.getrandbits(64)
    return at

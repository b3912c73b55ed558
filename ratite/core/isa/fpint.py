"""Floating point by integer operations of the semantics language: exact in every rounding mode, on any host.

Native code takes these where the host's arithmetic does not do what the ISA says (a rounding mode that it lacks, no fused
multiply-add, tininess before rounding). Written without branches: every operation is one stretch of code. Each function
gives the result's bits and raises flags by ``fp_raise``; ``mode`` is a V of any width.

A finite value is sign, significand ``sig`` (integer of 64, 128 or 256 bits) and ``exp`` (32 bits, signed):
(-1)**sign * sig * 2**exp. A significand may be *jammed*: its lowest bit stands for everything below it too. That rounds
right as long as it has two bits more than the format's precision, which every operation sees to.
"""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.fp import DZ, FORMATS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF, Format
from ratite.core.isa.value import V

_STEP = 11  # bits of a quotient found at a time: 64 less 53


class _Parts:
    """The fields of a value and what it is; ``sig`` has 64 bits."""

    def __init__(self, f: Format, a: V) -> None:
        e = a.e
        bits = a.zext(64)
        fraction = bits & (1 << f.p - 1) - 1
        field = (bits >> f.p - 1) & f.top
        special, some = field.eq(f.top), fraction.ne(0)
        low = field.eq(0)
        self.sign = bits.bit(f.width - 1)
        self.nan = special & some
        self.inf = special & ~some
        self.zero = low & ~some
        self.signaling = self.nan & (fraction & f.quiet).eq(0)
        self.sig = e.select(low, fraction, fraction | 1 << f.p - 1)
        self.exp = e.select(low, 1, field).trunc(32) - (f.bias + f.p - 1)

    def normal(self, f: Format) -> tuple[V, V]:
        """(sig, exp) with exactly p bits, for a value that is not 0."""
        e = self.sig.e
        lead = e.select(self.zero, 0, self.sig.clz() - (64 - f.p))
        return self.sig << (lead & 63), self.exp - lead.trunc(32)


def _jam(sig: V, count: V) -> V:
    """``sig`` shifted right by ``count`` (32 bits, not negative), jammed."""
    e, w = sig.e, sig.width
    n = e.select(count.ugt(w - 1), w - 1, count)
    wide = n.zext(w)
    kept = sig >> wide
    return kept | (kept << wide).ne(sig).zext(w)


def _left(sig: V, count: V) -> V:
    return sig << count.zext(sig.width)


def _at_most(count: V, limit: int) -> V:
    return count.e.select(count.sgt(limit), limit, count)


def _grows(mode: V, sign: V, odd: V, rest: V, half: int) -> V:
    """Whether a magnitude is rounded away from 0 (width 1): ``rest`` is what lies below its last bit."""
    inexact = rest.ne(0)
    near = rest.ugt(half) | (rest.eq(half) & (odd | mode.eq(RMM)))
    nearest = (mode.eq(RNE) | mode.eq(RMM)) & near
    return nearest | (mode.eq(RDN) & sign & inexact) | (mode.eq(RUP) & ~sign & inexact)


def _round(f: Format, sign: V, sig: V, exp: V, mode: V) -> tuple[V, V]:
    """(bits, flags of 8 bits) of a finite value, which may be 0."""
    e, w = sig.e, sig.width
    assert e.isa.fp is not None
    zero = sig.eq(0)
    lead = e.select(zero, 0, sig.clz())
    full = sig << lead
    field = exp - lead.trunc(32) + (w - 1 + f.bias)  # exponent field, 0 or less for what is below the normal numbers
    low = field.sle(0)
    drop = w - f.p
    part, half = (1 << drop) - 1, 1 << drop - 1
    rounded = _jam(full, e.select(low, _at_most(-field + 1, w - 1), 0))
    rest, kept = rounded & part, (rounded >> drop).trunc(64)
    grows = _grows(mode, sign, kept.bit(0), rest, half)
    above = e.select(low, 0, field - 1).zext(64)
    huge = field.sge(f.top)
    bits = (e.select(huge, 0, above) << f.p - 1) + kept + grows.zext(64)
    over = (huge | bits.uge(f.infinity)) & ~zero
    inexact = rest.ne(0)
    tiny = low
    if e.isa.fp.tininess == "after":  # as if the exponent had no lower limit
        top = (full >> drop).trunc(64)
        carries = top.eq((1 << f.p) - 1) & _grows(mode, sign, top.bit(0), full & part, half)
        tiny = low & ~(field.eq(0) & carries)
    flags = _flag(inexact, NX) | _flag(tiny & inexact, UF)
    largest = mode.eq(RTZ) | (mode.eq(RDN) & ~sign) | (mode.eq(RUP) & sign)
    bits = e.select(over, e.const(f.infinity, 64) - largest.zext(64), e.select(zero, 0, bits))
    flags = e.select(zero, 0, e.select(over, e.const(OF | NX, 8), flags))
    return bits | sign.zext(64) << f.width - 1, flags



def _flag(c: V, flag: int) -> V:
    return c.e.select(c, c.e.const(flag, 8), 0)


def _done(f: Format, rounded: tuple[V, V], nan: V, invalid: V, *cases: tuple[V, V]) -> V:
    """The result: a NaN, else the first of ``cases`` (when, bits without flags), else what was rounded."""
    e = nan.e
    context = e.isa.fp
    assert context is not None
    bits, flags = rounded
    for when, special in reversed(cases):
        bits = e.select(when, special, bits)
        flags = e.select(when, 0, flags)
    nan = nan | invalid
    e.fp_raise(e.select(nan, _flag(invalid, NV), flags))
    return e.select(nan, e.const(context.nan(f.width), 64), bits).trunc(f.width)


def _infinite(f: Format, sign: V) -> V:
    return sign.zext(64) << f.width - 1 | f.infinity


def _zero(f: Format, sign: V) -> V:
    return sign.zext(64) << f.width - 1


def _total(f: Format, terms: tuple[tuple[V, V], tuple[V, V]], exp: V, mode: V) -> tuple[V, V]:
    """The rounded sum of two (sign, sig) of one exponent."""
    (sa, a), (sb, b) = terms
    e = a.e
    less = a.ult(b)
    same = sa.eq(sb)
    total = e.select(same, a + b, e.select(less, b - a, a - b))
    sign = e.select(same, sa, e.select(less, sb, sa))
    none = total.eq(0)
    sign = e.select(none & ~same, mode.eq(RDN), sign)
    return _round(f, sign, total, exp, mode)


def add(e: Emitter, width: int, a: V, b: V, mode: V) -> V:
    """a + b."""
    f = FORMATS[width]
    x, y = _Parts(f, a), _Parts(f, b)
    w = 64 if f.p <= 24 else 128
    swap = y.exp.sgt(x.exp)
    room = f.p + 3
    big = e.select(swap, y.sig, x.sig).zext(w) << room
    small = _jam(e.select(swap, x.sig, y.sig).zext(w) << room, e.select(swap, y.exp - x.exp, x.exp - y.exp))
    terms = ((e.select(swap, y.sign, x.sign), big), (e.select(swap, x.sign, y.sign), small))
    rounded = _total(f, terms, e.select(swap, y.exp, x.exp) - room, mode)
    opposite = x.inf & y.inf & x.sign.ne(y.sign)
    return _done(f, rounded, x.nan | y.nan, x.signaling | y.signaling | opposite,
                 (x.inf, _infinite(f, x.sign)), (y.inf, _infinite(f, y.sign)))


def sub(e: Emitter, width: int, a: V, b: V, mode: V) -> V:
    """a - b."""
    return add(e, width, a, b ^ 1 << width - 1, mode)


def mul(e: Emitter, width: int, a: V, b: V, mode: V) -> V:
    """a * b."""
    f = FORMATS[width]
    x, y = _Parts(f, a), _Parts(f, b)
    w = 64 if f.p <= 24 else 128
    sign = x.sign ^ y.sign
    rounded = _round(f, sign, x.sig.zext(w) * y.sig.zext(w), x.exp + y.exp, mode)
    impossible = (x.inf & y.zero) | (x.zero & y.inf)
    return _done(f, rounded, x.nan | y.nan, x.signaling | y.signaling | impossible, (x.inf | y.inf, _infinite(f, sign)))


def div(e: Emitter, width: int, a: V, b: V, mode: V) -> V:
    """a / b, ``_STEP`` bits of the quotient at a time."""
    f = FORMATS[width]
    x, y = _Parts(f, a), _Parts(f, b)
    sign = x.sign ^ y.sign
    (n, high), (d, low) = x.normal(f), y.normal(f)
    d = e.select(y.zero, 1, d)
    quotient, rest = n.udiv(d), n.urem(d)
    steps = -(-(f.p + 2) // _STEP)
    for _ in range(steps):
        more = rest << _STEP
        quotient, rest = quotient << _STEP | more.udiv(d), more.urem(d)
    rounded = _round(f, sign, quotient | rest.ne(0).zext(64), high - low - _STEP * steps, mode)
    none = (x.inf & y.inf) | (x.zero & y.zero)
    by_zero = y.zero & ~x.zero & ~x.inf & ~x.nan
    e.fp_raise(_flag(by_zero, DZ))
    return _done(f, rounded, x.nan | y.nan, x.signaling | y.signaling | none,
                 (x.inf | y.zero, _infinite(f, sign)), (y.inf | x.zero, _zero(f, sign)))


def sqrt(e: Emitter, width: int, a: V, mode: V) -> V:
    """The square root of a, a bit at a time."""
    f = FORMATS[width]
    x = _Parts(f, a)
    sig, exp = x.normal(f)
    odd = exp.bit(0)
    sig, exp = e.select(odd, sig << 1, sig), e.select(odd, exp - 1, exp)
    more = (f.p + 5) // 2  # pairs of zeros behind the significand, so that the root has two bits more than it must
    root = rest = e.const(0, 64)
    for k in reversed(range(more + (f.p + 2) // 2)):
        rest = rest << 2
        if k >= more:
            rest = rest | (sig >> 2 * (k - more)) & 3
        trial = root << 2 | 1
        fits = rest.uge(trial)
        rest = e.select(fits, rest - trial, rest)
        root = root << 1 | fits.zext(64)
    rounded = _round(f, e.const(0, 1), root | rest.ne(0).zext(64), exp.sar(1) - more, mode)
    return _done(f, rounded, x.nan, x.signaling | (x.sign & ~x.zero & ~x.nan), (x.inf | x.zero, a.zext(64)))


def fma(e: Emitter, width: int, a: V, b: V, c: V, mode: V) -> V:
    """a * b + c, rounded once."""
    f = FORMATS[width]
    x, y, z = _Parts(f, a), _Parts(f, b), _Parts(f, c)
    w = 128 if f.p <= 24 else 256
    room = 2 * f.p + 6  # the term of the higher exponent moves up so far at the most; then it outweighs the other
    sign = x.sign ^ y.sign
    product, high = x.sig.zext(w) * y.sig.zext(w), x.exp + y.exp
    high = e.select(x.zero | y.zero, z.exp, high)  # a term of 0 has no say in where the sum stands
    low = e.select(z.zero, high, z.exp)
    apart, back = high - low, low - high
    up = apart.sge(0)
    product_up = e.select(up, _at_most(apart, room), 0)
    addend_up = e.select(up, 0, _at_most(back, room))
    product = _jam(_left(product, product_up), e.select(up, 0, back - addend_up))
    addend = _jam(_left(z.sig.zext(w), addend_up), e.select(up, apart - product_up, 0))
    exp = e.select(up, high - product_up, low - addend_up)
    rounded = _total(f, ((sign, product), (z.sign, addend)), exp, mode)
    infinite = x.inf | y.inf
    impossible = (x.inf & y.zero) | (x.zero & y.inf)
    opposite = infinite & z.inf & sign.ne(z.sign) & ~x.nan & ~y.nan
    return _done(f, rounded, x.nan | y.nan | z.nan, x.signaling | y.signaling | z.signaling | impossible | opposite,
                 (infinite, _infinite(f, sign)), (z.inf, _infinite(f, z.sign)))


def convert(e: Emitter, source: int, target: int, a: V, mode: V) -> V:
    """A value of width ``source`` in width ``target``."""
    f, g = FORMATS[source], FORMATS[target]
    x = _Parts(f, a)
    return _done(g, _round(g, x.sign, x.sig, x.exp, mode), x.nan, x.signaling, (x.inf, _infinite(g, x.sign)))


def from_int(e: Emitter, width: int, a: V, signed: bool, mode: V) -> V:
    """An integer (64 bits) as a value."""
    f = FORMATS[width]
    sign = a.bit(63) if signed else e.const(0, 1)
    no = e.const(0, 1)
    return _done(f, _round(f, sign, e.select(sign, -a, a), e.const(0, 32), mode), no, no)


def to_int(e: Emitter, width: int, a: V, bits: int, signed: bool, mode: V) -> V:
    """A value as an integer of ``bits`` bits, the nearest one where it is out of range."""
    f = FORMATS[width]
    context = e.isa.fp
    assert context is not None
    x = _Parts(f, a)
    below = 56  # bits of fraction: with the 65 of a value that is just too large they fit in 128
    most = 65 - f.p  # what is moved up so far is 2**64 or more
    up = _at_most(x.exp, most)
    fixed = x.sig.zext(128) << below
    right = x.exp.slt(0)
    moved = e.select(right, _jam(fixed, -x.exp), _left(fixed, e.select(right, 0, up)))
    whole = moved >> below
    rest = moved & (1 << below) - 1
    size = whole + _grows(mode, x.sign, whole.bit(0), rest, 1 << below - 1).zext(128)
    high = (1 << bits - 1) - 1 if signed else (1 << bits) - 1
    low = 1 << bits - 1 if signed else 0  # magnitude of the least
    over = x.inf | x.exp.sge(most) & ~x.zero | e.select(x.sign, size.ugt(low), size.ugt(high))
    value = e.select(x.sign, -size, size).trunc(bits)
    nearest = e.select(x.sign, e.const(-low, bits), high)
    of_nan = e.const(high if context.nan_to_int == "max" else 0, bits)
    e.fp_raise(e.select(x.nan | over, e.const(NV, 8), _flag(rest.ne(0), NX)))
    return e.select(x.nan, of_nan, e.select(over, nearest, value))

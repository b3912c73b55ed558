"""Floating point in plain integers: the reference that judges native code (IEEE 754-2019 binary formats).

Every function takes bits and gives (bits, exception flags). Results are computed exactly as integers of any size and
rounded once; nothing here is fast. ``rounding`` is one of the modes of ``fp``.
"""

from __future__ import annotations

from math import isqrt

from ratite.core.isa.fp import DZ, FORMATS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF, Format, FpContext

Result = tuple[int, int]


class _Number:
    """Decoded bits: a NaN (``signaling``), infinity, or (-1)**sign * sig * 2**exp."""

    __slots__ = ("exp", "inf", "nan", "sig", "sign", "signaling")

    def __init__(self, f: Format, bits: int) -> None:
        fraction = bits & (1 << f.p - 1) - 1
        field = bits >> f.p - 1 & f.top
        self.sign = bits >> f.width - 1 & 1
        self.nan = field == f.top and fraction != 0
        self.inf = field == f.top and not fraction
        self.signaling = self.nan and not fraction & f.quiet
        self.sig = fraction | 1 << f.p - 1 if field else fraction
        self.exp = max(field, 1) - f.bias - (f.p - 1)


def _up(rounding: int, sign: int, odd: int, rest: int, half: int) -> bool:
    """Whether a magnitude is rounded away from 0; ``rest`` below the last bit, ``half`` of that bit."""
    if rounding == RNE:
        return rest > half or (rest == half and bool(odd))
    if rounding == RMM:
        return rest >= half
    if rounding == RDN:
        return bool(sign and rest)
    if rounding == RUP:
        return bool(not sign and rest)
    if rounding != RTZ:
        raise ValueError(f"{rounding} is no rounding mode")
    return False


def _shifted(sig: int, shift: int, rounding: int, sign: int) -> tuple[int, bool]:
    """sig * 2**-shift as an integer, and whether that is inexact. Twice the value keeps ``half`` an integer."""
    if shift <= 0:
        return sig << -shift, False
    kept, rest = sig >> shift, sig & (1 << shift) - 1
    return kept + _up(rounding, sign, kept & 1, 2 * rest, 1 << shift), rest != 0


def _round(ctx: FpContext, f: Format, sign: int, sig: int, exp: int, rounding: int) -> Result:
    """(-1)**sign * sig * 2**exp (sig > 0) in format ``f``."""
    top = sig.bit_length() - 1 + exp  # exponent of the value
    last = max(top, f.emin) - (f.p - 1)  # exponent of the last bit kept
    kept, inexact = _shifted(sig, last - exp, rounding, sign)
    flags = NX if inexact else 0
    if top < f.emin and inexact:
        unbounded, _ = _shifted(sig, top - (f.p - 1) - exp, rounding, sign)
        grows = unbounded.bit_length() > f.p and top == f.emin - 1
        if ctx.tininess == "before" or not grows:
            flags |= UF
    bits = ((max(top, f.emin) + f.bias - 1) << f.p - 1) + kept
    if bits >= f.infinity:
        largest = rounding == RTZ or (rounding == RDN and not sign) or (rounding == RUP and sign)
        return sign << f.width - 1 | f.infinity - int(largest), OF | NX
    return sign << f.width - 1 | bits, flags


def _signed_sum(ctx: FpContext, f: Format, terms: list[tuple[int, int, int]], rounding: int) -> Result:
    """The sum of two (sign, sig, exp)."""
    low = min(exp for _, sig, exp in terms)
    total = sum((-sig if sign else sig) << exp - low for sign, sig, exp in terms)
    if total:
        return _round(ctx, f, int(total < 0), abs(total), low, rounding)
    signs = {sign for sign, _, _ in terms}
    sign = signs.pop() if len(signs) == 1 else int(rounding == RDN)  # §6.3
    return sign << f.width - 1, 0


def _nan(ctx: FpContext, width: int, *numbers: _Number, invalid: bool = False) -> Result:
    return ctx.nan(width), NV if invalid or any(n.signaling for n in numbers) else 0


def _infinity(f: Format, sign: int) -> Result:
    return sign << f.width - 1 | f.infinity, 0


def add(ctx: FpContext, width: int, a: int, b: int, rounding: int) -> Result:
    """a + b (§5.4.1)."""
    f = FORMATS[width]
    x, y = _Number(f, a), _Number(f, b)
    if x.nan or y.nan or (x.inf and y.inf and x.sign != y.sign):
        return _nan(ctx, width, x, y, invalid=not (x.nan or y.nan))
    if x.inf or y.inf:
        return _infinity(f, x.sign if x.inf else y.sign)
    return _signed_sum(ctx, f, [(x.sign, x.sig, x.exp), (y.sign, y.sig, y.exp)], rounding)


def sub(ctx: FpContext, width: int, a: int, b: int, rounding: int) -> Result:
    """a - b."""
    return add(ctx, width, a, b ^ FORMATS[width].sign, rounding)


def mul(ctx: FpContext, width: int, a: int, b: int, rounding: int) -> Result:
    """a * b."""
    f = FORMATS[width]
    x, y = _Number(f, a), _Number(f, b)
    sign = x.sign ^ y.sign
    impossible = (x.inf and not y.sig) or (y.inf and not x.sig)
    if x.nan or y.nan or impossible:
        return _nan(ctx, width, x, y, invalid=impossible)
    if x.inf or y.inf:
        return _infinity(f, sign)
    if not x.sig or not y.sig:
        return sign << width - 1, 0
    return _round(ctx, f, sign, x.sig * y.sig, x.exp + y.exp, rounding)


def div(ctx: FpContext, width: int, a: int, b: int, rounding: int) -> Result:
    """a / b."""
    f = FORMATS[width]
    x, y = _Number(f, a), _Number(f, b)
    sign = x.sign ^ y.sign
    none = not (x.nan or y.nan) and ((x.inf and y.inf) or (not x.sig and not y.sig))
    if x.nan or y.nan or none:
        return _nan(ctx, width, x, y, invalid=none)
    if x.inf:
        return _infinity(f, sign)
    if y.inf or not x.sig:
        return sign << width - 1, 0
    if not y.sig:
        return _infinity(f, sign)[0], DZ
    extra = 2 * f.p + 4
    quotient, rest = divmod(x.sig << extra, y.sig)
    return _round(ctx, f, sign, quotient << 1 | bool(rest), x.exp - y.exp - extra - 1, rounding)


def sqrt(ctx: FpContext, width: int, a: int, rounding: int) -> Result:
    """The square root of a."""
    f = FORMATS[width]
    x = _Number(f, a)
    if x.nan or (x.sign and x.sig):
        return _nan(ctx, width, x, invalid=not x.nan)
    if x.inf or not x.sig:
        return a, 0
    shift = 2 * f.p + 4 + (x.exp & 1)
    root = isqrt(x.sig << shift)
    rest = root * root != x.sig << shift
    return _round(ctx, f, 0, root << 1 | rest, (x.exp - shift) // 2 - 1, rounding)


def fma(ctx: FpContext, width: int, a: int, b: int, c: int, rounding: int) -> Result:
    """a * b + c, rounded once. Infinity times 0 is invalid also where c is a quiet NaN (§7.2 leaves it open)."""
    f = FORMATS[width]
    x, y, z = _Number(f, a), _Number(f, b), _Number(f, c)
    sign = x.sign ^ y.sign
    impossible = not (x.nan or y.nan) and ((x.inf and not y.sig) or (y.inf and not x.sig))
    infinite = x.inf or y.inf
    if x.nan or y.nan or z.nan or impossible:
        return _nan(ctx, width, x, y, z, invalid=impossible)
    if infinite and z.inf and z.sign != sign:
        return _nan(ctx, width, invalid=True)
    if infinite or z.inf:
        return _infinity(f, sign if infinite else z.sign)
    return _signed_sum(ctx, f, [(sign, x.sig * y.sig, x.exp + y.exp), (z.sign, z.sig, z.exp)], rounding)


def compare(width: int, predicate: str, a: int, b: int, signaling: bool) -> Result:
    """(0 or 1, flags) of a == b, a < b or a <= b; ``signaling``: quiet NaNs are invalid too (§5.11)."""
    f = FORMATS[width]
    x, y = _Number(f, a), _Number(f, b)
    if x.nan or y.nan:
        return 0, NV if signaling or x.signaling or y.signaling else 0
    left, right = (-(n & f.sign - 1) if n & f.sign else n for n in (a, b))
    return int({"eq": left == right, "lt": left < right, "le": left <= right}[predicate]), 0


def convert(ctx: FpContext, source: int, target: int, a: int, rounding: int) -> Result:
    """A number of one width in another (§5.4.2)."""
    f, g = FORMATS[source], FORMATS[target]
    x = _Number(f, a)
    if x.nan:
        return _nan(ctx, target, x)
    if x.inf:
        return _infinity(g, x.sign)
    if not x.sig:
        return x.sign << target - 1, 0
    return _round(ctx, g, x.sign, x.sig, x.exp, rounding)


def to_int(ctx: FpContext, width: int, a: int, bits: int, signed: bool, rounding: int) -> Result:
    """As an integer of ``bits`` bits; out of range: invalid and the nearest integer there is (§5.8)."""
    x = _Number(FORMATS[width], a)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    mask = (1 << bits) - 1
    if x.nan:
        return high if ctx.nan_to_int == "max" else 0, NV
    if x.inf:
        return (low if x.sign else high) & mask, NV
    size, inexact = _shifted(x.sig, -x.exp, rounding, x.sign)
    value = -size if x.sign else size
    if not low <= value <= high:
        return (low if x.sign else high) & mask, NV
    return value & mask, NX if inexact else 0


def from_int(ctx: FpContext, width: int, value: int, rounding: int) -> Result:
    """A Python integer as a number."""
    if not value:
        return 0, 0
    return _round(ctx, FORMATS[width], int(value < 0), abs(value), 0, rounding)

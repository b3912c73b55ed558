"""Floating point. UG984, chapter 2 "Floating-Point Unit (FPU)", chapter 5: fadd, frsub, fmul, fdiv, fcmp, flt, fint, fsqrt.

Single precision, to nearest. A denormal operand is not computed with: the result is a quiet NaN and FSR[DO] is set; a
result that is denormal, or becomes 0, is a zero of its sign with FSR[UF]. Every NaN result is 0xFFC00000. Which result is
denormal is decided after rounding: one that rounds up to the smallest normal number underflows not.

With C_FPU_EXCEPTION and MSR[EE], what sets a bit in FSR raises the exception, and rD keeps its value.
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.fp import FORMATS, RTZ, FpContext
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.microblaze.config import Config
from ratite.targets.microblaze.kit import Kit

#: bits of FSR (UG984, "Floating Point Status Register")
DO, UF, OF, DZ, IO = 1, 2, 4, 8, 16
EC_FPU = 6

_NAN = 0xFFC00000
_F = FORMATS[32]
_SIZE = _F.sign - 1
_SMALLEST = 1 << _F.p - 1  # normal number


def context(c: Config) -> FpContext | None:
    """The rules of arithmetic, which knows denormals; none without C_USE_FPU."""
    return FpContext(negative_nan=True, widths=(32,)) if c.use_fpu else None


def declare(k: Kit) -> None:
    """As far as C_USE_FPU has them: 1 basic, 2 extended."""
    if k.c.use_fpu:
        _arithmetic(k)
        _comparisons(k)
    if k.c.use_fpu > 1:
        _extended(k)


# -- what a number is
def _size(a: V) -> V:
    return a & _SIZE


def _denormal(a: V) -> V:
    return (_size(a) - 1).ult(_SMALLEST - 1)


def _nan(a: V) -> V:
    return _size(a).ugt(_F.infinity)


def _signaling(a: V) -> V:
    return _nan(a) & (a & _F.quiet).eq(0)


def _infinite(a: V) -> V:
    return _size(a).eq(_F.infinity)


def _zero(a: V) -> V:
    return _size(a).eq(0)


def _unusual(a: V) -> V:
    """Whether it is 0, denormal, infinite or a NaN."""
    return (_size(a) - _SMALLEST).uge(_F.infinity - _SMALLEST)


# -- how an instruction ends
def _put(k: Kit, e: Emitter, i: Operands, value: V, flags: V) -> None:
    """Result and bits of FSR; or the exception."""

    def flagged() -> None:
        e.set("fsr", e.get("fsr") | flags)
        if k.c.fpu_exception:
            e.if_(k.enabled(e), lambda: e.routine("exception", EC_FPU))

    e.if_(flags.ne(0), flagged)
    k.set_rd(e, i, value)


def _arithmetic(k: Kit) -> None:
    def declare_one(name: str, low: str, op: str) -> None:
        @k.op(name, f"010110 rd ra rb {low}", "{rd}, {ra}, {rb}")
        def semantics(e: Emitter, i: Operands) -> None:
            a, b = k.ra(e, i), k.rb(e, i)
            if op in ("sub", "div"):  # rB - rA, rB / rA
                a, b = b, a
            result = e.fp(op, 32, a, b)
            plain = ~(_unusual(a) | _unusual(b) | _unusual(result))
            e.if_(plain, lambda: k.set_rd(e, i, result), lambda: _put(k, e, i, *_judged(op, a, b, result)))

    declare_one("fadd", "00000000000", "add")
    declare_one("frsub", "00010000000", "sub")
    declare_one("fmul", "00100000000", "mul")
    declare_one("fdiv", "00110000000", "div")


def _judged(op: str, a: V, b: V, result: V) -> tuple[V, V]:
    """(result, bits of FSR) where one of the three is not a normal number."""
    e = a.e
    nan, infinite = _nan(a) | _nan(b), _infinite(a) | _infinite(b)
    small = _denormal(result)
    if op in ("mul", "div"):
        small = small | _zero(result) & ~_zero(a) & ~(_infinite(b) if op == "div" else _zero(b))
    flags = e.select(small, e.const(UF), 0)
    large = _infinite(result) & ~infinite
    flags = e.select(large, e.select(_zero(b), DZ, e.const(OF)) if op == "div" else e.const(OF), flags)
    invalid = _signaling(a) | _signaling(b) | _nan(result) & ~nan
    flags = e.select(invalid, IO, e.select(nan, 0, flags))
    odd = _denormal(a) | _denormal(b)
    value = e.select(small, result & _F.sign, result)
    return e.select(odd, _NAN, value), e.select(odd, DO, flags)


def _comparisons(k: Kit) -> None:
    """rB is compared with rA; unordered numbers are unequal, and nothing else."""

    def declare_one(name: str, code: int, test: Callable[[Emitter, V, V], V], ordered: bool) -> None:
        @k.op(f"fcmp.{name}", f"010110 rd ra rb 0100 {code:03b} 0000", "{rd}, {ra}, {rb}")
        def semantics(e: Emitter, i: Operands) -> None:
            a, b = k.ra(e, i), k.rb(e, i)
            invalid = _nan(a) | _nan(b) if ordered else _signaling(a) | _signaling(b)
            odd = _denormal(a) | _denormal(b)
            flags = e.select(odd, e.const(DO), e.select(invalid, e.const(IO), 0))
            _put(k, e, i, e.select(odd, 0, test(e, b, a).zext(32)), flags)

    def compare(predicate: str) -> Callable[[Emitter, V, V], V]:
        return lambda e, x, y: e.fp_compare(predicate, 32, x, y, False)

    declare_one("un", 0, lambda e, x, y: _nan(x) | _nan(y), False)
    declare_one("lt", 1, compare("lt"), True)
    declare_one("eq", 2, compare("eq"), False)
    declare_one("le", 3, compare("le"), True)
    declare_one("gt", 4, lambda e, x, y: compare("lt")(e, y, x), True)
    declare_one("ne", 5, lambda e, x, y: ~compare("eq")(e, x, y), False)
    declare_one("ge", 6, lambda e, x, y: compare("le")(e, y, x), True)


def _extended(k: Kit) -> None:
    @k.op("flt", "010110 rd ra 00000 01010000000", "{rd}, {ra}")
    def flt(e: Emitter, i: Operands) -> None:
        k.set_rd(e, i, e.fp_from_int(32, k.ra(e, i), True))

    @k.op("fint", "010110 rd ra 00000 01100000000", "{rd}, {ra}")
    def fint(e: Emitter, i: Operands) -> None:
        a = k.ra(e, i)
        value = e.fp_to_int(32, a, 32, True, RTZ)
        large = _size(a).uge(_F.bias + 31 << _F.p - 1) & a.ne(_F.sign | _F.bias + 31 << _F.p - 1)  # -2**31 is none
        value = e.select(_nan(a), _NAN, e.select(large, 1 << 31, value))
        flags = e.select(large, e.const(IO), 0)
        _put(k, e, i, e.select(_denormal(a), _NAN, value), e.select(_denormal(a), DO, flags))

    @k.op("fsqrt", "010110 rd ra 00000 01110000000", "{rd}, {ra}")
    def fsqrt(e: Emitter, i: Operands) -> None:
        a = k.ra(e, i)
        result = e.fp("sqrt", 32, a)
        flags = e.select(_signaling(a) | _nan(result) & ~_nan(a), e.const(IO), 0)
        _put(k, e, i, e.select(_denormal(a), _NAN, result), e.select(_denormal(a), DO, flags))

"""Values of the semantics language: an integer of a fixed width, known now (int) or only at run time (an SSA name).

An operation on known values is computed here, in Python; any other is handed to the emitter. So the evaluator needs no
operations of its own (everything is known to it), and constants fold in every tier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratite.core.isa.emitter import Emitter


def signed(value: int, width: int) -> int:
    """``value`` (unsigned, ``width`` bits) as a two's complement number."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def _shift(a: int, b: int, w: int) -> int:
    if b >= w:
        raise ValueError(f"a shift of {b} is not below the width {w}")
    return b


def _sdiv(a: int, b: int, w: int) -> int:
    sa, sb = signed(a, w), signed(b, w)
    q = abs(sa) // abs(sb)
    return -q if (sa < 0) != (sb < 0) else q


def _srem(a: int, b: int, w: int) -> int:
    sa, sb = signed(a, w), signed(b, w)
    r = abs(sa) % abs(sb)
    return -r if sa < 0 else r


#: two-operand operations by their LLVM name: (a, b, width) -> result, masked by the caller
FOLD: Mapping[str, Callable[[int, int, int], int]] = MappingProxyType({
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "shl": lambda a, b, w: a << _shift(a, b, w),
    "lshr": lambda a, b, w: a >> _shift(a, b, w),
    "ashr": lambda a, b, w: signed(a, w) >> _shift(a, b, w),
    "udiv": lambda a, b, w: a // b,
    "urem": lambda a, b, w: a % b,
    "sdiv": _sdiv,
    "srem": _srem,
})

#: comparisons by their LLVM predicate
COMPARE: Mapping[str, Callable[[int, int, int], bool]] = MappingProxyType({
    "eq": lambda a, b, w: a == b,
    "ne": lambda a, b, w: a != b,
    "ult": lambda a, b, w: a < b,
    "ule": lambda a, b, w: a <= b,
    "ugt": lambda a, b, w: a > b,
    "uge": lambda a, b, w: a >= b,
    "slt": lambda a, b, w: signed(a, w) < signed(b, w),
    "sle": lambda a, b, w: signed(a, w) <= signed(b, w),
    "sgt": lambda a, b, w: signed(a, w) > signed(b, w),
    "sge": lambda a, b, w: signed(a, w) >= signed(b, w),
})

#: one-operand operations: (a, width) -> result
UNARY: Mapping[str, Callable[[int, int], int]] = MappingProxyType({
    "clz": lambda a, w: w - a.bit_length(),
    "ctz": lambda a, w: w if a == 0 else (a & -a).bit_length() - 1,
    "popcount": lambda a, w: a.bit_count(),
    "bswap": lambda a, w: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
})


class V:
    """A value: ``ref`` is an int (known, already masked to ``width`` bits) or the emitter's name for it.

    ``+ - * & | ^ ~ << >>`` work on values of the same width or with Python ints; ``>>`` is logical (``sar`` is not).
    A shift amount must be below the width: mask it. Comparisons are methods and give a value of width 1.
    """

    __slots__ = ("e", "ref", "width")

    def __init__(self, e: Emitter, ref: int | str, width: int) -> None:
        self.e = e
        self.ref = ref
        self.width = width

    def __repr__(self) -> str:
        return f"V({self.ref!r}, i{self.width})"

    @property
    def known(self) -> bool:
        """Whether the value is a constant here and now."""
        return isinstance(self.ref, int)

    def _other(self, other: V | int) -> int | str:
        if isinstance(other, V):
            if other.width != self.width:
                raise TypeError(f"operands must be of one width, not i{self.width} and i{other.width}")
            return other.ref
        return other & ((1 << self.width) - 1)

    def _bin(self, op: str, other: V | int) -> V:
        a, b, w = self.ref, self._other(other), self.width
        if type(a) is int and type(b) is int:
            return V(self.e, FOLD[op](a, b, w) & ((1 << w) - 1), w)
        return self.e.emit_binary(op, a, b, w)

    def _cmp(self, pred: str, other: V | int) -> V:
        a, b = self.ref, self._other(other)
        if type(a) is int and type(b) is int:
            return V(self.e, int(COMPARE[pred](a, b, self.width)), 1)
        return self.e.emit_compare(pred, a, b, self.width)

    def __add__(self, o: V | int) -> V:
        return self if o == 0 and type(o) is int else self._bin("add", o)

    def __sub__(self, o: V | int) -> V:
        return self._bin("sub", o)

    def __mul__(self, o: V | int) -> V:
        return self._bin("mul", o)

    def __and__(self, o: V | int) -> V:
        return self._bin("and", o)

    def __or__(self, o: V | int) -> V:
        return self._bin("or", o)

    def __xor__(self, o: V | int) -> V:
        return self._bin("xor", o)

    def __invert__(self) -> V:
        return self._bin("xor", -1)

    def __neg__(self) -> V:
        return V(self.e, 0, self.width)._bin("sub", self)

    def __lshift__(self, o: V | int) -> V:
        return self if o == 0 and type(o) is int else self._bin("shl", o)

    def __rshift__(self, o: V | int) -> V:
        return self if o == 0 and type(o) is int else self._bin("lshr", o)

    def sar(self, o: V | int) -> V:
        """Arithmetic shift right."""
        return self if o == 0 and type(o) is int else self._bin("ashr", o)

    def udiv(self, o: V | int) -> V:
        """Unsigned quotient; the divisor must not be 0."""
        return self._bin("udiv", o)

    def urem(self, o: V | int) -> V:
        """Unsigned remainder; the divisor must not be 0."""
        return self._bin("urem", o)

    def sdiv(self, o: V | int) -> V:
        """Signed quotient towards 0; neither a divisor of 0 nor the overflow MIN / -1."""
        return self._bin("sdiv", o)

    def srem(self, o: V | int) -> V:
        """Signed remainder with the dividend's sign; the same limits as ``sdiv``."""
        return self._bin("srem", o)

    def eq(self, o: V | int) -> V:
        return self._cmp("eq", o)

    def ne(self, o: V | int) -> V:
        return self._cmp("ne", o)

    def ult(self, o: V | int) -> V:
        return self._cmp("ult", o)

    def uge(self, o: V | int) -> V:
        return self._cmp("uge", o)

    def ugt(self, o: V | int) -> V:
        return self._cmp("ugt", o)

    def ule(self, o: V | int) -> V:
        return self._cmp("ule", o)

    def slt(self, o: V | int) -> V:
        return self._cmp("slt", o)

    def sge(self, o: V | int) -> V:
        return self._cmp("sge", o)

    def sgt(self, o: V | int) -> V:
        return self._cmp("sgt", o)

    def sle(self, o: V | int) -> V:
        return self._cmp("sle", o)

    def zext(self, width: int) -> V:
        """Zero-extended to ``width`` bits (the same width is fine)."""
        if width == self.width:
            return self
        if isinstance(self.ref, int):
            return V(self.e, self.ref, width)
        return self.e.emit_cast("zext", self.ref, self.width, width)

    def sext(self, width: int) -> V:
        """Sign-extended to ``width`` bits."""
        if width == self.width:
            return self
        if isinstance(self.ref, int):
            return V(self.e, signed(self.ref, self.width) & ((1 << width) - 1), width)
        return self.e.emit_cast("sext", self.ref, self.width, width)

    def trunc(self, width: int) -> V:
        """The low ``width`` bits."""
        if width == self.width:
            return self
        if isinstance(self.ref, int):
            return V(self.e, self.ref & ((1 << width) - 1), width)
        return self.e.emit_cast("trunc", self.ref, self.width, width)

    def bit(self, n: int) -> V:
        """Bit ``n`` as a value of width 1."""
        return (self >> n).trunc(1)

    def bits(self, high: int, low: int) -> V:
        """Bits ``high`` … ``low``, right-aligned, of the same width."""
        return (self >> low) & ((1 << (high - low + 1)) - 1)

    def _unary(self, op: str) -> V:
        if isinstance(self.ref, int):
            return V(self.e, UNARY[op](self.ref, self.width), self.width)
        return self.e.emit_unary(op, self.ref, self.width)

    def clz(self) -> V:
        """Leading zero bits; the width for 0."""
        return self._unary("clz")

    def ctz(self) -> V:
        """Trailing zero bits; the width for 0."""
        return self._unary("ctz")

    def popcount(self) -> V:
        return self._unary("popcount")

    def bswap(self) -> V:
        """Bytes in reverse order; widths 16, 32, 64."""
        return self._unary("bswap")

    def mulh(self, o: V, signed_self: bool, signed_other: bool) -> V:
        """The high half of the double-width product."""
        w = self.width
        a = self.sext(2 * w) if signed_self else self.zext(2 * w)
        b = o.sext(2 * w) if signed_other else o.zext(2 * w)
        return ((a * b) >> w).trunc(w)

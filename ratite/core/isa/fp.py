"""Floating point as semantics speak of it: formats, rounding modes, exception flags and an ISA's own rules.

A value is the bits of an IEEE 754-2019 binary interchange format as an integer V. Numbers of modes and flags are this
package's; they are RISC-V's (Unprivileged ISA 20191213 §11.2), so that one target needs no mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: rounding modes (IEEE 754-2019 §4.3): to nearest ties to even, towards 0, down, up, to nearest ties away
RNE, RTZ, RDN, RUP, RMM = range(5)
#: exception flags (§7): inexact, underflow, overflow, division by zero, invalid operation
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16

#: operations and how many operands they have; fma is a * b + c, rounded once
FP_OPS: Mapping[str, int] = MappingProxyType({"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3})
#: predicates of comparisons; false where an operand is a NaN
FP_PREDICATES = frozenset({"eq", "lt", "le"})


class Format:
    """A binary interchange format: ``width`` bits, ``p`` of precision (with the hidden one), exponents emin … bias."""

    __slots__ = ("bias", "emin", "infinity", "p", "quiet", "sign", "top", "width")

    def __init__(self, width: int, p: int) -> None:
        self.width = width
        self.p = p
        self.bias = (1 << width - p - 1) - 1
        self.emin = 1 - self.bias
        self.top = 2 * self.bias + 1  # exponent field of infinities and NaNs
        self.infinity = self.top << p - 1
        self.quiet = 1 << p - 2  # the bit of a NaN that says quiet
        self.sign = 1 << width - 1


#: formats by width
FORMATS: Mapping[int, Format] = MappingProxyType({n: Format(n, p) for n, p in ((16, 11), (32, 24), (64, 53), (128, 113))})


class FpContext:
    """What an ISA's floating point does where IEEE 754 leaves it open.

    rounding: state field that holds the dynamic rounding mode, "": always RNE; flags: state field (8 bits) of the sticky
    exception flags, "": none are kept; negative_nan: sign of the NaN that every NaN result is (operands' payloads do not
    propagate); tininess: "after" or "before" rounding (§7.5); nan_to_int: "max" or "zero", what a NaN becomes as an
    integer (a number out of range becomes the nearest); widths: of the values that there are."""

    def __init__(
        self, *, rounding: str = "", flags: str = "", negative_nan: bool = False, tininess: str = "after",
        nan_to_int: str = "max", widths: tuple[int, ...] = (32, 64),
    ) -> None:
        if tininess not in ("after", "before"):
            raise ValueError(f"tininess must be 'after' or 'before', not {tininess!r}")
        if nan_to_int not in ("max", "zero"):
            raise ValueError(f"nan_to_int must be 'max' or 'zero', not {nan_to_int!r}")
        self.rounding = rounding
        self.flags = flags
        self.negative_nan = negative_nan
        self.tininess = tininess
        self.nan_to_int = nan_to_int
        self.widths = widths

    def nan(self, width: int) -> int:
        """The NaN of every NaN result."""
        f = FORMATS[width]
        return f.infinity | f.quiet | (f.sign if self.negative_nan else 0)

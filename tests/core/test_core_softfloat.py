"""The two exact implementations of floating point, written apart, agree; and both with the host's own double arithmetic."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable

import pytest

from ratite.core.isa import fpint, softfloat
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.folder import folder
from ratite.core.isa.fp import FORMATS, FP_OPS, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF, FpContext
from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V, signed
from tests.oracle.fp_operands import integer, operand, related

CONTEXT = FpContext(flags="flags")
MODES = (RNE, RTZ, RDN, RUP, RMM)


def evaluator(context: FpContext) -> Evaluator:
    return folder(Isa("t", word=64, big_endian=False, fields={}, state=[StateField("flags", 8)], parcel=4, default_length=4,
                      fp=context))


def ran(e: Evaluator, function: Callable[..., V], *args: object) -> tuple[int, int]:
    """(bits, flags) of a function of ``fpint``."""
    e.state["flags"][0] = 0
    value = function(e, *args)
    assert isinstance(value.ref, int)
    return value.ref, e.state["flags"][0]


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize(("tininess", "nan"), [("after", "max"), ("before", "zero")])
def test_both_implementations_agree(width: int, tininess: str, nan: str) -> None:
    context = FpContext(flags="flags", tininess=tininess, nan_to_int=nan, negative_nan=nan == "zero")
    e = evaluator(context)
    rng = random.Random(width)
    for _ in range(25):
        a, c = operand(width, rng), operand(width, rng)
        b = related(width, a, rng) if rng.random() < 0.5 else operand(width, rng)
        if rng.random() < 0.3:
            c = related(width, softfloat.mul(context, width, a, b, RNE)[0], rng)
        n = integer(rng)
        values = [V(e, x, width) for x in (a, b, c)]
        for mode in MODES:
            m = V(e, mode, 8)
            for op, count in FP_OPS.items():
                want = getattr(softfloat, op)(context, width, *(a, b, c)[:count], mode)
                assert ran(e, getattr(fpint, op), width, *values[:count], m) == want, (op, mode, hex(a), hex(b), hex(c))
            assert ran(e, fpint.convert, width, 96 - width, values[0], m) == softfloat.convert(
                context, width, 96 - width, a, mode), (mode, hex(a))
            for is_signed in (False, True):
                number = signed(n, 64) if is_signed else n
                assert ran(e, fpint.from_int, width, V(e, n, 64), is_signed, m) == softfloat.from_int(
                    context, width, number, mode), (mode, hex(n))
                for bits in (32, 64):
                    assert ran(e, fpint.to_int, width, values[0], bits, is_signed, m) == softfloat.to_int(
                        context, width, a, bits, is_signed, mode), (mode, bits, is_signed, hex(a))


def bits_of(x: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", x))[0])


def test_doubles_are_as_the_host_has_them() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        a = operand(64, rng)
        b = related(64, a, rng) if rng.random() < 0.5 else operand(64, rng)
        x, y = (struct.unpack("<d", struct.pack("<Q", n))[0] for n in (a, b))
        wanted = {"add": x + y, "sub": x - y, "mul": x * y}
        if y:
            wanted["div"] = x / y
        for op, value in wanted.items():
            got = getattr(softfloat, op)(CONTEXT, 64, a, b, RNE)[0]
            assert got == (CONTEXT.nan(64) if math.isnan(value) else bits_of(value)), (op, hex(a), hex(b))


MIN32, ONE32, EPS32 = 0x00800000, 0x3F800000, 0x00000001
VECTORS = [  # (operation, operands, mode, bits, flags): singles; IEEE 754-2019 sections
    ("add", (ONE32, ONE32 | 1 << 31), RNE, 0, 0),  # §6.3: x - x is +0
    ("add", (ONE32, ONE32 | 1 << 31), RDN, 1 << 31, 0),  # §6.3: but -0 downwards
    ("add", (ONE32, 0x33800000), RNE, ONE32, NX),  # §4.3.1: a tie goes to even
    ("add", (ONE32, 0x33800000), RMM, ONE32 + 1, NX),  # §4.3.1: or away
    ("add", (0x7F7FFFFF, 0x7F7FFFFF), RTZ, 0x7F7FFFFF, OF | NX),  # §7.4
    ("add", (0x7F7FFFFF, 0x7F7FFFFF), RUP, 0x7F800000, OF | NX),
    ("mul", (EPS32, 0x3F000000), RNE, 0, UF | NX),  # §7.5
    ("mul", (EPS32, 0x3F000001), RNE, EPS32, UF | NX),
    ("mul", (MIN32, 0x3F000000), RNE, MIN32 >> 1, 0),  # exact: no underflow
    ("mul", (0x00FFFFFF, 0x3F000000), RNE, MIN32, UF | NX),  # tiny before rounding; after it too, with 24 bits it is exact
    ("mul", (0x3F7FFFFE, 0x00800001), RNE, MIN32, NX),  # rounds to the smallest normal number: not tiny after rounding
    ("mul", (0x7F800000, 0), RNE, 0x7FC00000, NV),  # §7.2
    ("fma", (0x7F800000, 0, 0x7FC00001), RNE, 0x7FC00000, NV),
    ("div", (ONE32, 1 << 31), RNE, 0xFF800000, 8),  # §7.3
    ("div", (0, 0), RNE, 0x7FC00000, NV),
    ("sqrt", (1 << 31,), RNE, 1 << 31, 0),  # §5.4.1
    ("sqrt", (0xBF800000,), RNE, 0x7FC00000, NV),
    ("add", (0x7F800001, ONE32), RNE, 0x7FC00000, NV),  # §6.2
    ("add", (0x7FC00001, ONE32), RNE, 0x7FC00000, 0),
]


@pytest.mark.parametrize(("op", "operands", "mode", "bits", "flags"), VECTORS)
def test_vectors(op: str, operands: tuple[int, ...], mode: int, bits: int, flags: int) -> None:
    assert getattr(softfloat, op)(CONTEXT, 32, *operands, mode) == (bits, flags)
    e = evaluator(CONTEXT)
    values = [V(e, x, 32) for x in operands]
    assert ran(e, getattr(fpint, op), 32, *values, V(e, mode, 8)) == (bits, flags)


def test_tininess_before_rounding_differs() -> None:
    before = FpContext(tininess="before")
    assert softfloat.mul(before, 32, 0x3F7FFFFE, 0x00800001, RNE) == (MIN32, NX | UF)


def test_a_context_says_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="tininess must be 'after' or 'before', not 'never'"):
        FpContext(tininess="never")
    with pytest.raises(ValueError, match="nan_to_int must be 'max' or 'zero', not 'low'"):
        FpContext(nan_to_int="low")
    with pytest.raises(ValueError, match="7 is no rounding mode"):
        softfloat.add(CONTEXT, 32, 1, 1 | FORMATS[32].infinity >> 1, 7)

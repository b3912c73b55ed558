"""Zba, Zbb, Zbs (RISC-V Bit-Manipulation ISA 1.0.0 chapter 2) and Zicond 1.0, in the evaluator, against plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ratite.core.isa.value import signed
from tests.targets.riscv.riscv_kit import ModesHart, isa_of, modes_isa

Model = Callable[[int, int, int], int]  # rs1, rs2 (or the shift amount), xlen


def _rol(a: int, n: int, w: int) -> int:
    n %= w
    a &= (1 << w) - 1
    return (a << n | a >> w - n) & (1 << w) - 1


def _sext(value: int, width: int) -> int:
    return signed(value & (1 << width) - 1, width)


def _clz(a: int, w: int) -> int:
    return w - (a & (1 << w) - 1).bit_length()


def _ctz(a: int, w: int) -> int:
    return next((k for k in range(w) if a >> k & 1), w)


def _orc(a: int, w: int) -> int:
    return sum(0xFF << k for k in range(0, w, 8) if a >> k & 0xFF)


REGISTERS: dict[str, Model] = {
    "sh1add": lambda a, b, w: b + (a << 1), "sh2add": lambda a, b, w: b + (a << 2), "sh3add": lambda a, b, w: b + (a << 3),
    "andn": lambda a, b, w: a & ~b, "orn": lambda a, b, w: a | ~b, "xnor": lambda a, b, w: ~(a ^ b),
    "min": lambda a, b, w: min(signed(a, w), signed(b, w)), "max": lambda a, b, w: max(signed(a, w), signed(b, w)),
    "minu": lambda a, b, w: min(a, b), "maxu": lambda a, b, w: max(a, b),
    "rol": lambda a, b, w: _rol(a, b % w, w), "ror": lambda a, b, w: _rol(a, -b % w, w),
    "bclr": lambda a, b, w: a & ~(1 << b % w), "bset": lambda a, b, w: a | 1 << b % w, "binv": lambda a, b, w: a ^ 1 << b % w,
    "bext": lambda a, b, w: a >> b % w & 1,
    "czero.eqz": lambda a, b, w: a if b else 0, "czero.nez": lambda a, b, w: 0 if b else a,
}
REGISTERS_64: dict[str, Model] = {
    "add.uw": lambda a, b, w: b + (a & 0xFFFFFFFF), "sh1add.uw": lambda a, b, w: b + ((a & 0xFFFFFFFF) << 1),
    "sh2add.uw": lambda a, b, w: b + ((a & 0xFFFFFFFF) << 2), "sh3add.uw": lambda a, b, w: b + ((a & 0xFFFFFFFF) << 3),
    "rolw": lambda a, b, w: _sext(_rol(a, b % 32, 32), 32), "rorw": lambda a, b, w: _sext(_rol(a, -b % 32, 32), 32),
}
SHIFTS: dict[str, Model] = {
    "rori": lambda a, n, w: _rol(a, -n % w, w), "bclri": lambda a, n, w: a & ~(1 << n), "bseti": lambda a, n, w: a | 1 << n,
    "binvi": lambda a, n, w: a ^ 1 << n, "bexti": lambda a, n, w: a >> n & 1,
}
SHIFTS_64: dict[str, Model] = {
    "slli.uw": lambda a, n, w: (a & 0xFFFFFFFF) << n, "roriw": lambda a, n, w: _sext(_rol(a, -n % 32, 32), 32),
}
UNARY: dict[str, Model] = {
    "clz": lambda a, b, w: _clz(a, w), "ctz": lambda a, b, w: _ctz(a, w), "cpop": lambda a, b, w: a.bit_count(),
    "sext.b": lambda a, b, w: _sext(a, 8), "sext.h": lambda a, b, w: _sext(a, 16), "zext.h": lambda a, b, w: a & 0xFFFF,
    "orc.b": lambda a, b, w: _orc(a, w), "rev8": lambda a, b, w: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
}
UNARY_64: dict[str, Model] = {
    "clzw": lambda a, b, w: _clz(a, 32), "ctzw": lambda a, b, w: _ctz(a, 32),
    "cpopw": lambda a, b, w: (a & 0xFFFFFFFF).bit_count(),
}


def values(rng: random.Random, xlen: int) -> list[int]:
    edges = [0, 1, (1 << xlen) - 1, 1 << xlen - 1, (1 << xlen - 1) - 1, 0x80, 0x8000, 0x80000000, 0xFFFFFFFF]
    return [v & (1 << xlen) - 1 for v in edges] + [rng.getrandbits(rng.randrange(1, xlen + 1)) for _ in range(12)]


@pytest.mark.parametrize("xlen", [32, 64])
def test_against_python(xlen: int) -> None:
    rng, hart = random.Random(5), ModesHart(xlen)
    mask = hart.mask
    start = hart.pc_value

    def check(name: str, want: int, **fields: int | str) -> None:
        hart.pc_value = start
        hart.do(name, rd="a0", rs1="a1", **fields)
        assert not hart.trapped and hart["a0"] == want & mask, (name, hex(hart["a1"]), fields)

    for a in values(rng, xlen):
        hart["a1"] = a
        for name, model in (REGISTERS | REGISTERS_64 if xlen == 64 else REGISTERS).items():
            for b in values(rng, xlen):
                hart["a2"] = b
                check(name, model(a, b, xlen), rs2="a2")
        for name, model in (SHIFTS | SHIFTS_64 if xlen == 64 else SHIFTS).items():
            for n in (0, 1, 7, 8, 31, 63):
                if n < (32 if name == "roriw" else xlen):
                    check(name, model(a, n, xlen), shamt=n)
        for name, model in (UNARY | UNARY_64 if xlen == 64 else UNARY).items():
            check(name, model(a, 0, xlen))


@pytest.mark.parametrize("xlen", [32, 64])
@pytest.mark.parametrize("extension", ["zba", "zbb", "zbs", "zicond", "zicbom", "zicboz", "svinval"])
def test_what_is_not_declared_is_illegal(xlen: int, extension: str) -> None:
    """Each extension adds its own encodings and no other, and none is there without one."""
    everything, rest = modes_isa(xlen), modes_isa(xlen, extension)
    own = set(everything.by_name) - set(rest.by_name)
    assert own and not set(rest.by_name) - set(everything.by_name)
    assert not own & set(isa_of(xlen).by_name)
    for name in own:
        word = everything.by_name[name].pattern.match
        assert everything.decode(word, 4) is not None
        assert rest.decode(word, 4) is None


#: encodings as GNU as 2.40 writes them
ENCODINGS = [
    (64, "sh2add a0, a1, a2", "sh2add", {"rd": "a0", "rs1": "a1", "rs2": "a2"}, 0x20C5C533),
    (64, "add.uw a0, a1, a2", "add.uw", {"rd": "a0", "rs1": "a1", "rs2": "a2"}, 0x08C5853B),
    (64, "slli.uw a0, a1, 33", "slli.uw", {"rd": "a0", "rs1": "a1", "shamt": 33}, 0x0A15951B),
    (64, "rev8 a0, a1", "rev8", {"rd": "a0", "rs1": "a1"}, 0x6B85D513),
    (32, "rev8 a0, a1", "rev8", {"rd": "a0", "rs1": "a1"}, 0x6985D513),
    (64, "zext.h a0, a1", "zext.h", {"rd": "a0", "rs1": "a1"}, 0x0805C53B),
    (32, "zext.h a0, a1", "zext.h", {"rd": "a0", "rs1": "a1"}, 0x0805C533),
    (64, "orc.b a0, a1", "orc.b", {"rd": "a0", "rs1": "a1"}, 0x2875D513),
    (64, "cpop a0, a1", "cpop", {"rd": "a0", "rs1": "a1"}, 0x60259513),
    (64, "rori a0, a1, 40", "rori", {"rd": "a0", "rs1": "a1", "shamt": 40}, 0x6285D513),
    (64, "bexti a0, a1, 40", "bexti", {"rd": "a0", "rs1": "a1", "shamt": 40}, 0x4A85D513),
    (64, "czero.nez a0, a1, a2", "czero.nez", {"rd": "a0", "rs1": "a1", "rs2": "a2"}, 0x0EC5F533),
    (64, "cbo.zero (a0)", "cbo.zero", {"rs1": "a0"}, 0x0045200F),
    (64, "sfence.vma a0, a1", "sfence.vma", {"rs1": "a0", "rs2": "a1"}, 0x12B50073),
    (64, "sinval.vma a0, a1", "sinval.vma", {"rs1": "a0", "rs2": "a1"}, 0x16B50073),
]


@pytest.mark.parametrize(("xlen", "text", "name", "fields", "word"), ENCODINGS)
def test_encodings(xlen: int, text: str, name: str, fields: dict[str, int | str], word: int) -> None:
    hart = ModesHart(xlen)
    assert int.from_bytes(hart.asm(name, **fields), "little") == word, text

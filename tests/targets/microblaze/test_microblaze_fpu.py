"""MicroBlaze floating point: vectors after UG984's pseudocode, exceptions, and native code against the evaluator."""

from __future__ import annotations

import pytest

from tests.oracle.microblaze_fpu import NAMES, Judged
from tests.targets.microblaze.microblaze_kit import EE, EIP, Machine

ONE, TWO, NAN, SNAN, INF, BIG, TINY = 0x3F800000, 0x40000000, 0xFFC00000, 0x7F800001, 0x7F800000, 0x7F7FFFFF, 0x00800000
MINUS, ODD = 1 << 31, 0x00000001
DO, UF, OF, DZ, IO = 1, 2, 4, 8, 16

VECTORS = [  # (instruction, rA, rB, rD, FSR), each chapter 5 under the instruction's name
    ("fadd", ONE, ONE, TWO, 0), ("fadd", ONE, ONE | MINUS, 0, 0), ("fadd", 0x7FC00001, ONE, NAN, 0),
    ("fadd", SNAN, ONE, NAN, IO), ("fadd", INF, INF | MINUS, NAN, IO), ("fadd", ODD, ONE, NAN, DO),
    ("fadd", SNAN, ODD, NAN, DO), ("fadd", BIG, BIG, INF, OF), ("fadd", INF, ONE, INF, 0),
    ("fadd", TINY, (TINY + 1) | MINUS, MINUS, UF),
    ("frsub", ONE, TWO, ONE, 0), ("frsub", INF, INF, NAN, IO),
    ("fmul", TINY, 0x3F000000, 0, UF), ("fmul", TINY | MINUS, TINY, MINUS, UF), ("fmul", TINY, 0, 0, 0),
    ("fmul", 0, INF, NAN, IO), ("fmul", BIG | MINUS, TWO, INF | MINUS, OF),
    ("fmul", 0x3F7FFFFE, 0x00800001, TINY, 0),  # rounds up to the smallest normal number
    ("fdiv", 0, ONE, INF, DZ), ("fdiv", MINUS, ONE, INF | MINUS, DZ), ("fdiv", 0, 0, NAN, IO), ("fdiv", 0, INF, INF, 0),
    ("fdiv", INF, ONE, 0, 0), ("fdiv", INF, INF, NAN, IO), ("fdiv", TWO, TINY, 0, UF), ("fdiv", TINY, BIG, INF, OF),
    ("fdiv", TWO, ONE, 0x3F000000, 0),
    ("fcmp.un", NAN, ONE, 1, 0), ("fcmp.un", SNAN, ONE, 1, IO), ("fcmp.un", ONE, ONE, 0, 0), ("fcmp.un", ODD, NAN, 0, DO),
    ("fcmp.lt", TWO, ONE, 1, 0), ("fcmp.lt", ONE, TWO, 0, 0), ("fcmp.lt", NAN, ONE, 0, IO),
    ("fcmp.eq", 0, MINUS, 1, 0), ("fcmp.eq", NAN, NAN, 0, 0), ("fcmp.eq", SNAN, ONE, 0, IO),
    ("fcmp.le", TWO, ONE, 1, 0), ("fcmp.le", ONE, ONE, 1, 0), ("fcmp.le", ONE, TWO, 0, 0), ("fcmp.le", NAN, TWO, 0, IO),
    ("fcmp.gt", ONE, TWO, 1, 0), ("fcmp.gt", ONE, ONE, 0, 0), ("fcmp.ne", ONE, TWO, 1, 0), ("fcmp.ne", NAN, NAN, 1, 0),
    ("fcmp.ge", ONE, TWO, 1, 0), ("fcmp.ge", TWO, ONE, 0, 0), ("fcmp.ge", ODD, ONE, 0, DO),
    ("flt", 3, None, 0x40400000, 0), ("flt", 0x80000000, None, 0xCF000000, 0), ("flt", 0x01000001, None, 0x4B800000, 0),
    ("fint", 0x3FE00000, None, 1, 0), ("fint", 0xBFE00000, None, 0xFFFFFFFF, 0), ("fint", 0xCF000000, None, 1 << 31, 0),
    ("fint", 0x4F000000, None, 1 << 31, IO), ("fint", NAN, None, NAN, IO), ("fint", ODD, None, NAN, DO),
    ("fsqrt", 0x40800000, None, TWO, 0), ("fsqrt", MINUS, None, MINUS, 0), ("fsqrt", ONE | MINUS, None, NAN, IO),
    ("fsqrt", NAN, None, NAN, 0), ("fsqrt", ODD | MINUS, None, NAN, DO),
]


@pytest.mark.parametrize(("name", "a", "b", "result", "fsr"), VECTORS)
def test_vectors(name: str, a: int, b: int | None, result: int, fsr: int) -> None:
    m = Machine()
    m.set(r5=a, r6=b or 0, r3=7, msr=EE)
    m.run(m.asm(name, rd=3, ra=5, **({} if b is None else {"rb": 6})))
    assert (m["r3"], m["fsr"], m["pc"]) == (result, fsr, 0x1004)


def test_flags_stay_until_they_are_written() -> None:
    m = Machine()
    m.set(r5=ODD, r6=ONE)
    m.run(m.asm("fadd", rd=3, ra=5, rb=6), m.asm("fdiv", rd=3, ra=0, rb=6), m.asm("mfs", rd=4, number=7),
          m.asm("mts", ra=0, number=7))
    assert (m["r4"], m["fsr"]) == (DO | DZ, 0)


@pytest.mark.parametrize(("msr", "taken"), [(EE, True), (0, False)])
def test_the_exception_keeps_rd(msr: int, taken: bool) -> None:
    """UG984 "Floating-Point Unit Exceptions": if enabled, rD is not written."""
    m = Machine(fpu_exception=True)
    m.set(r5=0, r6=ONE, r3=7, msr=msr)
    m.run(m.asm("fdiv", rd=3, ra=5, rb=6))
    assert (m["r3"], m["fsr"], m["esr"]) == ((7, DZ, 6) if taken else (INF, DZ, 0))
    assert (m["pc"], m["msr"] & EIP) == ((0x20, EIP) if taken else (0x1004, 0))


@pytest.mark.parametrize(("fpu", "name", "there"), [
    (0, "fadd", False), (1, "fadd", True), (1, "fsqrt", False), (2, "fsqrt", True)])
def test_what_is_configured(fpu: int, name: str, there: bool) -> None:
    assert (name in Machine(use_fpu=fpu).isa.by_name) == there


def test_version_registers_tell() -> None:
    from ratite.targets.microblaze.config import Config
    from ratite.targets.microblaze.pvr import registers

    def bits(**values: object) -> tuple[int, int, int]:
        pvr = registers(Config({k.replace("_", "-"): v for k, v in values.items()}))
        return pvr[0] >> 27 & 1, pvr[2] >> 11 & 1 | (pvr[2] >> 9 & 1) << 1, pvr[2] & 1

    assert bits(use_fpu=0) == (0, 0, 0)
    assert bits(use_fpu=1) == (1, 1, 0)
    assert bits(use_fpu=2, fpu_exception=True) == (1, 3, 1)


@pytest.mark.parametrize("big", [True, False])
def test_native_code_and_evaluator_agree(cache_home: object, big: bool) -> None:
    both = Judged(big, 200)
    assert not [d for name in NAMES for d in both.chunk(name, "reference", 1, 0).differences]
    both.close()

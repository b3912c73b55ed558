"""Results of each instruction, by hand from UG984, chapter 5."""

from __future__ import annotations

import pytest

from tests.targets.microblaze.microblaze_kit import CODE, DATA, HOLE, C, Machine

A, B = 0x80000001, 0x7FFFFFFF

#: name, ra, rb (or immediate), carry before, result, carry after (None: unchanged)
ARITHMETIC = [
    ("add", A, A, 0, 2, 1), ("add", 1, 2, 1, 3, 0), ("addc", 1, 2, 1, 4, 0), ("addk", A, A, 0, 2, None),
    ("addkc", 1, 2, 1, 4, None), ("rsub", 1, 3, 0, 2, 1), ("rsub", 3, 1, 1, 0xFFFFFFFE, 0), ("rsubc", 1, 3, 0, 1, 1),
    ("rsubc", 1, 3, 1, 2, 1), ("rsubk", 3, 1, 0, 0xFFFFFFFE, None), ("rsubkc", 1, 3, 0, 1, None),
    ("addi", 0xFFFFFFFF, 1, 0, 0, 1), ("addik", 5, -1, 1, 4, None), ("addic", 5, 1, 1, 7, 0), ("addikc", 5, 1, 1, 7, None),
    ("rsubi", 1, 3, 0, 2, 1), ("rsubik", 5, 3, 0, 0xFFFFFFFE, None), ("rsubic", 5, 3, 1, 0xFFFFFFFE, 0),
    ("rsubikc", 5, 9, 0, 3, None),
    ("cmp", 1, 2, 0, 1, None), ("cmp", 2, 1, 0, 0xFFFFFFFF, None), ("cmp", A, 1, 0, 0, None), ("cmp", 1, A, 0, A - 1, None),
    ("cmpu", A, 1, 0, 0x80000000, None), ("cmpu", 1, A, 0, 0, None), ("cmpu", 1, B, 0, B - 1, None),
    ("mul", A, 3, 0, 0x80000003, None), ("muli", 7, -2, 0, 0xFFFFFFF2, None), ("mulh", A, A, 0, 0x3FFFFFFF, None),
    ("mulhu", A, A, 0, 0x40000001, None), ("mulhsu", A, A, 0, 0xC0000000, None),
    ("idiv", 3, -7, 0, 0xFFFFFFFE, None), ("idivu", 3, -7, 0, 0x55555553, None),
    ("and", A, B, 0, 1, None), ("or", A, B, 0, 0xFFFFFFFF, None), ("xor", A, B, 0, 0xFFFFFFFE, None),
    ("andn", A, B, 0, 0x80000000, None), ("andi", A, -1, 0, A, None), ("ori", A, 6, 0, 0x80000007, None),
    ("xori", A, -1, 0, 0x7FFFFFFE, None), ("andni", A, 1, 0, 0x80000000, None),
    ("bsrl", A, 33, 0, 0x40000000, None), ("bsra", A, 4, 0, 0xF8000000, None), ("bsll", A, 4, 0, 0x10, None),
    ("pcmpbf", 0x11223344, 0x11AAAAAA, 0, 1, None), ("pcmpbf", 0x11223344, 0xAAAAAA44, 0, 4, None),
    ("pcmpbf", 1, 0x02030405, 0, 0, None), ("pcmpeq", 5, 5, 0, 1, None), ("pcmpne", 5, 5, 0, 0, None),
]

UNARY = [
    ("sra", 0x80000001, 0, 0xC0000000, 1), ("src", 0x80000000, 1, 0xC0000000, 0), ("srl", 0x80000001, 1, 0x40000000, 1),
    ("sext8", 0x1280, 0, 0xFFFFFF80, None), ("sext16", 0x18000, 0, 0xFFFF8000, None), ("clz", 0x10000, 0, 15, None),
    ("clz", 0, 0, 32, None), ("swapb", 0x11223344, 0, 0x44332211, None), ("swaph", 0x11223344, 0, 0x33441122, None),
]


@pytest.mark.parametrize(("name", "a", "b", "carry", "result", "after"), ARITHMETIC)
def test_arithmetic(name: str, a: int, b: int, carry: int, result: int, after: int | None) -> None:
    m = Machine()
    immediate = "imm" in m.isa.by_name[name].operands
    m.set(r2=a, r3=b, msr=C * carry)
    m.run(m.asm(name, rd=1, ra=2, imm=b) if immediate else m.asm(name, rd=1, ra=2, rb=3))
    assert (m["r1"], m["msr"]) == (result, C * (carry if after is None else after))


@pytest.mark.parametrize(("name", "a", "carry", "result", "after"), UNARY)
def test_one_operand(name: str, a: int, carry: int, result: int, after: int | None) -> None:
    m = Machine()
    m.set(r2=a, msr=C * carry)
    m.run(m.asm(name, rd=1, ra=2))
    assert (m["r1"], m["msr"]) == (result, C * (carry if after is None else after))


@pytest.mark.parametrize(("name", "operands", "result"), [
    ("bsrli", {"amount": 4}, 0x08123456), ("bsrai", {"amount": 4}, 0xF8123456), ("bslli", {"amount": 4}, 0x12345670),
    ("bsefi", {"width": 8, "amount": 4}, 0x56), ("bsefi", {"width": 0, "amount": 4}, 0),
    ("bsifi", {"width": 11, "amount": 4}, 0xFFFFF67F), ("bsifi", {"width": 31, "amount": 0}, 0x81234567),
    ("bsifi", {"width": 3, "amount": 4}, 0xFFFFFFFF),
])
def test_barrel_shifter(name: str, operands: dict[str, int], result: int) -> None:
    m = Machine()
    m.set(r1=0xFFFFFFFF, r2=0x81234567)
    m.run(m.asm(name, rd=1, ra=2, **operands))
    assert m["r1"] == result


@pytest.mark.parametrize("big", [True, False])
def test_byte_orders_and_reversed_accesses(big: bool) -> None:
    m = Machine(big)
    m.set(r2=DATA, r3=0x11223344)
    m.run(m.asm("swi", rs=3, ra=2, imm=0))
    assert m.memory.bytes[DATA:DATA + 4] == (0x11223344).to_bytes(4, "big" if big else "little")
    rows = {"lw": 0x11223344, "lwr": 0x44332211, "lhu": 0x1122 if big else 0x3344, "lhur": 0x4433 if big else 0x2211,
            "lbu": 0x11 if big else 0x44, "lbur": 0x44 if big else 0x11}
    for name, value in rows.items():
        m.cpu.pc_value = CODE
        m.run(m.asm(name, rd=4, ra=2, rb=0))
        assert m["r4"] == value, name
    for name in ("swr", "shr", "sbr"):
        m.cpu.pc_value = CODE
        m.memory.bytes[DATA:DATA + 4] = b"\xEE" * 4
        m.run(m.asm(name, rs=3, ra=2, rb=0))
        expected = {"swr": 0x44332211, "shr": 0xEEEE4433 if big else 0x4433EEEE, "sbr": 0xEEEEEE44 if big else 0x44EEEEEE}[name]
        assert m.memory.load(DATA, 4) == expected, name


def test_unmapped_and_unaligned_without_exceptions() -> None:
    m = Machine()
    m.set(r2=HOLE, r3=9, r4=DATA + 3, r5=0x11223344)
    m.run(m.asm("lwi", rd=3, ra=2, imm=0), m.asm("swi", rs=5, ra=2, imm=0), m.asm("swi", rs=5, ra=4, imm=0),
          m.asm("lwi", rd=6, ra=4, imm=-1), m.asm("lhui", rd=7, ra=4, imm=0))
    assert (m["r3"], m["r6"], m["r7"], m["pc"]) == (0, 0x11223344, 0x3344, CODE + 20)
    assert m.memory.load(DATA, 4) == 0x11223344


@pytest.mark.parametrize("exclusive", [True, False])
def test_reservation(exclusive: bool) -> None:
    """UG984, "lwx", "swx", "Semaphore Synchronization"."""
    m = Machine(exclusive_access=exclusive)
    lwx, swx = m.asm("lwx", rd=3, ra=2, rb=0), m.asm("swx", rs=4, ra=2, rb=0)
    m.set(r2=DATA + 2, r4=7, msr=C)  # the low bits do not count
    m.run(lwx, swx)
    assert (m["msr"], m.memory.load(DATA, 4)) == (0, 7)
    m.cpu.pc_value = CODE
    m.set(r4=8)
    m.run(swx)
    assert (m["msr"], m.memory.load(DATA, 4)) == (C, 7)
    m.cpu.pc_value = CODE
    m.run(lwx, m.asm("brk", rd=5, rb=0))
    m.cpu.pc_value = CODE
    m.run(swx)
    assert m.memory.load(DATA, 4) == 7
    m.cpu.pc_value = CODE
    m.run(lwx)
    m.memory.store(DATA, 4, 1)  # somebody else's
    m.cpu.pc_value = CODE
    m.run(swx)
    assert m.memory.load(DATA, 4) == (1 if exclusive else 8)


def test_special_registers() -> None:
    m = Machine(base_vectors=0, use_stack_protection=True)
    m.set(r2=0xFFFFFFFF)
    m.run(m.asm("mts", ra=2, number=1), m.asm("mfs", rd=3, number=1), m.asm("msrclr", rd=4, bits=0x7FFF),
          m.asm("mfs", rd=5, number=1), m.asm("mfs", rd=6, number=0), m.asm("mts", ra=2, number=0x800),
          m.asm("mfs", rd=7, number=0x800), m.asm("mfs", rd=8, number=0x2000), m.asm("mfs", rd=9, number=0x3FFF))
    assert (m["r3"], m["r4"], m["r5"]) == (0x800007FE, 0x800007FE, 0x400)
    assert (m["r6"], m["r7"], m["r8"] & 0xFF00, m["r9"]) == (CODE + 16, 0xFFFFFFFF, 0x2400, 0)


def test_sleep() -> None:
    m = Machine()
    assert m.run(m.asm("mbar", kind=16)) == "halt" and m["pc"] == CODE + 4
    assert not m.cpu.wakes()
    m.cpu.irq_lines = 1
    assert m.cpu.wakes()

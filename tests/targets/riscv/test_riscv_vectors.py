"""Each instruction on numbers worked out by hand from the specification, in the evaluator."""

from __future__ import annotations

import pytest

from tests.targets.riscv.riscv_kit import BASE, DATA, Hart

MIN = {32: 1 << 31, 64: 1 << 63}

# name, rs1, rs2, result; negative numbers stand for their two's complement, "min" for the smallest number
BOTH = [
    ("add", -1, 1, 0), ("add", 5, 7, 12), ("sub", 3, 5, -2), ("sll", 1, 5, 32), ("slt", -1, 0, 1), ("slt", 0, -1, 0),
    ("sltu", -1, 0, 0), ("sltu", 0, -1, 1), ("xor", 0b1100, 0b1010, 0b0110), ("or", 0b1100, 0b1010, 0b1110),
    ("and", 0b1100, 0b1010, 0b1000), ("sra", -16, 2, -4), ("sra", -1, 31, -1), ("mul", -3, 5, -15), ("mulh", -1, 1, -1),
    ("mulh", -1, -1, 0), ("mulhsu", -1, 1, -1), ("mulhu", -1, -1, -2), ("mulhu", 1, 1, 0), ("mulhsu", 1, -1, 0),
    ("div", 20, -6, -3), ("div", -20, 6, -3), ("div", 7, 0, -1), ("divu", 7, 0, -1), ("rem", -20, 6, -2), ("rem", 20, -6, 2),
    ("rem", 7, 0, 7), ("rem", -7, 0, -7), ("remu", 7, 0, 7), ("divu", -1, 2, None), ("remu", 20, 6, 2),
    ("div", "min", -1, "min"), ("rem", "min", -1, 0), ("divu", "min", -1, 0), ("remu", "min", -1, "min"),
    ("mulh", "min", "min", "quarter"),
]
ONLY32 = [
    ("sll", 1, 33, 2), ("srl", -1, 4, 0x0FFFFFFF), ("srl", -1, 36, 0x0FFFFFFF), ("mulhsu", -1, -1, -1),
    ("mul", 1 << 16, 1 << 16, 0),
]
ONLY64 = [
    ("sll", 1, 33, 1 << 33), ("sll", 1, 65, 2), ("srl", -1, 60, 15), ("addw", 0x7FFFFFFF, 1, -0x80000000),
    ("addw", 1 << 32, 1, 1), ("subw", 0, 1, -1), ("subw", 1 << 32, 1, -1), ("sllw", 1, 31, -0x80000000), ("sllw", 1, 32, 1),
    ("srlw", -1, 4, 0x0FFFFFFF), ("srlw", 0x80000000, 0, -0x80000000), ("sraw", 0x80000000, 4, -0x08000000),
    ("sraw", 0xF00000000, 4, 0), ("mulw", 0x10000, 0x8000, -0x80000000), ("divw", 0x80000000, -1, -0x80000000),
    ("divw", 5, 1 << 32, -1), ("divw", -7, 2, -3), ("divuw", 0xFFFFFFFE, 1, -2), ("divuw", 5, 0, -1),
    ("remw", 0x80000000, -1, 0), ("remw", -7, 2, -1), ("remw", 5, 0, 5), ("remuw", 0xFFFFFFFF, 0, -1),
    ("remuw", 0xFFFFFFFF, 16, 15),
]
ROWS = [(x, *row) for x in (32, 64) for row in BOTH] + [(32, *row) for row in ONLY32] + [(64, *row) for row in ONLY64]


def number(value: object, xlen: int) -> int:
    special = {"min": MIN[xlen], "quarter": 1 << xlen - 2, None: (1 << xlen - 1) - 1}
    return (value if isinstance(value, int) else special[value]) & (1 << xlen) - 1  # type: ignore[index]


@pytest.mark.parametrize(("xlen", "name", "a", "b", "want"), ROWS)
def test_register_operations(xlen: int, name: str, a: object, b: object, want: object) -> None:
    hart = Hart(xlen, a1=number(a, xlen), a2=number(b, xlen))
    hart.do(name, rd="a0", rs1="a1", rs2="a2")
    assert hart["a0"] == number(want, xlen)
    assert hart.pc_value == BASE + 4


@pytest.mark.parametrize("xlen", [32, 64])
@pytest.mark.parametrize(("name", "a", "imm", "want"), [
    ("addi", 5, -6, -1), ("slti", -5, -4, 1), ("slti", -4, -4, 0), ("sltiu", 1, -1, 1), ("sltiu", -1, -1, 0),
    ("xori", 5, -1, -6), ("ori", 0xF0, 0x0F, 0xFF), ("andi", -1, -2048, -2048), ("andi", 0xFF, 0x0F, 0x0F),
])
def test_immediate_operations(xlen: int, name: str, a: int, imm: int, want: int) -> None:
    hart = Hart(xlen, a1=a)
    hart.do(name, rd="a0", rs1="a1", imm=imm)
    assert hart["a0"] == number(want, xlen)


@pytest.mark.parametrize(("xlen", "name", "a", "shamt", "want"), [
    (32, "slli", 1, 31, 1 << 31), (32, "srli", -1, 31, 1), (32, "srai", -8, 1, -4), (64, "slli", 1, 63, 1 << 63),
    (64, "srli", -1, 63, 1), (64, "srai", -1 << 40, 40, -1), (64, "slliw", 1, 31, -0x80000000),
    (64, "srliw", 0x80000000, 31, 1), (64, "sraiw", 0x80000000, 31, -1), (64, "srliw", 0x180000000, 0, -0x80000000),
])
def test_shifts_by_immediates(xlen: int, name: str, a: int, shamt: int, want: int) -> None:
    hart = Hart(xlen, a1=a)
    hart.do(name, rd="a0", rs1="a1", shamt=shamt)
    assert hart["a0"] == number(want, xlen)


def test_addiw_extends_the_low_word() -> None:
    hart = Hart(64, a1=0x1_7FFF_FFFF)
    hart.do("addiw", rd="a0", rs1="a1", imm=1)
    assert hart["a0"] == 0xFFFF_FFFF_8000_0000


@pytest.mark.parametrize(("xlen", "want"), [(32, 0x80000000), (64, 0xFFFFFFFF80000000)])
def test_upper_immediates(xlen: int, want: int) -> None:
    hart = Hart(xlen)
    hart.do("lui", rd="a0", upper=-0x80000000)
    hart.do("auipc", rd="a1", upper=0x1000)
    assert (hart["a0"], hart["a1"]) == (want, BASE + 4 + 0x1000)


@pytest.mark.parametrize("xlen", [32, 64])
def test_x0_stays_zero(xlen: int) -> None:
    hart = Hart(xlen, a1=7)
    hart.do("add", rd="zero", rs1="a1", rs2="a1")
    hart.do("add", rd="a0", rs1="zero", rs2="zero")
    assert (hart["zero"], hart["a0"]) == (0, 0)


@pytest.mark.parametrize("xlen", [32, 64])
@pytest.mark.parametrize(("name", "a", "b", "taken"), [
    ("beq", 1, 1, True), ("beq", 1, 2, False), ("bne", 1, 2, True), ("bne", 1, 1, False), ("blt", -1, 0, True),
    ("blt", 0, 0, False), ("bge", 0, 0, True), ("bge", -1, 0, False), ("bltu", 0, -1, True), ("bltu", -1, 0, False),
    ("bgeu", -1, 0, True), ("bgeu", 0, -1, False),
])
def test_branches(xlen: int, name: str, a: int, b: int, taken: bool) -> None:
    hart = Hart(xlen, a1=a, a2=b)
    hart.do(name, rs1="a1", rs2="a2", imm=-0x800)
    assert hart.pc_value == BASE + (-0x800 if taken else 4)


@pytest.mark.parametrize("xlen", [32, 64])
def test_jumps_link(xlen: int) -> None:
    hart = Hart(xlen)
    hart.do("jal", rd="ra", imm=0x100)
    assert (hart["ra"], hart.pc_value) == (BASE + 4, BASE + 0x100)
    hart["a0"] = BASE + 0x201
    hart.do("jalr", rd="a0", rs1="a0", imm=4)
    assert (hart["a0"], hart.pc_value) == (BASE + 0x104, BASE + 0x204)


@pytest.mark.parametrize(("xlen", "name", "want"), [
    *((x, *row) for x in (32, 64) for row in (
        ("lb", -0x78), ("lbu", 0x88), ("lh", -0x6678), ("lhu", 0x9988), ("lw", -0x44556678))),
    (64, "lwu", 0xBBAA9988), (64, "ld", 0x77665544BBAA9988),
])
def test_loads_extend(xlen: int, name: str, want: int) -> None:
    hart = Hart(xlen, a1=DATA + 8)
    hart.memory.store(DATA, 8, 0x77665544BBAA9988)
    hart.do(name, rd="a0", rs1="a1", imm=-8)
    assert hart["a0"] == number(want, xlen)


@pytest.mark.parametrize(("name", "size"), [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)])
def test_stores_take_the_low_bytes(name: str, size: int) -> None:
    hart = Hart(64, a0=0x1122334455667788, a1=DATA + 8)
    hart.do(name, rs1="a1", rs2="a0", imm=-8)
    assert hart.memory.load(DATA, 8) == 0x1122334455667788 & (1 << 8 * size) - 1


@pytest.mark.parametrize("xlen", [32, 64])
def test_misaligned_accesses_work(xlen: int) -> None:
    hart = Hart(xlen, a0=0xCAFEF00D, a1=DATA + 3)
    hart.do("sw", rs1="a1", rs2="a0", imm=0)
    hart.do("lw", rd="a2", rs1="a1", imm=0)
    assert hart["a2"] == number(0xCAFEF00D - (1 << 32), xlen)


@pytest.mark.parametrize(("name", "old", "arg", "new"), [
    ("amoswap", 5, 9, 9), ("amoadd", -1, 3, 2), ("amoxor", 12, 10, 6), ("amoand", 12, 10, 8), ("amoor", 12, 10, 14),
    ("amomin", -1, 1, -1), ("amomax", -1, 1, 1), ("amominu", -1, 1, 1), ("amomaxu", -1, 1, -1),
])
@pytest.mark.parametrize(("xlen", "size", "suffix"), [(32, 4, ".w"), (64, 4, ".w.aqrl"), (64, 8, ".d"), (64, 8, ".d.rl")])
def test_amos(xlen: int, size: int, suffix: str, name: str, old: int, arg: int, new: int) -> None:
    hart = Hart(xlen, a1=DATA, a2=arg)
    mask = (1 << 8 * size) - 1
    hart.memory.store(DATA, size, old & mask)
    hart.do(name + suffix, rd="a0", rs1="a1", rs2="a2")
    assert (hart["a0"], hart.memory.load(DATA, size)) == (number(old, xlen), new & mask)


@pytest.mark.parametrize(("xlen", "suffix"), [(32, ".w"), (64, ".w"), (64, ".d")])
def test_store_conditional(xlen: int, suffix: str) -> None:
    hart = Hart(xlen, a1=DATA, a2=77, a3=DATA + 8)
    hart.do("lr" + suffix, rd="a0", rs1="a1")
    hart.do("sc" + suffix, rd="a4", rs1="a1", rs2="a2")
    hart.do("sc" + suffix, rd="a5", rs1="a1", rs2="a3")
    assert (hart["a0"], hart["a4"], hart["a5"], hart.memory.load(DATA, 4)) == (0, 0, 1, 77)
    hart.do("lr" + suffix, rd="a0", rs1="a1")
    hart.do("sc" + suffix, rd="a4", rs1="a3", rs2="a2")
    assert (hart["a0"], hart["a4"], hart.memory.load(DATA + 8, 4)) == (77, 1, 0)


@pytest.mark.parametrize(("xlen", "name", "fields", "like", "plain"), [
    (64, "c.addi4spn", {"rd'": 8, "uimm": 1020}, "addi", {"rd": 8, "rs1": 2, "imm": 1020}),
    (64, "c.lw", {"rd'": 9, "rs1'": 10, "uimm": 124}, "lw", {"rd": 9, "rs1": 10, "imm": 124}),
    (64, "c.ld", {"rd'": 9, "rs1'": 10, "uimm": 248}, "ld", {"rd": 9, "rs1": 10, "imm": 248}),
    (32, "c.sw", {"rs2'": 9, "rs1'": 10, "uimm": 64}, "sw", {"rs2": 9, "rs1": 10, "imm": 64}),
    (64, "c.sd", {"rs2'": 9, "rs1'": 10, "uimm": 192}, "sd", {"rs2": 9, "rs1": 10, "imm": 192}),
    (32, "c.nop", {"imm": 0}, "addi", {"rd": 0, "rs1": 0, "imm": 0}),
    (32, "c.addi", {"rd": 5, "imm": -32}, "addi", {"rd": 5, "rs1": 5, "imm": -32}),
    (32, "c.jal", {"imm": -2048}, "jal", {"rd": 1, "imm": -2048}),
    (64, "c.addiw", {"rd": 5, "imm": 31}, "addiw", {"rd": 5, "rs1": 5, "imm": 31}),
    (64, "c.li", {"rd": 5, "imm": -1}, "addi", {"rd": 5, "rs1": 0, "imm": -1}),
    (64, "c.addi16sp", {"imm": -512}, "addi", {"rd": 2, "rs1": 2, "imm": -512}),
    (64, "c.lui", {"rd": 5, "upper": -0x20000}, "lui", {"rd": 5, "upper": -0x20000}),
    (64, "c.srli", {"rd'": 8, "shamt": 63}, "srli", {"rd": 8, "rs1": 8, "shamt": 63}),
    (32, "c.srai", {"rd'": 8, "shamt": 31}, "srai", {"rd": 8, "rs1": 8, "shamt": 31}),
    (32, "c.andi", {"rd'": 15, "imm": -32}, "andi", {"rd": 15, "rs1": 15, "imm": -32}),
    (32, "c.sub", {"rd'": 15, "rs2'": 14}, "sub", {"rd": 15, "rs1": 15, "rs2": 14}),
    (32, "c.xor", {"rd'": 15, "rs2'": 14}, "xor", {"rd": 15, "rs1": 15, "rs2": 14}),
    (32, "c.or", {"rd'": 15, "rs2'": 14}, "or", {"rd": 15, "rs1": 15, "rs2": 14}),
    (32, "c.and", {"rd'": 15, "rs2'": 14}, "and", {"rd": 15, "rs1": 15, "rs2": 14}),
    (64, "c.subw", {"rd'": 15, "rs2'": 14}, "subw", {"rd": 15, "rs1": 15, "rs2": 14}),
    (64, "c.addw", {"rd'": 15, "rs2'": 14}, "addw", {"rd": 15, "rs1": 15, "rs2": 14}),
    (64, "c.j", {"imm": 2046}, "jal", {"rd": 0, "imm": 2046}),
    (64, "c.beqz", {"rs1'": 11, "imm": -256}, "beq", {"rs1": 11, "rs2": 0, "imm": -256}),
    (64, "c.bnez", {"rs1'": 11, "imm": 254}, "bne", {"rs1": 11, "rs2": 0, "imm": 254}),
    (64, "c.slli", {"rd": 20, "shamt": 40}, "slli", {"rd": 20, "rs1": 20, "shamt": 40}),
    (64, "c.lwsp", {"rd": 20, "uimm": 252}, "lw", {"rd": 20, "rs1": 2, "imm": 252}),
    (64, "c.ldsp", {"rd": 20, "uimm": 504}, "ld", {"rd": 20, "rs1": 2, "imm": 504}),
    (64, "c.swsp", {"rs2": 20, "uimm": 252}, "sw", {"rs2": 20, "rs1": 2, "imm": 252}),
    (64, "c.sdsp", {"rs2": 20, "uimm": 504}, "sd", {"rs2": 20, "rs1": 2, "imm": 504}),
    (64, "c.jr", {"rs1": 20}, "jalr", {"rd": 0, "rs1": 20, "imm": 0}),
    (64, "c.jalr", {"rs1": 20}, "jalr", {"rd": 1, "rs1": 20, "imm": 0}),
    (64, "c.mv", {"rd": 20, "rs2": 21}, "add", {"rd": 20, "rs1": 0, "rs2": 21}),
    (64, "c.add", {"rd": 20, "rs2": 21}, "add", {"rd": 20, "rs1": 20, "rs2": 21}),
    (64, "c.ebreak", {}, "ebreak", {}),
])
def test_compressed_forms_expand(
    xlen: int, name: str, fields: dict[str, int], like: str, plain: dict[str, int],
) -> None:
    """A compressed instruction has the semantics and the operands of its expansion (§16.8)."""
    isa = Hart(xlen).isa
    short, long = (isa.word_at(isa.assemble(n, **f)) for n, f in ((name, fields), (like, plain)))
    a, b = isa.decode(*short), isa.decode(*long)
    assert a is not None and b is not None
    assert (short[1], a[0].name, a[0].semantics) == (2, name, b[0].semantics)
    assert a[1] == b[1]


def test_a_compressed_call_links_two_bytes_further() -> None:
    hart = Hart(64, s4=BASE + 0x100)
    hart.do("c.jalr", rs1="s4")
    assert (hart["ra"], hart.pc_value) == (BASE + 2, BASE + 0x100)

"""Traps, interrupts, WFI and CSRs of machine mode (Privileged ISA 1.12 §3.1), in the evaluator."""

from __future__ import annotations

import pytest

from ratite.core.isa.evaluator import Evaluator
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.isa import csr_table
from tests.targets.riscv.riscv_kit import BASE, DATA, HANDLER, SIZE, Hart

END = BASE + SIZE
BOTH = pytest.mark.parametrize("xlen", [32, 64])


@BOTH
@pytest.mark.parametrize(("name", "fields", "cause", "tval"), [
    ("ecall", {}, 11, 0), ("ebreak", {}, 3, BASE), ("c.ebreak", {}, 3, BASE),
    ("lw", {"rd": "a0", "rs1": "t0", "imm": 0}, 5, END), ("sw", {"rs2": "a0", "rs1": "t0", "imm": 0}, 7, END),
    ("lw", {"rd": "a0", "rs1": "t0", "imm": -2}, 5, END - 2), ("sw", {"rs2": "a0", "rs1": "t0", "imm": -2}, 7, END - 2),
    ("lr.w", {"rd": "a0", "rs1": "t1"}, 4, DATA + 2), ("sc.w", {"rd": "a0", "rs1": "t1", "rs2": "a0"}, 6, DATA + 2),
    ("amoadd.w", {"rd": "a0", "rs1": "t1", "rs2": "a0"}, 6, DATA + 2), ("lr.w", {"rd": "a0", "rs1": "t0"}, 5, END),
    ("amoadd.w", {"rd": "a0", "rs1": "t0", "rs2": "a0"}, 7, END),
])
def test_synchronous_traps(xlen: int, name: str, fields: dict[str, int | str], cause: int, tval: int) -> None:
    hart = Hart(xlen, t0=END, t1=DATA + 2, a0=0x5A, mstatus=0x1808)
    hart.do(name, **fields)
    assert hart.trap() == (cause, tval, BASE)
    assert hart["a0"] == 0x5A
    assert hart["mstatus"] == 0x1880
    assert (hart.executed, hart.traps) == (0, 1)


@BOTH
@pytest.mark.parametrize(("code", "tval"), [("0000", 0), ("ffffffff", 0xFFFFFFFF), ("0020", 0x2000), ("73002010", 0x10200073)])
def test_illegal_instructions(xlen: int, code: str, tval: int) -> None:
    hart = Hart(xlen)
    hart.put(bytes.fromhex(code))
    hart.step()
    assert hart.trap() == (2, tval, BASE)


@BOTH
def test_fetch_faults(xlen: int) -> None:
    hart = Hart(xlen, a0=END)
    hart.do("jalr", rd="zero", rs1="a0", imm=0)
    hart.step()
    assert hart.trap() == (1, END, END)
    hart = Hart(xlen)
    hart.pc_value = END - 2
    hart.put(b"\x13\x00", END - 2)  # half of a long instruction
    hart.step()
    assert hart.trap() == (1, END, END - 2)


def test_nothing_behind_the_vector_is_the_end() -> None:
    hart = Hart(64, mtvec=END)
    assert hart.do("ecall") == Evaluator.RAN
    assert hart.step() == Evaluator.PANIC


@BOTH
def test_without_c_jumps_must_be_aligned(xlen: int) -> None:
    hart = Hart(xlen, without="c", a0=BASE + 0x102, ra=5)
    hart.do("jalr", rd="ra", rs1="a0", imm=0)
    assert hart.trap() == (0, BASE + 0x102, BASE)
    hart.pc_value = BASE
    hart.do("jal", rd="ra", imm=6)
    assert hart.trap() == (0, BASE + 6, BASE)
    hart.pc_value = BASE
    hart.do("beq", rs1="zero", rs2="zero", imm=-2)
    assert hart.trap() == (0, BASE - 2, BASE)
    assert hart["ra"] == 5
    hart.pc_value = BASE
    hart.do("bne", rs1="zero", rs2="zero", imm=-2)
    assert hart.pc_value == BASE + 4


@BOTH
def test_interrupts_by_priority(xlen: int) -> None:
    top = 1 << xlen - 1
    for lines, mie, cause in ((0x888, 0x888, 11), (0x088, 0x888, 3), (0x080, 0x888, 7), (0x888, 0x080, 7), (0x888, 0x088, 3)):
        hart = Hart(xlen, mstatus=0x1808, mie=mie)
        hart.irq_lines = lines
        hart.step()
        assert hart.trap() == (top | cause, 0, BASE)
        assert hart["mstatus"] == 0x1880


@BOTH
def test_interrupts_are_masked(xlen: int) -> None:
    for status, mie, lines in ((0x1800, 0x888, 0x888), (0x1808, 0x800, 0x088), (0x1808, 0x888, 0x10)):
        hart = Hart(xlen, mstatus=status, mie=mie)
        hart.irq_lines = lines
        hart.do("addi", rd="a0", rs1="zero", imm=1)
        assert (hart.traps, hart["a0"]) == (0, 1)


@BOTH
def test_vectored_interrupts(xlen: int) -> None:
    hart = Hart(xlen, mtvec=HANDLER + 1, mstatus=0x1808, mie=0x80)
    hart.irq_lines = 0x80
    hart.step()
    assert hart.pc_value == HANDLER + 4 * 7
    hart.do("ecall")
    assert hart.pc_value == HANDLER


@BOTH
def test_mret(xlen: int) -> None:
    hart = Hart(xlen, mstatus=0x1880, mepc=BASE + 0x100)
    hart.do("mret")
    assert (hart.pc_value, hart["mstatus"]) == (BASE + 0x100, 0x1888)
    hart["mstatus"] = 0x1808
    hart.do("mret")
    assert hart["mstatus"] == 0x1880


@BOTH
def test_wfi_sleeps_until_an_enabled_line(xlen: int) -> None:
    """mstatus.MIE does not matter to waking (§3.3.3)."""
    hart = Hart(xlen, mstatus=0x1800, mie=0x80)
    assert hart.do("wfi") == Evaluator.HALTED
    assert (hart.pc_value, hart.wakes()) == (BASE + 4, False)
    hart.irq_lines = 0x800
    assert not hart.wakes()
    hart.irq_lines = 0x80
    assert hart.wakes()


def test_a_trap_ends_a_reservation() -> None:
    hart = Hart(64, a1=DATA, mepc=BASE)
    hart.do("lr.w", rd="a0", rs1="a1")
    hart.do("ecall")
    hart.do("sc.w", rd="a0", rs1="a1", rs2="zero")
    assert hart["a0"] == 1


# -- CSRs

ONES = -1
WARL = [
    (0x300, ONES, 0x1888), (0x300, 0, 0x1800), (0x304, ONES, 0x888), (0x305, ONES, -3), (0x305, 0x8000_0001, 0x8000_0001),
    (0x340, ONES, ONES), (0x341, ONES, -2), (0x342, ONES, ONES), (0x343, ONES, ONES), (0x344, ONES, 0), (0x320, ONES, 5),
    (0xB03, ONES, 0), (0xB1F, ONES, 0), (0x323, ONES, 0), (0x33F, ONES, 0),
]


@BOTH
@pytest.mark.parametrize(("number", "value", "want"), WARL)
def test_what_registers_keep(xlen: int, number: int, value: int, want: int) -> None:
    hart = Hart(xlen, a1=value)
    hart.do("csrrw", rd="zero", csr=number, rs1="a1")
    hart.do("csrrs", rd="a0", csr=number, rs1="zero")
    assert (hart["a0"], hart.traps) == (want & hart.mask, 0)


@BOTH
def test_set_and_clear(xlen: int) -> None:
    hart = Hart(xlen, mscratch=0b1100, a1=0b1010)
    hart.do("csrrs", rd="a0", csr=0x340, rs1="a1")
    assert (hart["a0"], hart["mscratch"]) == (0b1100, 0b1110)
    hart.do("csrrc", rd="a1", csr=0x340, rs1="a1")
    assert (hart["a1"], hart["mscratch"]) == (0b1110, 0b0100)
    hart.do("csrrsi", rd="a0", csr=0x340, zimm=3)
    hart.do("csrrci", rd="a0", csr=0x340, zimm=4)
    hart.do("csrrwi", rd="a2", csr=0x340, zimm=31)
    assert (hart["a0"], hart["a2"], hart["mscratch"]) == (0b0111, 0b0011, 31)


@BOTH
def test_identity_registers(xlen: int) -> None:
    hart = Hart(xlen, mhartid=3)
    misa = (xlen // 32) << xlen - 2 | 0x1105
    for number, want in ((0x301, misa), (0xF11, 0), (0xF12, 0), (0xF13, 0), (0xF14, 3), (0xF15, 0)):
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart["a0"] == want
    plain = Hart(xlen, without="mac")
    plain.do("csrrci", rd="a0", csr=0x301, zimm=0)
    assert plain["a0"] == (xlen // 32) << xlen - 2 | 0x100


@BOTH
@pytest.mark.parametrize(("name", "fields"), [
    ("csrrw", {"csr": 0xF14, "rs1": 0}), ("csrrs", {"csr": 0xF14, "rs1": 5}), ("csrrci", {"csr": 0xC00, "zimm": 1}),
    ("csrrs", {"csr": 0x180, "rs1": 0}), ("csrrs", {"csr": 0xC01, "rs1": 0}), ("csrrw", {"csr": 0x3A0, "rs1": 0}),
    ("csrrs", {"csr": 0x306, "rs1": 0}), ("csrrs", {"csr": 0x321, "rs1": 0}), ("csrrs", {"csr": 0xB01, "rs1": 0}),
    ("csrrwi", {"csr": 0xFFF, "zimm": 31}),
])
@pytest.mark.parametrize("rd", [0, 10])
def test_illegal_csr_use(xlen: int, name: str, fields: dict[str, int | str], rd: int) -> None:
    hart = Hart(xlen, a0=7)
    hart.do(name, rd=rd, **fields)
    assert hart.trap() == (2, int.from_bytes(hart.asm(name, rd=rd, **fields), "little"), BASE)
    assert hart["a0"] == 7


def test_halves_exist_on_rv32_alone() -> None:
    wide, narrow = csr_table(Features({"word-size": 64})), csr_table(Features({"word-size": 32}))
    assert set(narrow) - set(wide) == {0x310, 0xB80, 0xB82, 0xC80, 0xC82}
    hart = Hart(64)
    hart.do("csrrs", rd="a0", csr=0xB83, rs1="zero")
    assert hart.trap()[0] == 2


@BOTH
def test_counters_count_instructions(xlen: int) -> None:
    hart = Hart(xlen)
    for number in (0xB00, 0xB02, 0xC00, 0xC02):
        before = hart.executed
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart["a0"] == before
    hart["a1"] = 1000
    hart.do("csrrw", rd="zero", csr=0xB02, rs1="a1")
    hart.do("csrrs", rd="a0", csr=0xB02, rs1="zero")
    hart.do("csrrs", rd="a2", csr=0xC02, rs1="zero")
    hart.do("csrrs", rd="a3", csr=0xB00, rs1="zero")
    assert (hart["a0"], hart["a2"], hart["a3"]) == (1000, 1001, hart.executed - 1)


def test_halves_of_a_counter() -> None:
    hart = Hart(32, a1=0xFFFFFFFF, a2=5)
    hart.do("csrrw", rd="zero", csr=0xB80, rs1="a2")
    hart.do("csrrw", rd="zero", csr=0xB00, rs1="a1")
    hart.do("csrrs", rd="a3", csr=0xB80, rs1="zero")
    hart.do("csrrs", rd="a4", csr=0xB80, rs1="zero")
    hart.do("csrrs", rd="a5", csr=0xC00, rs1="zero")
    assert (hart["a3"], hart["a4"], hart["a5"]) == (5, 6, 1)


@BOTH
def test_inhibited_counters_stand(xlen: int) -> None:
    hart = Hart(xlen, a1=40)
    hart.do("csrrwi", rd="zero", csr=0x320, zimm=4)
    hart.do("csrrw", rd="zero", csr=0xB02, rs1="a1")
    hart.do("addi", rd="zero", rs1="zero", imm=0)
    hart.do("csrrs", rd="a0", csr=0xB02, rs1="zero")
    assert hart["a0"] == 40
    hart.do("csrrwi", rd="zero", csr=0x320, zimm=0)
    hart.do("addi", rd="zero", rs1="zero", imm=0)
    hart.do("csrrs", rd="a0", csr=0xB02, rs1="zero")
    hart.do("csrrs", rd="a2", csr=0xB00, rs1="zero")
    assert (hart["a0"], hart["a2"]) == (41, hart.executed - 1)

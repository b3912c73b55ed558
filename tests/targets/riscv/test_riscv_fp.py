"""F and D: mstatus.FS, fcsr, NaN boxing, classes, encodings (RISC-V Unprivileged ISA 20191213 chapters 11, 12)."""

from __future__ import annotations

from functools import cache

import pytest

from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.isa import Isa
from ratite.targets.riscv.isa import build
from tests.targets.riscv.riscv_kit import BASE, HANDLER, Memory

BOX = 0xFFFFFFFF << 32
NAN32, NAN64, ONE32, ONE64 = 0x7FC00000, 0x7FF8000000000000, 0x3F800000, 0x3FF0000000000000
OFF, INITIAL, CLEAN, DIRTY = 0, 1 << 13, 2 << 13, 3 << 13


@cache
def isa_of(xlen: int, d: bool = True) -> Isa:
    return build({"word-size": xlen, "f": True, "d": d})


class Hart(Evaluator):
    """A hart with F and, unless told, D; registers f and x by index."""

    memory: Memory

    def __init__(self, xlen: int = 64, d: bool = True, fs: int = DIRTY) -> None:
        super().__init__(isa_of(xlen, d), Memory())
        self.pc_value = BASE
        self.state["mtvec"] = [HANDLER]
        self.state["mstatus"] = [fs | 3 << 11]
        self.f, self.x = self.state["f"], self.state["x"]

    def do(self, name: str, **fields: int) -> None:
        code = self.isa.assemble(name, **fields)
        at = self.pc_value - BASE
        self.memory.ram[at:at + len(code)] = code
        self.step()

    @property
    def status(self) -> int:
        return self.state["mstatus"][0]

    @property
    def illegal(self) -> bool:
        return self.pc_value == HANDLER and self.state["mcause"][0] == 2


WRITERS = [("fadd.s", {"fd": 1, "fs1": 2, "fs2": 3, "rm": 7}), ("fsgnj.d", {"fd": 1, "fs1": 2, "fs2": 3}),
           ("fld", {"fd": 1, "rs1": 10, "imm": 0}), ("fmv.w.x", {"fd": 1, "rs1": 0}),
           ("fcvt.w.d", {"rd": 1, "fs1": 1, "rm": 1}),
           ("feq.s", {"rd": 1, "fs1": 1, "fs2": 1}), ("csrrw", {"rd": 0, "csr": 1, "rs1": 0})]
READERS = [("fsd", {"fs2": 1, "rs1": 10, "imm": 0}), ("fmv.x.w", {"rd": 1, "fs1": 1}), ("fclass.d", {"rd": 1, "fs1": 1}),
           ("csrrs", {"rd": 1, "csr": 3, "rs1": 0})]


@pytest.mark.parametrize(("name", "fields"), WRITERS + READERS)
def test_everything_is_illegal_while_fs_is_off(name: str, fields: dict[str, int]) -> None:
    """Privileged 1.12 §3.1.6.6."""
    hart = Hart(fs=OFF)
    hart.x[10] = BASE + 0x1000
    hart.do(name, **fields)
    assert hart.illegal and hart.status & DIRTY == OFF


@pytest.mark.parametrize("fs", [INITIAL, CLEAN])
@pytest.mark.parametrize(("name", "fields"), WRITERS)
def test_what_writes_makes_the_state_dirty(name: str, fields: dict[str, int], fs: int) -> None:
    hart = Hart(fs=fs)
    hart.x[10] = BASE + 0x1000
    hart.do(name, **fields)
    assert hart.status & (DIRTY | 1 << 63) == DIRTY | 1 << 63


@pytest.mark.parametrize(("name", "fields"), READERS)
def test_what_reads_does_not(name: str, fields: dict[str, int]) -> None:
    hart = Hart(fs=CLEAN)
    hart.x[10] = BASE + 0x1000
    hart.do(name, **fields)
    assert not hart.illegal and hart.status & DIRTY == CLEAN


def test_fcsr_is_made_of_frm_and_fflags() -> None:
    """§11.2, figure 11.2."""
    hart = Hart()
    hart.x[5] = 0xFFF
    hart.do("csrrw", rd=0, csr=3, rs1=5)
    hart.do("csrrs", rd=6, csr=3, rs1=0)
    hart.do("csrrs", rd=7, csr=2, rs1=0)
    hart.do("csrrci", rd=8, csr=1, zimm=3)
    hart.do("csrrs", rd=9, csr=3, rs1=0)
    assert hart.x[6:10] == [0xFF, 7, 0x1F, 0xFC]


@pytest.mark.parametrize("frm", [5, 6, 7])
def test_a_reserved_dynamic_mode_is_illegal(frm: int) -> None:
    """§11.2, table 11.1."""
    hart = Hart()
    hart.state["frm"] = [frm]
    hart.do("fsqrt.d", fd=1, fs1=2, rm=7)
    assert hart.illegal
    static = Hart()
    static.state["frm"] = [frm]
    static.do("fsqrt.d", fd=1, fs1=2, rm=0)
    assert not static.illegal


@pytest.mark.parametrize("rm", [5, 6])
def test_a_reserved_static_mode_is_no_instruction(rm: int) -> None:
    word = int.from_bytes(isa_of(64).assemble("fadd.d", fd=1, fs1=2, fs2=3, rm=7), "little")
    assert isa_of(64).decode(word & ~(7 << 12) | rm << 12, 4) is None


def test_boxing() -> None:
    """§12.2."""
    hart = Hart()
    hart.f[2], hart.f[3] = BOX | ONE32, ONE32  # the second is not boxed: the canonical NaN
    hart.do("fadd.s", fd=1, fs1=2, fs2=2, rm=7)
    hart.do("fadd.s", fd=4, fs1=2, fs2=3, rm=7)
    hart.do("fsgnjn.s", fd=5, fs1=3, fs2=2)
    hart.do("fmv.x.w", rd=6, fs1=3)
    hart.do("fmv.w.x", fd=7, rs1=6)
    assert (hart.f[1], hart.f[4], hart.f[5]) == (BOX | 0x40000000, BOX | NAN32, BOX | NAN32 | 1 << 31)
    assert (hart.x[6], hart.f[7]) == (ONE32, BOX | ONE32)
    single = Hart(d=False)
    single.f[2] = ONE32
    single.do("fadd.s", fd=0, fs1=2, fs2=2, rm=7)
    assert single.f[0] == 0x40000000


CLASSES = [0xFFF0000000000000, 0xC000000000000000, 0x8000000000000001, 1 << 63, 0, 1, ONE64, 0x7FF0000000000000,
           0x7FF0000000000001, NAN64]


@pytest.mark.parametrize(("bit", "value"), list(enumerate(CLASSES)))
@pytest.mark.parametrize("xlen", [32, 64])
def test_classes(bit: int, value: int, xlen: int) -> None:
    """§11.9, table 11.5."""
    hart = Hart(xlen)
    hart.f[1] = value
    hart.do("fclass.d", rd=5, fs1=1)
    assert hart.x[5] == 1 << bit


EXTREMES = [  # §11.6: name, operands, result, flags
    ("fmin.d", 0, 1 << 63, 1 << 63, 0), ("fmax.d", 1 << 63, 0, 0, 0), ("fmin.d", NAN64, ONE64, ONE64, 0),
    ("fmin.d", 0x7FF0000000000001, ONE64, ONE64, 16), ("fmax.d", NAN64 | 1, NAN64 | 2, NAN64, 0),
    ("fmin.d", 0xC000000000000000, ONE64, 0xC000000000000000, 0), ("fmax.d", 0xC000000000000000, 0xC010000000000000,
                                                                   0xC000000000000000, 0),
]


@pytest.mark.parametrize(("name", "a", "b", "result", "flags"), EXTREMES)
def test_minimum_and_maximum(name: str, a: int, b: int, result: int, flags: int) -> None:
    hart = Hart()
    hart.f[1], hart.f[2] = a, b
    hart.do(name, fd=3, fs1=1, fs2=2)
    assert (hart.f[3], hart.state["fflags"][0]) == (result, flags)


def test_infinity_times_zero_is_invalid_whatever_is_added() -> None:
    """§11.6."""
    hart = Hart()
    hart.f[1], hart.f[2], hart.f[3] = 0x7FF0000000000000, 0, NAN64
    hart.do("fmadd.d", fd=4, fs1=1, fs2=2, fs3=3, rm=7)
    assert (hart.f[4], hart.state["fflags"][0]) == (NAN64, 16)


INTEGERS = [  # table 11.4: name, value, result, flags
    ("fcvt.w.d", NAN64, 0x7FFFFFFF, 16), ("fcvt.wu.d", NAN64, 0xFFFFFFFFFFFFFFFF, 16), ("fcvt.lu.d", NAN64, (1 << 64) - 1, 16),
    ("fcvt.wu.d", 0xBFE0000000000000, 0, 1), ("fcvt.wu.d", 0xBFF0000000000000, 0, 16),
    ("fcvt.w.d", 0xC1E0000000000000, 0xFFFFFFFF80000000, 0), ("fcvt.w.d", 0x41E0000000000000, 0x7FFFFFFF, 16),
    ("fcvt.wu.d", 0x41EFFFFFFFE00000, 0xFFFFFFFFFFFFFFFF, 0), ("fcvt.l.d", 0xFFF0000000000000, 1 << 63, 16),
]


@pytest.mark.parametrize(("name", "value", "result", "flags"), INTEGERS)
def test_conversions_to_integers(name: str, value: int, result: int, flags: int) -> None:
    hart = Hart()
    hart.f[1] = value
    hart.do(name, rd=5, fs1=1, rm=1)
    assert (hart.x[5], hart.state["fflags"][0]) == (result, flags)


@pytest.mark.parametrize(("xlen", "word", "text"), [
    (64, 0x02A5F553, "fadd.d\tfa0, fa1, fa0, dyn"), (64, 0xC2051553, "fcvt.w.d\ta0, fa0, rtz"),
    (64, 0x6AC5F543, "fmadd.d\tfa0, fa1, fa2, fa3, dyn"), (64, 0xA2B52553, "feq.d\ta0, fa0, fa1"),
    (32, 0x00852507, "flw\tfa0, 8(a0)"), (64, 0x00A53427, "fsd\tfa0, 8(a0)"),
])
def test_text(xlen: int, word: int, text: str) -> None:
    assert isa_of(xlen).disassemble_word(word, 4, 0) == text


@pytest.mark.parametrize(("xlen", "d", "word", "like"), [
    (64, True, 0x2108, "fld"), (64, True, 0xA108, "fsd"), (64, True, 0x2502, "fld"), (64, True, 0xA02A, "fsd"),
    (32, True, 0x6108, "flw"), (32, True, 0xE108, "fsw"), (32, False, 0x6502, "flw"), (32, False, 0xE02A, "fsw"),
    (32, False, 0x2108, None), (64, False, 0x2108, None), (64, False, 0x6108, "ld"),
])
def test_compressed(xlen: int, d: bool, word: int, like: str | None) -> None:
    """§16.8."""
    found = isa_of(xlen, d).decode(word, 2)
    assert (found[0].like if found else None) == like


def test_an_extension_that_lacks_another_is_refused() -> None:
    with pytest.raises(ValueError, match="extension 'd' needs 'f'"):
        build({"word-size": 64, "d": True})

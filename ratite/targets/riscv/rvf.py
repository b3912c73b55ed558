"""F: single-precision floating point (RISC-V Unprivileged ISA 20191213 chapter 11), and what D shares with it.

Arithmetic goes the host's way while FS is Dirty and the instruction's rounding mode is the dynamic one, and that is not
RMM; anything else is sorted out aside: FS Off or a reserved mode is an illegal instruction (§11.2; Privileged 1.12
§3.1.6.6), FS becomes Dirty, a mode of the instruction's own is used. With D, f registers are 64 bits wide and hold a single
NaN-boxed; one that is not boxed counts as the canonical NaN (§12.2).
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.fp import FORMATS, NV, RMM, RNE, RTZ, FpContext
from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.operands import Operands
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import FS, Csr, fs_dirty, require_fp

#: ABI names of f0…f31 (§25)
F_NAMES = (*(f"ft{n}" for n in range(8)), "fs0", "fs1", *(f"fa{n}" for n in range(8)), *(f"fs{n}" for n in range(2, 12)),
           *(f"ft{n}" for n in range(8, 12)))

_DYN = 7  # the rounding mode field of an instruction that takes frm's


# -- state
def fp_context() -> FpContext:
    """NaN results are the canonical NaN (§11.3), tininess is found after rounding (§11.2), a NaN becomes the largest
    integer (table 11.4)."""
    return FpContext(rounding="frm", flags="fflags")


def fp_state(flen: int) -> list[StateField]:
    """f registers of ``flen`` bits and the parts of fcsr."""
    return [
        StateField("f", flen, 32, names=F_NAMES, text="floating-point register"),
        StateField("frm", 8, text="dynamic rounding mode"),
        StateField("fflags", 8, text="accrued exceptions"),
    ]


def _off(e: Emitter) -> V:
    return (e.get("mstatus") & FS).eq(0)


def fp_csrs() -> list[Csr]:
    """fflags, frm and fcsr (§11.2)."""

    def set_flags(e: Emitter, value: V) -> None:
        fs_dirty(e)
        e.set_fp_flags(value.trunc(8) & 31)

    def set_rounding(e: Emitter, value: V) -> None:
        fs_dirty(e)
        e.set("frm", value.trunc(8) & 7)
        e.fp_rounding_changed()

    def set_both(e: Emitter, value: V) -> None:
        set_rounding(e, value >> 5)
        set_flags(e, value)

    return [
        Csr(1, "fflags", lambda e: e.fp_flags().zext(e.word), set_flags, guard=_off),
        Csr(2, "frm", lambda e: e.get("frm").zext(e.word), set_rounding, guard=_off),
        Csr(3, "fcsr", lambda e: (e.get("frm").zext(e.word) << 5) | e.fp_flags().zext(e.word), set_both, guard=_off),
    ]


# -- registers
def read(e: Emitter, width: int, index: V) -> V:
    """An f register's value of ``width`` bits; one that is not boxed right is the canonical NaN."""
    whole = e.reg("f", index)
    if whole.width == width:
        return whole
    return e.select((whole >> 32).eq(0xFFFFFFFF), whole.trunc(32), e.const(0x7FC00000, 32))


def low(e: Emitter, width: int, index: V) -> V:
    """The low bits of an f register, boxed or not: what stores and moves take."""
    return e.reg("f", index).trunc(width)


def write(e: Emitter, index: V, value: V) -> None:
    """A value into an f register, boxed."""
    flen = e.isa.layout["f"].width
    e.set_reg("f", index, value if value.width == flen else value.zext(64) | 0xFFFFFFFF << 32)


# -- mstatus.FS and rounding modes
def dirty(e: Emitter) -> None:
    """What an instruction does first that writes an f register or may raise a flag."""

    def aside() -> None:
        require_fp(e)
        fs_dirty(e)

    e.likely((e.get("mstatus") & FS).eq(FS), lambda: None, aside)


def rounded(e: Emitter, i: Operands, body: Callable[[V | int | None], object], *, truncates: bool = False) -> None:
    """Runs ``body`` with the rounding mode. ``truncates``: RTZ gets a way of its own, compilers use it."""
    rm, frm = i.rm.trunc(8), e.get("frm")
    ready = (e.get("mstatus") & FS).eq(FS)

    def aside() -> None:
        mode = e.select(rm.eq(_DYN), frm, rm)
        require_fp(e)
        e.if_(mode.ugt(RMM), lambda: e.routine("trap", 2, 0))
        fs_dirty(e)
        body(mode)

    def otherwise() -> None:
        own = ready & frm.ult(RMM) & (rm.eq(_DYN) | rm.eq(frm))
        choose = e.if_ if rm.known and rm.ref not in (_DYN, RNE) else e.likely
        choose(own, lambda: body(None), aside)

    if truncates:
        truncating = rm.eq(RTZ)
        choose = e.likely if truncating.known and truncating.ref else e.if_
        choose(ready & truncating, lambda: body(RTZ), otherwise)
    else:
        otherwise()


# -- instructions, each for both widths
def declare(isa: Isa) -> None:
    """RV32F, and with 64-bit words RV64F."""
    load(isa, "flw", "010", 4)
    store(isa, "fsw", "010", 4)
    arithmetic(isa, ".s", "00", 32)
    comparisons(isa, ".s", "00", 32)
    integers(isa, ".s", "00", 32)
    moves(isa, ".w", "00", 32)


def load(isa: Isa, name: str, funct3: str, size: int) -> None:
    @isa.insn(name, f"imm[11:0] rs1 {funct3} fd 0000111", "{rd}, {imm}({rs1})")
    def semantics(e: Emitter, i: Operands) -> None:
        def body() -> None:
            write(e, i.rd, e.load(e.reg("x", i.rs1) + i.imm, size))

        def aside() -> None:
            require_fp(e)
            value = e.load(e.reg("x", i.rs1) + i.imm, size)  # before anything changes: it may fail
            fs_dirty(e)
            write(e, i.rd, value)

        e.likely((e.get("mstatus") & FS).eq(FS), body, aside)


def store(isa: Isa, name: str, funct3: str, size: int) -> None:
    @isa.insn(name, f"imm[11:5] fs2 rs1 {funct3} imm[4:0] 0100111", "{rs2}, {imm}({rs1})")
    def semantics(e: Emitter, i: Operands) -> None:
        require_fp(e)
        e.store(e.reg("x", i.rs1) + i.imm, low(e, 8 * size, i.rs2))


def _operation(op: str, width: int) -> Semantics:
    def semantics(e: Emitter, i: Operands) -> None:
        values = [read(e, width, i.rs1)] if op == "sqrt" else [read(e, width, n) for n in (i.rs1, i.rs2)]
        rounded(e, i, lambda mode: write(e, i.rd, e.fp(op, width, *values, rounding=mode)))

    return semantics


def _fused(width: int, negate_product: bool, negate_addend: bool) -> Semantics:
    def semantics(e: Emitter, i: Operands) -> None:
        sign = 1 << width - 1
        a, b, c = (read(e, width, n) for n in (i.rs1, i.rs2, i.rs3))
        a, c = a ^ sign if negate_product else a, c ^ sign if negate_addend else c
        rounded(e, i, lambda mode: write(e, i.rd, e.fp("fma", width, a, b, c, rounding=mode)))

    return semantics


def arithmetic(isa: Isa, suffix: str, fmt: str, width: int) -> None:
    """§11.6: what rounds, and sign injection, minimum and maximum."""
    for name, funct5 in (("add", "00000"), ("sub", "00001"), ("mul", "00010"), ("div", "00011")):
        isa.insn("f" + name + suffix, f"{funct5} {fmt} fs2 fs1 rm fd 1010011", "{rd}, {rs1}, {rs2}, {rm}", where=_some_mode)(
            _operation(name, width))
    isa.insn("fsqrt" + suffix, f"01011 {fmt} 00000 fs1 rm fd 1010011", "{rd}, {rs1}, {rm}", where=_some_mode)(
        _operation("sqrt", width))
    for name, opcode, product, addend in (
        ("fmadd", "1000011", False, False), ("fmsub", "1000111", False, True),
        ("fnmsub", "1001011", True, False), ("fnmadd", "1001111", True, True),
    ):
        isa.insn(name + suffix, f"fs3 {fmt} fs2 fs1 rm fd {opcode}", "{rd}, {rs1}, {rs2}, {rs3}, {rm}", where=_some_mode)(
            _fused(width, product, addend))
    sign = 1 << width - 1
    for name, funct3, inject in (
        ("fsgnj", "000", lambda a, b: a & sign - 1 | b & sign), ("fsgnjn", "001", lambda a, b: a & sign - 1 | ~b & sign),
        ("fsgnjx", "010", lambda a, b: a ^ b & sign),
    ):
        _plain(isa, name + suffix, f"00100 {fmt} fs2 fs1 {funct3} fd 1010011", width, inject)
    _plain(isa, "fmin" + suffix, f"00101 {fmt} fs2 fs1 000 fd 1010011", width, lambda a, b: _extreme(a, b, False))
    _plain(isa, "fmax" + suffix, f"00101 {fmt} fs2 fs1 001 fd 1010011", width, lambda a, b: _extreme(a, b, True))


def _some_mode(i: Operands) -> V:
    return i.rm.ule(RMM) | i.rm.eq(_DYN)


def _plain(isa: Isa, name: str, pattern: str, width: int, op: Callable[[V, V], V]) -> None:
    @isa.insn(name, pattern, "{rd}, {rs1}, {rs2}")
    def semantics(e: Emitter, i: Operands) -> None:
        dirty(e)
        write(e, i.rd, op(read(e, width, i.rs1), read(e, width, i.rs2)))


def is_nan(a: V) -> V:
    f = FORMATS[a.width]
    return (a & f.sign - 1).ugt(f.infinity)


def is_signaling(a: V) -> V:
    return is_nan(a) & (a & FORMATS[a.width].quiet).eq(0)


def _extreme(a: V, b: V, largest: bool) -> V:
    """minimumNumber or maximumNumber (§11.6); -0 is less than +0."""
    e = a.e
    e.if_(is_signaling(a) | is_signaling(b), lambda: e.fp_raise(NV))
    left, right = (n ^ n.sar(n.width - 1) >> 1 for n in (a, b))  # in the order of two's complement numbers
    first = right.slt(left) if largest else left.slt(right)
    number = e.select(is_nan(a) | ~is_nan(b) & ~first, b, a)
    return e.select(is_nan(a) & is_nan(b), FORMATS[a.width].infinity | FORMATS[a.width].quiet, number)


def comparisons(isa: Isa, suffix: str, fmt: str, width: int) -> None:
    """§11.8; feq is quiet, flt and fle signal."""

    def declare_one(name: str, funct3: str, predicate: str, signaling: bool) -> None:
        @isa.insn(name + suffix, f"10100 {fmt} fs2 fs1 {funct3} rd 1010011", "{rd}, {rs1}, {rs2}")
        def semantics(e: Emitter, i: Operands) -> None:
            dirty(e)
            a, b = read(e, width, i.rs1), read(e, width, i.rs2)
            e.set_reg("x", i.rd, e.fp_compare(predicate, width, a, b, signaling).zext(e.word))

    declare_one("feq", "010", "eq", False)
    declare_one("flt", "001", "lt", True)
    declare_one("fle", "000", "le", True)

    @isa.insn("fclass" + suffix, f"11100 {fmt} 00000 fs1 001 rd 1010011", "{rd}, {rs1}")
    def fclass(e: Emitter, i: Operands) -> None:
        require_fp(e)
        e.set_reg("x", i.rd, _class(read(e, width, i.rs1)).trunc(32).zext(e.word))


def _class(a: V) -> V:
    """§11.9: one of ten bits."""
    e, f = a.e, FORMATS[a.width]
    size, negative = a & f.sign - 1, (a & f.sign).ne(0)
    kind = e.const(1, a.width)  # infinite, then down to 0, for a negative number; a positive one mirrored
    for limit, bit in ((f.infinity, 1), (1 << f.p - 1, 2), (1, 3)):
        kind = e.select(size.ult(limit), 1 << bit, kind)
    mirror = e.const(1 << 7, a.width)
    for limit, bit in ((f.infinity, 6), (1 << f.p - 1, 5), (1, 4)):
        mirror = e.select(size.ult(limit), 1 << bit, mirror)
    nan = e.select(is_signaling(a), e.const(1 << 8, a.width), 1 << 9)
    return e.select(is_nan(a), nan, e.select(negative, kind, mirror))


def integers(isa: Isa, suffix: str, fmt: str, width: int) -> None:
    """§11.7: conversions from and to integers; a result of 32 bits is sign-extended."""

    def declare_pair(letter: str, code: str, bits: int, signed: bool) -> None:
        @isa.insn(f"fcvt.{letter}{suffix}", f"11000 {fmt} {code} fs1 rm rd 1010011", "{rd}, {rs1}, {rm}", where=_some_mode)
        def to_int(e: Emitter, i: Operands) -> None:
            a = read(e, width, i.rs1)
            rounded(e, i, lambda mode: e.set_reg("x", i.rd, e.fp_to_int(width, a, bits, signed, mode).sext(e.word)),
                    truncates=True)

        @isa.insn(f"fcvt{suffix}.{letter}", f"11010 {fmt} {code} rs1 rm fd 1010011", "{rd}, {rs1}, {rm}", where=_some_mode)
        def from_int(e: Emitter, i: Operands) -> None:
            a = e.reg("x", i.rs1).trunc(bits)
            rounded(e, i, lambda mode: write(e, i.rd, e.fp_from_int(width, a, signed, mode)))

    declare_pair("w", "00000", 32, True)
    declare_pair("wu", "00001", 32, False)
    if isa.word == 64:
        declare_pair("l", "00010", 64, True)
        declare_pair("lu", "00011", 64, False)


def moves(isa: Isa, suffix: str, fmt: str, width: int) -> None:
    """§11.7: bits between f and x registers."""

    @isa.insn(f"fmv.x{suffix}", f"11100 {fmt} 00000 fs1 000 rd 1010011", "{rd}, {rs1}")
    def out(e: Emitter, i: Operands) -> None:
        require_fp(e)
        e.set_reg("x", i.rd, low(e, width, i.rs1).sext(e.word))

    @isa.insn(f"fmv{suffix}.x", f"11110 {fmt} 00000 rs1 000 fd 1010011", "{rd}, {rs1}")
    def into(e: Emitter, i: Operands) -> None:
        dirty(e)
        write(e, i.rd, e.reg("x", i.rs1).trunc(width))

"""RV32I and RV64I (RISC-V Unprivileged ISA 20191213 chapters 2 and 5). Reserved fields of fence are ignored (§2.7)."""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import privilege
from ratite.targets.riscv.traps import BREAKPOINT, ECALL_U, FETCH_MISALIGNED

Op = Callable[[V, V], V]


def declare(isa: Isa) -> None:
    """All of it, as the word size has it."""
    _upper(isa)
    _jumps(isa)
    _branches(isa)
    _loads_stores(isa)
    _immediates(isa)
    _registers(isa)
    _system(isa)
    if isa.word == 64:
        _words(isa)


def rs1(e: Emitter, i: Operands) -> V:
    return e.reg("x", i.rs1)


def rs2(e: Emitter, i: Operands) -> V:
    return e.reg("x", i.rs2)


def _upper(isa: Isa) -> None:
    @isa.insn("lui", "upper[31:12] rd 0110111", "{rd}, {imm}")
    def lui(e: Emitter, i: Operands) -> None:
        e.set_reg("x", i.rd, i.imm)

    @isa.insn("auipc", "upper[31:12] rd 0010111", "{rd}, {imm}")
    def auipc(e: Emitter, i: Operands) -> None:
        e.set_reg("x", i.rd, e.pc() + i.imm)


def check_target(e: Emitter, target: V) -> None:
    """Without C a jump must go to a multiple of 4 (§2.5)."""
    if e.isa.parcel == 4:
        e.if_((target & 2).ne(0), lambda: e.routine("trap", FETCH_MISALIGNED, target))


def _jumps(isa: Isa) -> None:
    @isa.insn("jal", "imm[20|10:1|11|19:12] rd 1101111", "{rd}, {imm}", relative="imm")
    def jal(e: Emitter, i: Operands) -> None:
        check_target(e, e.pc() + i.imm if isa.parcel == 4 else e.pc())
        e.set_reg("x", i.rd, e.next_pc())
        e.jump_rel(i)

    @isa.insn("jalr", "imm[11:0] rs1 000 rd 1100111", "{rd}, {imm}({rs1})")
    def jalr(e: Emitter, i: Operands) -> None:
        target = (rs1(e, i) + i.imm) & ~1
        check_target(e, target)
        e.set_reg("x", i.rd, e.next_pc())
        e.jump(target)


def _branches(isa: Isa) -> None:
    def branch(name: str, funct3: str, test: Op) -> None:
        @isa.insn(name, f"imm[12|10:5] rs2 rs1 {funct3} imm[4:1|11] 1100011", "{rs1}, {rs2}, {imm}", relative="imm")
        def semantics(e: Emitter, i: Operands) -> None:
            taken = test(rs1(e, i), rs2(e, i))
            if isa.parcel == 4:
                target = e.pc() + i.imm
                e.if_(taken, lambda: check_target(e, target))
            e.branch(taken, i)

    branch("beq", "000", V.eq)
    branch("bne", "001", V.ne)
    branch("blt", "100", V.slt)
    branch("bge", "101", V.sge)
    branch("bltu", "110", V.ult)
    branch("bgeu", "111", V.uge)


def _loads_stores(isa: Isa) -> None:
    xlen = isa.word

    def load(name: str, funct3: str, size: int, extend: Callable[[V, int], V]) -> None:
        @isa.insn(name, f"imm[11:0] rs1 {funct3} rd 0000011", "{rd}, {imm}({rs1})")
        def semantics(e: Emitter, i: Operands) -> None:
            e.set_reg("x", i.rd, extend(e.load(rs1(e, i) + i.imm, size), xlen))

    def store(name: str, funct3: str, size: int) -> None:
        @isa.insn(name, f"imm[11:5] rs2 rs1 {funct3} imm[4:0] 0100011", "{rs2}, {imm}({rs1})")
        def semantics(e: Emitter, i: Operands) -> None:
            e.store(rs1(e, i) + i.imm, rs2(e, i).trunc(8 * size))

    load("lb", "000", 1, V.sext)
    load("lh", "001", 2, V.sext)
    load("lw", "010", 4, V.sext)
    load("lbu", "100", 1, V.zext)
    load("lhu", "101", 2, V.zext)
    store("sb", "000", 1)
    store("sh", "001", 2)
    store("sw", "010", 4)
    if xlen == 64:
        load("ld", "011", 8, V.sext)
        load("lwu", "110", 4, V.zext)
        store("sd", "011", 8)


def _immediate(op: Op) -> Semantics:
    return lambda e, i: e.set_reg("x", i.rd, op(rs1(e, i), i.imm))


def immediate_shift(op: Op) -> Semantics:
    """rd = op(rs1, shamt)."""
    return lambda e, i: e.set_reg("x", i.rd, op(rs1(e, i), i.shamt))


def _immediates(isa: Isa) -> None:
    xlen = isa.word
    for name, funct3, op in (
        ("addi", "000", V.__add__), ("slti", "010", lambda a, b: a.slt(b).zext(xlen)),
        ("sltiu", "011", lambda a, b: a.ult(b).zext(xlen)), ("xori", "100", V.__xor__), ("ori", "110", V.__or__),
        ("andi", "111", V.__and__),
    ):
        isa.insn(name, f"imm[11:0] rs1 {funct3} rd 0010011", "{rd}, {rs1}, {imm}")(_immediate(op))
    amount = "0 shamt[4:0]" if xlen == 32 else "shamt[5:0]"
    for name, funct6, funct3, op in (
        ("slli", "000000", "001", V.__lshift__), ("srli", "000000", "101", V.__rshift__), ("srai", "010000", "101", V.sar),
    ):
        isa.insn(name, f"{funct6} {amount} rs1 {funct3} rd 0010011", "{rd}, {rs1}, {shamt}")(immediate_shift(op))


def register_op(op: Op) -> Semantics:
    """rd = op(rs1, rs2)."""
    return lambda e, i: e.set_reg("x", i.rd, op(rs1(e, i), rs2(e, i)))


def _registers(isa: Isa) -> None:
    xlen = isa.word
    for name, funct7, funct3, op in (
        ("add", "0000000", "000", V.__add__), ("sub", "0100000", "000", V.__sub__),
        ("sll", "0000000", "001", lambda a, b: a << (b & xlen - 1)),
        ("slt", "0000000", "010", lambda a, b: a.slt(b).zext(xlen)),
        ("sltu", "0000000", "011", lambda a, b: a.ult(b).zext(xlen)),
        ("xor", "0000000", "100", V.__xor__),
        ("srl", "0000000", "101", lambda a, b: a >> (b & xlen - 1)),
        ("sra", "0100000", "101", lambda a, b: a.sar(b & xlen - 1)),
        ("or", "0000000", "110", V.__or__), ("and", "0000000", "111", V.__and__),
    ):
        isa.insn(name, f"{funct7} rs2 rs1 {funct3} rd 0110011", "{rd}, {rs1}, {rs2}")(register_op(op))


def word_op(op: Op) -> Op:
    """``op`` on the low 32 bits, the result sign-extended (§5.2)."""
    return lambda a, b: op(a.trunc(32), b.trunc(32)).sext(64)


def _words(isa: Isa) -> None:
    """RV64I's operations on 32 bits."""
    isa.insn("addiw", "imm[11:0] rs1 000 rd 0011011", "{rd}, {rs1}, {imm}")(_immediate(word_op(V.__add__)))
    for name, funct7, funct3, op in (
        ("slliw", "0000000", "001", V.__lshift__), ("srliw", "0000000", "101", V.__rshift__),
        ("sraiw", "0100000", "101", V.sar),
    ):
        isa.insn(name, f"{funct7} shamt[4:0] rs1 {funct3} rd 0011011", "{rd}, {rs1}, {shamt}")(
            immediate_shift(word_op(op)))
    for name, funct7, funct3, op in (
        ("addw", "0000000", "000", V.__add__), ("subw", "0100000", "000", V.__sub__),
        ("sllw", "0000000", "001", lambda a, b: a << (b & 31)), ("srlw", "0000000", "101", lambda a, b: a >> (b & 31)),
        ("sraw", "0100000", "101", lambda a, b: a.sar(b & 31)),
    ):
        isa.insn(name, f"{funct7} rs2 rs1 {funct3} rd 0111011", "{rd}, {rs1}, {rs2}")(register_op(word_op(op)))


def _system(isa: Isa) -> None:
    @isa.insn("fence", "xxxx pred succ xxxxx 000 xxxxx 0001111", "{pred}, {succ}")
    def fence(e: Emitter, i: Operands) -> None:
        e.fence()

    @isa.insn("pause", "0000 0001 0000 00000 000 00000 0001111")
    def pause(e: Emitter, i: Operands) -> None:
        """Zihintpause 2.0; to who doesn't know of it a fence that orders nothing (Unprivileged 20191213 §2.7)."""
        e.relax()

    @isa.insn("ecall", "000000000000 00000 000 00000 1110011")
    def ecall(e: Emitter, i: Operands) -> None:
        e.routine("trap", privilege(e) + ECALL_U, 0)

    @isa.insn("ebreak", "000000000001 00000 000 00000 1110011")
    def ebreak(e: Emitter, i: Operands) -> None:
        e.routine("trap", BREAKPOINT, e.pc())

"""C: compressed encodings (RISC-V Unprivileged ISA 20191213 chapter 16). Each is another encoding of a base instruction.

Reserved encodings are illegal; hints (§16.7) do what their expansion does, which is nothing. Without F and D their
encodings are illegal, and so are the shifts by 32 and more on RV32, which are left to custom extensions.
"""

from __future__ import annotations

from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V


def _imm(i: Operands) -> V:
    return i.imm.ne(0)


def _rd(i: Operands) -> V:
    return i.rd.ne(0)


def _rs1(i: Operands) -> V:
    return i.rs1.ne(0)


def _rs2(i: Operands) -> V:
    return i.rs2.ne(0)


def declare(isa: Isa) -> None:
    """Quadrants 0, 1 and 2 (§16.8)."""
    _quadrant0(isa)
    _quadrant1(isa)
    _alu(isa)
    _quadrant2(isa)
    if "f" in isa.layout:
        _floats(isa)


def _quadrant0(isa: Isa) -> None:
    isa.alias("c.addi4spn", "000 uimm[5:4|9:6|2|3] rd' 00", "{rd}, sp, {imm}", "addi", rs1=2, where=_imm)
    isa.alias("c.lw", "010 uimm[5:3] rs1' uimm[2|6] rd' 00", "{rd}, {imm}({rs1})", "lw")
    isa.alias("c.sw", "110 uimm[5:3] rs1' uimm[2|6] rs2' 00", "{rs2}, {imm}({rs1})", "sw")
    if isa.word == 64:
        isa.alias("c.ld", "011 uimm[5:3] rs1' uimm[7:6] rd' 00", "{rd}, {imm}({rs1})", "ld")
        isa.alias("c.sd", "111 uimm[5:3] rs1' uimm[7:6] rs2' 00", "{rs2}, {imm}({rs1})", "sd")


def _quadrant1(isa: Isa) -> None:
    target = "imm[11|4|9:8|10|6|7|3:1|5] 01"
    isa.alias("c.nop", "000 imm[5] 00000 imm[4:0] 01", "", "addi", rd=0, rs1=0)
    isa.alias("c.addi", "000 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addi", rs1="rd", where=_rd)
    if isa.word == 32:
        isa.alias("c.jal", f"001 {target}", "{imm}", "jal", rd=1)
    else:
        isa.alias("c.addiw", "001 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addiw", rs1="rd", where=_rd)
    isa.alias("c.li", "010 imm[5] rd imm[4:0] 01", "{rd}, {imm}", "addi", rs1=0)
    isa.alias("c.addi16sp", "011 imm[9] 00010 imm[4|6|8:7|5] 01", "sp, {imm}", "addi", rd=2, rs1=2, where=_imm)
    isa.alias("c.lui", "011 upper[17] rd upper[16:12] 01", "{rd}, {imm}", "lui", where=lambda i: i.imm.ne(0) & i.rd.ne(2))
    isa.alias("c.j", f"101 {target}", "{imm}", "jal", rd=0)
    for name, funct3, like in (("c.beqz", "110", "beq"), ("c.bnez", "111", "bne")):
        isa.alias(name, f"{funct3} imm[8|4:3] rs1' imm[7:6|2:1|5] 01", "{rs1}, {imm}", like, rs2=0)


def _shamt(isa: Isa) -> str:
    return "shamt[5]" if isa.word == 64 else "0"


def _alu(isa: Isa) -> None:
    for name, funct2, like in (("c.srli", "00", "srli"), ("c.srai", "01", "srai")):
        isa.alias(name, f"100 {_shamt(isa)} {funct2} rd' shamt[4:0] 01", "{rd}, {shamt}", like, rs1="rd")
    isa.alias("c.andi", "100 imm[5] 10 rd' imm[4:0] 01", "{rd}, {imm}", "andi", rs1="rd")
    for name, bits in (("sub", "00"), ("xor", "01"), ("or", "10"), ("and", "11")):
        isa.alias("c." + name, f"100 0 11 rd' {bits} rs2' 01", "{rd}, {rs2}", name, rs1="rd")
    if isa.word == 64:
        for name, bits in (("subw", "00"), ("addw", "01")):
            isa.alias("c." + name, f"100 1 11 rd' {bits} rs2' 01", "{rd}, {rs2}", name, rs1="rd")


def _quadrant2(isa: Isa) -> None:
    isa.alias("c.slli", f"000 {_shamt(isa)} rd shamt[4:0] 10", "{rd}, {shamt}", "slli", rs1="rd")
    isa.alias("c.lwsp", "010 uimm[5] rd uimm[4:2|7:6] 10", "{rd}, {imm}(sp)", "lw", rs1=2, where=_rd)
    isa.alias("c.swsp", "110 uimm[5:2|7:6] rs2 10", "{rs2}, {imm}(sp)", "sw", rs1=2)
    if isa.word == 64:
        isa.alias("c.ldsp", "011 uimm[5] rd uimm[4:3|8:6] 10", "{rd}, {imm}(sp)", "ld", rs1=2, where=_rd)
        isa.alias("c.sdsp", "111 uimm[5:3|8:6] rs2 10", "{rs2}, {imm}(sp)", "sd", rs1=2)
    isa.alias("c.jr", "1000 rs1 00000 10", "{rs1}", "jalr", rd=0, imm=0, where=_rs1)
    isa.alias("c.mv", "1000 rd rs2 10", "{rd}, {rs2}", "add", rs1=0, where=_rs2)
    isa.alias("c.ebreak", "1001 00000 00000 10", "", "ebreak")
    isa.alias("c.jalr", "1001 rs1 00000 10", "{rs1}", "jalr", rd=1, imm=0, where=_rs1)
    isa.alias("c.add", "1001 rd rs2 10", "{rd}, {rs2}", "add", rs1="rd", where=_rs2)


def _floats(isa: Isa) -> None:
    """Loads and stores of f registers: singles on RV32 alone, whose encodings ld and sd have on RV64."""
    if isa.layout["f"].width == 64:
        isa.alias("c.fld", "001 uimm[5:3] rs1' uimm[7:6] fd' 00", "{rd}, {imm}({rs1})", "fld")
        isa.alias("c.fsd", "101 uimm[5:3] rs1' uimm[7:6] fs2' 00", "{rs2}, {imm}({rs1})", "fsd")
        isa.alias("c.fldsp", "001 uimm[5] fd uimm[4:3|8:6] 10", "{rd}, {imm}(sp)", "fld", rs1=2)
        isa.alias("c.fsdsp", "101 uimm[5:3|8:6] fs2 10", "{rs2}, {imm}(sp)", "fsd", rs1=2)
    if isa.word == 32:
        isa.alias("c.flw", "011 uimm[5:3] rs1' uimm[2|6] fd' 00", "{rd}, {imm}({rs1})", "flw")
        isa.alias("c.fsw", "111 uimm[5:3] rs1' uimm[2|6] fs2' 00", "{rs2}, {imm}({rs1})", "fsw")
        isa.alias("c.flwsp", "011 uimm[5] fd uimm[4:2|7:6] 10", "{rd}, {imm}(sp)", "flw", rs1=2)
        isa.alias("c.fswsp", "111 uimm[5:2|7:6] fs2 10", "{rs2}, {imm}(sp)", "fsw", rs1=2)

"""Operand fields of RISC-V encodings and the names they are printed with (RISC-V Unprivileged ISA 20191213 §2.2, §16.2).

Slots: destination "a", first source "b", second source "c", any immediate "imm". Fields written with ' are the three-bit
registers x8…x15 of compressed encodings.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ratite.core.isa.pattern import Field
from ratite.targets.riscv.csrnames import csr_name

#: ABI names of x0…x31 (RISC-V Unprivileged ISA 20191213 §25)
X_NAMES = (
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)), "t3", "t4", "t5", "t6",
)


def _upper(value: int) -> str:
    return hex(value >> 12 & 0xFFFFF)


def _rounding(value: int) -> str:
    return ("rne", "rtz", "rdn", "rup", "rmm", "5", "6", "dyn")[value]


def _hex(value: int) -> str:
    return hex(value)


def _fence_set(value: int) -> str:
    return "".join(ch for k, ch in enumerate("iorw") if value >> (3 - k) & 1) or "unknown"


FIELDS: Mapping[str, Field] = MappingProxyType({
    "rd": Field("a", 5, file="x", dest=True),
    "rs1": Field("b", 5, file="x"),
    "rs2": Field("c", 5, file="x"),
    "rd'": Field("a", 3, file="x", base=8, dest=True, operand="rd"),
    "rs1'": Field("b", 3, file="x", base=8, operand="rs1"),
    "rs2'": Field("c", 3, file="x", base=8, operand="rs2"),
    "imm": Field("imm", 12, signed=True),
    "uimm": Field("imm", 12, operand="imm"),
    "upper": Field("imm", 32, signed=True, operand="imm", show=_upper),
    "shamt": Field("imm", 6, show=_hex),
    "fd": Field("a", 5, file="f", dest=True, operand="rd"),
    "fs1": Field("b", 5, file="f", operand="rs1"),
    "fs2": Field("c", 5, file="f", operand="rs2"),
    "fs3": Field("d", 5, file="f", operand="rs3"),
    "fd'": Field("a", 3, file="f", base=8, dest=True, operand="rd"),
    "fs2'": Field("c", 3, file="f", base=8, operand="rs2"),
    "rm": Field("imm", 3, show=_rounding),
    "csr": Field("imm", 12, show=csr_name),
    "zimm": Field("b", 5),
    "funct3": Field("c", 3),
    "pred": Field("b", 4, show=_fence_set),
    "succ": Field("c", 4, show=_fence_set),
})

"""Floating point among random RISC-V code: items of F, D and their CSRs that unicorn and ratite compute alike.

Unicorn's results of singles are not boxed and its operands need not be, so singles live in even registers and doubles in odd
ones, and each is loaded, stored and moved by its own instructions. A minimum or maximum is taken of what was computed, which
is no signaling NaN; before a fused operation NV is raised or its last operand is made a number. The rest is judged by
riscv_fp; see docs/oracles.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.isa.isa import Insn

if TYPE_CHECKING:
    from tests.oracle.riscv_bodies import Bodies

LOADS, STORES = frozenset(("flw", "fld")), frozenset(("fsw", "fsd"))
FFLAGS, FRM, FCSR = 1, 2, 3
FS = 0x6000
REGISTERS = frozenset(("fd", "fs1", "fs2", "fs3", "fd'", "fs2'"))  # fields


def is_float(insn: Insn) -> bool:
    """Whether it has operands in f registers."""
    return not REGISTERS.isdisjoint(insn.pattern.pieces)


def odd(insn: Insn, operand: str) -> bool:
    """Whether that operand is a double."""
    if insn.like == "fcvt.s.d":
        return operand != "rd"
    if insn.like == "fcvt.d.s":
        return operand == "rd"
    return insn.like in ("fld", "fsd") or ".d" in insn.like


class Floats:
    """Items for ``bodies``. ``status``: the CSR that FS is in, None where the mode has none."""

    def __init__(self, bodies: Bodies, status: int | None) -> None:
        self.bodies, self.rng, self.status = bodies, bodies.rng, status
        groups: dict[str, list[Insn]] = {}
        for insn in bodies.isa.insns:
            if is_float(insn):
                groups.setdefault(insn.like, []).append(insn)
        self.memory = [many for like, many in groups.items() if like in LOADS | STORES]
        self.fused = [many for like, many in groups.items() if like.startswith(("fmadd", "fmsub", "fnmadd", "fnmsub"))]
        self.least = [many for like, many in groups.items() if like.startswith(("fmin", "fmax"))]
        left = self.memory + self.fused + self.least
        self.simple = [many for many in groups.values() if many not in left]
        self.writing = [many for many in self.simple if many[0].operands["rd"] == "fd"]

    def item(self) -> bytes:
        rng = self.rng
        kind = rng.random()
        if kind < 0.55:
            return self.one(self.simple)
        if kind < 0.70:
            return self.bodies.based(*self.legal(self.memory))
        if kind < 0.80:
            return self.fused_item()
        if kind < 0.87:
            return self.least_item()
        return self.csr()

    def legal(self, groups: list[list[Insn]]) -> tuple[Insn, int, dict[str, int]]:
        """A random encoding whose operands are of the right kind and whose rounding mode is none that is reserved."""
        while True:
            insn, word, fields = self.bodies.valid(groups)
            kinds = all(fields[operand] & 1 == odd(insn, operand)
                        for operand, field in insn.operands.items() if field in REGISTERS)
            if kinds and fields.get("rm", 0) not in (5, 6):
                return insn, word, fields

    def one(self, groups: list[list[Insn]]) -> bytes:
        insn, word, _ = self.legal(groups)
        return self.bodies.isa.to_bytes(word, insn.length)

    def quiet(self, register: int) -> bytes:
        """Code after which no signaling NaN is in it."""
        return self.bodies.a("fadd.d" if register & 1 else "fadd.s", fd=register, fs1=register, fs2=register, rm=7)

    def least_item(self) -> bytes:
        insn, word, fields = self.legal(self.least)
        return self.quiet(fields["rs1"]) + self.quiet(fields["rs2"]) + self.bodies.isa.to_bytes(word, insn.length)

    def fused_item(self) -> bytes:
        insn, word, fields = self.legal(self.fused)
        a, rng, last = self.bodies.a, self.rng, fields["rs3"]
        code = self.bodies.isa.to_bytes(word, insn.length)
        if rng.random() < 0.5:
            return a("csrrsi", rd=0, csr=FFLAGS, zimm=16) + code
        width = "d" if last & 1 else "s"
        other = rng.choice([k for k in range(last & 1, 32, 2) if k != last])
        return self.quiet(last) + a(f"fcvt.{width}.w", fd=other, rs1=self.bodies.any_register(), rm=0) + \
            a(rng.choice(("fmin.", "fmax.")) + width, fd=last, fs1=last, fs2=other) + code

    def csr(self) -> bytes:
        rng, a, rd = self.rng, self.bodies.a, self.bodies.target()
        kind = rng.random()
        if kind < 0.4:
            return a(rng.choice(("csrrw", "csrrs", "csrrc")), rd=rd, csr=FFLAGS, rs1=self.bodies.any_register())
        if kind < 0.5:
            return a(rng.choice(("csrrwi", "csrrsi", "csrrci")), rd=rd, csr=FFLAGS, zimm=rng.randrange(32))
        if kind < 0.65:
            return a("csrrwi", rd=rd, csr=FRM, zimm=rng.randrange(5))
        if kind < 0.8:
            return a("csrrs", rd=rd, csr=rng.choice((FRM, FCSR, FCSR)), rs1=0)
        at = rng.choice(self.bodies.free)
        if kind < 0.9 or self.status is None:
            value = rng.randrange(5) << 5 | rng.getrandbits(5)
            return a("addi", rd=at, rs1=0, imm=value) + a("csrrw", rd=rd, csr=FCSR, rs1=at)
        mask = rng.choice([k for k in self.bodies.free if k != at])
        seen = a("csrrs", rd=at, csr=self.status, rs1=0) + a("lui", rd=mask, upper=FS) + a("and", rd=at, rs1=at, rs2=mask)
        if kind < 0.95:  # clean, and dirty again before an instruction that raises flags alone, which is not to unicorn
            seen += a("lui", rd=mask, upper=FS) + a("csrrs", rd=0, csr=self.status, rs1=mask) + \
                a("lui", rd=mask, upper=0x2000) + a("csrrc", rd=0, csr=self.status, rs1=mask)
            seen += a("csrrs", rd=at, csr=self.status, rs1=0) + a("lui", rd=mask, upper=FS) + \
                a("and", rd=at, rs1=at, rs2=mask) + self.one(self.writing)
        return seen

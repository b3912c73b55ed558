"""Zicsr (RISC-V Unprivileged ISA 20191213 chapter 9). A set or clear from x0 or of no bits does not write; a write to a
read-only register, any use of one that isn't there or that the current mode may not use, is an illegal instruction
(Privileged 1.12 §2.1).

The six encodings are one instruction whose third operand is funct3, so that the code of the registers is there once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import Csr, CsrRange, privilege
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.traps import ILLEGAL


def declare(isa: Isa, f: Features, csrs: Mapping[int, Csr], ranges: Sequence[CsrRange]) -> None:
    """The six instructions over the registers ``csrs`` and ``ranges``."""
    # no encoding reaches the first: those that do exist are more specific
    isa.insn("csr", "csr rs1 funct3 rd 1110011", "{rd}, {csr}, {rs1}", where=lambda i: (i.funct3 & 3).ne(0))(
        _access(f, csrs, ranges))
    for name, funct3 in (("csrrw", 1), ("csrrs", 2), ("csrrc", 3)):
        isa.alias(name, f"csr rs1 {funct3:03b} rd 1110011", "{rd}, {csr}, {rs1}", "csr", funct3=funct3)
        isa.alias(name + "i", f"csr zimm {funct3 | 4:03b} rd 1110011", "{rd}, {csr}, {zimm}", "csr", rs1="zimm",
                  funct3=funct3 | 4)


def _access(f: Features, csrs: Mapping[int, Csr], ranges: Sequence[CsrRange]) -> Semantics:
    return lambda e, i: _Access(e, i).run(f, csrs, ranges)


class _Access:
    """One execution, or the writing down, of the instruction."""

    def __init__(self, e: Emitter, i: Operands) -> None:
        self.e = e
        self.number, self.rd, self.source, self.funct3 = i.csr & 0xFFF, i.rd, i.rs1, i.funct3
        self.always = (self.funct3 & 3).eq(1)
        self.writes = self.always | self.source.ne(0)
        self.arg = e.select((self.funct3 & 4).ne(0), self.source.zext(e.word), e.reg("x", self.source & 31))

    def run(self, f: Features, csrs: Mapping[int, Csr], ranges: Sequence[CsrRange]) -> None:
        e, number = self.e, self.number
        bad = self.writes & (number >> 10).eq(3)
        if f.has("u"):
            bad = bad | privilege(e).ult((number >> 8) & 3)
        e.if_(bad, self.illegal)
        e.switch(number, {n: self.case(csr) for n, csr in csrs.items()}, lambda: self.others(ranges))

    def illegal(self) -> None:
        word = self.e.word
        low = (self.source.zext(word) << 15) | (self.funct3.zext(word) << 12)
        low = low | ((self.rd & 31).zext(word) << 7)  # rd 0 may be a spare element by now
        self.e.routine("trap", ILLEGAL, self.number << 20 | low | 0x73)

    def case(self, csr: Csr) -> Callable[[], None]:
        def run() -> None:
            e = self.e
            if csr.guard is not None:
                e.if_(csr.guard(e), self.illegal)
            old = csr.read(e)
            arg = self.arg  # before rd is set: they may be one register
            kept = old if csr.kept is csr.read else csr.kept(e)
            e.set_reg("x", self.rd, old)
            if csr.read_only or csr.write is None:
                return
            write = csr.write
            e.if_(self.writes, lambda: self.finish(lambda: write(e, self.new(kept, arg)), csr.then))

        return run

    def new(self, old: V, arg: V) -> V:
        e = self.e
        return e.select(self.always, arg, e.select((self.funct3 & 1).eq(0), old | arg, old & ~arg))

    def finish(self, write: Callable[[], object], then: str) -> None:
        write()
        if then == "poll":
            self.e.poll()
        elif then == "refetch":
            self.e.refetch()

    def others(self, ranges: Sequence[CsrRange]) -> None:
        """Registers that one piece of code serves, else there is none."""
        e, number = self.e, self.number
        for r in ranges:
            e.if_((number - r.first).ule(r.last - r.first), lambda r=r: self.ranged(r))  # type: ignore[misc]
        self.illegal()

    def ranged(self, r: CsrRange) -> None:
        e = self.e
        old, write = r.read(e, self.number), r.write
        e.set_reg("x", self.rd, old)
        if write is not None:
            e.if_(self.writes, lambda: self.finish(lambda: write(e, self.number, self.new(old, self.arg)), r.then))
        e.next()

"""Zicsr (RISC-V Unprivileged ISA 20191213 chapter 9). A set or clear from x0 or of no bits does not write; a write to a
read-only register, or any use of one that isn't there, is an illegal instruction (Privileged 1.12 §2.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa, Semantics
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import Csr, reads_zero
from ratite.targets.riscv.traps import ILLEGAL

_OPS: tuple[tuple[str, int, Callable[[V, V], V]], ...] = (
    ("csrrw", 1, lambda old, arg: arg),
    ("csrrs", 2, lambda old, arg: old | arg),
    ("csrrc", 3, lambda old, arg: old & ~arg),
)


def declare(isa: Isa, csrs: Mapping[int, Csr]) -> None:
    """The six instructions over the registers ``csrs``."""
    for name, funct3, op in _OPS:
        isa.insn(name, f"csr rs1 {funct3:03b} rd 1110011", "{rd}, {csr}, {rs1}")(
            _access(csrs, funct3, op, lambda i: i.rs1, lambda e, n: e.reg("x", n)))
        isa.insn(name + "i", f"csr zimm {funct3 | 4:03b} rd 1110011", "{rd}, {csr}, {zimm}")(
            _access(csrs, funct3 | 4, op, lambda i: i.zimm, lambda e, n: n.zext(e.word)))


def _access(
    csrs: Mapping[int, Csr], funct3: int, op: Callable[[V, V], V], source: Callable[[Operands], V],
    value: Callable[[Emitter, V], V],
) -> Semantics:
    """``source``: the register's number or the immediate; ``value``: what it stands for."""
    always = funct3 & 3 == 1

    def semantics(e: Emitter, i: Operands) -> None:
        number, rd, arg = i.csr, i.rd, source(i)  # all read here: the cases share them

        def illegal() -> None:
            low = (arg.zext(e.word) << 15) | ((rd & 31).zext(e.word) << 7)  # rd 0 may be a spare element by now
            e.routine("trap", ILLEGAL, number << 20 | low | (funct3 << 12 | 0x73))

        def case(csr: Csr) -> Callable[[], None]:
            def run() -> None:
                if csr.read_only:
                    e.if_(arg.ne(0), illegal)
                old, new = csr.read(e), value(e, arg)
                e.set_reg("x", rd, old)
                if csr.read_only or csr.write is None:
                    return
                if always:
                    _write(e, csr, new)
                else:
                    e.if_(arg.ne(0), lambda: _write(e, csr, op(old, new)))

            return run

        def others() -> None:
            e.if_(reads_zero(number), lambda: e.set_reg("x", rd, e.const(0)), illegal)

        e.switch(number, {n: case(csr) for n, csr in csrs.items() if not (csr.read_only and always)}, others)

    return semantics


def _write(e: Emitter, csr: Csr, value: V) -> None:
    assert csr.write is not None
    csr.write(e, value)
    if csr.polls:
        e.poll()


"""Litmus tests of memory ordering: small programs run by CPUs in parallel, over many cells, and what they saw.

A body is a sequence of ("W", cell, value), ("R", cell, result) and ("F",), a full fence. Every iteration has cells of its own,
each in a line of its own. Two CPUs meet before each iteration; more of them run free. The shapes are those of the RISC-V
Unprivileged ISA (20191213, appendix A) and of the litmus literature.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import MappingProxyType

from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyPort, ToyRam

BASE = 0x80000000
STRIDE = 128  # bytes from one iteration's cells to the next
X, Y, RESULTS, PROGRESS = 0x100000, 0x100040, 0x10000, 0x8000  # offsets; y lies between the x's
MOST = 6000

Op = tuple[object, ...]
Body = Sequence[Op]

W, R, F = "W", "R", ("F",)

#: name -> (bodies, outcome that must not be seen: of the results r0, r1, … in order of the bodies)
SHAPES: MappingProxyType[str, tuple[Sequence[Body], tuple[int, ...]]] = MappingProxyType({
    "MP": ([[(W, "x", 1), F, (W, "y", 1)], [(R, "y", 0), F, (R, "x", 1)]], (1, 0)),
    "SB": ([[(W, "x", 1), F, (R, "y", 0)], [(W, "y", 1), F, (R, "x", 1)]], (0, 0)),
    "LB": ([[(R, "x", 0), F, (W, "y", 1)], [(R, "y", 1), F, (W, "x", 1)]], (1, 1)),
    "CoRR": ([[(W, "x", 1)], [(R, "x", 0), (R, "x", 1)]], (1, 0)),
    "IRIW": ([[(W, "x", 1)], [(W, "y", 1)], [(R, "x", 0), F, (R, "y", 1)], [(R, "y", 2), F, (R, "x", 3)]], (1, 0, 1, 0)),
})


class Port(ToyPort):
    """A CPU of any ISA over the shared RAM."""

    def __init__(self, ram: ToyRam, builder: str, config: dict[str, object]) -> None:
        super().__init__(ram, start=BASE)
        self.ISA = builder
        self.config = config


def _riscv(isa: Isa, body: Body, meet: bool) -> bytes:
    """x5, x6: the cells; x7: results; x8: how many; x9, x10: progress, own and the other's; x11: the iteration."""
    a = isa.assemble
    code = [a("addi", rd=11, rs1=11, imm=1)]
    if meet:
        code += [a("sw", rs1=9, rs2=11, imm=0), a("lw", rd=12, rs1=10, imm=0), a("blt", rs1=12, rs2=11, imm=-4)]
    for op in body:
        if op[0] == W:
            code += [a("addi", rd=12, rs1=0, imm=int(str(op[2]))), a("sw", rs1=5 if op[1] == "x" else 6, rs2=12, imm=0)]
        elif op[0] == R:
            code.append(a("lw", rd=20 + int(str(op[2])), rs1=5 if op[1] == "x" else 6, imm=0))
        else:
            code.append(a("fence", pred=15, succ=15))
    code += [a("sw", rs1=7, rs2=20 + int(str(op[2])), imm=4 * int(str(op[2]))) for op in body if op[0] == R]
    code += [a("addi", rd=r, rs1=r, imm=step) for r, step in ((5, STRIDE), (6, STRIDE), (7, 16))]
    code.append(a("bne", rs1=11, rs2=8, imm=-sum(map(len, code))))
    return b"".join([*code, a("wfi")])


def _microblaze(isa: Isa, body: Body, meet: bool) -> bytes:
    """The same registers. Progress is kept in RISC-V's byte order."""
    a = isa.assemble
    code = [a("addik", rd=11, ra=11, imm=1)]
    if meet:
        code += [a("swr", rs=11, ra=9, rb=0), a("lwr", rd=12, ra=10, rb=0), a("cmp", rd=12, ra=11, rb=12),
                 a("blti", ra=12, imm=-8)]
    for op in body:
        if op[0] == W:
            code += [a("addik", rd=12, ra=0, imm=int(str(op[2]))), a("swi", rs=12, ra=5 if op[1] == "x" else 6, imm=0)]
        elif op[0] == R:
            code.append(a("lwi", rd=20 + int(str(op[2])), ra=5 if op[1] == "x" else 6, imm=0))
        else:
            code.append(a("mbar", kind=1))
    code += [a("swi", rs=20 + int(str(op[2])), ra=7, imm=4 * int(str(op[2]))) for op in body if op[0] == R]
    code += [a("addik", rd=r, ra=r, imm=step) for r, step in ((5, STRIDE), (6, STRIDE), (7, 16))]
    code += [a("cmp", rd=12, ra=11, rb=8)]
    code.append(a("bnei", ra=12, imm=-sum(map(len, code))))
    return b"".join([*code, a("mbar", kind=24)])


#: name -> (builder, configuration, register file, code, byte order)
CPUS: MappingProxyType[str, tuple[str, dict[str, object], str, Callable[[Isa, Body, bool], bytes], str]] = MappingProxyType({
    "rv64": ("ratite.targets.riscv.isa:build", {"word-size": 64}, "x", _riscv, "<"),
    "rv32": ("ratite.targets.riscv.isa:build", {"word-size": 32}, "x", _riscv, "<"),
    "microblaze": ("ratite.targets.microblaze.isa:build", {"big": True}, "r", _microblaze, ">"),
})


def run(library: NativeLibrary, bodies: Sequence[Body], kinds: Sequence[str], count: int = MOST) -> Counter[tuple[int, ...]]:
    """Runs ``bodies`` on CPUs of ``kinds``; how often each outcome was seen."""
    ram = ToyRam(0x200000)
    meet = len(bodies) == 2
    cpus = []
    for number, (body, kind) in enumerate(zip(bodies, kinds, strict=True)):
        builder, config, file, code, _ = CPUS[kind]
        cpu = NativeVcpu(library.get(builder, config), Port(ram, builder, config), BusError, 1 << 20)
        start = 0x1000 * (number + 1)
        text = code(library.get(builder, config).isa, body, meet)
        ram.map[start:start + len(text)] = text
        cpu.reset(BASE + start)
        mine, other = (BASE + PROGRESS + 64 * n for n in (number, 1 - number))
        for register, value in {5: BASE + X, 6: BASE + Y, 7: BASE + RESULTS, 8: count, 9: mine, 10: other, 11: 0}.items():
            cpu.set(file, value, register)
        cpus.append(cpu)
    threads = [threading.Thread(target=cpu.run) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cpu in cpus:
        cpu.close()
    order = {op[2]: CPUS[kind][4] for body, kind in zip(bodies, kinds, strict=True) for op in body if op[0] == R}
    seen: Counter[tuple[int, ...]] = Counter()
    for k in range(count):
        at = RESULTS + 16 * k
        seen[tuple(int(struct.unpack_from(order[n] + "I", ram.map, at + 4 * n)[0] != 0) for n in sorted(order, key=str))] += 1
    return seen

"""Floating point in compiled regions: loops of random instructions against the evaluator."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from ratite.core.accel.base import RamRange
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.region.manager import RegionManager
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.lockstep import Eager, Pair
from tests.engine.toy import ToyRam
from tests.oracle.fp_operands import operand

BUILDER = "ratite.targets.riscv.isa:build"
BASE, SIZE, DATA = 0x10000, 0x4000, 0x2000


class Port:
    """RAM at BASE."""

    ISA = BUILDER

    def __init__(self, ram: ToyRam, config: Mapping[str, object]) -> None:
        self.ram = ram
        self.config = config

    def isa_config(self) -> Mapping[str, object]:
        return self.config

    def ram_ranges(self) -> Sequence[RamRange]:
        return [RamRange(BASE, len(self.ram.map), self.ram.address, self.ram, 0, False)]  # type: ignore[arg-type]

    def clock_offset(self) -> int | None:
        """There is no clock."""
        return None

    def load_site(self, addr: int, size: int) -> None:
        """There is no quicker way."""

    def store_site(self, addr: int, size: int) -> None:
        """There is no quicker way."""

    def mmio_load(self, addr: int, size: int) -> int:
        raise BusError("unmapped", addr)

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        raise BusError("unmapped", addr)


def instruction(isa: Isa, rng: random.Random) -> bytes:
    """A random one of F, D or Zicsr on fcsr, its registers among a few, its data at x10."""
    kind = rng.random()
    if kind < 0.1:
        name, field = rng.choice((("fld", "fd"), ("flw", "fd"), ("fsd", "fs2"), ("fsw", "fs2")))
        return isa.assemble(name, **{field: rng.randrange(8)}, rs1=10, imm=8 * rng.randrange(64))
    if kind < 0.2:
        name, csr = rng.choice(("csrrw", "csrrs", "csrrc")), rng.choice((1, 1, 3, 2))
        return isa.assemble(name, rd=rng.randrange(11, 16), csr=csr, rs1=rng.choice((0, 0, 16, 17)))
    while True:
        insn = rng.choice(isa.insns)
        fields = insn.pattern.pieces
        if insn.like == insn.name and {"fs1", "fd"} & set(fields) and "imm" not in fields:
            values = {f: rng.randrange(8) if f[0] == "f" else rng.randrange(11, 16) for f in fields if f != "rm"}
            if "rm" in fields:
                values["rm"] = rng.choice((7, 7, 7, 7, 0, 1, 2, 3, 4))
            return isa.assemble(insn.name, **values)


@pytest.mark.parametrize("tier", [1, 2])
@pytest.mark.parametrize("xlen", [64, 32])
def test_random_loops_agree(cache_home: object, xlen: int, tier: int) -> None:
    config: dict[str, object] = {"word-size": xlen, "f": True, "d": True}
    native = NativeLibrary().get(BUILDER, config)
    isa = native.isa
    manager = RegionManager(Eager(tier))
    pair = Pair(isa, native, lambda ram: Port(ram, config), SIZE, manager)  # type: ignore[arg-type, return-value]
    rng = random.Random(xlen + tier)
    for round_ in range(10):
        body = b"".join(instruction(isa, rng) for _ in range(40)) + isa.assemble("addi", rd=5, rs1=5, imm=-1)
        code = body + isa.assemble("bne", rs1=5, rs2=0, imm=-len(body)) + isa.assemble("jal", rd=0, imm=0)
        pair.write(0, code.ljust(DATA, b"\0") + b"".join(operand(64, rng).to_bytes(8, "little") for _ in range(256)))
        state = {("f", k): operand(64, rng) if k & 1 else operand(32, rng) | 0xFFFFFFFF << 32 for k in range(8)}
        state |= {("x", k): rng.getrandbits(xlen) >> rng.randrange(xlen) for k in range(11, 16)}
        state |= {("x", 5): 1000, ("x", 10): BASE + DATA, ("x", 16): rng.randrange(5) << 5 | rng.getrandbits(5),
                  ("x", 17): rng.randrange(5), ("mstatus", 0): 0x1800 | rng.choice((0x6000, 0x6000, 0x2000)),
                  ("mtvec", 0): BASE + len(code) - 4, ("frm", 0): rng.choice((0, 0, 1, 2, 3, 4))}
        pair.start(BASE, state)
        for _ in range(12):
            pair.step(rng.choice((7, 41, 43, 90)))
        assert pair.rams[0].map[:] == pair.rams[1].map[:], round_
    assert pair.right.compiled_instructions > 1000
    pair.close()
    manager.close()

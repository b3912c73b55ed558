"""Control and status registers in compiled regions: loops of random accesses against the evaluator."""

from __future__ import annotations

import random

import pytest

from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.region.manager import RegionManager
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.isa import csr_ranges, csr_table
from tests.engine.lockstep import Eager, Pair
from tests.targets.riscv.test_riscv_fp_regions import BASE, BUILDER, SIZE, Port

MTVEC, SATP = 0x305, 0x180


@pytest.mark.parametrize("xlen", [64, 32])
def test_every_register_agrees(cache_home: object, xlen: int) -> None:
    """Each of them, alone or of a range, and some that there are not, read and written in M and looked at from a loop."""
    config: dict[str, object] = {"word-size": xlen, "f": True, "d": True}
    native = NativeLibrary().get(BUILDER, config)
    isa, features = native.isa, Features(config)
    manager = RegionManager(Eager())
    pair = Pair(isa, native, lambda ram: Port(ram, config), SIZE, manager)  # type: ignore[arg-type, return-value]
    rng = random.Random(xlen)
    numbers = [n for n in csr_table(features) if n not in (MTVEC, SATP)]
    numbers += [n for r in csr_ranges(features) for n in (r.first, rng.randint(r.first, r.last), r.last)]
    numbers += [rng.randrange(0x1000) for _ in range(20)]
    rng.shuffle(numbers)
    each = 12
    for first in range(0, len(numbers), each):
        some = numbers[first:first + each]
        body = b"".join(
            isa.assemble(rng.choice(("csrrw", "csrrs", "csrrc")), rd=rng.randrange(11, 16), csr=n, rs1=rng.choice((0, 16, 17)))
            for n in some) + isa.assemble("addi", rd=5, rs1=5, imm=-1)
        code = body + isa.assemble("bne", rs1=5, rs2=0, imm=-len(body))
        # a handler that goes on behind what is illegal; its own registers are among what it tells
        handler = isa.assemble("csrrs", rd=20, csr=0x341, rs1=0) + isa.assemble("addi", rd=20, rs1=20, imm=4) + \
            isa.assemble("csrrw", rd=0, csr=0x341, rs1=20) + isa.assemble("mret")
        pair.write(0, code.ljust(0x400, b"\0") + handler)
        pair.start(BASE, {
            ("x", 5): 1000, ("x", 16): rng.getrandbits(xlen), ("x", 17): rng.getrandbits(8), ("mtvec", 0): BASE + 0x400,
            ("mstatus", 0): 0x7800})
        before = pair.right.compiled_instructions
        for _ in range(6):
            pair.step(rng.choice((61, 63, 90)))
        assert pair.right.compiled_instructions > before, some
    pair.close()
    manager.close()

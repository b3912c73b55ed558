"""Every operation of the semantics language: computed in Python and by compiled code, with the same result."""

from __future__ import annotations

import random

from ratite.core.engine.native import NativeLibrary
from ratite.core.isa.value import FOLD, V, signed
from tests.engine.lockstep import Pair
from tests.engine.toy import ToyPort, ToyRam

EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63,
         (1 << 64) - 1, 0x0123456789ABCDEF)


class OpsPort(ToyPort):
    ISA = "tests.engine.ops:build"

    def __init__(self, ram: ToyRam) -> None:
        super().__init__(ram)
        self.config = {}


def test_every_operation_agrees(library: NativeLibrary) -> None:
    native = library.get(OpsPort.ISA, {})
    isa = native.isa
    pair = Pair(isa, native, OpsPort, 0x2000)
    pair.write(0, b"".join(isa.to_bytes(n.pattern.match, 4) for n in isa.insns))
    rng = random.Random(1)
    operands = [(a, b) for a in EDGES for b in EDGES] + [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(60)]
    for a, b in operands:
        pair.start(0x1000, {("a", 0): a, ("b", 0): b, ("s", 0): 0x2000 + (a & 0x7F8)})
        for _ in isa.insns:
            pair.step()
    pair.compare_memory()
    pair.close()


def test_folding_means_what_it_says() -> None:
    assert signed(FOLD["sdiv"](0xF9, 2, 8) & 0xFF, 8) == -3
    assert signed(FOLD["srem"](0xF9, 2, 8) & 0xFF, 8) == -1
    assert FOLD["ashr"](0x80, 3, 8) & 0xFF == 0xF0


def test_operands_of_two_widths_are_refused() -> None:
    import pytest

    with pytest.raises(TypeError, match="operands must be of one width, not i8 and i16"):
        V(None, 1, 8) + V(None, 1, 16)  # type: ignore[arg-type]

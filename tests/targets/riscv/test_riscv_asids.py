"""Address spaces (Privileged ISA 1.12 §4.1.11, §4.2.1), in native code beside the evaluator, which keeps no translations: data
accesses of M mode are made as S mode's (MPRV) in two spaces, whose page tables change and are fenced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratite.core.engine.native import NativeLibrary
from tests.engine.lockstep import Pair
from tests.targets.riscv.riscv_kit import RWX, A, D, G, V
from tests.targets.riscv.test_riscv_fp_regions import BASE, BUILDER, Port

CONFIG: dict[str, object] = {"word-size": 64, "s": True, "u": True, "sv39": True}
VA, GLOBAL = 0x4000, 0x5000
DATA = (0x8000, 0x9000, 0xA000)  # offsets of pages that hold their own number
MPRV_S = 1 << 17 | 1 << 11  # mstatus: data accesses as those of MPP, S


class Spaces:
    """Two spaces; ``lap`` fences and then reads both pages in either, first in that which satp has: no flush there."""

    def __init__(self, library: NativeLibrary) -> None:
        native = library.get(BUILDER, CONFIG)
        self.isa = native.isa
        self.pair = Pair(native.isa, native, lambda ram: Port(ram, CONFIG), 0x10000)  # type: ignore[arg-type, return-value]
        for number, page in enumerate(DATA):
            self.pair.write(page, number.to_bytes(8, "little"))
        self.present = 0
        self.satp = [self._space(k, 0x2000 + 0x3000 * k) for k in range(2)]

    def _space(self, number: int, at: int) -> int:
        for level in range(2):
            self.pair.write(at + 0x1000 * level, (BASE + at + 0x1000 * (level + 1) >> 2 | V).to_bytes(8, "little"))
        return 8 << 60 | (number + 1) << 44 | BASE + at >> 12

    def map(self, space: int, va: int, data: int, flags: int = 0) -> None:
        at = 0x2000 + 0x3000 * space + 0x2000 + (va >> 12) * 8
        self.pair.write(at, (BASE + DATA[data] >> 2 | RWX | V | A | D | flags).to_bytes(8, "little"))

    def lap(self, va: int, asid: int | None) -> list[list[int]]:
        """What (VA, GLOBAL) were read as in the first space and in the second, behind a fence of ``va`` (0: all), ``asid``."""
        asm = self.isa.assemble
        code = [asm("sfence.vma", rs1=14 if va else 0, rs2=15 if asid is not None else 0)]
        order = self.present, 1 - self.present
        self.present = order[1]
        for k in order:
            code.append(asm("csrrw", rd=0, csr=0x180, rs1=10 + k))
            code += [asm("ld", rd=16 + 2 * k, rs1=12, imm=0), asm("ld", rd=17 + 2 * k, rs1=13, imm=0)]
        self.pair.write(0, b"".join(code))
        values = {10: self.satp[0], 11: self.satp[1], 12: VA, 13: GLOBAL, 14: va, 15: asid or 0}
        for cpu in self.pair.both:
            cpu.set("pc", BASE)
            cpu.set("mstatus", MPRV_S)
            for index, value in values.items():
                cpu.set("x", value, index)
        for _ in code:
            self.pair.step()
        x = [self.pair.right.get("x", k) for k in range(16, 20)]
        return [x[:2], x[2:]]


@pytest.fixture
def spaces(cache_home: object) -> Iterator[Spaces]:
    made = Spaces(NativeLibrary())
    yield made
    made.pair.close()


def test_spaces_are_apart(spaces: Spaces) -> None:
    for space in range(2):
        spaces.map(space, VA, space)
        spaces.map(space, GLOBAL, 2, G)
    for _ in range(2):
        assert spaces.lap(0, None) == [[0, 2], [1, 2]]


@pytest.mark.parametrize("va", [0, VA])
@pytest.mark.parametrize("above", [0, 1 << 16, 0xFFFF << 48], ids=["asid", "bit 16", "bits above"])
def test_a_fence_of_one_space_takes_its_translations(spaces: Spaces, va: int, above: int) -> None:
    """Bits above the ASID are ignored."""
    for space in range(2):
        spaces.map(space, VA, space)
        spaces.map(space, GLOBAL, 2, G)
    spaces.lap(0, None)
    now = [0, 1]
    for data in (2, 1, 0):
        space = spaces.present
        spaces.map(space, VA, data)
        now[space] = data
        assert spaces.lap(va, above | space + 1) == [[now[0], 2], [now[1], 2]]


def test_a_fence_of_all_spaces_takes_global_translations(spaces: Spaces) -> None:
    """One of a single space need not."""
    for space in range(2):
        spaces.map(space, VA, space)
        spaces.map(space, GLOBAL, 0, G)
    spaces.lap(0, None)
    for va, data in ((0, 1), (GLOBAL, 2), (0, 0), (GLOBAL, 1)):
        for space in range(2):
            spaces.map(space, GLOBAL, data, G)
        assert spaces.lap(va, None) == [[0, data], [1, data]]

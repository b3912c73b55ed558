"""Address translation: tier 0 against the evaluator on the toy ISA with an MMU, and what flushing must do."""

from __future__ import annotations

import random

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.isa.isa import Isa
from tests.engine.lockstep import Pair, random_state
from tests.engine.test_tier0 import random_code
from tests.engine.toy import ToyPort, ToyRam
from tests.engine.toy_mmu import LARGE, PAGES, D, R, U, W, X

SIZE = 0x10000
BASE = 0x10000  # physical; a large page's worth
TABLE = BASE + SIZE - 0x1000
OFFSET = TABLE - BASE


class MmuPort(ToyPort):
    """RAM at BASE, the toy's register, and what was notified."""

    ISA = "tests.engine.toy_mmu:build"

    def __init__(self, ram: ToyRam, *, big: bool = False, word: int = 32) -> None:
        super().__init__(ram, big=big, word=word, start=BASE)

    def on_notify(self, number: int, value: int) -> None:
        self.log.append((number, 0, value))


@pytest.fixture(params=[(False, 32), (True, 32), (False, 64)], ids=["le32", "be32", "le64"])
def toy(request: pytest.FixtureRequest, library: NativeLibrary) -> tuple[Isa, NativeIsa]:
    big, word = request.param
    native = library.get(MmuPort.ISA, {"big": big, "word": word})
    return native.isa, native


def pair_of(toy: tuple[Isa, NativeIsa]) -> Pair:
    isa, native = toy
    return Pair(isa, native, lambda ram: MmuPort(ram, big=isa.big_endian, word=isa.word), SIZE)


def set_entry(pair: Pair, page: int, target: int, flags: int) -> None:
    order = "big" if pair.isa.big_endian else "little"
    pair.write(OFFSET + 4 * page, (target | flags).to_bytes(4, order))


def random_table(rng: random.Random, pair: Pair) -> None:
    for page in range(PAGES):
        target = BASE + rng.randrange(0, 6) * 0x1000
        flags = rng.choice([R | W | X | U | D, R | W | X | U | D, R | W | X, R | X | U, rng.randrange(32)])
        if rng.random() < 0.3:
            target, flags = rng.choice([0xF0000, 0x4000_0000]), R | W | U
        set_entry(pair, page, target, flags)


@pytest.mark.parametrize("batch", [1, 29])
def test_random_code_agrees(toy: tuple[Isa, NativeIsa], batch: int) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    rng = random.Random(batch)
    faults = set()
    for _ in range(60):
        pair.write(0, random_code(rng, isa, SIZE // 4)[:OFFSET].ljust(OFFSET, b"\0"))
        random_table(rng, pair)
        state = random_state(rng, isa, [0, 0xFF8, 0x1FFE, 0x5FFC, 0x3F000, 0x2000])
        state.update({("vector", 0): rng.randrange(0, PAGES << 12, 2), ("root", 0): TABLE, ("mode", 0): rng.choice([1, 2])})
        pair.start(rng.choice([0, 0x1000, 0x1FFE, rng.randrange(0, PAGES << 12, 2)]), state)
        for _ in range(300 // batch):
            kind = pair.step(batch)
            faults.add(pair.left.get("cause"))
            if kind != Exit.BUDGET:
                break
        pair.compare_memory()
    assert batch > 1 or {16 + kind for kind in (1, 6, 8)} <= faults


def run_words(pair: Pair, at: int, *insns: bytes) -> None:
    pair.write(at, b"".join(insns))


def test_a_flush_of_a_page_and_of_a_large_mapping(toy: tuple[Isa, NativeIsa]) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    asm = isa.assemble
    set_entry(pair, 0, BASE, R | X)
    set_entry(pair, 1, BASE + 0x1000, R | W | D)
    set_entry(pair, 17, BASE, R | LARGE)
    pair.write(0x1000, b"\x11" * 8)
    pair.write(0x2000, b"\x22" * 8)
    pair.write(0, b"".join([
        asm("lb", rd=1, rs=2, imm=0), asm("lb", rd=3, rs=4, imm=0),
        asm("flush", rs=2, rd=0, imm=0), asm("flush", rs=4, rd=0, imm=0),
        asm("lb", rd=5, rs=2, imm=0), asm("lb", rd=6, rs=4, imm=0)]))
    pair.start(0, {("root", 0): TABLE, ("mode", 0): 1, ("r", 2): 0x1000, ("r", 4): 0x11000})
    pair.step()
    pair.step()
    assert pair.right.get("r", 1) == pair.right.get("r", 3) == 0x11
    set_entry(pair, 1, BASE + 0x2000, R | W | D)
    set_entry(pair, 17, 0x30000, R | LARGE)  # nothing is there
    for _ in range(3):
        pair.step()
    assert pair.right.get("r", 5) == 0x22
    pair.step()
    assert pair.right.get("cause") == 17


def test_pages_of_code_are_shared_by_mappings(toy: tuple[Isa, NativeIsa]) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    for page in (2, 9, 33):
        set_entry(pair, page, BASE, R | X | U)
    pair.write(0, isa.assemble("addi", rd=1, rs=1, imm=1))
    for page in (2, 9, 33):
        pair.start(page << 12, {("root", 0): TABLE, ("mode", 0): 2})
        pair.step()
        assert pair.right.get("r", 1) == 1
    assert len(pair.right.pages.by_phys) == 1


def test_a_store_through_another_mapping_reaches_decoded_code(toy: tuple[Isa, NativeIsa]) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    asm = isa.assemble
    set_entry(pair, 2, BASE, R | X)
    set_entry(pair, 5, BASE, R | W | D)
    loop = b"".join([asm("addi", rd=1, rs=1, imm=1), asm("sw", rs=3, rt=4, imm=0, rd=0), asm("jr", rs=5, rd=0, rt=0)])
    pair.write(0, loop)
    new = int.from_bytes(asm("addi", rd=1, rs=1, imm=5), "big" if isa.big_endian else "little")
    pair.start(0x2000, {("root", 0): TABLE, ("mode", 0): 1, ("r", 3): 0x5000, ("r", 4): new, ("r", 5): 0x2000})
    for _ in range(5):
        pair.step()
    pair.compare_memory()
    assert pair.right.get("r", 1) >= 6 or pair.right.get("cause")




@pytest.mark.parametrize(("target", "flags", "cause"), [(0x4000_0000, R | W | D, 18), (BASE, R | D, 23), (BASE, R | W, 0)])
def test_a_store_that_leaves_its_page_writes_nothing_where_the_second_one_fails(
    toy: tuple[Isa, NativeIsa], target: int, flags: int, cause: int,
) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    set_entry(pair, 0, BASE, R | X)
    set_entry(pair, 1, BASE + 0x1000, R | W | D)
    set_entry(pair, 2, target, flags)
    pair.write(0, isa.assemble("sw", rs=3, rt=4, imm=0, rd=0))
    pair.start(0, {("root", 0): TABLE, ("mode", 0): 1, ("r", 3): 0x1FFE, ("r", 4): 0x12345678})
    pair.step()
    pair.compare_memory()
    assert pair.right.get("cause") == cause
    written = pair.rams[1].map[0x1FFE:0x2000] != b"\0\0"
    assert written == (cause != 23)

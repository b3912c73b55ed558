"""Tier 0 against the evaluator on the toy ISA: random code, faults, contexts, interrupts, self-modification."""

from __future__ import annotations

import random
import threading

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.lockstep import CODE_LIMIT, Pair, random_state
from tests.engine.toy import ToyPort, ToyRam

SIZE = 0x4000
BASE = 0x1000


@pytest.fixture(params=[(False, 32), (True, 32), (False, 64)], ids=["le32", "be32", "le64"])
def toy(request: pytest.FixtureRequest, library: NativeLibrary) -> tuple[Isa, NativeIsa]:
    big, word = request.param
    native = library.get(ToyPort.ISA, {"big": big, "word": word})
    return native.isa, native


def random_code(rng: random.Random, isa: Isa, count: int) -> bytes:
    code = bytearray()
    for _ in range(count):
        insn = rng.choice(isa.insns)
        if insn.name == "sleep" and rng.random() < 0.9:
            continue
        word = rng.getrandbits(8 * insn.length) & ~insn.pattern.mask | insn.pattern.match
        if insn.length == 4 and rng.random() < 0.7:  # short distances
            word = word & 0xFFFF | (rng.randrange(-64, 64) & 0xFFFE) << 16
        if rng.random() < 0.02:
            word = rng.getrandbits(8 * insn.length)
        code += isa.to_bytes(word, insn.length)
    return bytes(code)


def pair_of(toy: tuple[Isa, NativeIsa]) -> Pair:
    isa, native = toy
    return Pair(isa, native, lambda ram: ToyPort(ram, big=isa.big_endian, word=isa.word), SIZE)


@pytest.mark.parametrize("batch", [1, 37])
def test_random_code_agrees(toy: tuple[Isa, NativeIsa], batch: int) -> None:
    isa, _ = toy
    pair = pair_of(toy)
    rng = random.Random(batch)
    kinds = set()
    for _ in range(60):
        pair.write(0, random_code(rng, isa, SIZE // 4)[:SIZE].ljust(SIZE, b"\0"))
        state = random_state(rng, isa, [BASE, BASE + 0x1FF0, BASE + SIZE - 16, 0xF0000, 0])
        state["vector", 0] = BASE + rng.randrange(0, SIZE, 2)
        pair.start(BASE + rng.choice([0, 0xFFC, rng.randrange(0, SIZE, 2)]), state)
        for _ in range(400 // batch):
            if batch == 1 and rng.random() < 0.1:
                pair.lines(rng.getrandbits(2))
            kind = pair.step(batch)
            kinds.add(kind)
            if kind == Exit.PANIC:
                break
        pair.compare_memory()
    pair.close()
    assert Exit.BUDGET in kinds


def test_a_loop_runs_until_it_is_kicked(toy: tuple[Isa, NativeIsa]) -> None:
    isa, native = toy
    ram = ToyRam(SIZE)
    cpu = NativeVcpu(native, ToyPort(ram, big=isa.big_endian, word=isa.word), BusError, CODE_LIMIT)
    code = isa.assemble("addi", rd=1, rs=1, imm=1) + isa.assemble("bne", rs=1, rt=0, imm=-4)
    ram.map[:len(code)] = code
    cpu.reset(BASE)
    outcome: list[Exit] = []
    thread = threading.Thread(target=lambda: outcome.append(cpu.run()))
    thread.start()
    cpu.kick()
    thread.join(10)
    assert outcome[0].kind == Exit.KICKED
    assert cpu.get("r", 1) == (cpu.instructions + 1) // 2 & (1 << isa.word) - 1
    cpu.close()


def test_an_access_around_the_end_of_addresses_faults(toy: tuple[Isa, NativeIsa]) -> None:
    """Its first byte is behind the RAM's first, its last before the RAM's last."""
    isa, _ = toy
    pair = pair_of(toy)
    pair.write(0, isa.assemble("lw", rd=1, rs=2, imm=-3) + isa.assemble("sw", rs=2, rt=1, imm=-3))
    for at in (0, 4):
        pair.start(BASE + at, {("vector", 0): BASE})
        pair.step()
        assert pair.right.get("cause") == 16 + (1 if at == 0 else 2)
    pair.close()


def test_nothing_behind_the_vector_is_a_panic(toy: tuple[Isa, NativeIsa]) -> None:

    pair = pair_of(toy)
    pair.start(BASE, {("vector", 0): 0x80000})
    pair.write(0, b"\xff" * 16)
    assert [pair.step(), pair.step()] == [Exit.BUDGET, Exit.PANIC]
    assert pair.right.get("pc") == 0x80000


def test_code_that_changes_itself(toy: tuple[Isa, NativeIsa]) -> None:
    """A store to the next instruction is seen by it, in the same page and without a fence."""
    isa, _ = toy
    pair = pair_of(toy)
    new = int.from_bytes(isa.assemble("addi", rd=2, rs=0, imm=7), "big" if isa.big_endian else "little")
    body = isa.assemble("addi", rd=3, rs=3, imm=1) + isa.assemble("sw", rs=4, rt=5, imm=8) + \
        isa.assemble("addi", rd=2, rs=0, imm=1) + isa.assemble("bne", rs=3, rt=6, imm=-12)
    pair.write(0, body)
    pair.start(BASE, {("r", 4): BASE, ("r", 5): new, ("r", 6): 3})
    for _ in range(9):
        pair.step()
    assert pair.right.get("r", 2) == 7


def test_another_cpu_writes_code(toy: tuple[Isa, NativeIsa]) -> None:
    """Two native CPUs on one RAM: what one writes the other runs, when it next looks."""
    isa, native = toy
    ram = ToyRam(SIZE)
    ports = [ToyPort(ram, big=isa.big_endian, word=isa.word) for _ in range(2)]
    reader, writer = (NativeVcpu(native, port, BusError, CODE_LIMIT) for port in ports)
    order = "big" if isa.big_endian else "little"
    loop = isa.assemble("addi", rd=1, rs=0, imm=1) + isa.assemble("bne", rs=1, rt=0, imm=-4)
    store = isa.assemble("sw", rs=4, rt=5, imm=0)
    ram.map[:len(loop)] = loop
    ram.map[0x2000:0x2000 + len(store)] = store
    writer.reset(BASE + 0x2000)
    writer.set("r", BASE + 0x100, 4)  # a write entry for the page before it holds code
    writer.step()
    reader.reset(BASE)
    reader.step(10)
    writer.set("pc", BASE + 0x2000)
    writer.set("r", BASE, 4)
    writer.set("r", int.from_bytes(isa.assemble("addi", rd=1, rs=0, imm=9), order), 5)
    writer.step()
    reader.step(10)
    assert reader.get("r", 1) == 9
    reader.close()
    writer.close()


def test_the_evaluator_keeps_nothing_of_what_it_ran(toy: tuple[Isa, NativeIsa]) -> None:
    """Every jump ends in an exception inside; none may hold on to the frames of those before."""
    import gc
    import sys

    isa, _ = toy
    pair = pair_of(toy)
    pair.write(0, isa.assemble("addi", rd=1, rs=0, imm=1) + isa.assemble("bne", rs=1, rt=0, imm=-4))
    pair.start(BASE, {})
    pair.left.step(50)
    gc.collect()
    before = sys.getallocatedblocks()
    pair.left.step(20000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 5000  # others' threads may have kept a little

"""Compiled regions against the evaluator: random code compiled wherever jumps go, faults, contexts, budgets, changing code."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine.block import RELAX_EACH
from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.native import NativeIsa, NativeLibrary
from ratite.core.engine.region import builder
from ratite.core.engine.region.access import Access, groups
from ratite.core.engine.region.manager import RegionManager
from ratite.core.engine.region.policy import Policy
from ratite.core.engine.region.waiting import Waiting
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from ratite.qapi.kept import key_of
from tests.engine import test_mmu
from tests.engine.lockstep import CODE_LIMIT, Eager, Pair, random_state
from tests.engine.test_ops import EDGES, OpsPort
from tests.engine.test_tier0 import BASE, SIZE, random_code
from tests.engine.toy import ToyPort, ToyRam
from tests.engine.toy_mmu import NEW, U, X

TOYS = [(False, 32), (True, 32), (False, 64)]


@pytest.fixture(params=[(1, False), (2, False), (1, True)], ids=["tier1", "tier2", "windows"])
def manager(request: pytest.FixtureRequest) -> Iterator[RegionManager]:
    tier, window = request.param
    made = RegionManager(Eager(tier, window=window))
    yield made
    made.close()


@pytest.fixture(params=TOYS, ids=["le32", "be32", "le64"])
def toy(request: pytest.FixtureRequest, library: NativeLibrary) -> tuple[Isa, NativeIsa]:
    big, word = request.param
    native = library.get(ToyPort.ISA, {"big": big, "word": word})
    return native.isa, native


def pair_of(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> Pair:
    isa, native = toy
    return Pair(isa, native, lambda ram: ToyPort(ram, big=isa.big_endian, word=isa.word), SIZE, manager)


def executed(pair: Pair) -> int:
    """Instructions that ran in regions."""
    return pair.right.compiled_instructions


def test_random_code_agrees(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    isa, _ = toy
    pair = pair_of(toy, manager)
    rng = random.Random(5)
    for _ in range(8):
        pair.write(0, random_code(rng, isa, SIZE // 4)[:SIZE].ljust(SIZE, b"\0"))
        state = random_state(rng, isa, [BASE, BASE + 0x1FF0, BASE + SIZE - 16, 0xF0000, 0])
        state["vector", 0] = BASE + rng.randrange(0, SIZE, 2)
        pair.start(BASE + rng.choice([0, 0xFFC, rng.randrange(0, SIZE, 2)]), state)
        for _ in range(10):
            if pair.step(rng.randrange(2, 40)) == Exit.PANIC:
                break
        pair.compare_memory()
    assert executed(pair) > 0
    pair.close()


def test_random_code_behind_an_mmu_agrees(library: NativeLibrary, manager: RegionManager) -> None:
    native = library.get(test_mmu.MmuPort.ISA, {"big": False, "word": 32})
    isa = native.isa
    pair = Pair(isa, native, lambda ram: test_mmu.MmuPort(ram, big=False, word=32), test_mmu.SIZE, manager)
    rng = random.Random(6)
    for _ in range(8):
        pair.write(0, random_code(rng, isa, test_mmu.SIZE // 4)[:test_mmu.OFFSET].ljust(test_mmu.OFFSET, b"\0"))
        test_mmu.random_table(rng, pair)
        state = random_state(rng, isa, [0, 0xFF8, 0x1FFE, 0x5FFC, 0x3F000, 0x2000])
        state.update({("vector", 0): rng.randrange(0, test_mmu.PAGES << 12, 2), ("root", 0): test_mmu.TABLE,
                      ("mode", 0): rng.choice([1, 2])})
        pair.start(rng.choice([0, 0x1000, 0x1FFE, rng.randrange(0, test_mmu.PAGES << 12, 2)]), state)
        for _ in range(10):
            if pair.step(rng.randrange(2, 40)) != Exit.BUDGET:
                break
        pair.compare_memory()
    assert executed(pair) > 0
    pair.close()


class OverTwoPages:
    """A loop behind an MMU, some of whose code, for when r2 is not 0, is on a second page."""

    def __init__(self, library: NativeLibrary, manager: RegionManager) -> None:
        native = library.get(test_mmu.MmuPort.ISA, {"big": False, "word": 32})
        asm = native.isa.assemble
        self.pair = Pair(native.isa, native, lambda ram: test_mmu.MmuPort(ram, big=False, word=32), test_mmu.SIZE, manager)
        self.start = 0xFF4
        self.flags(0, X | U)
        self.flags(1, X | U)
        code = [asm("bne", rs=2, rt=0, imm=0x1000 - self.start), asm("addi", rd=1, rs=1, imm=1),
                asm("bne", rs=1, rt=7, imm=-8), asm("addi", rd=2, rs=0, imm=0), asm("jr", rs=6)]
        self.pair.write(self.start, b"".join(code))

    def flags(self, page: int, flags: int) -> None:
        """Of a page's entry."""
        test_mmu.set_entry(self.pair, page, test_mmu.BASE + (page << 12), flags)

    def run(self, once: int) -> int:
        """From the start, all translations flushed; how many instructions were in regions. ``once``: r2."""
        state = {("root", 0): test_mmu.TABLE, ("mode", 0): 2, ("r", 0): 0, ("r", 6): self.start, ("r", 7): 100_000}
        before = executed(self.pair)
        self.pair.start(self.start, {**state, ("r", 1): 0, ("r", 2): once})
        self.pair.step(300)
        self.pair.compare_memory()
        return executed(self.pair) - before


@pytest.mark.parametrize("rare", [X | U, X | U | NEW, U], ids=["known", "never-accessed", "forbidden"])
def test_a_region_is_entered_though_a_page_of_it_was_flushed(
    library: NativeLibrary, manager: RegionManager, rare: int
) -> None:
    """Looking whether that page still is what it was changes nothing: an entry that no access has marked yet stays so, and
    nothing is told of one that forbids it."""
    over = OverTwoPages(library, manager)
    assert over.run(1) > 200
    over.flags(1, rare)
    assert (over.run(0) > 200) == (rare == X | U)
    over.pair.close()


def test_a_region_is_found_on_disk_though_a_page_of_it_was_never_run(library: NativeLibrary, tmp_path: Path) -> None:
    """But entered only where that page is what it was made from, in memory as in the page table."""
    cache = ObjectCache("", str(tmp_path / "cache"))

    def begin() -> tuple[RegionManager, OverTwoPages]:
        policy = Eager()
        policy.persistent = True
        manager = RegionManager(policy, cache)
        return manager, OverTwoPages(library, manager)

    manager, over = begin()
    assert over.run(1) > 200 and manager.counters[1].cached == 0
    over.pair.close()
    manager, over = begin()
    assert over.run(0) > 200 and manager.counters[1].cached > 0
    over.pair.write(0x1000, over.pair.isa.assemble("addi", rd=3, rs=3, imm=5))
    assert over.run(1) > 0
    over.pair.close()
    manager, over = begin()
    over.pair.write(0x1000, over.pair.isa.assemble("addi", rd=3, rs=3, imm=6))
    over.run(0)
    assert manager.counters[1].cached == 0
    over.run(1)
    over.pair.close()


def test_memory_that_may_be_gone_is_not_read(
    library: NativeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is asked for a region, what it would be compared with may be unplugged."""
    policy = Eager()
    policy.persistent = True
    manager = RegionManager(policy, ObjectCache("", str(tmp_path / "cache")))
    over = OverTwoPages(library, manager)
    found: list[tuple[int, bool]] = []

    def find(store: object, kind: str, entry: int, code: bytes, fits: Callable[[list[tuple[int, int, bytes]]], bool]) -> None:
        manager.forget_all()
        found.append((len(code), fits([(1, 0, b"\0\0\0\0")])))

    over.pair.write(0x1000, bytes(4))
    monkeypatch.setattr(builder.RegionStore, "find", find)
    over.run(0)
    assert found and set(found) == {(4096, False), (0, False)}
    over.pair.close()


@pytest.mark.parametrize("big", [False, True])
def test_accesses_behind_one_base_agree(library: NativeLibrary, manager: RegionManager, big: bool) -> None:
    """Loops over frames that lie in one page or two, of which each may be read-only, unmapped, clean or a device."""
    native = library.get(test_mmu.MmuPort.ISA, {"big": big, "word": 32})
    isa = native.isa
    pair = Pair(isa, native, lambda ram: test_mmu.MmuPort(ram, big=big, word=32), test_mmu.SIZE, manager)
    rng = random.Random(7)
    resume = isa.assemble("addi", rd=4, rs=4, imm=0x155) + isa.assemble("jr", rs=6)
    for _ in range(6):
        body = [isa.assemble("addi", rd=4, rs=4, imm=rng.choice([24, 36, 43, 72]))]
        for _ in range(rng.randrange(3, 12)):
            name, imm = rng.choice(["lw", "lw", "lb", "sw"]), rng.randrange(-100, 200)
            body.append(isa.assemble(name, **{"rt" if name == "sw" else "rd": rng.choice([2, 3])}, rs=4, imm=imm))
        pair.write(0x40, resume)
        pair.write(0x100, loop(isa, *body))
        pair.write(0x2000, rng.randbytes(0x6000))
        test_mmu.random_table(rng, pair)
        test_mmu.set_entry(pair, 0, test_mmu.BASE, 0x1F)
        for page in range(1, 5):
            kind = rng.choice([0x1F, 0x1F, 0x1F, 0x17, 0x1D, 0])  # all, clean, read-only, none
            test_mmu.set_entry(pair, page, test_mmu.BASE + 0x1000 * rng.randrange(2, 8), kind)
        pair.start(0x100, {("vector", 0): 0x40, ("root", 0): test_mmu.TABLE, ("mode", 0): 1, ("r", 6): 0x100,
                           ("r", 7): 5000, ("r", 4): 0x1000, ("r", 2): rng.getrandbits(32)})
        while pair.right.get("r", 4) < 0x3F00:
            pair.step(rng.randrange(20, 400))
        pair.compare_memory()
    assert executed(pair) > 1000
    pair.close()


def test_accesses_are_looked_up_together() -> None:
    """Those near each other behind one base, for writes where one of them writes."""
    rows = [Access("a", 8, 8, False), Access("b", 0, 4, False), Access("a", 0, 4, True), Access("a", 600, 1, False),
            Access("a", 602, 2, False), Access("a", 255, 2, False), Access("a", -3, 2, False)]
    found = groups(rows, aligned=False)
    assert found == {6: (0, -3, 16, True, 8), 2: (0, -3, 16, True, 8), 0: (0, -3, 16, True, 8),
                     3: (1, 600, 604, False, 2), 4: (1, 600, 604, False, 2)}
    assert groups(rows[:3], aligned=True) == {0: (0, 0, 16, True, 8), 2: (0, 0, 16, True, 8)}
    assert groups([Access("a", 2, 2, False), Access("a", 4, 4, False), Access("a", 9, 4, False)], aligned=True) == {
        0: (0, 0, 8, False, 4), 1: (0, 0, 8, False, 4)}


def test_every_operation_agrees(library: NativeLibrary, manager: RegionManager) -> None:
    """All operations in a row, behind a trap to their start."""
    native = library.get(OpsPort.ISA, {})
    isa = native.isa
    pair = Pair(isa, native, OpsPort, 0x4000, manager)
    code = b"".join(isa.to_bytes(n.pattern.match, 4) for n in isa.insns)
    manager.policy.limits = lambda tier, calls=False, window=False: {"eager": True, "instructions": 2000}  # type: ignore[method-assign]
    pair.write(0, code + isa.to_bytes(0x8000, 4))  # no instruction
    rng = random.Random(1)
    operands = [(a, b) for a in EDGES for b in EDGES] + [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(20)]
    for a, b in operands:
        pair.start(0x1000 + len(code), {("a", 0): a, ("b", 0): b, ("s", 0): 0x3000 + (a & 0x7F8)})
        pair.step(len(isa.insns))
    pair.compare_memory()
    assert executed(pair) > len(operands) * len(isa.insns) // 2
    pair.close()


def loop(isa: Isa, *body: bytes) -> bytes:
    """``body`` again and again while r1 differs from r7, which it counts up to."""
    inner = b"".join(body) + isa.assemble("addi", rd=1, rs=1, imm=1)
    return inner + isa.assemble("bne", rs=1, rt=7, imm=-len(inner))


@pytest.mark.parametrize("how", ["sc", "amoadd"])
def test_an_atomic_access_to_the_regions_own_code(toy: tuple[Isa, NativeIsa], manager: RegionManager, how: str) -> None:
    """What it writes is executed next, though no jump comes between."""
    isa, _ = toy
    if how == "amoadd" and isa.big_endian:
        pytest.skip("big-endian ISAs have none")
    order: Literal["big", "little"] = "big" if isa.big_endian else "little"
    old, new = (int.from_bytes(isa.assemble("addi", rd=2, rs=2, imm=imm), order) for imm in (1, 2))
    pair = pair_of(toy, manager)
    body = isa.assemble("ll", rd=5, rs=4), isa.assemble(how, rd=5, rs=4, rt=6), isa.assemble("addi", rd=2, rs=2, imm=1)
    pair.write(0, loop(isa, *body, isa.assemble("add", rd=6, rs=6, rt=3)))
    pair.start(BASE, {("r", 7): 100_000, ("r", 4): BASE + 0x2000})
    pair.step(6 * 20 - 1)  # the jump is next
    before = executed(pair)
    assert before > 0
    for cpu in (pair.left, pair.right):
        cpu.set("r", BASE + len(body[0] + body[1]), 4)
        cpu.set("r", old if how == "sc" else 0, 6)
        cpu.set("r", new - old, 3)
    pair.step(50)
    assert executed(pair) > before
    pair.close()


def test_a_loop_is_counted_exactly(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.start(BASE, {("r", 7): 100_000})
    for count in (10, 1, 999, 1000, 5000, 77):
        pair.step(count)
    assert executed(pair) > 5000
    pair.close()


def test_what_a_guest_that_has_nothing_to_do_makes_hot_is_not_compiled(
    toy: tuple[Isa, NativeIsa], manager: RegionManager, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is counted anew, and asked for once the guest has more to do."""
    dozing = [True]
    monkeypatch.setattr(NativeVcpu, "dozing", property(lambda _: dozing[0]))
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(5000)
    assert executed(pair) == 0 and not manager.builder.waiting
    dozing[0] = False
    pair.step(5000)
    assert executed(pair) > 1000
    pair.close()


@pytest.mark.parametrize("only", [True, False], ids=["counts", "adds"])
def test_a_loop_that_only_counts_stays_in_tier_0(toy: tuple[Isa, NativeIsa], manager: RegionManager, only: bool) -> None:
    """Inside of a loop that is compiled around it."""
    isa, _ = toy
    pair = pair_of(toy, manager)
    inner = loop(isa) if only else loop(isa, isa.assemble("add", rd=2, rs=2, rt=1))
    begin, again = isa.assemble("addi", rd=7, rs=1, imm=1000), isa.assemble("jr", rs=6)
    pair.write(0, begin + inner + isa.assemble("add", rd=3, rs=3, rt=1) + again)
    pair.start(BASE, {("r", 6): BASE})
    for count in (10, 1, 999, 5000, 2000, 77):
        pair.step(count)
    share = executed(pair) / pair.right.instructions
    assert 0 < share < 0.01 if only else share > 0.9, share
    pair.close()


def test_a_region_sees_its_own_store(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    """The loop stores over an instruction of itself in each round."""
    isa, _ = toy
    pair = pair_of(toy, manager)
    order = "big" if isa.big_endian else "little"
    new = int.from_bytes(isa.assemble("addi", rd=2, rs=2, imm=7), order)
    pair.write(0, loop(isa, isa.assemble("addi", rd=2, rs=2, imm=1), isa.assemble("sw", rs=4, rt=5, imm=0)))
    pair.start(BASE, {("r", 7): 100, ("r", 4): BASE + 0x800, ("r", 5): new})
    pair.step(40)
    assert executed(pair) > 0
    for cpu in (pair.left, pair.right):
        cpu.set("r", BASE, 4)
    pair.step(400)
    pair.close()


def test_another_writer_is_seen(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("addi", rd=2, rs=2, imm=1)))
    pair.start(BASE, {("r", 7): 100_000})
    for imm in range(2, 6):
        before = executed(pair)
        pair.step(50)
        pair.step(50)
        assert executed(pair) > before
        pair.write(0, isa.assemble("addi", rd=2, rs=2, imm=imm))
    assert manager.counters[1].invalidations >= 3
    pair.close()


def test_data_that_becomes_code(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    """A loop fills a page that holds no code; later it stores over what has been run there."""
    isa, _ = toy
    pair = pair_of(toy, manager)
    order = "big" if isa.big_endian else "little"
    there = BASE + 0x2000
    pair.write(0, loop(isa, isa.assemble("sw", rs=4, rt=5, imm=0), isa.assemble("add", rd=4, rs=4, rt=6)))
    pair.write(0x2000, loop(isa, isa.assemble("addi", rd=2, rs=2, imm=1)))
    state = {("r", 7): 100_000, ("r", 4): there + 0x100, ("r", 6): 4}
    for imm in (3, 5):
        new = int.from_bytes(isa.assemble("addi", rd=2, rs=2, imm=imm), order)
        pair.start(BASE, {**state, ("r", 5): new})
        pair.step(300)
        pair.start(there, state)
        pair.step(100)
        pair.start(BASE, {**state, ("r", 4): there, ("r", 6): 0, ("r", 5): new})
        pair.step(100)
        pair.start(there, state)
        pair.step(100)
    pair.compare_memory()
    assert executed(pair) > 0
    pair.close()


def test_all_of_the_ram_is_reached(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    """Byte by byte over its ends, where there is nothing."""
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0x100, loop(isa, isa.assemble("lw", rd=2, rs=4, imm=0), isa.assemble("sw", rs=4, rt=1, imm=-8),
                           isa.assemble("addi", rd=4, rs=4, imm=1)))
    pair.write(0x200, isa.assemble("addi", rd=4, rs=4, imm=1) + isa.assemble("jr", rs=6))
    for start in (BASE - 16, BASE + SIZE - 96):
        pair.start(BASE + 0x100, {("r", 7): 1000, ("r", 4): start, ("vector", 0): BASE + 0x200, ("r", 6): BASE + 0x100})
        pair.step(600)
        pair.compare_memory()
    assert executed(pair) > 0
    pair.close()


def test_mmio_in_a_loop(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    """Each access happens once, in order."""
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("lw", rd=2, rs=4, imm=0), isa.assemble("sw", rs=4, rt=2, imm=4)))
    pair.start(BASE, {("r", 7): 100, ("r", 4): 0xF0000})
    pair.step(350)
    pair.compare_memory()
    assert len(pair.ports[0].log) > 100
    pair.close()


def test_a_look_at_heat_needs_no_python(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    """The CPU leaves its region and goes on, where another request would have it come out."""
    isa, native = toy

    class Port(ToyPort):
        ask: Callable[[], None]

        def mmio_load(self, addr: int, size: int) -> int:
            self.ask()
            return super().mmio_load(addr, size)

    port = Port(ToyRam(SIZE), big=isa.big_endian, word=isa.word)
    code = loop(isa, isa.assemble("lw", rd=2, rs=4, imm=0))
    port.ram.map[:len(code)] = code
    cpu = NativeVcpu(native, port, BusError, CODE_LIMIT, manager)
    services = []
    for request in cpu.look_up, cpu.look_again:
        port.ask = request
        cpu.reset(BASE)
        cpu.set("r", 1000, 7)
        cpu.set("r", 0xF0000, 4)
        before = cpu.services
        cpu.advance(200)
        services.append(cpu.services - before)
    assert services[0] < 5 and services[1] > 20
    cpu.close()


def test_the_hottest_place_is_compiled_first(toy: tuple[Isa, NativeIsa], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that became hot last; and the last one, where control comes to none of them."""
    isa, _ = toy
    manager = RegionManager(Policy(threshold=10))
    waiting = Waiting()
    monkeypatch.setattr(manager.builder, "submit", waiting.append)
    pair = pair_of(toy, manager)
    loops = 0, 0x400, 0x800
    for at in loops:
        pair.write(at, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))

    def run(at: int, count: int) -> None:
        pair.start(BASE + at, {("r", 7): count})
        pair.step(3 * count - 30)

    def taken(least: int = 0) -> int:
        waiting.count(0.05)
        request = waiting.take(least)
        assert request is not None
        return request.offset

    for at in loops:
        run(at, 50)
    assert len(waiting) == 3 and waiting.take(1) is None  # nothing was counted from before
    assert taken() == loops[2]
    run(loops[0], 600)
    run(loops[1], 50)
    assert taken(4000) == loops[0] and waiting.take(4000) is None and taken() == loops[1] and waiting.take() is None
    pair.close()


def test_guests_that_need_every_core_keep_them(toy: tuple[Isa, NativeIsa], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seldom run waits for a free core, or until the worker has rested; what is hot doesn't. What isn't run at all
    waits until it is."""
    isa, _ = toy
    manager = RegionManager(Policy(threshold=10))
    chosen, waiting, now, busy = manager.builder, Waiting(), [100.0], [1]
    monkeypatch.setattr(chosen, "submit", waiting.append)
    monkeypatch.setattr(chosen, "_waiting", waiting)
    monkeypatch.setattr(builder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(builder, "os", SimpleNamespace(cpu_count=lambda: 2))
    monkeypatch.setattr(RegionManager, "busy", property(lambda _: busy[0]))
    pair = pair_of(toy, manager)
    loops = 0, 0x400, 0x800

    def run(at: int, count: int) -> None:
        pair.start(BASE + at, {("r", 7): count})
        pair.step(3 * count - 30)

    def taken(seconds: float = 1.0) -> int | None:
        now[0] += seconds
        request = chosen._next(0)
        return None if request is None else request.offset

    for at in loops:
        pair.write(at, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
        run(at, 50)
    chosen.policy.pressing, chosen.policy.worth = 10, 1000
    assert taken() is None and len(waiting) == 3, "control doesn't come there any more"
    run(loops[2], 500)
    assert taken() == loops[2]
    busy[0], chosen._rested = 2, 110.0
    run(loops[1], 500)
    assert taken() is None
    run(loops[0], 10_000)
    assert taken(chosen.policy.count_seconds / 2) is None, "not looked at anew"
    assert taken() == loops[0]
    run(loops[1], 500)
    assert taken() is None
    run(loops[1], 500)
    now[0] = 110.0
    assert taken() == loops[1]
    pair.close()


def test_who_waits_for_another_cpu_gives_up_its_core(
    toy: tuple[Isa, NativeIsa], manager: RegionManager, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Now and then; in regions as in tier 0."""
    isa, native = toy
    given_up = []
    function = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: given_up.append(1) or 0)
    monkeypatch.setattr(native, "sched_yield", ctypes.cast(function, ctypes.c_void_p).value)
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("relax")))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(10)
    assert not given_up
    pair.step(3 * 20 * RELAX_EACH)
    assert 20 <= len(given_up) <= 21 and executed(pair) > 10 * RELAX_EACH
    pair.close()


def test_interrupts_enter_between_instructions(toy: tuple[Isa, NativeIsa], manager: RegionManager) -> None:
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.write(0x100, isa.assemble("addi", rd=3, rs=3, imm=1) + isa.assemble("jr", rs=6))
    pair.start(BASE, {("r", 7): 100_000, ("vector", 0): BASE + 0x100, ("enable", 0): 1, ("r", 6): BASE})
    for k in range(6):
        pair.step(31)
        pair.lines(k & 1)
        pair.step(7)
    pair.close()




def kept(toy: tuple[Isa, NativeIsa], cache: ObjectCache, imm: int = 1) -> RegionManager:
    """A run of a loop; its regions go to ``cache`` or come from there."""
    isa, native = toy
    policy = Eager()
    policy.persistent = True
    manager = RegionManager(policy, cache)
    pair = Pair(isa, native, lambda ram: ToyPort(ram, big=isa.big_endian, word=isa.word), SIZE, manager)
    pair.write(0, loop(isa, *[isa.assemble("add", rd=3, rs=2, rt=1)] * 10, isa.assemble("addi", rd=2, rs=2, imm=imm)))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(500)
    assert executed(pair) > 0
    pair.close()
    return manager


def test_regions_are_found_again(toy: tuple[Isa, NativeIsa], tmp_path: Path) -> None:
    cache = ObjectCache("", str(tmp_path / "cache"))
    assert kept(toy, cache).counters[1].cached == 0
    assert kept(toy, cache).counters[1].cached == 1
    assert kept(toy, cache, imm=2).counters[1].cached == 0  # starts alike, goes on differently
    assert kept(toy, cache, imm=2).counters[1].cached == 1
    assert len(cache.files()) == 2


def test_what_is_on_disk_is_counted_only_once_something_was_added(
    toy: tuple[Isa, NativeIsa], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A daemon that finds all its regions has nothing to hold to the bound, and its guest starts sooner."""
    limits: list[int] = []
    cache = ObjectCache("", str(tmp_path / "cache"))
    monkeypatch.setattr(ObjectCache, "trim", lambda self, limit: limits.append(limit))
    kept(toy, cache).close()
    assert limits == [Policy().disk]
    kept(toy, cache).close()
    assert len(limits) == 1
    kept(toy, cache, imm=2).close()
    assert len(limits) == 2


def test_files_that_say_nonsense_are_ignored(toy: tuple[Isa, NativeIsa], tmp_path: Path) -> None:
    cache = ObjectCache("", str(tmp_path / "cache"))
    kept(toy, cache)
    ((_, _, path),) = cache.files()
    folder = ObjectCache("", str(Path(path).parent))
    head = b"{'pieces': [(0, 0, b'')], 'pages': [0], 'entries': [0], 'count': 1}"
    for body in (b"", b"\xff" * 40, b"\4\0\0\0[]  rest", len(head).to_bytes(4, "little") + head + b"no object"):
        folder.store(Path(path).name, body)
        kept(toy, cache)
    Path(path).write_bytes(Path(path).read_bytes()[:-1])
    kept(toy, cache)


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = ObjectCache("", str(tmp_path / "cache"))
    names = [key_of(bytes([k])) for k in range(4)]
    for k, name in enumerate(names):
        cache.store(name, bytes(1000))
        os.utime(tmp_path / "cache" / name, (k, k))
    assert cache.load(names[0]) is not None  # used now
    assert cache.trim(2500) == 2
    assert [Path(path).name for _, _, path in cache.files()] == [names[3], names[0]]
    assert cache.trim(0) == 2 and cache.files() == []


def test_workers_share_the_daemons_session(toy: tuple[Isa, NativeIsa], monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux shares its cores between sessions: one of its own would have as much as all CPUs together, however nice it is. A
    terminal's signals are not for it."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    manager = RegionManager(Eager())
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(50)
    (worker,) = started
    assert os.getsid(worker.pid) == os.getsid(0) and os.getpgid(worker.pid) == worker.pid
    pair.close()
    manager.close()


def test_a_worker_that_dies_costs_a_line(
    toy: tuple[Isa, NativeIsa], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = RegionManager(Eager())
    manager.policy.attempts = Policy().attempts
    monkeypatch.setattr(manager.policy, "passes", lambda tier: "no such passes")
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(50)
    assert executed(pair) == 0 and manager.counters[1].failures == 2, "it is tried once more"
    assert caplog.text.count("the compiler of regions failed pc=0x") == 2
    pair.close()


@pytest.mark.parametrize("forgotten", [False, True], ids=["", "view-changed"])
def test_what_a_worker_died_of_is_tried_again(
    toy: tuple[Isa, NativeIsa], monkeypatch: pytest.MonkeyPatch, forgotten: bool,
) -> None:
    """Somebody may have killed it, and the CPUs' view of memory may have changed meanwhile."""
    manager = RegionManager(Eager())
    right, wrong = manager.policy.passes, ["no such passes"]

    def passes(tier: int) -> str:
        if not wrong:
            return right(tier)
        if forgotten:
            manager.builder.forget_tries()
        return wrong.pop()

    monkeypatch.setattr(manager.policy, "passes", passes)
    isa, _ = toy
    pair = pair_of(toy, manager)
    pair.write(0, loop(isa, isa.assemble("add", rd=2, rs=2, rt=1)))
    pair.start(BASE, {("r", 7): 100_000})
    pair.step(50)
    assert executed(pair) > 0 and manager.counters[1].failures == 1
    pair.close()

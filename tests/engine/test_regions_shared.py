"""Regions among others: code rewritten from outside while it runs in one, CPUs that share them, more than there is room for.

The writers are a CPU of another ISA (the other byte order), one of the same, and what a device's DMA does (RamRegion.write).
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ratite.core.accel.base import Exit
from ratite.core.engine import block as B
from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.region.manager import RegionManager
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from ratite.core.memory.host import anonymous
from ratite.core.memory.ram import RamRegion
from tests.engine.lockstep import CODE_LIMIT, Eager, Pair
from tests.engine.test_regions import executed, loop
from tests.engine.toy import ToyPort

BASE, SIZE = 0x1000, 0x4000
OTHER, FLAG = 0x1000, 0x2000  # offsets of the writer's code and of the word in which the loop shows its number
ROUNDS, LOOPS = 8, 24
PATIENCE = 120.0
LITTLE, BIG = {"big": False, "word": 32}, {"big": True, "word": 32}


class SharedPort(ToyPort):
    """A toy's view of a RamRegion."""

    def __init__(self, region: RamRegion, big: bool) -> None:
        super().__init__(region, big=big)  # type: ignore[arg-type]


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def showing(isa: Isa, number: int) -> bytes:
    """The first instruction of the loop: r3 becomes ``number``."""
    return isa.assemble("addi", rd=3, rs=0, imm=number)


def shown(ram: RamRegion, number: int, big: bool = False) -> bool:
    return ram.read(FLAG, 4) == number.to_bytes(4, "big" if big else "little")


@contextmanager
def running(*cpus: NativeVcpu) -> Iterator[None]:
    """The CPUs run until they sleep, each in its thread; one that does not is kicked out, and that is an error."""
    ended: list[str] = []

    def body(cpu: NativeVcpu) -> None:
        while (kind := cpu.run().kind) in (Exit.IDLE, Exit.BUDGET):
            pass  # a loop that shows the same again and again is one that polls, and between two naps it stays for a while
        ended.append(kind)

    threads = [threading.Thread(target=body, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    try:
        yield
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        for cpu, thread in zip(cpus, threads, strict=True):
            while thread.is_alive():
                cpu.kick()
                thread.join(0.01)
    assert ended == [Exit.HALT] * len(cpus)


def in_region(cpu: NativeVcpu, before: int) -> bool:
    """Whether the CPU has run in regions since it had executed ``before`` instructions there; its leaving makes them count."""
    cpu.look_again()
    return cpu.compiled_instructions > before


def looping(ram: RamRegion, isa: Isa) -> None:
    """A loop that shows a number for ever."""
    ram.write(0, showing(isa, 1) + isa.assemble("sw", rs=4, rt=3, imm=0) + isa.assemble("bne", rs=4, rt=0, imm=-8))


def start(cpu: NativeVcpu) -> None:
    cpu.reset(BASE)
    cpu.set("r", BASE + FLAG, 4)


@pytest.fixture
def ram() -> RamRegion:
    return RamRegion("ram", anonymous(SIZE))


@pytest.fixture(params=[1, 2], ids=["tier1", "tier2"])
def manager(request: pytest.FixtureRequest) -> Iterator[RegionManager]:
    policy = Eager(request.param)
    policy.synchronous = False  # CPUs of several threads ask
    made = RegionManager(policy)
    yield made
    made.close()


@pytest.mark.parametrize("big", [False, True], ids=["same", "other"])
def test_a_cpu_rewrites_what_another_runs(library: NativeLibrary, ram: RamRegion, manager: RegionManager, big: bool) -> None:
    """It stores an instruction into the loop, and waits until that shows the new number; each time the loop was in a region."""
    native, writer_native = library.get(ToyPort.ISA, LITTLE), library.get(ToyPort.ISA, BIG if big else LITTLE)
    isa, order = writer_native.isa, "big" if big else "little"
    first = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    second = NativeVcpu(writer_native, SharedPort(ram, big), BusError, CODE_LIMIT, manager)
    looping(ram, native.isa)
    wait = isa.assemble("lw", rd=2, rs=4, imm=0)
    wait += isa.assemble("bne", rs=2, rt=7, imm=-len(wait))
    ram.write(OTHER, isa.assemble("sw", rs=6, rt=5, imm=0) + wait + isa.assemble("sleep"))
    start(first)
    with running(first):
        for number in range(2, 2 + ROUNDS):
            before = first.compiled_instructions
            until(lambda before=before: in_region(first, before))  # type: ignore[misc]
            second.reset(BASE + OTHER)
            for index, value in (
                (4, BASE + FLAG), (5, int.from_bytes(showing(native.isa, number), order)), (6, BASE),
                (7, int.from_bytes(number.to_bytes(4, "little"), order)),
            ):  # fmt: skip
                second.set("r", value, index)
            with running(second):
                pass
            assert shown(ram, number)
        ram.write(0, 2 * native.isa.assemble("sleep"))
    assert manager.counters[1].invalidations >= ROUNDS
    first.close()
    second.close()


def test_a_device_rewrites_what_a_cpu_runs(library: NativeLibrary, ram: RamRegion, manager: RegionManager) -> None:
    native = library.get(ToyPort.ISA, LITTLE)
    cpu = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    looping(ram, native.isa)
    start(cpu)
    with running(cpu):
        for number in range(2, 2 + ROUNDS):
            before = cpu.compiled_instructions
            until(lambda before=before: in_region(cpu, before))  # type: ignore[misc]
            ram.write(0, showing(native.isa, number))
            until(lambda number=number: shown(ram, number))  # type: ignore[misc]
        ram.write(0, 2 * native.isa.assemble("sleep"))
    assert manager.counters[1].invalidations >= ROUNDS
    cpu.close()


def test_cpus_share_regions(library: NativeLibrary, ram: RamRegion) -> None:
    """What was compiled for one is entered by all, also by one that comes later, and is gone for all when its code changes."""
    native, manager = library.get(ToyPort.ISA, LITTLE), RegionManager(Eager())
    isa = native.isa
    ram.write(0, loop(isa, showing(isa, 1), isa.assemble("sw", rs=4, rt=3, imm=0)) + isa.assemble("sleep"))
    cpus = [NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager) for _ in range(4)]
    for number in range(2, 5):
        compiled = manager.counters[1].compiled
        for k, cpu in enumerate(cpus):
            before = cpu.compiled_instructions
            start(cpu)
            cpu.set("r", 1000, 7)
            assert cpu.run().kind == Exit.HALT
            assert shown(ram, number - 1) and cpu.compiled_instructions > before
            assert manager.counters[1].compiled - compiled == 1, k
        ram.write(0, showing(isa, number))
        ram.write(FLAG, bytes(4))
    assert manager.counters[1].invalidations == 3
    for cpu in cpus:
        cpu.close()


def test_each_cpu_counts_for_itself(library: NativeLibrary, ram: RamRegion) -> None:
    """In a cache line of its own; what is told are the sums."""
    native, manager = library.get(ToyPort.ISA, LITTLE), RegionManager(Eager())
    isa = native.isa
    ram.write(0, loop(isa, showing(isa, 1), isa.assemble("sw", rs=4, rt=3, imm=0)) + isa.assemble("sleep"))
    cpus = [NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager) for _ in range(B.STRIPES + 1)]
    for cpu in cpus:
        start(cpu)
        cpu.set("r", 1000, 7)
        assert cpu.run().kind == Exit.HALT
    (region,) = {region for rows in manager._by_page.values() for region in rows}
    each = [cpu.compiled_instructions for cpu in cpus]
    assert region.heat == sum(each) == manager.report()["tiers"][0]["instructions"]
    assert list(region._stat[::B.STRIPE_SIZE // 8]) == [each[0] + each[-1], *each[1:-1]]
    assert region.placed.symbols["stat"] % B.STRIPE_SIZE == 0
    for cpu in cpus:
        cpu.close()


def test_cpus_that_share_regions_see_new_code_at_once(library: NativeLibrary, ram: RamRegion, manager: RegionManager) -> None:
    native = library.get(ToyPort.ISA, LITTLE)
    cpus = [NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager) for _ in range(3)]
    looping(ram, native.isa)
    for k, cpu in enumerate(cpus):
        start(cpu)
        cpu.set("r", BASE + FLAG + 64 * k, 4)
    with running(*cpus):
        for number in range(2, 2 + ROUNDS):
            seen = [cpu.compiled_instructions for cpu in cpus]
            for cpu, before in zip(cpus, seen, strict=True):
                until(lambda cpu=cpu, before=before: in_region(cpu, before))  # type: ignore[misc]
            ram.write(0, showing(native.isa, number))
            want = number.to_bytes(4, "little")
            until(lambda want=want: all(ram.read(FLAG + 64 * k, 4) == want for k in range(len(cpus))))  # type: ignore[misc]
        ram.write(0, 2 * native.isa.assemble("sleep"))
    for cpu in cpus:
        cpu.close()


def test_workers_that_all_fail_are_left_alone_for_a_while(library: NativeLibrary, ram: RamRegion) -> None:
    """Where there is no memory for any, say: each attempt takes a guest's time."""
    native, policy = library.get(ToyPort.ISA, LITTLE), Eager()
    policy.synchronous, policy.fail_seconds = False, (PATIENCE, PATIENCE)
    right, policy.passes = policy.passes, lambda tier: "no such passes"  # type: ignore[method-assign]
    manager = RegionManager(policy)
    cpu = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    looping(ram, native.isa)
    start(cpu)
    while not manager.counters[1].failures:
        cpu.advance(1000)
    until(lambda: not manager.builder._current)
    policy.passes = right  # type: ignore[method-assign]
    while not manager.builder.waiting:  # it is asked for again
        cpu.advance(1000)
    with manager.builder._wake:
        assert manager.builder._next(0) is None and manager.builder._patience(0) > PATIENCE / 2
        manager.builder._resumed = 0.0
        manager.builder._wake.notify_all()
    while not cpu.compiled_instructions:
        cpu.advance(1000)
    assert manager.builder._failures == 0
    cpu.close()


def test_a_cpu_goes_though_a_worker_hangs(
    library: NativeLibrary, ram: RamRegion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    native = library.get(ToyPort.ISA, LITTLE)
    popen, workers = subprocess.Popen, []

    def stopped(*args: Any, **more: Any) -> Any:
        workers.append(popen(*args, **more))
        workers[-1].send_signal(signal.SIGSTOP)
        return workers[-1]

    monkeypatch.setattr("subprocess.Popen", stopped)
    policy = Eager()
    policy.synchronous, policy.seconds = False, PATIENCE
    manager = RegionManager(policy)
    cpu, other = (NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager) for _ in range(2))
    looping(ram, native.isa)
    start(cpu)
    while not manager.builder._asking:
        cpu.advance(1000)
    cpu.close()
    assert cpu not in manager.builder._current.values(), "nobody reads its pages any more"
    assert workers[0].poll() == -signal.SIGKILL and "the compiler" not in caplog.text
    other.close()


def test_code_that_changes_while_it_is_compiled_gets_hot_again(
    library: NativeLibrary, ram: RamRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is behind the place that was asked for, whose count it leaves alone."""
    native, manager = library.get(ToyPort.ISA, LITTLE), RegionManager(Eager())
    isa = native.isa
    cpu = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    ram.write(0, loop(isa, isa.assemble("addi", rd=2, rs=2, imm=1), showing(isa, 1)))
    ask, changes = manager.builder._ask, [3, 2]

    def change_meanwhile(*args: Any) -> Any:
        answer = ask(*args)
        if changes:
            ram.write(4, showing(isa, changes.pop()))
        return answer

    monkeypatch.setattr(manager.builder, "_ask", change_meanwhile)
    cpu.reset(BASE)
    cpu.set("r", 1 << 30, 7)
    for _ in range(8):
        cpu.advance(40)
    assert not changes and manager.counters[1].compiled == 1
    assert cpu.compiled_instructions > 0 and cpu.get("r", 3) == 3
    cpu.close()


@pytest.mark.parametrize("waits", [False, True], ids=["asks", "waits"])
def test_regions_make_room_for_others(library: NativeLibrary, waits: bool) -> None:
    """Many loops, and an arena of sixteen pages, the smallest there is: the oldest go, and what comes back is right. The CPU
    goes on meanwhile, or waits for each of its regions."""
    native = library.get(ToyPort.ISA, LITTLE)
    isa = native.isa
    policy = Eager()
    policy.code_size, policy.synchronous = 16 * 4096, waits
    manager = RegionManager(policy)
    pair = Pair(isa, native, lambda ram: ToyPort(ram, word=32), SIZE, manager)
    # each pair has a base of its own, for the region of what can be looked up together is small
    body = [isa.assemble("lw", rd=4, rs=4, imm=0), isa.assemble("sw", rs=4, rt=4, imm=4)] * 12
    pair.write(FLAG, (BASE + FLAG).to_bytes(4, "little"))
    for k in range(LOOPS):
        pair.write(k * 0x100, loop(isa, *body, isa.assemble("addi", rd=3, rs=3, imm=k)))

    def goes_on(before: int) -> bool:
        pair.step(200)
        return executed(pair) > before

    for k in [*range(LOOPS), *range(LOOPS)]:
        pair.start(BASE + k * 0x100, {("r", 7): 1 << 30, ("r", 4): BASE + FLAG})
        before = executed(pair)
        until(lambda before=before: goes_on(before))  # type: ignore[misc]
    counters = manager.counters[1]
    assert counters.evictions > LOOPS and counters.compiled > LOOPS and counters.failures == 0
    assert counters.bytes <= policy.code_size
    pair.close()


def test_a_folder_beyond_its_bound_is_trimmed_in_a_lull(library: NativeLibrary, ram: RamRegion, tmp_path: Path) -> None:
    """By the thread that compiles, while the guest goes on."""
    cache = ObjectCache("", str(tmp_path))
    cache.store("0" * 64, bytes(1000))
    policy = Eager()
    policy.synchronous, policy.persistent, policy.pressing = False, True, 0
    policy.disk, policy.lull_seconds = 1, 0.01
    manager = RegionManager(policy, cache)
    native = library.get(ToyPort.ISA, LITTLE)
    cpu = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    looping(ram, native.isa)
    start(cpu)
    with running(cpu):
        until(lambda: in_region(cpu, 0) and not cache.files())
        ram.write(8, native.isa.assemble("sleep"))
    manager.close()


def test_what_gets_hot_later_is_looked_at_soon(library: NativeLibrary, ram: RamRegion) -> None:
    """However long nothing was worth compiling: the pauses between looks begin anew."""
    policy = Eager()
    policy.synchronous = False
    manager = RegionManager(policy)
    manager.builder._pause = policy.choice_seconds = 1e6
    native = library.get(ToyPort.ISA, LITTLE)
    cpu = NativeVcpu(native, SharedPort(ram, False), BusError, CODE_LIMIT, manager)
    looping(ram, native.isa)
    start(cpu)
    with running(cpu):
        until(lambda: in_region(cpu, 0))
        ram.write(8, native.isa.assemble("sleep"))
    manager.close()

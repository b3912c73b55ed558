"""CPUs: threads, halting, lines, panics, engine faults, hot plug while guests run.  The guest is a Python callable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from core_kit import Bench, FakeCpu

from ratite.core.accel.base import Exit
from ratite.core.cpu import thread as thread_module
from ratite.core.memory import BusError


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    FakeCpu.program = None
    made.machine.close()


def until(check: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def guest(program: Callable[[Any], Exit | None]) -> None:
    """Every fake CPU realized from now on runs this."""
    FakeCpu.program = staticmethod(program)


def start(bench: Bench, **cpu: Any) -> Any:
    bench.basic(**cpu)
    bench.exit_preconfig()
    bench.cont()
    return bench.cpu()


def test_run_stop_and_look(bench: Bench) -> None:
    cpu = start(bench)
    until(cpu.vcpu.in_run.is_set)
    assert bench.get_property("cpu0", "activity") == "running"
    assert cpu.thread_id > 0
    bench.stop()
    assert bench.get_property("cpu0", "activity") == "parked" and not cpu.vcpu.in_run.is_set()
    count = cpu.vcpu.instructions
    assert count > 0 and bench.get_property("cpu0", "instructions") == count
    bench.set_property("cpu0", "x2", 0xDEAD)
    assert cpu.vcpu.get("x", 2) == 0xDEAD and bench.get_property("cpu0", "x2") == 0xDEAD
    assert bench.error("set_property", "cpu0", "x2", 1 << 64) == "Parameter 'x2' expects uint64"
    assert cpu.save_state()["x2"] == 0xDEAD
    text = "Property 'fake-cpu.x2' doesn't take value '13': unlucky"
    assert bench.error("set_property", "cpu0", "x2", 13) == text


def test_registers_of_a_running_cpu_are_read_while_it_is_parked(bench: Bench) -> None:
    cpu = start(bench)
    until(cpu.vcpu.in_run.is_set)
    assert bench.get_property("cpu0", "pc") == 0x100
    until(cpu.vcpu.in_run.is_set)
    assert bench.names() == ["RESUME"], "looking is no event"
    assert "/machine/peripheral/cpu0 fake-cpu realized" in bench.tree_dump()


def test_a_guest_sleeps_until_a_line_rises(bench: Bench) -> None:
    woken = threading.Event()

    def program(vcpu: Any) -> Exit | None:
        if vcpu.has_work():
            woken.set()
            vcpu.kicked.wait(0.001)
            return None
        return Exit(Exit.HALT)

    guest(program)
    cpu = start(bench)
    until(lambda: cpu.thread.state == "halted")
    bench.stop()
    bench.cont()
    until(lambda: cpu.thread.state == "halted")
    assert cpu.vcpu.instructions == 1, "pause and continue don't wake a sleeping guest"
    bench.call(bench.machine.resolve("w0").mmio_write, "regs", 0, 4, 1)
    assert woken.wait(5)


def test_a_guest_that_polls_naps_until_something_is_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "NAP_S", 600)
    woken = threading.Event()

    def program(vcpu: Any) -> Exit | None:
        if vcpu.values["irq_lines"][0]:
            woken.set()
            vcpu.kicked.wait(0.001)
            return None
        return Exit(Exit.IDLE)

    guest(program)
    cpu = start(bench)
    until(lambda: cpu.thread.state == "halted")
    assert cpu.vcpu.instructions == 1 and not cpu.thread.asleep
    bench.stop()
    assert cpu.thread.parked
    bench.cont()
    until(lambda: cpu.thread.state == "halted")
    bench.reset()
    until(lambda: cpu.thread.state == "halted")
    bench.call(bench.machine.resolve("w0").mmio_write, "regs", 0, 4, 1)
    assert woken.wait(20)


def test_a_nap_ends_by_itself(bench: Bench) -> None:
    """Devices may write what the guest polls, and raise no line."""
    guest(lambda vcpu: Exit(Exit.IDLE) if vcpu.instructions < 5 else None)
    cpu = start(bench)
    until(lambda: cpu.thread.state == "running" and cpu.vcpu.instructions >= 5)


class Polling:
    """A machine whose CPUs poll: each nap ends when a line rises, not by itself.  What a stay in the guest behind one comes to
    is in `then`: an Exit, an error, or None for a guest that goes on computing."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.then: list[Exit | Exception | None] = []
        self.fired: list[str] = []
        guest(self._program)
        self.cpu = start(bench)
        until(lambda: self.keeps(self.cpu))

    def _program(self, vcpu: Any) -> Exit | None:
        vcpu.values["irq_lines"][0] = 0
        then = self.then.pop() if self.then else Exit(Exit.IDLE)
        if isinstance(then, Exception):
            raise then
        if then is None:
            vcpu.kicked.wait(20)
        return then

    def keeps(self, cpu: Any) -> bool:
        """Whether this CPU naps and fires the timers."""
        return cpu.thread.state == "halted" and cpu.thread._keeps

    def timer(self, then: Callable[[], object] = list) -> Callable[[], str]:
        """A timer; the function arms it, waits until it has fired, and tells on which thread."""
        done = threading.Event()

        def fire() -> None:
            self.fired.append(threading.current_thread().name)
            then()
            done.set()

        one = self.bench.machine.clock.timer(fire)

        def run() -> str:
            done.clear()
            self.bench.call(one.arm_after, 1)
            assert done.wait(20)
            return self.fired[-1]

        return run

    def interrupt(self) -> None:
        self.bench.call(self.cpu.inp("irq").deliver, 1)


@pytest.fixture
def polling(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Polling:
    monkeypatch.setattr(thread_module, "NAP_S", 600)
    return Polling(bench)


def test_a_cpu_that_naps_fires_the_timers(polling: Polling) -> None:
    cpu = polling.cpu
    quiet, loud = polling.timer(), polling.timer(lambda: cpu.inp("irq").deliver(1))
    assert quiet() == "test:cpu0"
    assert cpu.vcpu.instructions == 1, "which is no reason to end the nap"
    for count in range(2, 5):
        assert loud() == "test:cpu0"
        until(lambda count=count: cpu.vcpu.instructions == count and polling.keeps(cpu))
    assert quiet() == "test:cpu0"


def test_a_nap_that_ends_by_itself_keeps_the_clock(bench: Bench) -> None:
    polling = Polling(bench)
    until(lambda: polling.cpu.vcpu.instructions >= 5)
    assert polling.timer()() == "test:cpu0"


def test_a_cpu_that_naps_between_other_work_leaves_the_timers_to_the_owner(polling: Polling) -> None:
    cpu = polling.cpu
    polling.bench.stop()
    cpu.vcpu.dozes = False
    polling.bench.cont()
    until(lambda: cpu.thread.state == "halted")
    assert not cpu.thread._keeps
    assert polling.timer(lambda: cpu.inp("irq").deliver(1))() == "ratite-test"
    cpu.vcpu.dozes = True
    polling.interrupt()
    until(lambda: polling.keeps(cpu))
    assert polling.timer()() == "test:cpu0"


def test_a_cpu_that_has_more_to_do_than_before_leaves_the_timers_to_the_owner(polling: Polling) -> None:
    """Its next stay in the guest may be a long one."""
    cpu = polling.cpu
    cpu.vcpu.dozes = False
    polling.interrupt()
    until(lambda: cpu.vcpu.instructions == 2 and cpu.thread.state == "halted")
    assert polling.timer()() == "ratite-test"


def test_a_failing_timer_does_not_hold_up_the_others(polling: Polling) -> None:
    bad = polling.bench.machine.clock.timer(lambda: [][0])
    polling.bench.call(bad.arm, 0)
    assert polling.timer()() == "test:cpu0" and bad.deadline is None
    assert polling.bench.machine.status == "running"


@pytest.mark.parametrize("then", [
    [None, Exit(Exit.BUDGET)], [Exit(Exit.HALT)], [None, Exit(Exit.KICKED)]], ids=["computes", "sleeps", "kicked"])
def test_a_cpu_that_naps_no_more_leaves_the_timers_to_the_owner(polling: Polling, then: list[Exit | Exception | None]) -> None:
    """A guest that computes comes out when its short stay is over."""
    polling.then = then
    polling.interrupt()
    until(lambda: not polling.then and not polling.cpu.thread._keeps)
    assert polling.timer()() == "ratite-test"


@pytest.mark.parametrize("then", [Exit(Exit.PANIC, "over"), RuntimeError("ours")], ids=["panic", "fault"])
def test_a_cpu_that_failed_leaves_the_timers_to_the_owner(polling: Polling, then: Exit | Exception) -> None:
    polling.then = [then]
    polling.interrupt()
    polling.bench.wait_event("STOP")
    assert not polling.cpu.thread._keeps
    polling.bench.call(polling.bench.machine.clock.start)
    assert polling.timer()() == "ratite-test"


def test_timers_while_a_cpu_that_napped_is_stopped_held_and_unplugged(polling: Polling) -> None:
    bench, cpu = polling.bench, polling.cpu
    note = polling.timer()
    bench.stop()
    assert not cpu.thread._keeps
    bench.call(bench.machine.clock.start)
    assert note() == "ratite-test"
    bench.call(bench.machine.clock.stop)
    bench.cont()
    until(lambda: polling.keeps(cpu))
    assert note() == "test:cpu0"
    bench.call(cpu.inp("halt").deliver, 1)
    until(lambda: cpu.thread.state == "held")
    assert note() == "ratite-test"
    bench.call(cpu.inp("halt").deliver, 0)
    until(lambda: polling.keeps(cpu))
    bench.reset()
    until(lambda: polling.keeps(cpu))
    assert note() == "test:cpu0"
    thread = cpu.thread
    for wire in list(bench.machine.assembly.wires):
        bench.unwire_irq(*wire)
    bench.device_del("cpu0")
    until(lambda: thread.ended)
    assert note() == "ratite-test"


def test_of_several_cpus_that_nap_one_fires_the_timers(polling: Polling) -> None:
    bench, first = polling.bench, polling.cpu
    bench.device_add("fake-cpu", "hot", {"cluster": "cl", "cpu-index": 1, "start-powered-off": False})
    second = bench.cpu("hot")

    def one_keeps() -> bool:
        return [cpu.thread.state for cpu in (first, second)] == ["halted"] * 2 and first.thread._keeps != second.thread._keeps

    until(one_keeps)
    note = polling.timer()
    for _ in range(10):
        before = len(polling.fired)
        assert note() == f"test:{(first if first.thread._keeps else second).id}"
        assert len(polling.fired) == before + 1
    keeper, other = (first, second) if first.thread._keeps else (second, first)
    polling.then = [None, Exit(Exit.BUDGET)]
    bench.call(keeper.inp("irq").deliver, 1)
    until(lambda: not polling.then and not keeper.thread._keeps)
    bench.call(other.inp("irq").deliver, 1)
    until(lambda: polling.keeps(other))
    assert note() == f"test:{other.id}"


def test_a_timer_that_comes_near_while_the_guest_runs_is_the_owners(polling: Polling) -> None:
    """The CPU would be back soon, but it may be too late for this one."""
    polling.then = [None]
    polling.interrupt()
    until(lambda: not polling.then and polling.cpu.thread.state == "running")
    far = polling.bench.machine.clock.timer(list)
    polling.bench.call(far.arm_after, 3_600_000_000_000)
    assert polling.cpu.thread._keeps, "far away"
    assert polling.timer()() == "ratite-test"
    assert not polling.cpu.thread._keeps


def test_a_timer_that_is_due_soon_is_not_kept_over_a_stay_in_the_guest(
    polling: Polling, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thread_module, "KEPT_S", 7200)
    soon = polling.bench.machine.clock.timer(list)
    polling.bench.call(soon.arm_after, 3_600_000_000_000)
    polling.then = [None]
    polling.interrupt()
    until(lambda: not polling.then and not polling.cpu.thread._keeps)
    assert polling.timer()() == "ratite-test"


def test_a_machine_ends_while_its_cpus_nap(polling: Polling) -> None:
    thread = polling.cpu.thread
    polling.bench.machine.close()
    assert thread.ended


def test_mmio_and_ram_through_the_clusters_view(bench: Bench) -> None:
    cpu = start(bench)
    bench.stop()
    cpu.mmio_store(0x100008, 4, 0x1234)
    assert bench.get_property("w0", "odd") == 0x1234 and cpu.mmio_load(0x100008, 4) == 0x1234
    with pytest.raises(BusError):
        cpu.mmio_load(0x5000000, 4)
    (ram,) = cpu.ram_ranges()
    assert (ram.start, ram.size, ram.readonly) == (0, 0x10000, False)
    assert bench.get_property("/objects/mem", "bus-errors-total") == 1


def test_a_guest_waiting_for_the_lock_is_parked_too(bench: Bench) -> None:
    def program(vcpu: Any) -> None:
        vcpu.cpu.mmio_load(0x100000, 4)

    guest(program)
    cpu = start(bench)
    for _ in range(20):
        bench.stop()
        assert cpu.thread.state == "parked"
        bench.cont()


def test_a_panic_pauses_the_machine_with_everything_to_look_at(bench: Bench) -> None:
    def program(vcpu: Any) -> Exit | None:
        vcpu.values["pc"] = [0xBAD0]
        return Exit(Exit.PANIC, "instruction access fault at the trap handler")

    guest(program)
    start(bench)
    assert bench.wait_event("GUEST_PANICKED") == {"action": "pause"}
    bench.wait_event("STOP")
    until(lambda: bench.machine.status == "guest-panicked")
    panic = bench.machine.panic
    assert panic is not None
    assert panic == ("/machine/peripheral/cpu0", 0xBAD0, "instruction access fault at the trap handler")
    assert bench.get_property("cpu0", "pc") == 0xBAD0
    assert "at pc 0xbad0" in bench.get_property("cpu0", "panic")
    assert not bench.machine.clock.running
    FakeCpu.program = None
    bench.reset()
    assert bench.machine.status == "prelaunch" and bench.machine.panic is None
    assert bench.get_property("cpu0", "pc") == 0x100 and bench.get_property("cpu0", "panic") == ""
    bench.cont()
    assert bench.machine.status == "running"


def test_a_fault_of_the_engine_is_an_internal_error_not_a_dead_thread(bench: Bench) -> None:
    def program(vcpu: Any) -> Exit | None:
        raise ZeroDivisionError("engine bug")

    guest(program)
    cpu = start(bench)
    bench.wait_event("STOP")
    until(lambda: bench.machine.status == "internal-error")
    assert "ZeroDivisionError: engine bug" in bench.get_property("cpu0", "panic")
    assert bench.error("cont") == "Resetting the Virtual Machine is required"
    FakeCpu.program = None
    bench.reset()
    bench.cont()
    until(cpu.vcpu.in_run.is_set)


def test_reset_and_halt_lines_hold_the_cpu(bench: Bench) -> None:
    cpu = start(bench)
    write = bench.machine.resolve("w0").mmio_write
    for bit in (2, 4):
        until(cpu.vcpu.in_run.is_set)
        cpu.vcpu.values["x"][1] = 99
        bench.call(write, "regs", 0, 4, bit)
        until(lambda: cpu.thread.state == "held")
        if bit == 2:
            until(lambda: cpu.vcpu.values["x"][1] == 0)
        bench.call(write, "regs", 0, 4, 0)
        until(cpu.vcpu.in_run.is_set)
        assert cpu.vcpu.values["x"][1] == (0 if bit == 2 else 99)
    bench.stop()
    bench.call(write, "regs", 0, 4, 2)
    assert cpu.vcpu.values["x"][1] == 0, "a parked CPU is reset at once"


def test_a_cpu_that_starts_powered_off_waits_for_its_line(bench: Bench) -> None:
    cpu = start(bench, **{"start-powered-off": True})
    until(lambda: cpu.thread.state == "held")
    write = bench.machine.resolve("w0").mmio_write
    bench.call(write, "regs", 0, 4, 2)
    assert cpu.vcpu.instructions == 0
    bench.call(write, "regs", 0, 4, 0)
    until(cpu.vcpu.in_run.is_set)


def test_a_cpu_is_plugged_into_a_running_machine_and_unplugged(bench: Bench) -> None:
    first = start(bench)
    for _ in range(3):
        bench.device_add("fake-cpu", "hot", {"cluster": "cl", "cpu-index": 1, "start-powered-off": False})
        hot = bench.cpu("hot")
        until(hot.vcpu.in_run.is_set)
        until(first.vcpu.in_run.is_set)
        assert [cpu.id for cpu in bench.cpu("cl").cpus] == ["cpu0", "hot"]
        vcpu, thread = hot.vcpu, hot.thread
        bench.device_del("hot")
        until(lambda thread=thread: thread.ended)
        assert vcpu.closed and hot.phase == "unrealized"
    assert [name for name in bench.names() if name != "RESUME"] == ["DEVICE_DELETED"] * 3
    until(first.vcpu.in_run.is_set)


def test_a_plugged_cpu_is_held_until_its_line_falls_or_the_machine_is_reset(bench: Bench) -> None:
    first = start(bench)
    until(first.vcpu.in_run.is_set)
    bench.device_add("fake-cpu", "hot", {"cluster": "cl", "cpu-index": 1})
    hot = bench.cpu("hot")
    until(lambda: hot.thread.state == "held")
    assert hot.vcpu.instructions == 0
    bench.call(hot.inp("reset").deliver, 1)
    bench.call(hot.inp("reset").deliver, 0)
    until(hot.vcpu.in_run.is_set)
    bench.device_add("fake-cpu", "two", {"cluster": "cl", "cpu-index": 2})
    two = bench.cpu("two")
    until(lambda: two.thread.state == "held")
    bench.reset()
    until(two.vcpu.in_run.is_set)


def test_a_map_that_changes_is_told_to_parked_engines(bench: Bench) -> None:
    cpu = start(bench)
    seen = []
    remap = cpu.vcpu.remap
    cpu.vcpu.remap = lambda: (seen.append(cpu.thread.state), remap())
    bench.create_object("memory-backend-ram", "ram1", {"size": 0x1000})
    bench.map_region("mem", "ram1", 0x400000)
    assert seen == ["parked"]
    region = bench.cpu("ram1").region()
    bench.call(region.set_enabled, False)
    until(lambda: seen == ["parked", "parked"])
    until(cpu.vcpu.in_run.is_set)


def test_a_wedged_cpu_is_reported_and_the_rest_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import ratite.core.runstate as runstate

    monkeypatch.setattr(runstate, "PARK_S", 0.05)
    release = threading.Event()

    def program(vcpu: Any) -> None:
        release.wait(10)

    guest(program)
    cpu = start(bench)
    until(cpu.vcpu.in_run.is_set)
    with pytest.raises(Exception, match="CPU '/machine/peripheral/cpu0' did not stop within"):
        bench.stop()
    with pytest.raises(Exception, match="CPU '/machine/peripheral/cpu0' did not stop within"):
        bench.get_property("cpu0", "pc")
    assert bench.machine.status == "running" and "STOP" not in bench.names(), "what is refused changes nothing"
    release.set()
    bench.stop()
    assert bench.machine.status == "paused" and cpu.thread.parked


def test_what_a_guest_did_before_a_reset_is_over_after_it(bench: Bench) -> None:
    lives: list[str] = []

    def program(vcpu: Any) -> Exit | None:
        if vcpu.get("x", 0) == 0:
            vcpu.set("x", 1)
            lives.append("begun")
            return Exit(Exit.PANIC, "lost") if len(lives) == 1 else None
        time.sleep(0.001)
        return None

    cpu = start(bench)

    def panic_then_reset() -> None:
        # On the owner thread: what the guest posts waits behind this.
        guest(program)
        cpu.thread.kick()
        until(lambda: cpu.thread.parked)
        bench.machine.state.request_shutdown("guest-shutdown", 0)
        bench.machine.state.request_reset("guest-reset")
        bench.machine.reset()

    until(cpu.vcpu.in_run.is_set)
    bench.events.clear()
    bench.call(panic_then_reset)
    bench.get_property("cpu0", "activity")
    until(lambda: len(lives) >= 2)
    assert bench.names() == ["RESET"] and bench.machine.status == "running" and cpu.panic == ""
    bench.call(bench.machine.state.request_reset, "guest-reset")
    until(lambda: bench.names() == ["RESET", "RESET"])


def test_busy_threads_end_with_the_machine() -> None:
    bench = Bench()
    guest(lambda vcpu: None)
    cpu = start(bench)
    thread, vcpu = cpu.thread, cpu.vcpu
    until(vcpu.in_run.is_set)
    bench.machine.close()
    FakeCpu.program = None
    assert thread_module.END_S <= 2
    assert thread.ended and vcpu.closed, "a vCPU whose thread didn't end in time stays open"


def test_a_wedged_thread_does_not_keep_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import ratite.core.runstate as runstate

    monkeypatch.setattr(runstate, "END_S", 0.05)
    bench = Bench()
    release = threading.Event()
    guest(lambda vcpu: release.wait(10) and None)
    cpu = start(bench)
    vcpu = cpu.vcpu
    until(vcpu.in_run.is_set)
    bench.machine.close()
    FakeCpu.program = None
    assert not vcpu.closed and bench.cpu("ram0").region().size, "its memory is still in use"
    release.set()
    until(lambda: cpu.thread is None or cpu.thread.ended)


@pytest.mark.parametrize(
    ("props", "text"),
    [
        ({"target": "nope", "address-space": "mem"}, "Target 'nope' not found"),
        ({"target": "fake64", "address-space": "ram0"}, "must be of type 'address-space', not 'memory-backend-ram'"),
        ({"target": "fake64"}, "Parameter 'address-space' is missing"),
        ({"target": "fake64", "address-space": "mem", "accel": "kvm"}, "Accelerator 'kvm' not found"),
        ({"target": "fake64", "address-space": "mem", "accel": "none"}, "no such hardware here"),
        ({"target": "other32", "address-space": "mem", "word-size": 64}, "must be 32 for target 'other32', not 64"),
        ({"target": "fake64", "address-space": "mem", "word-size": 16}, "must be 32 or 64 for target 'fake64', not 16"),
    ],
)
def test_what_a_cluster_cannot_be(bench: Bench, props: dict[str, Any], text: str) -> None:
    bench.basic()
    bench.exit_preconfig()
    assert text in bench.error("create_object", "cpu-cluster", "c", props)


@pytest.mark.parametrize("when", ["created", "initialized", "ready"])
def test_names_of_types_are_checked_when_they_are_set(bench: Bench, when: str) -> None:
    bench.basic()
    if when == "initialized":
        bench.wire()
    elif when == "ready":
        bench.exit_preconfig()
    good = {"target": "fake64", "address-space": "mem"}
    for name, value, text in (
        ("target", "nope", "Target 'nope' not found"),
        ("target", "", "Target '' not found"),
        ("accel", "kvm", "Accelerator 'kvm' not found"),
        ("accel", "none", "Accelerator 'none' is not available: no such hardware here"),
    ):
        assert bench.error("create_object", "cpu-cluster", "c", {**good, name: value}).startswith(text)
        if when == "created":
            assert bench.error("set_property", "/objects/cl", name, value).startswith(text)


def test_the_best_accelerator_is_taken(bench: Bench) -> None:
    start(bench)
    assert bench.get_property("cl", "accelerator-name") == "fake"

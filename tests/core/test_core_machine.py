"""Machines: phases, assembling in any order, all or nothing, every refusal with its words and nothing changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from core_kit import Bench, device_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import DeviceNotFound, GenericError

STEPS = (
    ("create_object", "address-space", "mem", {}),
    ("create_object", "memory-backend-ram", "ram0", {"size": 0x10000}),
    ("create_object", "cpu-cluster", "cl", {"target": "fake64", "address-space": "mem"}),
    ("device_add", "fake-cpu", "cpu0", {"cluster": "cl"}),
    ("device_add", "fake-cpu", "cpu1", {"cluster": "/objects/cl", "cpu-index": 1}),
    ("device_add", "widget", "w0", {"other": "w1"}),
    ("device_add", "widget", "w1", {"other": "/machine/peripheral/w0", "speed": 7}),
    ("map_region", "mem", "ram0", 0),
    ("map_region", "mem", "/machine/peripheral/w0/regs", 0x100000, 2),
    ("wire_irq", "w0", "irq", "cpu0", "irq[0]"),
    ("wire_irq", "/machine/peripheral/w1", "irq[0]", "cpu1", "irq"),
    ("wire_irq", "w1", "reset", "w0", "in[3]"),
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.machine.close()


def build(order: list[int]) -> str:
    bench = Bench()
    for i in order:
        name, *args = STEPS[i]
        getattr(bench, name)(*args)
    bench.exit_preconfig()
    dump: str = bench.tree_dump()
    bench.machine.close()
    return dump


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(STEPS))))
def test_any_order_of_assembling_gives_the_same_bytes(order: list[int]) -> None:
    assert build(order) == build(list(range(len(STEPS))))


PLUGGED = (
    ("device_add", "widget", "late", {"other": "w0"}),
    ("create_object", "memory-backend-ram", "ram9", {"size": 0x1000}),
    ("device_add", "fake-cpu", "cpu9", {"cluster": "cl", "cpu-index": 9}),
    ("map_region", "mem", "ram9", 0x900000),
    ("map_region", "mem", "late", 0x910000),
    ("wire_irq", "late", "irq", "cpu9", "irq"),
    ("wire_irq", "w0", "irq", "late", "in"),
)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("when", ["created", "initialized", "ready"])
def test_adding_in_any_phase_ends_in_the_same_state(when: str, running: bool) -> None:
    dumps = []
    for phase in ("created", when):
        bench = Bench(autostart=running)
        bench.basic()
        bench.call(bench.machine.unwire_irq, "w0", "irq", "cpu0", "irq")
        if phase == "initialized":
            bench.wire()
        elif phase == "ready":
            bench.exit_preconfig()
        for name, *args in PLUGGED:
            getattr(bench, name)(*args)
        if phase != "ready":
            bench.exit_preconfig()
        if running:
            assert bench.machine.running
            # A CPU that comes to guests that run is held until the reset.
            held = [cpu.id for cpu in bench.machine.state.threads if not cpu.powered]
            assert held == (["cpu9"] if phase == "ready" else [])
            bench.stop()
            bench.reset()
        lines = bench.tree_dump().splitlines()
        dumps.append([line for line in lines if line.split()[0] not in ("instructions", "virtual-time")])
        bench.machine.close()
    assert dumps[0] == dumps[1]


def test_phases_and_their_refusals(bench: Bench) -> None:
    for name in ("cont", "stop"):
        text = f"The command '{name}' is permitted only after machine initialization has completed"
        assert bench.error(name) == text
    bench.basic()
    bench.wire()
    assert bench.error("wire") == "machine-wire needs the machine in phase 'created', it is in phase 'initialized'"
    bench.exit_preconfig()
    assert bench.error("exit_preconfig") == "The command is permitted only before machine initialization"
    assert "needs the machine in phase 'created'" in bench.error("wire")
    assert bench.machine.snapshot == ("prelaunch", False, "ready")


@pytest.mark.parametrize("when", ["created", "initialized", "ready"])
def test_refusals_when_adding(bench: Bench, when: str) -> None:
    bench.basic()
    if when == "initialized":
        bench.wire()
    if when == "ready":
        bench.exit_preconfig()
    add, new = "device_add", "create_object"
    assert bench.error(add, "nope", "x") == "'nope' is not a valid device model name"
    assert bench.error(add, "address-space", "x") == "'address-space' is not a valid device model name"
    assert bench.error(add, "mmio-device", "x") == "Parameter 'driver' expects a non-abstract device type"
    assert bench.error(new, "nope", "x") == "Parameter 'qom-type' does not accept value 'nope'"
    assert bench.error(new, "widget", "x") == "Parameter 'qom-type' does not accept value 'widget'"
    assert bench.error(new, "memory-backend", "x") == "Parameter 'qom-type' does not accept value 'memory-backend'"
    for bad in ("", "a" * 128, "1a", "a/b", "a b", "ä", 5):
        assert bench.error(add, "widget", bad) == "Parameter 'id' expects an identifier"
        assert bench.error(new, "address-space", bad) == "Parameter 'id' expects an identifier"
    assert bench.error(add, "widget", "w0") == "Duplicate device ID 'w0'"
    text = "attempt to add duplicate property 'mem' to object (type 'container')"
    assert bench.error(new, "address-space", "mem") == text
    assert bench.error(add, "widget", "x", {"nope": 1}) == "Property 'widget.nope' not found"
    assert bench.error(add, "widget", "x", {"speed": "1"}) == "Parameter 'speed' expects uint64"
    assert bench.error(add, "widget", "x", {"speed": 101}) == "Property 'widget.speed' must be at most 100, not 101"
    assert bench.error(add, "widget", "x", {"seen": []}) == "Property 'widget.seen' is not writable"
    if when != "created":
        assert "Device 'gone' not found" in bench.error(add, "widget", "x", {"other": "gone"})
        assert "must be of type 'widget', not 'fake-cpu'" in bench.error(add, "widget", "x", {"other": "cpu0"})
        assert bench.error(add, "widget", "x", {"fails": "wire"}) == "wire failed"
        assert "Parameter 'cluster' is missing" in bench.error(add, "fake-cpu", "x")
        assert "is not of target 'fake64'" in bench.error(add, "other-cpu", "x", {"cluster": "cl"})
        assert "'cpu-index' is 0 of '/machine/peripheral/cpu0' too" in bench.error(add, "fake-cpu", "x", {"cluster": "cl"})
    if when == "ready":
        assert bench.error(add, "widget", "x", {"fails": "realize"}) == "realize failed"
        assert "failed: KeyError: 'realize'" in bench.error(add, "widget", "x", {"fails": "realize-bug"})
        assert bench.error(add, "fixed-widget", "x") == "Device 'fixed-widget' does not support hotplugging"


def test_everything_wrong_is_one_error_and_nothing_is_wired(bench: Bench) -> None:
    bench.basic()
    bench.create_object("cpu-cluster", "empty", {"target": "fake64", "address-space": "mem"})
    bench.device_add("widget", "w1", {"other": "gone"})
    bench.device_add("widget", "w2", {"other": "/objects/ram0"})
    bench.wire_irq("w0", "irq[7]", "w1", "in")
    bench.wire_irq("w1", "irq", "nowhere", "in")
    bench.wire_irq("w1", "halt", "w2", "nope")
    bench.map_region("mem", "w9", 0x200000)
    bench.map_region("nospace", "w0", 0)
    bench.map_region("mem", "w0/none", 0x300000)
    text = bench.error("wire")
    for part in (
        "machine can't be wired, 8 errors: ",
        "/machine/peripheral/w1: property 'other': Device 'gone' not found",
        "/machine/peripheral/w2: property 'other': '/objects/ram0' must be of type 'widget', not 'memory-backend-ram'",
        "irq output 'irq[7]' of '/machine/peripheral/w0' (type 'widget') must have an index below 1",
        "irq wire 'w1' irq -> 'nowhere' in: Device 'nowhere' not found",
        "'/machine/peripheral/w2' (type 'widget') has no irq input 'nope' (it has: in[0..3])",
        "map of 'w9' at 0x200000 of 'mem': Device 'w9' not found",
        "map of 'w0' at 0x0 of 'nospace': Device 'nospace' not found",
        "map of 'w0/none' at 0x300000 of 'mem': '/machine/peripheral/w0' (type 'widget') has no region 'none'",
    ):
        assert part in text
    assert {obj.phase for obj in bench.machine.tree.members()} == {"configured"}
    # What was missing may still be given.
    bench.device_del("w1")
    bench.device_del("w2")
    for space, region, offset in (("mem", "w9", 0x200000), ("nospace", "w0", 0), ("mem", "w0/none", 0x300000)):
        bench.unmap_region(space, region, offset)
    assert bench.error("wire") == "/objects/empty: the cluster has no CPU"
    bench.delete_object("empty")
    bench.exit_preconfig()


def test_a_machine_does_not_start_with_a_cluster_without_a_cpu(bench: Bench) -> None:
    bench.basic()
    bench.wire()
    bench.device_del("cpu0")
    assert bench.error("exit_preconfig") == "/objects/cl: the cluster has no CPU"
    assert bench.machine.phase == "initialized"
    bench.create_object("cpu-cluster", "more", {"target": "fake64", "address-space": "mem"})
    bench.device_add("fake-cpu", "cpu1", {"cluster": "cl"})
    assert bench.error("exit_preconfig") == "/objects/more: the cluster has no CPU"
    bench.device_add("fake-cpu", "cpu2", {"cluster": "more"})
    bench.exit_preconfig()
    bench.create_object("cpu-cluster", "late", {"target": "fake64", "address-space": "mem"})
    bench.device_add("fake-cpu", "cpu3", {"cluster": "late"})


def test_a_map_ends_inside_its_address_space(bench: Bench) -> None:
    bench.basic()
    bench.create_object("address-space", "small", {"address-bits": 16})
    bench.create_object("memory-backend-ram", "ram1", {"size": 0x2000})
    cases = (
        ("mem", "ram1", (1 << 64) - 0x1000, "0x10000000000000000", "0x10000000000001000"),
        ("small", "ram1", 0xF000, "0x10000", "0x11000"),
        ("small", "w0", 0x10000, "0x10000", "0x10100"),
    )

    def told(case: tuple[str, str, int, str, str]) -> str:
        space, region, offset, limit, end = case
        size = 0x2000 if region == "ram1" else 0x100
        place = f"'{region}' of {size:#x} bytes can't be mapped at {offset:#x} of '{space}'"
        return f"{place}: it must end at or below {limit}, not at {end}"

    for case in cases:
        bench.map_region(*case[:3])
        assert told(case) in bench.error("wire")
        bench.unmap_region(*case[:3])
    for step in (bench.wire, bench.exit_preconfig):
        step()
        for case in cases:
            assert bench.error("map_region", *case[:3]) == told(case)
    bench.map_region("small", "ram1", 0xE000)
    bench.map_region("mem", "ram1", (1 << 64) - 0x2000)


@pytest.mark.parametrize("hook", ["wire", "wire-bug", "realize", "realize-bug"])
def test_a_device_that_fails_leaves_the_machine_in_its_phase(bench: Bench, hook: str) -> None:
    bench.basic()
    bench.device_add("widget", "zz", {"fails": hook})
    text = bench.error("exit_preconfig")
    assert "/machine/peripheral/zz" in text and "failed" in text
    assert bench.machine.phase == "created" and not bench.machine.state.threads
    assert [obj.phase for obj in bench.machine.tree.members()] == ["configured"] * 6
    bench.set_property("/machine/peripheral/zz", "fails", "")
    bench.exit_preconfig()
    bench.cont()
    assert bench.machine.status == "running"


def test_irq_lines_have_one_driver_however_they_are_spelt(bench: Bench) -> None:
    bench.basic()
    for when in ("created", "initialized", "ready"):
        if when == "initialized":
            bench.wire()
        if when == "ready":
            bench.exit_preconfig()
        text = bench.error("wire_irq", "/machine/peripheral/w0", "irq[0]", "w0", "in")
        assert "irq output 'irq[0]' of '/machine/peripheral/w0' is already wired" in text
        text = bench.error("wire_irq", "w1", "irq", "/machine/peripheral/cpu0", "irq[0]")
        assert "irq input 'irq[0]' of '/machine/peripheral/cpu0' is already wired" in text
        assert "must be spelt" in bench.error("wire_irq", "w0", "ir q", "cpu0", "irq")
    assert "Device 'w1' not found" in bench.error("wire_irq", "w1", "irq", "w0", "in")


def test_ram_must_not_overlap(bench: Bench) -> None:
    bench.basic()
    bench.create_object("memory-backend-ram", "ram1", {"size": 0x1000})
    bench.map_region("mem", "ram1", 0xF000)
    text = bench.error("wire")
    assert "'ram0' and 'ram1' overlap at 0xf000-0xffff" in text
    bench.unmap_region("mem", "ram1", 0xF000)
    bench.wire()
    assert "overlap at 0xf000" in bench.error("map_region", "mem", "ram1", 0xF000)
    bench.exit_preconfig()
    assert "overlap at 0x1000" in bench.error("map_region", "mem", "ram1", 0x1000)
    bench.map_region("mem", "ram1", 0x1000, 1)
    assert "already mapped at 0x1000" in bench.error("map_region", "mem", "/objects/ram1", 0x1000)
    assert bench.error("map_region", "mem", "ram1", 1 << 64) == "Parameter 'offset' expects uint64"
    assert bench.error("map_region", "mem", "ram1", -1) == "Parameter 'offset' expects uint64"


def test_ram_lies_on_pages(bench: Bench) -> None:
    """Of the first RAM of a space and of any further; devices lie anywhere."""
    bench.basic()
    bench.create_object("memory-backend-ram", "ram1", {"size": 0x2000})

    def told(at: int) -> str:
        return f"'ram1' can't be mapped at {at:#x} of 'mem': memory must be at a multiple of 4096 bytes"

    for at in (0x40000800, 0x40000001, 0x40000FFC):
        bench.map_region("mem", "ram1", at)
        assert told(at) in bench.error("wire")
        bench.unmap_region("mem", "ram1", at)
    for step in (bench.wire, bench.exit_preconfig):
        step()
        assert bench.error("map_region", "mem", "ram1", 0x40000800) == told(0x40000800)
    bench.map_region("mem", "ram1", 0x40001000)
    bench.map_region("mem", "w0", 0x40000880)


def test_ram_larger_than_the_host_is_refused(bench: Bench) -> None:
    bench.basic()
    bench.exit_preconfig()
    text = bench.error("create_object", "memory-backend-ram", "huge", {"size": 1 << 60})
    assert "huge" in text


@pytest.mark.parametrize("when", ["created", "ready"])
def test_what_is_in_use_stays(bench: Bench, when: str) -> None:
    bench.basic()
    bench.device_add("widget", "w1", {"other": "w0"})
    if when == "ready":
        bench.exit_preconfig()
    assert bench.error("delete_object", "mem") == (
        "object 'mem' is in use, can not be deleted (used by '/objects/cl', property 'address-space')"
    )
    assert bench.error("delete_object", "cl") == (
        "object 'cl' is in use, can not be deleted (used by '/machine/peripheral/cpu0', property 'cluster')"
    )
    assert bench.error("delete_object", "ram0") == (
        "object 'ram0' is in use, can not be deleted (mapped at 0x0 of 'mem')"
    )
    assert bench.error("device_del", "w0") == (
        "Device 'w0' is in use, can not be deleted (used by '/machine/peripheral/w1', property 'other')"
    )
    assert bench.error("delete_object", "zzz") == "object 'zzz' not found"
    assert bench.error_class("device_del", "zzz") == ("DeviceNotFound", "Device 'zzz' not found")


@pytest.mark.parametrize("when", ["wire", "exit_preconfig"])
def test_what_has_a_name_later_takes_nothing_from_what_had_it(bench: Bench, when: str) -> None:
    """Ids are unique among the objects and among the devices, not among both; the first stays mapped, and so it stays."""
    bench.basic()
    getattr(bench, when)()
    dump = bench.machine.assembly.describe()
    bench.device_add("widget", "ram0", {})
    assert bench.error("delete_object", "ram0") == "object 'ram0' is in use, can not be deleted (mapped at 0x0 of 'mem')"
    assert bench.machine.assembly.describe() == dump
    bench.device_del("/machine/peripheral/ram0")
    assert bench.machine.assembly.describe() == dump
    bench.unmap_region("mem", "/objects/ram0", 0)
    bench.delete_object("ram0")
    assert not [row for row in bench.machine.assembly.describe()["maps"] if "ram0" in row["region"]]


def test_removal_ends_in_the_state_without(bench: Bench) -> None:
    bench.basic()
    bench.exit_preconfig()
    bench.device_del("cpu0")
    bench.device_add("fake-cpu", "cpu0", {"cluster": "cl"})
    before = bench.tree_dump()
    bench.device_add("widget", "late", {})
    bench.map_region("mem", "late", 0x200000)
    bench.wire_irq("late", "irq", "cpu0", "irq")
    bench.call(bench.machine.resolve("late").mmio_write, "regs", 0, 4, 1)
    assert bench.cpu().vcpu.values["irq_lines"] == [8]
    bench.device_del("/machine/peripheral/late")
    assert bench.cpu().vcpu.values["irq_lines"] == [0], "a line that nobody drives falls"
    assert bench.tree_dump() == before
    assert bench.wait_event("DEVICE_DELETED") == {"device": "cpu0", "path": "/machine/peripheral/cpu0"}
    assert bench.events[-1] == ("DEVICE_DELETED", {"device": "late", "path": "/machine/peripheral/late"})


def test_looking(bench: Bench) -> None:
    bench.basic()
    rows = bench.list_properties("/machine/peripheral/w0")
    assert {"name": "other", "type": "link<widget>"} in rows and {"name": "speed", "type": "uint32"} in rows
    assert {"name": "w0", "type": "child<widget>"} in bench.list_properties("/machine/peripheral")
    assert bench.get_property("/machine/peripheral/w0", "type") == "widget"
    assert bench.get_property("/machine", "peripheral") == "/machine/peripheral"
    assert bench.get_property("w0", "speed") == 5
    assert bench.error_class("list_properties", "/nope") == ("DeviceNotFound", "Device '/nope' not found")
    assert bench.error_class("get_property", "/nope", "x") == ("DeviceNotFound", "Device '/nope' not found")
    assert bench.error("get_property", "w0", "nope") == "Property 'widget.nope' not found"
    bench.set_property("w0", "speed", 9)
    bench.exit_preconfig()
    assert bench.error("set_property", "w0", "speed", 1) == (
        "Attempt to set property 'speed' on device 'w0' (type 'widget') after it was realized"
    )
    bench.set_property("w0", "gain", 2)
    assert bench.get_property("w0", "gain") == 2


def test_events_and_repeated_stop_and_cont(bench: Bench) -> None:
    bench.basic()
    bench.exit_preconfig()
    for name in ("cont", "cont", "stop", "stop", "reset", "cont"):
        getattr(bench, name)()
    assert bench.names() == ["RESUME", "STOP", "RESET", "RESUME"]
    assert bench.events[2][1] == {"guest": False, "reason": "host-qmp-system-reset"}


def test_a_guest_resets_and_powers_off(bench: Bench) -> None:
    ended = threading.Event()
    causes = []
    bench.machine.on_shutdown = lambda cause, code: (causes.append((cause, code)), ended.set())
    bench.basic()
    bench.exit_preconfig()
    bench.cont()
    widget = bench.machine.resolve("w0")
    bench.call(widget.mmio_write, "regs", 8, 4, 77)
    bench.call(widget.mmio_write, "regs", 4, 4, 2)
    assert bench.wait_event("RESET") == {"guest": True, "reason": "guest-reset"}
    assert bench.get_property("w0", "odd") == 0 and bench.machine.status == "running"
    bench.machine.actions.set({"shutdown": "pause"})
    bench.call(widget.mmio_write, "regs", 4, 4, 1)
    assert bench.wait_event("STOP") is not None and not ended.is_set()
    assert bench.names() == ["RESUME", "RESET", "SHUTDOWN", "STOP"]
    assert bench.machine.status == "shutdown"
    assert bench.error("cont") == "Resetting the Virtual Machine is required"
    bench.reset()
    assert bench.machine.status == "prelaunch"
    bench.cont()
    assert bench.machine.status == "running"


def test_reset_puts_state_back_and_levels_are_heard_again(bench: Bench) -> None:
    bench.basic()
    bench.device_add("widget", "w1", {})
    bench.wire_irq("w1", "halt", "w0", "in[1]")
    bench.exit_preconfig()
    w0, w1 = bench.machine.resolve("w0"), bench.machine.resolve("w1")
    bench.call(w1.mmio_write, "regs", 0, 4, 4)
    bench.call(w0.mmio_write, "regs", 8, 4, 5)
    bench.reset()
    assert (w0.ODD, w0.seen) == (0, [1]), "w1's line is still up: its reset didn't touch it"


def test_virtual_time_stands_while_the_machine_is_paused() -> None:
    machine = device_machine()
    machine.device_add("widget", "w0")
    machine.exit_preconfig()
    fired: list[int] = []
    timer = machine.resolve("w0").timer(lambda: fired.append(machine.clock.now()))
    timer.arm(100)
    assert not machine.clock.running
    machine.cont()
    assert machine.clock.running
    machine.clock.advance(150)
    assert fired == [100]
    machine.stop()
    assert not machine.clock.running
    machine.close()


def test_state_that_a_client_sets_is_checked(bench: Bench) -> None:
    bench.basic()
    text = "Property 'asleep' needs a CPU that is realized, '/machine/peripheral/cpu0' isn't"
    assert bench.error("set_property", "cpu0", "asleep", True) == text
    bench.exit_preconfig()
    setting = ("set_property", "/machine", "virtual-time")
    assert bench.error(*setting, -5) == "Property 'hetero-machine.virtual-time' must be at least 0, not -5"
    limit = 1 << 62
    assert bench.error(*setting, limit + 1).endswith(f"virtual-time' must be at most {limit}, not {limit + 1}")
    levels = ("set_property", "w0", "output-levels")
    assert bench.error(*levels, [0, 255, 0]) == "Property 'widget.output-levels[1]' must be at most 1, not 255"
    assert bench.error(*levels, [0]) == "'/machine/peripheral/w0' has 3 irq outputs, not 1"
    bench.set_property("cpu0", "asleep", True)
    bench.set_property("/machine", "virtual-time", limit)
    bench.cont()
    assert limit <= bench.get_property("/machine", "virtual-time") < 1 << 63
    assert bench.get_property("cpu0", "asleep"), "it has no work"
    for asleep in (False, True):
        with pytest.raises(GenericError, match="Property 'asleep' can't be set while the machine runs"):
            bench.set_property("cpu0", "asleep", asleep)


def test_two_machines_share_nothing_but_the_registry() -> None:
    registry = TypeRegistry(plugins=False)
    from ratite.core.machine import Machine

    one, two = Machine(registry, "one", autostart=False), Machine(registry, "two", autostart=False)
    one.owner.call(one.create_object, "address-space", "mem")
    with pytest.raises(DeviceNotFound):
        two.resolve("mem")
    assert one.lock is not two.lock
    one.close()
    assert two.owner.call(two.create_object, "address-space", "mem").path == "/objects/mem"
    two.close()
    two.close()


def test_an_unavailable_type_disturbs_nothing(bench: Bench) -> None:
    bench.basic()
    bench.exit_preconfig()
    row = bench.machine.registry.describe("widget")
    data = {**row.data, "name": "broken", "module": "no_such_package:X"}
    bench.machine.registry._enter({"types": {"broken": data}}, "other", "1")
    assert "Type 'broken' is not available: cannot import 'no_such_package'" in bench.error("device_add", "broken", "x")
    bench.cont()


def test_a_link_by_id_that_may_mean_two_things(bench: Bench) -> None:
    bench.basic()
    bench.create_object("cpu-cluster", "w0", {"target": "fake64", "address-space": "mem"})
    bench.device_add("fake-cpu", "c", {"cluster": "w0"})
    bench.device_add("widget", "w1", {"other": "w0"})
    bench.exit_preconfig()
    assert bench.get_property("c", "cluster") == "/objects/w0"
    assert bench.get_property("w1", "other") == "/machine/peripheral/w0"


def test_the_machine_ends_with_everything_given_back() -> None:
    bench = Bench(autostart=True)
    bench.basic()
    bench.exit_preconfig()
    vcpu = bench.cpu().vcpu
    thread = bench.cpu().thread
    bench.machine.close()
    assert vcpu.closed and thread.ended and not list(bench.machine.tree.members())
    with pytest.raises(RuntimeError):
        bench.call(len, ())
    assert isinstance(GenericError("x"), Exception)


def test_deadlines_and_line_levels_are_saved_with_the_rest() -> None:
    saved = []
    for fresh in (False, True):
        machine = device_machine()
        for name in ("w0", "w1"):
            machine.device_add("widget", name)
        machine.wire_irq("w0", "irq", "w1", "in")
        machine.exit_preconfig()
        w0, w1 = machine.resolve("w0"), machine.resolve("w1")
        timer = w0.timer(lambda: None, "tick")
        if not fresh:
            timer.arm(1234)
            machine.cont()
            machine.clock.advance(50)
            machine.stop()
            w0.mmio_write("regs", 0, 4, 1)
            assert w0.get_property("tick") == 1234 and w1.seen == [1]
            saved = [w0.save_state(), w1.save_state(), machine.tree.node.save_state()]
        else:
            for obj, values in zip((w0, w1, machine.tree.node), saved, strict=True):
                obj.load_state(values)
            assert timer.deadline == 1234 and machine.clock.now() == 50
            assert w1.inp("in").level == 1 and w1.seen == [1], "nobody was told again"
            assert [w0.save_state(), w1.save_state(), machine.tree.node.save_state()] == saved
            w0.out("irq").set(1)
            assert w1.seen == [1]
            machine.device_del("w0")
            assert timer.deadline is None, "a device takes its timers with it"
        machine.close()


def test_a_device_that_fails_in_its_reset_keeps_nobody_else_from_theirs(bench: Bench) -> None:
    bench.basic()
    bench.device_add("widget", "bad", {})
    bench.machine.resolve("bad").reset = lambda: 1 // 0
    bench.exit_preconfig()
    widget = bench.machine.resolve("w0")
    bench.call(widget.mmio_write, "regs", 8, 4, 7)
    bench.reset()
    assert widget.ODD == 0 and bench.machine.phase == "ready"


def test_a_busy_owner_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import ratite.core.machine as module

    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    bench = Bench()
    release = threading.Event()
    begun = threading.Event()
    bench.machine.owner.post(lambda: (begun.set(), release.wait(10)))
    assert begun.wait(5)
    closing = threading.Thread(target=bench.machine.close)
    closing.start()
    release.set()
    closing.join(5)
    assert not closing.is_alive()

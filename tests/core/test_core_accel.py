"""Machines on the real accelerators, with the toy ISA: two byte orders in one machine, irq lines, panics, hot plug."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import pytest
from core_kit import Bench, Widget

from ratite.core.cpu.base import Cpu
from ratite.core.objects.registry import TypeRegistry
from tests.engine.toy import ToyPort, build


class ToyCpu(Cpu):
    """A CPU of the toy ISA, either byte order."""

    TYPE = "toy-cpu"
    TARGETS = ("toyle", "toybe")
    ISA = ToyPort.ISA
    LINES: ClassVar = {"irq": 0}
    RESET_PC = 0x1000

    def isa_config(self) -> Mapping[str, object]:
        return {"big": self.cluster.big_endian, "word": 32}


@pytest.fixture(params=["interp", "jit"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench()
    registry = TypeRegistry(plugins=False)
    registry.register(ToyCpu)
    registry.register(Widget)
    for name, big in (("toyle", False), ("toybe", True)):
        registry.add_target({"name": name, "word-size": 32, "big-endian": big, "default-cpu": "toy-cpu"})
    reason = registry.accelerator(request.param).probe()
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    made.machine.registry = registry
    made.create_object("memory-backend-ram", "shared", {"size": 0x1000})
    made.device_add("widget", "w0", {})
    for name in ("le", "be"):
        made.create_object("address-space", f"mem-{name}", {})
        made.create_object("memory-backend-ram", f"ram-{name}", {"size": 0x4000})
        made.create_object(
            "cpu-cluster", name, {"target": f"toy{name}", "address-space": f"mem-{name}", "accel": request.param}
        )
        made.device_add("toy-cpu", f"cpu-{name}", {"cluster": name})
        made.map_region(f"mem-{name}", f"ram-{name}", 0x1000)
        made.map_region(f"mem-{name}", "shared", 0x8000)
        made.map_region(f"mem-{name}", "w0", 0x10000)
    yield made
    made.machine.close()


def test_a_cluster_says_how_much_code_may_be_kept(bench: Bench) -> None:
    for size, why in (((1 << 20) - 1, "at least 1048576"), ((1 << 30) + 1, "at most 1073741824")):
        text = bench.error("create_object", "cpu-cluster", "c", {"target": "toyle", "code-size": size})
        assert text == f"Property 'cpu-cluster.code-size' must be {why}, not {size}"
    kind = bench.get_property("le", "accel")
    bench.device_del("cpu-le")
    bench.delete_object("le")
    cluster = {"target": "toyle", "address-space": "mem-le", "accel": kind, "code-size": 2 << 20}
    bench.create_object("cpu-cluster", "le", cluster)
    bench.device_add("toy-cpu", "cpu-le", {"cluster": "le"})
    bench.exit_preconfig()
    accelerators = [bench.machine.resolve(name).accelerator for name in ("le", "be")]
    assert [a.code_size for a in accelerators] == [2 << 20, 64 << 20]
    reports = [a.compiled() for a in accelerators]
    assert [report and report["code-size"] for report in reports] == ([2 << 20, 64 << 20] if kind == "jit" else [None, None])


def program(bench: Bench, name: str, code: Callable[[Callable[..., bytes]], bytes], at: int = 0x1000) -> None:
    isa = build({"big": name == "be", "word": 32})
    bench.call(bench.machine.resolve(f"mem-{name}").write, at, code(isa.assemble))


def idle(bench: Bench, *names: str) -> None:
    for name in names:
        program(bench, name, lambda a: a("sleep") + a("bne", rs=0, rt=0, imm=0) + a("sleep"))


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def shared(bench: Bench, at: int) -> bytes:
    data: bytes = bench.call(bench.machine.resolve("shared").region().read, at, 4)
    return data


def test_two_byte_orders_share_memory_and_a_device(bench: Bench) -> None:
    bench.exit_preconfig()
    for name, at in (("le", 0), ("be", 4)):
        program(bench, name, lambda a, at=at: (
            a("wide", imm=1) + a("addi", rd=1, rs=0, imm=0)  # r1 = 0x10000: the widget
            + a("lw", rd=2, rs=1, imm=8) + a("wide", imm=0) + a("addi", rd=3, rs=0, imm=0x4000)
            + a("add", rd=3, rs=3, rt=3)  # 0x8000: shared RAM
            + a("addi", rd=2, rs=2, imm=0x12) + a("sw", rt=2, rs=3, imm=at) + a("sleep")
        ))
    bench.set_property("w0", "gain", 3)
    bench.call(bench.machine.resolve("w0").mmio_write, "regs", 8, 4, 0x3400)
    bench.cont()
    cpus = [bench.cpu("cpu-le"), bench.cpu("cpu-be")]
    until(lambda: all(cpu.thread.state == "halted" for cpu in cpus))
    assert shared(bench, 0) == (0x3412).to_bytes(4, "little")
    # The widget is little-endian: the other CPU gets its bytes in the same places, so its number is another one.
    assert shared(bench, 4) == (0x340012).to_bytes(4, "big")
    assert [bench.get_property(cpu.path, "instructions") for cpu in cpus] == [9, 9]
    assert [bench.get_property(cpu.path, "r2") for cpu in cpus] == [0x3412, 0x340012]


def test_a_line_wakes_a_sleeper_and_the_handler_runs(bench: Bench) -> None:
    bench.wire_irq("w0", "irq", "cpu-be", "irq")
    bench.exit_preconfig()
    idle(bench, "le")
    program(bench, "be", lambda a: a("on") + a("sleep") + a("bne", rs=1, rt=0, imm=-2) + a("sleep"))
    program(bench, "be", lambda a: a("addi", rd=5, rs=5, imm=1) + a("bne", rs=5, rt=0, imm=0), 0x2000)
    bench.set_property("cpu-be", "vector", 0x2000)
    bench.cont()
    cpu = bench.cpu("cpu-be")
    until(lambda: cpu.thread.state == "halted")
    bench.call(bench.machine.resolve("w0").mmio_write, "regs", 0, 4, 1)
    until(lambda: bench.get_property("cpu-be", "r5") == 1)
    assert bench.get_property("cpu-be", "cause") == 64
    bench.reset()
    assert bench.get_property("cpu-be", "r5") == 0 and bench.machine.status == "running"


def test_busy_guests_stop_and_go_on_exactly_where_they_were(bench: Bench) -> None:
    bench.exit_preconfig()
    for name in ("le", "be"):
        program(bench, name, lambda a: a("addi", rd=1, rs=1, imm=1) + a("bne", rs=1, rt=0, imm=-4))
    bench.cont()
    for _ in range(5):
        for path in ("cpu-le", "cpu-be"):
            before = bench.get_property(path, "r1")
            until(lambda path=path, before=before: bench.get_property(path, "r1") > before)
        bench.stop()
        for path in ("cpu-le", "cpu-be"):
            count, r1, pc = (bench.get_property(path, name) for name in ("instructions", "r1", "pc"))
            assert count == 2 * r1 - (pc != 0x1000)
        bench.cont()
    threads = [bench.cpu(path).thread for path in ("cpu-le", "cpu-be")]
    bench.machine.close()
    assert all(thread.ended for thread in threads)


def test_only_a_lost_trap_handler_stops_the_machine(bench: Bench) -> None:
    bench.exit_preconfig()
    idle(bench, "be")
    program(bench, "le", lambda a: a("wide", imm=0x50) + a("lw", rd=1, rs=0, imm=0))
    bench.set_property("cpu-le", "vector", 0x700000)
    bench.cont()
    bench.wait_event("STOP")
    until(lambda: bench.machine.status == "guest-panicked")
    assert bench.names() == ["RESUME", "GUEST_PANICKED", "STOP"]
    panic = bench.machine.panic
    assert panic is not None and panic.cpu == "/machine/peripheral/cpu-le" and panic.cause
    assert bench.get_property("cpu-le", "vector") == 0x700000


def test_code_written_from_outside_is_executed(bench: Bench) -> None:
    bench.exit_preconfig()
    idle(bench, "be")
    program(bench, "le", lambda a: a("addi", rd=1, rs=0, imm=1) + a("bne", rs=1, rt=0, imm=-4))
    bench.cont()
    until(lambda: bench.get_property("cpu-le", "r1") == 1)
    program(bench, "le", lambda a: a("addi", rd=1, rs=0, imm=7))
    until(lambda: bench.get_property("cpu-le", "r1") == 7)


def test_cpus_and_memory_come_and_go_while_guests_run(bench: Bench) -> None:
    bench.exit_preconfig()
    for name in ("le", "be"):
        program(bench, name, lambda a: a("addi", rd=1, rs=1, imm=1) + a("bne", rs=1, rt=0, imm=-4))
    bench.cont()
    gone = []
    for _ in range(2):
        bench.device_add("toy-cpu", "hot", {"cluster": "be", "cpu-index": 1, "start-powered-off": False})
        until(lambda: bench.get_property("hot", "r1") > 10)
        bench.create_object("memory-backend-ram", "more", {"size": 0x1000})
        bench.map_region("mem-be", "more", 0x40000)
        assert any(r.start == 0x40000 for r in bench.cpu("hot").ram_ranges())
        bench.unmap_region("mem-be", "more", 0x40000)
        bench.delete_object("more")
        gone.append(weakref.ref(bench.cpu("hot").vcpu))
        bench.device_del("hot")
    before = bench.get_property("cpu-be", "r1")
    until(lambda: bench.get_property("cpu-be", "r1") > before)
    # Nothing of those that left stays behind.
    until(lambda: gc.collect() >= 0 and not any(ref() for ref in gone))

"""What set-action chooses: reboots, power-offs, panics; non-maskable interrupts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from core_kit import Bench, FakeCpu

from ratite.core.accel.base import Exit
from ratite.core.actions import ACTIONS, UNTOLD, Actions
from ratite.qapi.errors import GenericError


class NmiCpu(FakeCpu):
    """A CPU with a line for non-maskable interrupts."""

    TYPE = "nmi-cpu"
    LINES: ClassVar = {"irq": 3, "nmi": 5}


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.ended = threading.Event()  # type: ignore[attr-defined]
    made.codes = []  # type: ignore[attr-defined]
    made.machine.on_shutdown = lambda cause, code: (made.codes.append((cause, code)), made.ended.set())  # type: ignore
    yield made
    FakeCpu.program = None
    made.machine.close()


def started(bench: Bench, **chosen: str) -> None:
    bench.machine.actions.set(chosen)
    bench.basic()
    bench.exit_preconfig()
    bench.cont()


def panic(vcpu: Any) -> Exit | None:
    return Exit(Exit.PANIC, "no way on")


def test_values_are_checked_and_nothing_changes() -> None:
    actions = Actions()
    with pytest.raises(GenericError, match="Parameter 'panic' does not accept value 'zz'"):
        actions.set({"reboot": "shutdown", "panic": "zz"})
    assert {name: getattr(actions, name) for name in ACTIONS} == {name: values[0] for name, values in ACTIONS.items()}


@pytest.mark.parametrize("guest", [True, False])
def test_a_reboot_can_be_a_power_off(bench: Bench, guest: bool) -> None:
    started(bench, reboot="shutdown")
    if guest:
        bench.call(bench.machine.resolve("w0").mmio_write, "regs", 4, 4, 2)  # type: ignore[attr-defined]
    else:
        bench.reset()
    reason = "guest-reset" if guest else "host-qmp-system-reset"
    assert bench.wait_event("SHUTDOWN") == {"guest": guest, "reason": reason, "code": 0}
    assert bench.ended.wait(20) and bench.codes == [(reason, 0)]  # type: ignore[attr-defined]
    assert "RESET" not in bench.names()


def test_a_reboot_can_be_a_stop(bench: Bench) -> None:
    started(bench, reboot="shutdown", shutdown="pause")
    bench.reset()
    assert bench.names() == ["RESUME", "SHUTDOWN", "STOP"] and bench.machine.status == "shutdown"
    bench.machine.actions.set({"reboot": "reset"})
    bench.reset()
    assert bench.machine.status == "prelaunch" and not bench.ended.is_set()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("action", "code"), [("shutdown", 0), ("exit-failure", 1)])
def test_a_panic_can_be_a_power_off(bench: Bench, action: str, code: int) -> None:
    FakeCpu.program = staticmethod(panic)
    started(bench, panic=action)
    assert bench.wait_event("GUEST_PANICKED") == {"action": "poweroff"}
    assert bench.wait_event("SHUTDOWN") == {"guest": True, "reason": "guest-panic", "code": code}
    assert bench.ended.wait(20) and bench.codes == [("guest-panic", code)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("told", [True, False])
def test_a_panic_can_be_left_alone(bench: Bench, told: bool) -> None:
    """The other CPU runs on, and looking at the machine doesn't wake the one that gave up."""
    tries: dict[str, int] = {}

    def program(vcpu: Any) -> Exit | None:
        name = vcpu.cpu.id
        tries[name] = tries.get(name, 0) + 1
        return Exit(Exit.PANIC, "no way on") if name == "cpu0" else None

    FakeCpu.program = staticmethod(program)
    bench.device_add("fake-cpu", "cpu1", {"cluster": "cl", "cpu-index": 1})
    bench.machine.actions.panic = UNTOLD
    started(bench, **({"panic": "none"} if told else {}))

    def wait_for(count: int) -> None:
        while tries.get("cpu0", 0) < count or bench.machine.panic is None:
            threading.Event().wait(0.001)
        assert not told or bench.wait_event("GUEST_PANICKED") == {"action": "run"}

    wait_for(1)
    assert bench.machine.status == "running"
    for _ in range(3):
        before = tries.get("cpu1", 0)
        assert bench.get_property("cpu0", "pc") == 0x100
        while tries.get("cpu1", 0) == before:
            threading.Event().wait(0.001)
    assert tries["cpu0"] == 1 and bench.names() == ["RESUME", "GUEST_PANICKED"][: 1 + told]
    assert bench.machine.panic is not None and bench.machine.panic.cpu.endswith("cpu0")
    bench.stop()
    bench.events.clear()
    bench.cont()
    wait_for(2)
    assert tries["cpu0"] == 2


def test_nmi(bench: Bench) -> None:
    assert bench.error("inject_nmi") == "machine does not provide NMIs"
    bench.machine.registry.register(NmiCpu)
    bench.create_object("cpu-cluster", "other", {"target": "fake64", "address-space": "mem"})
    bench.device_add("nmi-cpu", "cpu1", {"cluster": "other"})
    started(bench)
    heard: list[tuple[int, bool]] = []
    cpu = bench.machine.resolve("cpu1")
    cpu.inp("nmi").disable()  # type: ignore[attr-defined]
    cpu.vcpu.set_line = lambda bit, level: heard.append((bit, level))  # type: ignore[attr-defined]
    cpu.inp("nmi").enable()  # type: ignore[attr-defined]
    bench.inject_nmi()
    assert heard == [(5, True), (5, False)]

"""Devices, memory and chardevs in a real machine (no CPU): assembled in any order, reset, hot plugged, saved."""

from __future__ import annotations

import random
import socket
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ratite.core.clock import VirtualClock
from ratite.core.machine import Machine
from ratite.core.memory import TYPES as MEMORY_TYPES
from ratite.core.memory import Access
from ratite.core.memory.mtree import flat_rows
from ratite.core.objects.registry import TypeRegistry
from ratite.hw import TYPES as HW_TYPES
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.devices import TYPES as ACLINT_TYPES

LITTLE, BIG = Access(), Access(big=True)
MIB = 1 << 20


def registry() -> TypeRegistry:
    made = TypeRegistry(manifest={"types": {}, "targets": {}, "accelerators": {}}, plugins=False)
    for path in (*MEMORY_TYPES, *HW_TYPES, *ACLINT_TYPES):
        module, _, name = path.partition(":")
        made.register(getattr(import_module(module), name))
    return made


@pytest.fixture
def machine():
    clock = VirtualClock(manual=True)
    made = Machine(registry(), "test", autostart=False, clock=clock, inline=True)
    yield made
    made.close()


def steps(machine: Machine, shared: Path) -> list[Any]:
    m = machine
    objects = [
        ("address-space", "rv", {}),
        ("address-space", "mb", {}),
        ("memory-backend-ram", "rvram", {"size": 16 * MIB}),
        ("memory-backend-ram", "mbram", {"size": MIB // 2}),
        ("memory-backend-file", "shm", {"size": MIB, "mem-path": str(shared), "share": True}),
    ]
    devices = [
        ("ns16550", "uart0", {"chardev": "con"}),
        ("xlnx.mailbox", "mbox", {"if1-endianness": "big"}),
        ("riscv.sifive.test", "finish", {}),
        ("riscv.aclint.mtimer", "mtimer", {}),
        ("riscv.aclint.swi", "swi", {}),
        ("xlnx.xps-intc", "intc", {"endianness": "big"}),
        ("xlnx.xps-timer", "timer", {"endianness": "big"}),
        ("split-irq", "split", {"num-lines": 2}),
    ]
    wires = [("mbox", "irq1", "intc", "irq[0]"), ("timer", "irq", "split", "in"), ("split", "out[1]", "intc", "irq[7]")]
    maps = [
        ("rv", "rvram", 0x80000000), ("mb", "mbram", 0), ("rv", "shm", 0x90000000), ("mb", "shm", 0x90000000),
        ("rv", "uart0", 0x10000000), ("mb", "uart0", 0x10000000), ("rv", "mbox/if0", 0x10010000),
        ("mb", "mbox/if1", 0x10020000), ("rv", "finish", 0x100000), ("mb", "finish", 0x100000),
        ("rv", "swi", 0x02000000), ("rv", "mtimer", 0x02004000), ("mb", "intc", 0x41200000), ("mb", "timer", 0x41C00000),
    ]  # fmt: skip
    return [
        lambda: m.chardev_add("con", "ringbuf", {"size": 1024}),
        *[lambda a=a: m.create_object(*a) for a in objects],
        *[lambda a=a: m.device_add(*a) for a in devices],
        *[lambda a=a: m.wire_irq(*a) for a in wires],
        *[lambda a=a: m.map_region(*a) for a in maps],
    ]


def build(machine: Machine, place: Path, seed: int = 0) -> None:
    todo = steps(machine, place / "shm")
    random.Random(seed).shuffle(todo)
    for step in todo:
        step()
    machine.exit_preconfig()


def obj(machine: Machine, path: str) -> Any:
    return machine.tree.resolve(path)


@pytest.mark.parametrize("seed", range(3))
def test_the_demo_map_without_cpus(machine: Machine, tmp_path: Path, seed: int) -> None:
    build(machine, tmp_path, seed)
    rv, mb = obj(machine, "/objects/rv"), obj(machine, "/objects/mb")
    for byte in b"hi":
        rv.store(0x10000000, 1, byte, LITTLE)
    mb.store(0x10000000, 1, ord("!"), BIG)
    assert machine.chardevs.ringbuf_read("con", 10) == b"hi!"

    rv.store(0x90000000, 4, 0x11223344, LITTLE)
    assert mb.load(0x90000000, 4, BIG) == 0x44332211
    assert (tmp_path / "shm").read_bytes()[:4] == b"\x44\x33\x22\x11"

    mb.store(0x41200000 + 0x08, 4, 0x81, BIG)
    mb.store(0x41200000 + 0x1C, 4, 3, BIG)
    mb.store(0x10020000 + 0x24, 4, 2, BIG)
    rv.store(0x10010000, 4, 0xCAFE, LITTLE)
    assert (mb.load(0x41200000 + 0x18, 4, BIG), obj(machine, "intc").out("irq").level) == (0, 1)
    assert mb.load(0x10020000 + 8, 4, BIG) == 0xCAFE

    mb.store(0x41C00000 + 4, 4, 98, BIG)
    mb.store(0x41C00000, 4, 0x20, BIG)
    mb.store(0x41C00000, 4, 0xD2, BIG)
    machine.cont()
    machine.clock.advance(10_000)
    assert mb.load(0x41200000, 4, BIG) & 0x80
    assert rv.load(0x0200BFF8, 8, LITTLE) == 100


def test_all_or_nothing_and_clashes(machine: Machine, tmp_path: Path) -> None:
    for step in steps(machine, tmp_path / "shm"):
        step()
    machine.map_region("rv", "mbram", 0x80100000)
    with pytest.raises(GenericError, match="'mbram' and 'rvram' overlap at 0x80100000-0x8017ffff of 'rv'"):
        machine.exit_preconfig()
    machine.unmap_region("rv", "mbram", 0x80100000)
    machine.exit_preconfig()


def test_reset_save_and_compare_without_code_per_device(machine: Machine, tmp_path: Path) -> None:
    build(machine, tmp_path)
    devices = [o for o in machine.tree.peripheral.walk() if o.phase == "realized"]
    machine.reset()
    first = {o.path: o.save_state() for o in devices}
    rv, mb = obj(machine, "rv"), obj(machine, "mb")
    rv.store(0x02004000, 8, 500, LITTLE)
    mb.store(0x41C00000, 4, 0x80, BIG)
    rv.store(0x10010000, 4, 1, LITTLE)
    rv.store(0x10000007, 1, 9, LITTLE)
    changed = {o.path: o.save_state() for o in devices}
    differ = {path.rpartition("/")[2] for path in first if first[path] != changed[path]}
    assert differ == {"mtimer", "timer", "mbox", "uart0"}
    machine.reset()
    assert {o.path: o.save_state() for o in devices} == first
    for o in devices:
        o.load_state(changed[o.path])
    assert {o.path: o.save_state() for o in devices} == changed
    assert rv.load(0x10010010, 4, LITTLE) == 0x01


def test_hot_plug_and_unplug(machine: Machine, tmp_path: Path) -> None:
    build(machine, tmp_path)
    rv = obj(machine, "rv")
    before = flat_rows(rv)
    machine.chardev_add("con2", "ringbuf")
    machine.device_add("ns16550", "uart1", {"chardev": "con2"})
    machine.map_region("rv", "uart1", 0x10000100)
    rv.store(0x10000100, 1, 65, LITTLE)
    assert machine.chardevs.ringbuf_read("con2", 9) == b"A"
    with pytest.raises(GenericError, match="is busy"):
        machine.chardev_remove("con2")
    with pytest.raises(GenericError, match=r"Property '.*\.chardev' can't take value 'con2': chardev 'con2' is already in use"):
        machine.device_add("ns16550", "uart2", {"chardev": "con2"})
    machine.device_del("uart1")
    machine.chardev_remove("con2")
    assert flat_rows(rv) == before
    with pytest.raises(GenericError, match="overlap"):
        machine.create_object("memory-backend-ram", "extra", {"size": 4096})
        machine.map_region("rv", "extra", 0x80000000)
    machine.map_region("rv", "extra", 0xA0000000)
    rv.write(0xA0000000, b"x")


def test_a_guest_ends_the_machine(machine: Machine, tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    ended: list[tuple[str, int]] = []
    machine.on_event = lambda name, data: events.append((name, data))
    machine.on_shutdown = lambda cause, code: ended.append((cause, code))
    build(machine, tmp_path)
    machine.cont()
    obj(machine, "rv").store(0x100000, 4, 0x00073333, LITTLE)
    assert ended == [("guest-shutdown", 7)]
    assert ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown", "code": 7}) in events


def test_wishes_too_large_are_errors(machine: Machine) -> None:
    with pytest.raises(GenericError, match="cannot set up guest memory 'big': Cannot allocate memory"):
        machine.create_object("memory-backend-ram", "big", {"size": 1 << 60})
    machine.exit_preconfig()
    with pytest.raises(GenericError, match="must be at most 8192"):
        machine.device_add("xlnx.mailbox", "m", {"depth": 9000})


def test_a_line_under_load_with_real_threads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A guest thread echoes what a socket sends: owner, io thread and guest share the lock, and nothing is lost."""
    machine = Machine(registry(), "test", autostart=True)
    path = tmp_path_factory.mktemp("s") / "con"
    done = threading.Event()

    def assemble() -> None:
        machine.chardev_add("con", "socket", {"addr": {"type": "unix", "data": {"path": str(path)}}})
        machine.create_object("address-space", "sys")
        machine.device_add("ns16550", "uart0", {"chardev": "con"})
        machine.map_region("sys", "uart0", 0)
        machine.exit_preconfig()

    def guest() -> None:
        space = obj(machine, "sys")

        def load(reg: int) -> int:
            with machine.lock:
                value: int = space.load(reg, 1, LITTLE)
                return value

        while not done.is_set():
            if load(5) & 1:
                byte = load(0)
                while not load(5) & 0x20 and not done.is_set():
                    pass
                with machine.lock:
                    space.store(0, 1, byte, LITTLE)

    machine.owner.call(assemble)
    with machine.lock:
        obj(machine, "sys").store(2, 1, 0xC1, LITTLE)
    thread = threading.Thread(target=guest)
    thread.start()
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(path))
            sent = random.Random(1).randbytes(20_000)
            peer.sendall(sent)
            got = b""
            while len(got) < len(sent):
                got += peer.recv(4096)
            assert got == sent
    finally:
        done.set()
        thread.join(10)
        machine.close()
    assert not path.exists()

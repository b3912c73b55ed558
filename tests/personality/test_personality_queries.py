"""What a program in QEMU's place says of machines and of its command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from personality_kit import Shims

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.machinefile.types import machine_types

TARGETS = sorted(TypeRegistry().targets())
# Of the machines that QEMU 10.0 has too, what it says; what ratite lacks (ACPI, NUMA) is false.
VIRT = {"cpu-max": 512, "default-ram-id": "riscv_virt_board.ram"}
ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("riscv64", "virt"): {**VIRT, "default-cpu-type": "rv64-riscv-cpu"},
    ("riscv32", "virt"): {**VIRT, "default-cpu-type": "rv32-riscv-cpu"},
    ("riscv64", "none"): {"cpu-max": 1, "default-ram-id": "ram"},
    ("microblaze", "petalogix-s3adsp1800"): {"cpu-max": 1, "is-default": True, "default-cpu-type": "microblaze-cpu"},
    ("microblaze", "petalogix-ml605"): {"cpu-max": 1, "deprecated": True, "default-cpu-type": "microblaze-cpu"},
    ("microblazeel", "petalogix-ml605"): {"cpu-max": 1, "default-cpu-type": "microblaze-cpu"},
}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    """Each target."""
    found: str = request.param
    return found


@pytest.fixture
def qmp(shims: Shims, target: str) -> Iterator[Client]:
    """A program without a machine, as libvirt starts it to ask."""
    _, client = shims.start(target, "-S", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg")
    with client:
        yield client


def test_machines_are_the_targets(qmp: Client, target: str) -> None:
    found = {row.pop("name"): row for row in qmp.execute("query-machines")}
    assert set(found) == {kind.name for kind in machine_types().values() if kind.is_for(target)}
    absent = {"acpi": False, "deprecated": False, "hotpluggable-cpus": False, "numa-mem-supported": False}
    for (of, name), answer in ANSWERS.items():
        if of == target:
            assert found[name] == {**absent, **answer}
    assert sum(row.get("is-default", False) for row in found.values()) <= 1


def test_every_machine_has_a_type_with_properties(qmp: Client) -> None:
    types = {row["name"]: row for row in qmp.execute("qom-list-types", {"implements": "machine"})}
    for row in qmp.execute("query-machines"):
        name = f"{row['name']}-machine"
        assert types[name]["parent"] == "machine"
        properties = {each["name"]: each["type"] for each in qmp.execute("qom-list-properties", {"typename": name})}
        assert properties["memory-backend"] == "link<memory-backend>" and properties["kernel"] == "string"


def test_types_of_other_targets_are_not_there(qmp: Client, target: str) -> None:
    registry = TypeRegistry()
    names = {row["name"] for row in qmp.execute("qom-list-types", {"implements": "cpu"})}
    assert names == {row.name for row in registry.types("cpu", abstract=False) if target in row.data["targets"]}
    other = next(row.name for row in registry.types("cpu", abstract=False) if target not in row.data["targets"])
    with pytest.raises(CommandError, match=f"Class '{other}' not found"):
        qmp.execute("qom-list-properties", {"typename": other})
    with pytest.raises(CommandError, match=f"Device '{other}' not found"):
        qmp.execute("device-list-properties", {"typename": other})


def test_command_line_options_are_those_that_there_are(qmp: Client) -> None:
    found = {row["option"]: row["parameters"] for row in qmp.execute("query-command-line-options")}
    assert {"machine", "smp-opts", "memory", "device", "chardev", "mon", "object", "netdev", "name", "msg"} <= set(found)
    # libvirt passes -sandbox on where there is such a group.
    assert "sandbox" not in found
    assert {"name": "path", "type": "string"} in found["chardev"] and {"name": "size", "type": "size"} in found["chardev"]
    assert {"name": "memory-backend", "type": "string"} in found["machine"]
    assert qmp.execute("query-command-line-options", {"option": "smp-opts"}) == [
        {"option": "smp-opts", "parameters": found["smp-opts"]}
    ]
    with pytest.raises(CommandError, match="invalid option name: nope"):
        qmp.execute("query-command-line-options", {"option": "nope"})


def test_what_the_machine_can(qmp: Client) -> None:
    assert qmp.execute("query-current-machine") == {"wakeup-suspend-support": False}
    with pytest.raises(CommandError, match="machine does not support hot-plugging CPUs"):
        qmp.execute("query-hotpluggable-cpus")


def test_options_in_a_view_of_no_target(tmp_path: Path) -> None:
    """QEMU's manners without one of its programs: there are no machine types whose properties could be listed."""
    with DaemonProcess(tmp_path / "q") as daemon, daemon.client() as qmp:
        qmp.execute("view-select", personality="qemu")
        found = {row["option"]: row["parameters"] for row in qmp.execute("query-command-line-options")}
        assert {"name": "type", "type": "string"} in found["machine"]


def test_threads_of_disks(shims: Shims) -> None:
    (shims.place / "disk").write_bytes(bytes(1 << 20))
    words = ["-M", "virt", "-nodefaults", "-bios", "none", "-m", "32", "-accel", "interp", "-S"]
    words += ["-object", "iothread,id=io1,poll-max-ns=7", "-drive", "if=none,id=d,format=raw,file=disk"]
    words += ["-device", "virtio-blk-pci,drive=d,iothread=io1"]
    process, qmp = shims.start("riscv64", *words)
    with qmp:
        (thread,) = qmp.execute("query-iothreads")
        assert os.path.exists(f"/proc/{process.pid}/task/{thread.pop('thread-id')}")
        assert thread == {"id": "io1", "poll-max-ns": 7, "poll-grow": 0, "poll-shrink": 0, "aio-max-batch": 0}
        lines = qmp.execute("human-monitor-command", {"command-line": "info iothreads"}).splitlines()
        assert lines[0] == "io1:" and "  poll-max-ns=7" in lines

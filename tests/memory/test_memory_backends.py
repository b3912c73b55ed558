"""Memory backends of a machine: sizes are checked when they are set, and a refusal leaves nothing behind on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ratite.core.clock import VirtualClock
from ratite.core.machine import Machine
from ratite.core.memory import limits as limits_module
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import GenericError

GIB = 1 << 30


@pytest.fixture
def machine() -> Machine:
    return Machine(TypeRegistry(), "test", autostart=False, clock=VirtualClock(manual=True), inline=True)


def refused(machine: Machine, kind: str, **props: object) -> str:
    given = {name.replace("_", "-"): value for name, value in props.items()}
    with pytest.raises(GenericError) as told:
        machine.create_object(kind, "x", given)
    assert "x" not in machine.tree.objects.children
    return told.value.desc


@pytest.mark.parametrize("when", ["created", "initialized", "ready"])
def test_sizes_are_checked_when_the_object_is_made(machine: Machine, when: str) -> None:
    if when != "created":
        machine.wire()
    if when == "ready":
        machine.exit_preconfig()
    ram = "memory-backend-ram"
    assert refused(machine, ram) == "Parameter 'size' is missing"
    assert refused(machine, ram, size=0) == f"Property '{ram}.size' doesn't take value '0'"
    assert refused(machine, ram, size=4095) == f"Property '{ram}.size' must be a multiple of 4096 bytes, not 4095"
    assert "cannot set up guest memory 'x': Cannot allocate memory" in refused(machine, ram, size=1 << 62)
    assert refused(machine, "memory-backend-file", size=4096) == "Parameter 'mem-path' is missing"
    assert "Cannot allocate memory" in refused(machine, "memory-backend-file", size=1 << 62, mem_path="/nowhere/x")


def test_all_memory_together_must_fit_the_host(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "_own_pages", lambda: (GIB, GIB // 2))
    monkeypatch.setattr(limits_module, "_system_limit", lambda: 4 * GIB)
    monkeypatch.setattr(limits_module, "_cgroup_limit", lambda: None)
    ram = "memory-backend-ram"
    machine.create_object(ram, "r0", {"size": 2 * GIB})
    # Half a GiB of what is promised is known to the host already.
    assert f"{GIB * 5 // 2} allowed by the host's available memory besides the {2 * GIB} of other memory" in refused(
        machine, ram, size=3 * GIB
    )
    machine.create_object(ram, "r1", {"size": 2 * GIB})
    assert "Cannot allocate memory" in refused(machine, ram, size=GIB)
    with pytest.raises(GenericError, match="Cannot allocate memory"):
        machine.set_property("/objects/r1", "size", 3 * GIB)
    assert machine.get_property("/objects/r1", "size") == 2 * GIB
    machine.set_property("/objects/r1", "size", GIB)
    machine.create_object(ram, "r2", {"size": GIB})


def test_a_file_stays_only_when_a_machine_started_with_it(machine: Machine, tmp_path: Path) -> None:
    new, empty, full = tmp_path / "new", tmp_path / "empty", tmp_path / "full"
    empty.touch()
    full.write_bytes(b"seed" * 1024)

    def facts() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in sorted(tmp_path.iterdir())}

    before = facts()
    for name in ("new", "empty", "full"):
        props = {"size": 4096, "mem-path": str(tmp_path / name), "share": True}
        machine.create_object("memory-backend-file", name, props)
    machine.map_region("nowhere", "new", 0)
    for step in (machine.wire, machine.exit_preconfig):
        with pytest.raises(GenericError, match="Device 'nowhere' not found"):
            step()
        assert facts() == before
    machine.unmap_region("nowhere", "new", 0)
    machine.create_object("memory-backend-file", "bad", {"size": 8192, "mem-path": str(full)})
    with pytest.raises(GenericError, match="does not match 'size' option"):
        machine.exit_preconfig()
    assert facts() == before and full.read_bytes()[:4] == b"seed"
    machine.delete_object("bad")
    image = {"cluster": "rv", "image-raw": str(tmp_path / "none")}
    machine.create_object("address-space", "view", {})
    machine.create_object("cpu-cluster", "rv", {"target": "riscv64", "address-space": "view", "accel": "interp"})
    machine.device_add("rv64-riscv-cpu", "cpu", image)
    with pytest.raises(GenericError, match="Could not open"):
        machine.exit_preconfig()
    assert facts() == before
    machine.device_del("cpu")
    machine.delete_object("rv")
    machine.exit_preconfig()
    assert facts() == {"empty": 4096, "full": 4096, "new": 4096}
    machine.delete_object("new")
    assert new.stat().st_size == 4096


def test_a_file_that_somebody_put_in_its_place_is_not_ours(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "mem"
    machine.create_object("memory-backend-file", "m", {"size": 4096, "mem-path": str(path)})
    machine.wire()
    path.rename(tmp_path / "aside")
    path.write_bytes(b"another's")
    machine.delete_object("m")
    assert path.read_bytes() == b"another's"


def test_a_file_cut_short_before_the_start_is_an_error_not_a_signal(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "mem"
    path.write_bytes(bytes(8192))
    machine.create_object("memory-backend-file", "m", {"size": 8192, "mem-path": str(path), "share": True})
    machine.wire()
    os.truncate(path, 4096)
    with pytest.raises(GenericError, match="backing store size 0x1000 does not match 'size' option 0x2000 of 'm'"):
        machine.exit_preconfig()
    os.truncate(path, 8192)
    machine.exit_preconfig()

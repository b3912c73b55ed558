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
    assert refused(machine, ram, size=0) == f"property 'size' of {ram} doesn't take value '0'"
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
    with pytest.raises(GenericError, match="is too small for 'size' option"):
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
    with pytest.raises(GenericError, match="m backing store size 0x1000 is too small for 'size' option 0x2000 plus"):
        machine.exit_preconfig()
    os.truncate(path, 8192)
    machine.exit_preconfig()


def ready(machine: Machine) -> Machine:
    machine.exit_preconfig()
    return machine


def vm_flags(address: int) -> set[str]:
    """The kernel's flags of the mapping at an address: "dd" no core dumps, "mg" merged, "sh" shared, "nr" no reserve."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    here = False
    for line in lines:
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, _, high = head.partition("-")
            here = int(low, 16) <= address < int(high, 16)
        elif here and head == "VmFlags:":
            return set(line.split()[1:])
    raise AssertionError(f"nothing is mapped at {address:#x}")


RAM_REFUSALS = {
    "'prealloc=on' and 'reserve=off' are incompatible": {"reserve": False, "prealloc": True},
    "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'": {"prealloc_threads": 0},
    "host-nodes must be set for policy bind": {"policy": "bind"},
    "Invalid host-nodes value: 128": {"policy": "bind", "host_nodes": [128]},
    "Parameter 'policy' does not accept value 'zz'": {"policy": "zz"},
    "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default": {
        "host_nodes": [0]
    },
}


@pytest.mark.parametrize(("why", "props"), RAM_REFUSALS.items(), ids=lambda value: str(value)[:40])
def test_refusals_of_properties(machine: Machine, why: str, props: dict[str, object]) -> None:
    ready(machine)
    for given in props, dict(reversed(props.items())):
        assert refused(machine, "memory-backend-ram", size=1 << 20, **given) == why


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_the_host_is_told(machine: Machine) -> None:
    ready(machine)
    for kind in "memory-backend-ram", "memory-backend-memfd":
        plain = machine.create_object(kind, "plain", {"size": 1 << 20}).ram  # type: ignore[attr-defined]
        given = {"size": 1 << 20, "dump": False, "merge": False, "prealloc": True, "prealloc-threads": 3, "share": True}
        told = machine.create_object(kind, "told", given).ram  # type: ignore[attr-defined]
        assert not {"dd", "nr"} & vm_flags(plain.address)
        assert {"dd", "sh"} <= vm_flags(told.address) and "mg" not in vm_flags(told.address)
        machine.set_property("told", "dump", True)
        machine.set_property("plain", "dump", False)
        assert "dd" in vm_flags(plain.address) and "dd" not in vm_flags(told.address)
        spare = machine.create_object(kind, "spare", {"size": 1 << 20, "reserve": False, "share": False}).ram  # type: ignore[attr-defined]
        assert "nr" in vm_flags(spare.address)
        for name in "plain", "told", "spare":
            machine.delete_object(name)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_memfd_is_sealed_unless_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    seals = []
    real = os.close

    def close(fd: int) -> None:
        if "memory-backend-memfd-" in os.readlink(f"/proc/self/fd/{fd}"):
            seals.append(fcntl.fcntl(fd, fcntl.F_GET_SEALS))
        real(fd)

    monkeypatch.setattr(os, "close", close)
    ready(machine)
    machine.create_object("memory-backend-memfd", "a", {"size": 1 << 20})
    machine.create_object("memory-backend-memfd", "b", {"size": 1 << 20, "seal": False})
    assert seals == [fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SEAL]
    text = refused(machine, "memory-backend-memfd", size=1 << 20, seal=False, hugetlb=True, hugetlbsize=4096)
    assert text.startswith("failed to create memfd with flags 0x30000005: ")


def test_a_files_part_and_rom(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(b"head".ljust(4096, b".") + b"body".ljust(4096, b"."))
    ready(machine)
    kind, file = "memory-backend-file", {"size": 4096, "mem-path": str(path)}
    body = machine.create_object(kind, "body", {**file, "offset": 4096, "share": True}).ram  # type: ignore[attr-defined]
    assert body.read(0, 4) == b"body"
    body.write(0, b"BODY")
    assert path.read_bytes()[4096:4100] == b"BODY"
    rom = machine.create_object(kind, "rom", {**file, "readonly": True, "share": True}).ram  # type: ignore[attr-defined]
    assert rom.readonly and rom.read(0, 4) == b"head"
    ram = machine.create_object(kind, "ram", {**file, "readonly": True, "rom": "off"}).ram  # type: ignore[attr-defined]
    assert not ram.readonly
    for region in rom, ram:
        region.write(0, b"load")
    assert path.read_bytes()[:4] == b"head"
    assert "'rom' = 'on' is not supported" in refused(machine, kind, **{"rom": "on", "size": 4096, "mem_path": str(path)})
    for why, props in {
        "property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'": {
            "readonly": True, "rom": "off", "share": True,
        },
        "offset 0x64 must be multiples of page size 0x1000": {"offset": 100},
        "x backing store size 0x2000 is too small for 'size' option 0x1000 plus 'offset' option 0x2000": {"offset": 8192},
    }.items():  # fmt: skip
        assert refused(machine, kind, size=4096, mem_path=str(path), **props) == why
    assert refused(machine, kind, size=4096, mem_path=str(tmp_path / "no"), readonly=True).endswith("No such file or directory")
    machine.create_object(kind, "gone", {**file, "share": True, "discard-data": True})
    machine.delete_object("gone")
    assert path.read_bytes()[:4] == b"\0\0\0\0" and path.stat().st_size == 8192

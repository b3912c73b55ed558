"""`machine-dump`: a machine back into a file; dump, run, dump is a fixed point, in whatever order it was assembled."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machinefile_kit import Kit, parsed
from machines import DATA, assembled, dump_of, published

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.compile import Command, Compiler
from ratite.qapi.machinefile.declarations import SECTIONS
from ratite.qapi.machinefile.dump import render

PROFILES = [profile.full_name for profile in files.profiles()]


def full(name: str, compiler: Compiler, folder: Path) -> list[Command]:
    """A profile with all that it can have (but a network, which needs passt)."""
    disk = folder / "disk"
    disk.write_bytes(bytes(1 << 20))
    given = {"accel": "interp", "disk": str(disk), "harts": 3, "console": "ringbuf"}
    known = compiler.compile_named(name, {}, files.read).parameters
    return compiler.compile_named(name, {key: given[key] for key in given if key in known}, files.read).commands


@pytest.mark.parametrize("name", PROFILES)
def test_dump_run_dump_is_a_fixed_point(name: str, compiler: Compiler, tmp_path: Path) -> None:
    commands = full(name, compiler, tmp_path)
    first = assembled(commands, tmp_path)
    text = render(first)
    again = compiler.compile_text(text, name="dump.yaml")
    shuffled = again.commands[1:-1]
    random.Random(name).shuffle(shuffled)
    assert assembled([again.commands[0], *shuffled, again.commands[-1]], tmp_path) == first


@pytest.mark.parametrize("name", PROFILES)
def test_the_order_of_assembly_does_not_show(name: str, compiler: Compiler, tmp_path: Path) -> None:
    commands = full(name, compiler, tmp_path)
    middle = commands[1:-1]
    random.Random(name).shuffle(middle)
    assert render(assembled([commands[0], *middle, commands[-1]], tmp_path)) == render(assembled(commands, tmp_path))


@pytest.mark.parametrize("name", PROFILES)
def test_a_published_profile_stays_what_it_was(name: str, compiler: Compiler, tmp_path: Path) -> None:
    """Types may get new properties.  A default that changes is to be pinned in the profile; else it is a new version."""
    now, then = (parsed(text) for text in (dump_of(name, compiler, tmp_path), published(name).read_text()))
    for section in SECTIONS:
        was = then.pop(section, {})
        has = now.pop(section, {})
        assert has.keys() == was.keys()
        assert {id: {key: has[id].get(key) for key in entry} for id, entry in was.items()} == was
    assert now == then


def test_no_published_profile_has_gone() -> None:
    assert {path.name for path in DATA.iterdir()} == {published(name).name for name in PROFILES}


@pytest.fixture
def qmp(tmp_path: Path) -> Iterator[Client]:
    """A machine without anything in it."""
    with DaemonProcess(tmp_path / "qmp", "--paused") as daemon, Client.connect(daemon.address, timeout=60) as client:
        client.execute("machine-create", {"primary-target": "riscv64"})
        yield client


def dump(qmp: Client) -> dict[str, Any]:
    document: dict[str, Any] = qmp.execute("machine-dump")["document"]
    return document


def test_what_is_not_wired_yet_is_dumped_as_it_was_said(qmp: Client, kit: Kit) -> None:
    qmp.execute("device_add", {"driver": "ns16550", "id": "u", "chardev": "later"})
    qmp.execute("map-region", {"space": "nowhere", "region": "u/regs", "offset": 0x1000, "priority": 3})
    qmp.execute("map-region", {"space": "nowhere", "region": "u/regs", "offset": 0x2000})
    qmp.execute("wire-irq", {"from": "u", "output": "irq", "to": "missing", "input": "in[3]"})
    assert dump(qmp) == {
        "ratite": 1,
        "machine": {"primary-target": "riscv64"},
        "devices": {"u": {"type": "ns16550", "chardev": "later", "regshift": 0, "baudbase": 115200, "endianness": "little"}},
        "maps": {"nowhere": {"u/regs": [{"offset": 0x1000, "priority": 3}, 0x2000]}},
        "wires": {"u/irq": "missing/in[3]"},
    }
    assert kit.problems(render(dump(qmp))), "names that don't exist are told before any daemon sees them"


def test_backends_come_back_as_they_were_given(qmp: Client, compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "img").write_bytes(bytes(4096))
    unix = {"type": "unix", "data": {"path": str(tmp_path / "con")}}
    given: list[Command] = [
        ("chardev-add", {"id": "a", "backend": {"type": "socket", "data": {"addr": unix, "server": True}}}),
        ("chardev-add", {"id": "b", "backend": {"type": "null", "data": {}}}),
        ("chardev-add", {"id": "c", "backend": {"type": "file", "data": {"out": str(tmp_path / "$(x)")}}}),
        ("blockdev-add", {"driver": "raw", "node-name": "n", "file": {"driver": "file", "filename": str(tmp_path / "img")}}),
        ("netdev_add", {"type": "stream", "id": "s", "server": True, "addr": {"type": "unix", "path": str(tmp_path / "net")}}),
    ]
    for command, arguments in given:
        qmp.execute(command, arguments)
    document = dump(qmp)
    assert document["chardevs"]["a"]["addr"] == {"type": "unix", "path": unix["data"]["path"]}
    assert document["blockdevs"] == {"n": {"type": "raw", "file": {"type": "file", "filename": str(tmp_path / "img")}}}
    assert compiler.compile_text(render(document)).commands[1:-1] == given


def test_links_and_found_values_of_hot_plugged_devices(qmp: Client, compiler: Compiler, tmp_path: Path) -> None:
    """The address and the port that were found are written down; where a CPU starts stays open."""
    for command, arguments in compiler.compile_named("riscv-virt/recommended", {"accel": "interp"}, files.read).commands[1:]:
        qmp.execute(command, arguments)
    qmp.execute("chardev-add", {"id": "con", "backend": {"type": "null", "data": {}}})
    qmp.execute("device_add", {"driver": "virtio-serial-pci", "id": "serial", "bus": "port0"})
    qmp.execute("device_add", {"driver": "virtserialport", "id": "p", "chardev": "con", "bus": "serial.0"})
    document = dump(qmp)
    assert document["devices"]["serial"]["bus"] == "port0/port0"
    assert document["devices"]["serial"]["addr"] == "00.0"
    assert document["devices"]["p"]["nr"] == 1
    assert document["devices"]["p"]["bus"] == "serial/serial.0"
    assert "reset-pc" not in document["devices"]["cpu0"]
    again = compiler.compile_text(render(document))
    assert assembled(again.commands, tmp_path / "..") == {**document, "machine": {"primary-target": "riscv64"}}


def test_only_ratite_s_views_have_it(qmp: Client) -> None:
    qmp.execute("view-select", {"personality": "qemu"})
    with pytest.raises(CommandError, match="has not been found"):
        qmp.execute("machine-dump")


@pytest.mark.parametrize(
    "document",
    [
        {"ratite": 1, "description": "a: b # c", "objects": {"x": {"type": "y", "a": "", "b": "on", "c": "1", "d": " e "}}},
        {"ratite": 1, "chardevs": {"x": {"type": "null", "l": [1, {"a": [True, None]}], "long": "z" * 200, "m": "\n\t\\\"'"}}},
        {"ratite": 1, "maps": {"v": {"r": {"offset": 16, "priority": 16}, "s": [1, 0x10000]}}, "wires": {"a/b[1]": "c/d[2]"}},
        {"ratite": 1, "objects": {"ü": {"type": "☃", "k": "$$(x)", "f": -1.5, "~": "null", "@": "*a", "b": "&c", "d": "!e"}}},
    ],
)  # fmt: skip
def test_render_says_what_the_document_says(document: dict[str, Any]) -> None:
    assert parsed(render(document)) == document

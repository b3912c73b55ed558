"""Device trees into machine files: our own come back, QEMU's are understood, broken ones harm nothing."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from ratite.clients.qmp import Client, DaemonProcess
from ratite.qapi.errors import GenericError
from ratite.qapi.fdt import Node, flatten
from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.compile import Command, Compiler
from ratite.qapi.machinefile.declarations import Declarations
from ratite.qapi.machinefile.dtb import NODES_MAX, RANGES_MAX, UNKNOWN_MAX, from_dtb
from ratite.qapi.machinefile.dump import render

pytest.importorskip("fdt", reason="device trees are made by the package fdt")

DECLARATIONS = files.declarations()


def tree_of(commands: Iterable[Command], cpu: str, folder: Path) -> bytes:
    """The device tree of a CPU's guest in the machine that the commands make."""
    path = folder / "tree.dtb"
    with DaemonProcess(folder / "qmp", "--paused") as daemon, Client.connect(daemon.address, timeout=60) as qmp:
        for command, arguments in commands:
            qmp.execute(command, arguments)
        qmp.execute("dumpdtb", {"filename": str(path), "cpu": cpu})
    return path.read_bytes()


@pytest.mark.parametrize(
    ("profile", "cpu", "arguments"),
    [
        ("riscv-virt/minimal", "cpu0", {}),
        ("riscv-virt/simple", "cpu0", {"harts": 3, "ram": "64M"}),
        ("riscv-virt/recommended", "cpu0", {}),
        ("riscv-virt/minimal", "cpu0", {"target": "riscv32", "cpu": "rv32-riscv-cpu"}),
        ("s3adsp1800/simple", "cpu0", {}),
        ("ml605/simple", "cpu0", {}),
        ("duo/recommended", "rv0", {}),
        ("managed-virt/simple", "mb-cpu0", {}),
    ],
)
def test_our_own_trees_come_back(
    profile: str, cpu: str, arguments: dict[str, object], compiler: Compiler, tmp_path: Path
) -> None:
    """Tree, file, machine, tree: the same bytes."""
    made = compiler.compile_named(profile, {"accel": "interp", **arguments}, files.read)
    blob = tree_of(made.commands, cpu, tmp_path)
    read = from_dtb(blob, DECLARATIONS)
    assert read.unknown == []
    read.document["objects"]["cluster"]["accel"] = "interp"
    again = compiler.compile_text(render(read.document))
    assert tree_of(again.commands, "cpu0", tmp_path) == blob


@pytest.mark.peer
def test_qemu_s_virt_board(compiler: Compiler, tmp_path: Path) -> None:
    qemu = shutil.which("qemu-system-riscv64")
    if qemu is None:
        pytest.skip("qemu-system-riscv64 is missing")
    path = tmp_path / "virt.dtb"
    subprocess.run([qemu, "-M", f"virt,dumpdtb={path}", "-smp", "2", "-m", "256M"], check=True, capture_output=True)
    read = from_dtb(path.read_bytes(), DECLARATIONS)
    told = [line for line in read.unknown if "extension" not in line]
    assert {line.partition("@")[0].partition(":")[0] for line in told} <= {
        "/pmu",
        "/fw-cfg",
        "/flash",
        "/soc/pmu",
        "/platform-bus",
    }
    assert any("cfi-flash" in line for line in told)
    commands = compiler.compile_text(render(read.document)).commands
    kinds = [arguments["driver"] for command, arguments in commands if command == "device_add"]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "rv64-riscv-cpu": 2, "goldfish_rtc": 1, "ns16550": 1, "riscv.sifive.test": 1, "gpex-pcihost": 1, "virtio-mmio": 8,
        "riscv.sifive.plic": 1, "riscv.aclint.mtimer": 1, "riscv.aclint.swi": 1,
    }  # fmt: skip
    ours = compiler.compile_named("riscv-virt/recommended", {"ram": "256M"}, files.read).commands

    def places(commands: Iterable[Command]) -> set[int]:
        return {arguments["offset"] for command, arguments in commands if command == "map-region"}

    def lines(commands: Iterable[Command]) -> list[str]:
        wires = [arguments for command, arguments in commands if command == "wire-irq"]
        return sorted(f"{wire['output']} {wire['to']} {wire['input']}" for wire in wires)

    assert places(commands) == places(ours), "riscv-virt is laid out as QEMU's"
    assert lines(commands) == lines(ours)


def a_tree() -> Node:
    root = Node()
    root["#address-cells"] = root["#size-cells"] = 2
    cpus = root.child("cpus")
    cpus["#address-cells"], cpus["#size-cells"] = 1, 0
    for n in range(2):
        cpu = cpus.child(f"cpu@{n}")
        cpu["device_type"], cpu["reg"], cpu["compatible"], cpu["riscv,isa"] = "cpu", n, "riscv", "rv64imafdc_zba_zfoo"
        controller = cpu.child("interrupt-controller")
        controller["phandle"], controller["#interrupt-cells"] = n + 1, 1
    return root


def test_buses_translate_and_interrupt_parents_are_inherited() -> None:
    root = a_tree()
    bus = root.child("bus@1000")
    bus["#address-cells"], bus["#size-cells"], bus["compatible"] = 1, 1, "simple-bus"
    bus["ranges"] = [0x1000, 0, 0x80001000, 0x1000]
    bus["interrupt-parent"] = 9
    inner = bus.child("inner")
    inner["#address-cells"], inner["#size-cells"], inner["ranges"] = 1, 1, [0, 0x1800, 0x100]
    for name, at, more in (
        ("serial@10", 0x10, {"reg-shift": 2}),
        ("serial@4000", 0x4000, {}),
        ("serial@20", 0x20, {"status": "disabled"}),
    ):
        node = inner.child(name)
        node["compatible"], node["reg"], node["interrupts"] = ("vendor,uart", "ns16550"), [at, 0x100], 5
        for key, value in more.items():
            node[key] = value  # type: ignore[assignment]
    plic = root.child("plic@c000000")
    plic["compatible"], plic["reg"], plic["phandle"], plic["#interrupt-cells"] = (
        "riscv,plic0",
        [0, 0xC000000, 0, 0x400000],
        9,
        1,
    )
    plic["interrupts-extended"] = [2, 9, 2, 11, 1, 11]
    read = from_dtb(flatten(root), DECLARATIONS)
    assert read.document["maps"] == {"view": {"plic": 0xC000000, "serial-10": 0x80001810}}
    assert read.document["wires"] == {
        "serial-10/irq": "plic/irq[5]", "plic/seip[0]": "cpu1/seip", "plic/meip[0]": "cpu1/meip", "plic/meip[1]": "cpu0/meip",
    }  # fmt: skip
    assert read.document["devices"]["plic"]["hart-config"] == "SM,M"
    assert read.document["devices"]["serial-10"]["regshift"] == 2
    assert read.unknown == [
        "/cpus/cpu@0: extension 'zfoo' isn't known",
        "/cpus/cpu@1: extension 'zfoo' isn't known",
        "/bus@1000/inner/serial@4000: vendor,uart: it has no address that the CPU could reach",
    ]


def test_what_is_not_known_is_listed() -> None:
    root = a_tree()
    other = root.children["cpus"].child("cpu@7")
    other["device_type"], other["compatible"], other["reg"] = "cpu", "acme,cpu", 7
    for name, compatible in ("a@1000", "acme,a"), ("b@2000", "ns16550"):
        node = root.child(name)
        node["compatible"], node["reg"], node["interrupts-extended"] = compatible, [0, 0x1000, 0, 0x100], [77, 3]
    assert from_dtb(flatten(root), DECLARATIONS).unknown[2:] == [
        "/cpus/cpu@7: no target answers to acme,cpu",
        "/a@1000: no device answers to acme,a",
        "/b@2000: interrupt 3 of phandle 77 has no line here",
    ]
    assert from_dtb(flatten(Node()), DECLARATIONS).unknown == ["/cpus: no CPU of a known target is described"]


@pytest.mark.parametrize("blob", [b"", b"ratite: 1\n", b"\xd0\x0d\xfe\xed" + bytes(36), bytes(1 << 21)])
def test_what_is_no_tree_is_refused(blob: bytes) -> None:
    with pytest.raises(GenericError):
        from_dtb(blob, DECLARATIONS)


def test_broken_trees_harm_nothing(compiler: Compiler, tmp_path: Path) -> None:
    """Bytes of a real tree changed at random: a refusal, or a document that compiles or is told to be wrong."""
    made = compiler.compile_named("riscv-virt/recommended", {"accel": "interp"}, files.read)
    blob = tree_of(made.commands, "cpu0", tmp_path)
    source = random.Random(1)
    outcomes = set()
    for _ in range(150):
        broken = bytearray(blob)
        for _ in range(source.randint(1, 8)):
            broken[source.randrange(len(broken))] = source.choice((0, 1, 0xFF, source.randrange(256)))
        try:
            read = from_dtb(bytes(broken), DECLARATIONS)
            compiler.compile_text(render(read.document))
        except GenericError as error:
            outcomes.add(type(error).__name__)
        else:
            outcomes.add("compiled")
    assert {"compiled", "GenericError"} <= outcomes


@pytest.mark.parametrize("what", ["name of a node", "name of a property", "nodes", "ranges"])
def test_what_a_tree_may_hold_is_bounded(what: str) -> None:
    """Else a megabyte becomes gigabytes of paths or names, or hours."""
    root = Node()
    message = "more than 127 letters"
    if what == "name of a node":
        root.child("a" * 128)
    elif what == "name of a property":
        root["a" * 128] = 1
    elif what == "nodes":
        message = f"at most {NODES_MAX} nodes"
        for n in range(NODES_MAX):
            root.child(f"n{n}")
    else:
        message = f"the ranges of 'soc' must have at most {RANGES_MAX} rows"
        root.child("soc")["ranges"] = [row for n in range(RANGES_MAX + 1) for row in (0, n, 0, n, 1)]
    with pytest.raises(GenericError, match=message):
        from_dtb(flatten(root), DECLARATIONS)


def test_values_that_no_property_takes_are_listed(compiler: Compiler) -> None:
    root = a_tree()
    memory = root.child("memory@9")
    memory["device_type"], memory["reg"] = "memory", [0xFFFFFFFF, 0xFFFFF000, 1, 0]
    plic = root.child("plic@1000")
    plic["compatible"], plic["reg"], plic["riscv,ndev"] = "riscv,plic0", [0, 0x1000, 0, 0x400000], 0xFFFFFFFF
    wide = root.child("wide")
    wide["#address-cells"], wide["#size-cells"], wide["ranges"] = 4, 1, True
    far = wide.child("memory@1")
    far["device_type"], far["reg"] = "memory", [1, 0, 0, 0, 4096]
    read = from_dtb(flatten(root), DECLARATIONS)
    assert read.unknown[-3:] == [
        "/memory@9: 0x100000000 bytes at 0xfffffffffffff000 end beyond 64 bits",
        "/wide/memory@1: it has no address that the CPU could reach",
        "/plic@1000: num-sources of type 'riscv.sifive.plic' can't be 4294967295",
    ]
    assert compiler.compile_text(render(read.document))


def test_the_list_of_what_is_unknown_is_bounded_and_harmless() -> None:
    root = Node()
    for n in range(UNKNOWN_MAX + 5):
        root.child(f"n{n}")["compatible"] = "no\x1b[2J"
    unknown = from_dtb(flatten(root), DECLARATIONS).unknown
    assert unknown[1] == "/n0: no device answers to no\\x1b[2J"
    assert unknown[-1] == "… and 6 more"
    assert len(unknown) == UNKNOWN_MAX + 1


def test_every_rule_names_what_is_there() -> None:
    """What types declare about device trees, held against their own properties, regions and lines."""
    declarations: Declarations = DECLARATIONS
    seen = 0
    for name, row in declarations.types.items():
        for rule in row.get("from-fdt", ()):
            seen += 1
            properties = {each["name"] for each in row["properties"] if each["kind"] in ("config", "tunable")}
            assert set(rule.get("properties", {})) <= properties, name
            assert {*rule.get("regions", ()), *rule.get("ranges", {}).values()} <= set(row["regions"]), name
            inputs = rule.get("inputs", {})
            assert set([inputs] if isinstance(inputs, str) else inputs.values()) <= set(row["inputs"]), name
            outputs = {*rule.get("root", [])[:1], *([rule["map"]] if "map" in rule else [])}
            assert outputs <= set(row["outputs"]), name
    assert seen > 10

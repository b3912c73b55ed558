"""RISC-V: kernel images, what firmware is told, harts in a device tree; OpenSBI comes up."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from ratite.clients.boots.machines import linux
from ratite.core.fdt import DeviceTree
from ratite.core.fdt.tree import group_of
from ratite.core.machine import Machine
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.fdt import isa_string, mmu_type
from ratite.targets.riscv.image import fw_dynamic_info, read_head


def image(offset: int = 0x200000, memory: int = 0x300000, flags: int = 0) -> bytes:
    head = struct.pack("<IIQQQIIQQ4sI", 0x5A4D, 0, offset, memory, flags, 2, 0, 0, 0x5643534952, b"RSC\x05", 0)
    return head.ljust(4096, b"\0")


def with_sections(*ends: int) -> bytes:
    head = bytearray(image())
    head[0x3C:0x40] = struct.pack("<I", 0x40)
    head[0x40:0x58] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x5064, len(ends), 0, 0, 0, 16, 0)
    for number, end in enumerate(ends):
        at = 0x68 + 40 * number
        head[at : at + 40] = struct.pack("<8sIIIIIIHHI", b".text", 0, 0, 0x1000, end - 0x1000, 0, 0, 0, 0, 0)
    return bytes(head)


def test_images() -> None:
    assert read_head("x", image(), 4096, 64) == (0x200000, 0x200000, 0x300000)
    assert read_head("x", image(0x400000), 4096, 32) == (0x400000, 0x400000, 0x300000)
    assert read_head("x", image(0), 4096, 64).offset == 0x200000
    assert read_head("x", b"\x6f\0\0\0" * 9, 36, 64) == (0, 0x200000, 36), "a program, which goes to the start of RAM"
    assert read_head("x", with_sections(0x2000, 0x3000), 0x3000, 64).size == 0x300000


@pytest.mark.parametrize(("head", "text"), [
    (b"\x1f\x8b" + bytes(100), "it is packed by gzip: unpack it"),
    (b"\x28\xb5\x2f\xfd" + bytes(100), "it is packed by zstd"),
    (b"MZ\0\0zimg" + bytes(100), "zboot"),
    (image()[:60], "60 bytes are less than an Image's head"),
    (image()[:56] + b"ARM\x64" + bytes(100), "no magic 'RSC.x05' at byte 0x38"),
    (image(flags=1), "it is a big-endian Image"),
    (image(offset=0x1234), "its head is damaged: text_offset 0x1234"),
    (image(memory=1 << 50), "its head is damaged"),
    (with_sections(0x2000, 0x3001), "it is truncated: section 1 ends at byte 12289 of a file of 12288"),
])
def test_what_is_no_image(head: bytes, text: str) -> None:
    with pytest.raises(GenericError, match=text):
        read_head("x", head, 0x3000, 64)


def test_fw_dynamic_info() -> None:
    assert struct.unpack("<6Q", fw_dynamic_info(0x80200000, 3, 64)) == (0x4942534F, 2, 0x80200000, 1, 0, 3)
    assert struct.unpack("<6I", fw_dynamic_info(0x80400000, 1, 32)) == (0x4942534F, 2, 0x80400000, 1, 0, 1)


@pytest.fixture
def machine():
    made = Machine(TypeRegistry(plugins=False), "test", autostart=False, inline=True)
    yield made
    made.close()


def assemble(machine: Machine, name: str, harts: int = 1, **boot: str) -> None:
    """The commands of a client, done without a daemon."""
    do = {
        "object-add": lambda a: machine.create_object(a.pop("qom-type"), a.pop("id"), a),
        "device_add": lambda a: machine.device_add(a.pop("driver"), a.pop("id"), a),
        "map-region": lambda a: machine.map_region(a["space"], a["region"], a["offset"]),
        "wire-irq": lambda a: machine.wire_irq(a["from"], a["output"], a["to"], a["input"]),
    }
    machine.chardev_add("con", "ringbuf", {"size": 65536})
    for command, arguments in linux(name, "con", boot, harts=harts):
        if command != "machine-create":
            do[command](dict(arguments))


def test_the_tree_of_two_harts(machine: Machine) -> None:
    assemble(machine, "riscv64", 2)
    machine.wire()
    root = DeviceTree(machine, group_of(machine.resolve("cpu0"))).build()
    cpus, soc = root.children["cpus"], root.children["soc"]
    harts = [cpus.children[f"cpu@{n}"].children["interrupt-controller"]["phandle"] for n in range(2)]
    contexts = soc.children["interrupt-controller@c000000"]["interrupts-extended"]
    assert contexts == b"".join(h + struct.pack(">I", n) for h in harts for n in (11, 9))
    assert soc.children["mswi@2000000"]["interrupts-extended"] == b"".join(h + struct.pack(">I", 3) for h in harts)
    timer = soc.children["mtimer@200bff8"]
    assert struct.unpack(">8I", timer["reg"]) == (0, 0x200BFF8, 0, 8, 0, 0x2004000, 0, 0x7FF8)
    assert cpus["timebase-frequency"] == struct.pack(">I", 10_000_000)
    plic = soc.children["interrupt-controller@c000000"]["phandle"]
    assert (soc.children["serial@10000000"]["interrupt-parent"], soc.children["serial@10000000"]["interrupts"]) == (
        plic, struct.pack(">I", 10),
    )  # fmt: skip
    assert root.children["poweroff"]["regmap"] == soc.children["test@100000"]["phandle"]


def test_extensions_are_told_in_canonical_order(machine: Machine) -> None:
    machine.create_object("address-space", "mem")
    machine.create_object("cpu-cluster", "cl", {"target": "riscv64", "address-space": "mem"})
    plain = {"zba": False, "zbb": False, "zbs": False, "zicbom": False, "zicboz": False, "sstc": False, "svadu": False}
    known = {prop["name"] for prop in machine.registry.find("rv64-riscv-cpu").data["properties"]}
    plain |= {name: False for name in ("f", "d") if name in known}
    machine.device_add("rv64-riscv-cpu", "cpu0", {"cluster": "cl", "sv57": False, "sv48": False, **plain})
    machine.device_add("rv64-riscv-cpu", "cpu1", {"cluster": "cl", "cpu-index": 1, "c": False, "svinval": True})
    machine.wire()
    one, two = machine.resolve("cpu0"), machine.resolve("cpu1")
    assert (isa_string(one), mmu_type(one)) == ("rv64imac_zicntr_zicsr_zifencei", "riscv,sv39")
    words = isa_string(two).split("_")
    assert words[0].startswith("rv64ima") and mmu_type(two) == "riscv,sv57"
    for earlier, later in (("zicsr", "zifencei"), ("zifencei", "zba"), ("zba", "zbb"), ("zbs", "sstc"), ("sstc", "svinval")):
        assert words.index(earlier) < words.index(later)


FIRMWARE = (
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin", "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.elf",
)  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize("path", FIRMWARE, ids=lambda path: Path(path).name + ("-qemu" if "qemu" in path else ""))
def test_opensbi_comes_up(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} is not installed")
    machine = Machine(TypeRegistry(plugins=False), "test")

    def on_owner(step, *args):
        return machine.owner.post(step, *args).result(300)

    try:
        # Without a kernel it goes on at address 0, whose trap handler is there as well: the guest does nothing more.
        on_owner(lambda: assemble(machine, "riscv64", 2, firmware=path))
        console = machine.resolve("con")
        on_owner(machine.exit_preconfig)
        seen = ""
        while "Boot HART MEDELEG" not in seen:
            assert machine.status == "running", seen
            seen += console.read(1 << 16).decode("latin-1")
        found = dict(re.findall(r"^([A-Z][\w ]+?) *: (.*?)\r?$", seen, re.MULTILINE))
        assert (found["Platform HART Count"], found["Platform Timer Device"].split()[0]) == ("2", "aclint-mtimer")
        assert (found["Platform IPI Device"], found["Domain0 Next Mode"]) == ("aclint-mswi", "S-mode")
    finally:
        machine.close()

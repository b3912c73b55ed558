"""Booting: where firmware, kernel, ramdisk and device tree go, what the CPU finds in its registers, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from core_kit import Bench, FakeCpu, elf

from ratite.core.boot import ARGS_MAX, PAGE, TREE_SLACK, Boot, RawKernel
from ratite.core.fdt import Node, flatten, parse
from ratite.core.loader import bad_image

RAM, SIZE = 0x80000000, 16 << 20
TOP = RAM + SIZE


class BootCpu(FakeCpu):
    """A CPU whose raw kernels begin with "KERN"."""

    TYPE = "boot-cpu"
    RESET_PC = RAM
    FOLLOWS = True

    def boot_kernel(self, path: str, head: bytes, size: int) -> RawKernel:
        if head[:4] != b"KERN":
            raise bad_image(path, "no kernel")
        return RawKernel(0x200000, 0x200000, int.from_bytes(head[4:8], "little"))

    def boot_args(self, boot: Boot) -> bytes:
        return boot.cpu.append.encode() + b"\0"

    def boot_registers(self, boot: Boot) -> Mapping[tuple[str, int], int]:
        return {("x", 1): boot.tree_at, ("x", 2): boot.initrd_start, ("x", 3): boot.args_at}

    def fdt_node(self, tree: Any) -> None:
        tree.cpus_node.child(f"cpu@{self.cpu_index}")["reg"] = self.cpu_index


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.machine.registry.register(BootCpu)
    yield made
    made.machine.close()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "fw").write_bytes(b"FIRM" * 0x400)
    (tmp_path / "kernel").write_bytes(b"KERN" + (0x300000).to_bytes(4, "little") + b"kernel")
    (tmp_path / "initrd").write_bytes(b"ramdisk!" * 0x300)
    return {name: str(tmp_path / name) for name in ("fw", "kernel", "initrd")}


def machine(bench: Bench, *cpus: dict[str, Any], size: int = SIZE) -> None:
    bench.create_object("address-space", "mem", {})
    bench.create_object("memory-backend-ram", "ram0", {"size": size})
    bench.create_object("cpu-cluster", "cl", {"target": "fake64", "address-space": "mem"})
    bench.map_region("mem", "ram0", RAM)
    for number, props in enumerate(cpus):
        bench.device_add("boot-cpu", f"cpu{number}", {"cluster": "cl", "cpu-index": number, **props})


def ram(bench: Bench, at: int, size: int) -> bytes:
    data: bytes = bench.call(bench.machine.resolve("mem").read, at, size)
    return data


def registers(bench: Bench, cpu: str = "cpu0") -> list[int]:
    return [bench.get_property(cpu, name) for name in ("pc", "x1", "x2", "x3")]


def tree_at(bench: Bench, at: int) -> Node:
    return parse("ram", ram(bench, at, TREE_SLACK))[0]


def test_everything_has_its_place_and_a_reset_puts_it_there_again(bench: Bench, files: dict[str, str]) -> None:
    machine(bench, {"firmware": files["fw"], "kernel": files["kernel"], "initrd": files["initrd"], "append": "root=x"}, {})
    bench.exit_preconfig()
    pc, tree, initrd, args = registers(bench)
    assert (pc, args) == (RAM, TOP - ARGS_MAX)
    assert registers(bench, "cpu1") == [pc, tree, initrd, args], "the other CPU starts as the one with the firmware does"
    assert ram(bench, RAM, 4) == b"FIRM" and ram(bench, RAM + 0x200000, 4) == b"KERN"
    assert ram(bench, args, 7) == b"root=x\0"
    assert initrd + 0x1800 <= tree and tree + TREE_SLACK < args and initrd % PAGE == tree % PAGE == 0
    whole = ram(bench, initrd, 0x1800)
    assert whole == b"ramdisk!" * 0x300
    root = tree_at(bench, tree)
    chosen = root.children["chosen"]
    assert chosen["bootargs"] == b"root=x\0"
    told = [int.from_bytes(chosen[f"linux,initrd-{name}"], "big") for name in ("start", "end")]
    assert told == [initrd, initrd + 0x1800]
    assert len(chosen["rng-seed"]) == 32
    assert list(root.children["cpus"].children) == ["cpu@0", "cpu@1"]
    for at in (RAM, RAM + 0x200000, tree, initrd, args):
        bench.call(bench.machine.resolve("mem").write, at, b"\xff" * 64)
    for path in files.values():
        os.unlink(path)
    bench.reset()
    assert registers(bench)[1:] == [tree, initrd, args]
    assert ram(bench, RAM, 4) == b"FIRM" and ram(bench, args, 7) == b"root=x\0" and ram(bench, initrd, 0x1800) == whole
    assert tree_at(bench, tree).children["chosen"]["rng-seed"] != chosen["rng-seed"]


def test_a_kernel_alone_is_entered_itself(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    machine(bench, {"kernel": files["kernel"]})
    bench.exit_preconfig()
    assert registers(bench)[0] == RAM + 0x200000
    at, end = RAM + 0x200000, RAM + 0x500000
    bench.call(bench.machine.resolve("mem").write, end - 4, b"xxxx")
    bench.reset()
    assert ram(bench, end - 4, 4) == bytes(4) and ram(bench, at + 8, 6) == b"kernel", "what it clears itself is clear"


def test_an_elf_kernel_may_tell_its_entry_as_a_virtual_address(bench: Bench, tmp_path: Path) -> None:
    path = Path(elf(tmp_path / "vmlinux", [(RAM + 0x1000, b"code", 0x2000)], entry=0xC0000010))
    data = bytearray(path.read_bytes())
    data[64 + 16 : 64 + 24] = (0xC0000000).to_bytes(8, "little")  # p_vaddr
    path.write_bytes(data)
    machine(bench, {"kernel": str(path)})
    bench.exit_preconfig()
    assert registers(bench)[0] == RAM + 0x1010


def test_relocatable_firmware_goes_to_the_start_of_ram(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    path = Path(elf(tmp_path / "fw.elf", [(0, b"code", 4), (0x40000, b"data", 0x1000)], entry=0x2))
    data = bytearray(path.read_bytes())
    data[16] = 3
    path.write_bytes(data)
    machine(bench, {"firmware": str(path), "kernel": files["kernel"]})
    bench.exit_preconfig()
    assert (registers(bench)[0], ram(bench, RAM, 4), ram(bench, RAM + 0x40000, 4)) == (RAM + 2, b"code", b"data")


def test_large_firmware_moves_the_kernel(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "fw").write_bytes(bytes(0x200001))
    machine(bench, {"firmware": files["fw"], "kernel": files["kernel"]})
    bench.exit_preconfig()
    assert ram(bench, RAM + 0x400000, 4) == b"KERN"


def test_a_given_device_tree_is_completed(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    given = Node()
    given["model"] = "mine"
    given.child("chosen")["bootargs"] = "old"
    (tmp_path / "dtb").write_bytes(flatten(given, [(0x1000, 0x2000)]))
    machine(bench, {"kernel": files["kernel"], "dtb": str(tmp_path / "dtb"), "initrd": files["initrd"]})
    bench.exit_preconfig()
    _, at, initrd, _ = registers(bench)
    root, reserved = parse("ram", ram(bench, at, TREE_SLACK))
    assert (root["model"], reserved, list(root.children)) == (b"mine\0", [(0x1000, 0x2000)], ["chosen"])
    chosen = root.children["chosen"]
    assert (chosen["bootargs"], int.from_bytes(chosen["linux,initrd-start"], "big")) == (b"old\0", initrd)


def test_what_a_cpu_has_of_its_own_it_starts_with(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    image = elf(tmp_path / "a", [(RAM + 0x900000, b"own", 3)], entry=RAM + 0x900000)
    machine(bench, {}, {"kernel": files["kernel"]}, {"image": image}, {"reset-pc": 0x80001234})
    bench.exit_preconfig()
    assert [registers(bench, f"cpu{n}")[0] - RAM for n in range(4)] == [0x200000, 0x200000, 0x900000, 0x1234]
    assert registers(bench, "cpu0") == registers(bench, "cpu1")
    assert registers(bench, "cpu2")[1:] == registers(bench, "cpu3")[1:] == [0, 0, 0]


def test_a_plan_goes_with_its_cpu(bench: Bench, files: dict[str, str]) -> None:
    machine(bench, {}, {"kernel": files["kernel"]})
    bench.exit_preconfig()
    bench.device_del("cpu1")
    bench.reset()
    assert registers(bench)[1:] == [0, 0, 0]


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "initrd alone": ({"initrd": "INITRD"}, "Property 'boot-cpu.initrd' needs 'kernel' or 'firmware'"),
    "append alone": ({"append": "x"}, "Property 'boot-cpu.append' needs 'kernel' or 'firmware'"),
    "folder": ({"kernel": "."}, "Could not open '.': not a regular file"),
    "no kernel": ({"kernel": "INITRD"}, "no kernel"),
    "missing": ({"kernel": "KERNEL", "initrd": "/nowhere"}, "Could not open '/nowhere': No such file"),
    "folder as ramdisk": ({"kernel": "KERNEL", "initrd": "/"}, "Could not open '/': not a regular file"),
    "folder as tree": ({"kernel": "KERNEL", "dtb": "/"}, "Could not open '/': not a regular file"),
    "no tree": ({"kernel": "KERNEL", "dtb": "INITRD"}, "not a flattened device tree"),
    "long line": ({"kernel": "KERNEL", "append": "x" * ARGS_MAX}, "'boot-cpu.append' must be shorter than 4096 bytes"),
    "large ramdisk": ({"kernel": "KERNEL", "initrd": "LARGE"}, "Could not load image 'LARGE': its 0xc00001 bytes must end"),
    "large kernel": ({"kernel": "HUGE"}, "no room for the device tree"),
    "firmware for another": ({"firmware": "ALIEN"}, "it is for ELF machine 9"),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_refusals_leave_all_as_it_was(bench: Bench, files: dict[str, str], tmp_path: Path, case: str) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(0xC00001)
    (tmp_path / "huge").write_bytes(b"KERN" + (SIZE).to_bytes(4, "little"))
    elf(tmp_path / "alien", [(RAM, b"x", 1)], machine=9)
    names = {"KERNEL": files["kernel"], "INITRD": files["initrd"]}
    names |= {name: str(tmp_path / name.lower()) for name in ("LARGE", "HUGE", "ALIEN")}
    props, text = CASES[case]
    for name, path in names.items():
        text = text.replace(name, path)
    machine(bench, {}, {key: names.get(value, value) for key, value in props.items()})
    refusal = bench.error("exit_preconfig")
    assert text in refusal and "/machine/peripheral/cpu1" in refusal
    bench.device_del("cpu1")
    bench.exit_preconfig()
    assert ram(bench, RAM, SIZE).count(0) == SIZE


def test_no_ram_and_little_ram(bench: Bench, files: dict[str, str]) -> None:
    machine(bench, {"kernel": files["kernel"]}, size=0x300000)
    assert "no room for the device tree: 0x12000 bytes must end at or below 0x80300000" in bench.error("exit_preconfig")
    bench.unmap_region("mem", "ram0", RAM)
    assert "has no RAM to boot from" in bench.error("exit_preconfig")


def test_images_must_not_overlap(bench: Bench, files: dict[str, str], tmp_path: Path) -> None:
    image = elf(tmp_path / "a", [(RAM + 0x200100, b"x", 1)], entry=RAM)
    machine(bench, {"kernel": files["kernel"], "image": image})
    refusal = bench.error("exit_preconfig")
    assert f"image '{image}' at 0x80200100-0x80200100 ('/machine/peripheral/cpu0') and kernel '{files['kernel']}'" in refusal
    assert refusal.endswith("overlap")


def test_images_of_two_cpus_must_not_overlap_in_ram_wherever_they_see_it(bench: Bench, tmp_path: Path) -> None:
    one = elf(tmp_path / "one", [(RAM, b"x" * 16, 16)])
    two = elf(tmp_path / "two", [(0x8, b"y", 1)])
    machine(bench, {"image": one}, {"image": one})
    bench.create_object("address-space", "other", {})
    bench.map_region("other", "ram0", 0)
    bench.create_object("cpu-cluster", "cl2", {"target": "fake64", "address-space": "other"})
    bench.device_add("boot-cpu", "zz", {"cluster": "cl2", "image": two})
    assert f"image '{two}' at 0x8-0x8 ('/machine/peripheral/zz') and image '{one}' at" in bench.error("exit_preconfig")
    bench.device_del("zz")
    bench.delete_object("cl2")
    bench.exit_preconfig()
    assert ram(bench, RAM, 4) == b"xxxx", "one file for two CPUs is one thing"

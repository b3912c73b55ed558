"""Programs and disks that can't be, over the socket: each is refused by name, nothing has changed, and the right one starts."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.machines import board, one_cpu
from ratite.clients.qmp import Client, CommandError, DaemonProcess
from tests.guests.guest_run import ELF

HELLO = str(ELF / "hello.rv64.elf")
RAM = board("rv64").ram
SIZE = 16 << 20


def image(size: int, text_offset: int = 0x200000) -> bytes:
    """A RISC-V Linux Image's head: it takes `size` bytes."""
    return struct.pack("<8x2Q3I12x", text_offset, size, 0, 2, 0)[:48].ljust(48, b"\0") + b"RISCV\0\0\0RSC\x05" + bytes(4036)


#: {case: (properties of the CPU, what the refusal says)}; capitals are files of `files`.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "kernel of another CPU": ({"kernel": "ALIEN"}, "'ALIEN': it is for ELF machine 62, the CPU is machine 243"),
    "firmware of another CPU": ({"firmware": "ALIEN"}, "'ALIEN': it is for ELF machine 62, the CPU is machine 243"),
    "another word size": ({"image": "NARROW"}, "'NARROW': it is a 32-bit ELF, the CPU is 64-bit"),
    "packed": ({"kernel": "PACKED"}, "'PACKED': it is packed by gzip"),
    "a folder": ({"kernel": "FOLDER"}, "Could not open 'FOLDER': not a regular file"),
    "a folder as ramdisk": ({"kernel": "KERNEL", "initrd": "FOLDER"}, "Could not open 'FOLDER': not a regular file"),
    "nothing": ({"image": "EMPTY"}, "'EMPTY': not an ELF file"),
    "no room for the tree": ({"kernel": "WIDE"}, "no room for the device tree: "),
    "overlapping": ({"image": HELLO, "image-raw": "RAW", "image-addr": RAM}, "overlap"),
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "FOLDER").mkdir()
    hello, alien = Path(HELLO).read_bytes(), 62  # e_machine of x86-64
    for name, data in (
        ("PACKED", b"\x1f\x8b\x08" + bytes(100)), ("EMPTY", b""), ("KERNEL", image(0x10000)), ("WIDE", image(SIZE - 0x200000)),
        ("RAW", b"raw!"), ("ALIEN", alien.to_bytes(2, "little").join((hello[:18], hello[20:]))),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    here = {path.name: str(path) for path in tmp_path.iterdir()}
    return {**here, "NARROW": str(ELF / "hello.rv32.elf")}


def cpu(qmp: Client, **props: object) -> None:
    qmp.execute("device_add", {"driver": "rv64-riscv-cpu", "id": "cpu", "cluster": "cluster", **props})


def test_programs_that_cannot_be(daemon: DaemonProcess, files: dict[str, str]) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("chardev-add", {"id": "console", "backend": {"type": "null", "data": {}}})
        for command, arguments in one_cpu("rv64", Path(HELLO), "console", accel="interp"):
            qmp.execute(command, arguments)
        for case, (props, text) in CASES.items():
            qmp.execute("device_del", id="cpu")
            given = {name: files.get(value, value) for name, value in props.items()}
            for name, path in files.items():
                text = text.replace(name, path)
            with pytest.raises(CommandError) as caught:
                cpu(qmp, **given)
                qmp.execute("x-exit-preconfig")
            assert text in caught.value.desc, (case, caught.value.desc)
            assert qmp.execute("query-status")["status"] == "prelaunch", case
        qmp.execute("device_del", id="cpu")
        cpu(qmp, image=HELLO)
        qmp.execute("x-exit-preconfig")
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}

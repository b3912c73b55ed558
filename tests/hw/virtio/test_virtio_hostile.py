"""A guest that breaks its disk's queue, over the sockets: the device stops, the daemon and the machine's other guest go on."""

from __future__ import annotations

import os
from pathlib import Path

from ratite.clients import machines
from ratite.clients.qmp import Client
from tests.debian import Line, chardev
from tests.guests.guest_run import ELF, Guest

RULES = "lnhamwioj"  # as tests/guests/src/hostile.c has them
CONFIG = 2
SECTORS = 16


def assemble(qmp: Client, image: Path, folder: Path) -> Line:
    """The disk of the guest, and beside it a big-endian MicroBlaze that answers lines."""
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "n0", "filename": str(image)})
    qmp.execute("device_add", driver="virtio-mmio", id="transport")
    qmp.execute("map-region", space="view", region="transport", offset=0x10001000)
    qmp.execute("device_add", driver="virtio-blk-device", id="disk", drive="n0", bus="transport.0")
    other = chardev(qmp, "other", folder / "other")
    for command, arguments in machines.one_cpu("mb", ELF / "echo.mb.elf", "other", prefix="b"):
        qmp.execute(command, arguments)
    return other


def answers(other: Line, text: str) -> None:
    """The other guest goes on."""
    other.sock.sendall(f"{text}\n".encode())
    other.until(f"{text.upper()}\n")


def test_a_guest_breaks_its_disk_and_nothing_else(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"".join(bytes([n]) * 512 for n in range(SECTORS)))
    with Guest("hostile", "rv64", tmp_path) as guest:
        qmp = guest.qmp
        other = assemble(qmp, image, tmp_path)
        guest.start()
        guest.wait_text("hostile\n")
        for count, rule in enumerate(RULES, 1):
            guest.text = ""
            guest.send(f"{rule}\n")
            assert guest.wait_text("\n") == f"needs reset, interrupt {CONFIG}\n", rule
            assert qmp.execute("qom-get", path="/machine/peripheral/disk", property="guest-faults") == count
            answers(other, f"still here {rule}")
            guest.text = ""
            guest.send(f"g {count}\n")
            assert guest.wait_text("\n") == f"status 0 data {count}\n", "a reset brings it back"
        os.truncate(image, 512 * (SECTORS - 1))  # it shrinks under the guest
        guest.text = ""
        guest.send(f"g {SECTORS - 1}\n")
        assert guest.wait_text("\n").startswith("status 1 ")
        event = qmp.wait_event("BLOCK_IO_ERROR")
        assert (event["data"]["qom-path"], event["data"]["action"]) == ("/machine/peripheral/disk", "report")
        guest.text = ""
        guest.send("g 3\n")
        assert guest.wait_text("\n") == "status 0 data 3\n"
        answers(other, "and here")
        assert qmp.execute("query-status") == {"running": True, "status": "running"}
        other.sock.close()

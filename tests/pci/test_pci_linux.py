"""A real Linux on the bus: enumeration, a disk below a port, hot plug, by Debian's riscv64 kernel under OpenSBI.

That kernel is built without HOTPLUG_PCI: the shell writes Slot Control, as a hot-plug driver would, and rescans.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.boots.machines import pci
from tests.debian import MARKS, PATIENCE, Linux, booted

pytestmark = MARKS
ON, OFF = r"\300\001", r"\300\007"  # Slot Control: power and its indicator
CONFIG = "/sys/bus/pci/devices/0000:00:02.0/config"


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Linux]:
    more = list(pci(ports=2))
    for n, name in enumerate(("first", "second")):
        image = tmp_path / name
        image.write_bytes(name.encode().ljust(16) + os.urandom((1 << 20) - 16))
        node = {"driver": "raw", "node-name": f"n{n}", "file": {"driver": "file", "filename": str(image)}}
        more.append(("blockdev-add", node))
    more.append(("device_add", {"driver": "virtio-blk-pci", "id": "d0", "bus": "rp0", "drive": "n0"}))
    with booted(tmp_path, more, harts=2) as made:
        yield made


def sums(text: str) -> list[str]:
    return re.findall(r"\b[0-9a-f]{64}\b", text)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_linux(guest: Linux, tmp_path: Path) -> None:
    assert "0000:01:00.0" in guest.sh("insmod /lib/modules/virtio_blk.ko; ls /sys/bus/pci/devices")
    assert sums(guest.sh("sha256sum /dev/vda")) == [sha(tmp_path / "first")]
    guest.sh("dd if=/dev/urandom of=/dev/vda bs=64k count=16; sync; echo 3 > /proc/sys/vm/drop_caches")
    assert sums(guest.sh("sha256sum /dev/vda")) == [sha(tmp_path / "first")]
    guest.sh(f"C={CONFIG}; slot() {{ printf \"$1\" | dd of=$C bs=1 seek=108 conv=notrunc 2>/dev/null; }}")
    for _ in range(3):
        guest.qmp.execute("device_add", driver="virtio-blk-pci", id="d1", bus="rp1", drive="n1")
        found = guest.sh(f"slot '{ON}'; echo 1 > /sys/bus/pci/rescan; sleep 1; sha256sum /dev/vdb")
        assert sums(found) == [sha(tmp_path / "second")]
        guest.qmp.execute("device_del", id="d1")
        guest.sh(f"echo 1 > /sys/bus/pci/devices/0000:02:00.0/remove; slot '{OFF}'")
        event: Any = guest.qmp.wait_event("DEVICE_DELETED", timeout=PATIENCE)
        assert event["data"]["device"] == "d1"
    assert "0000:02:00.0" not in guest.sh("ls /sys/bus/pci/devices")
    bridges = [info for info in guest.qmp.execute("query-pci")[0]["devices"] if "pci_bridge" in info]
    assert [[info["qdev_id"] for info in bridge["pci_bridge"]["devices"]] for bridge in bridges] == [["d0"], []]

"""Debian's kernel on the board `virt` of a program in QEMU's place: its power button, a disk plugged below a port."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from personality_kit import Shims

from tests.debian import BOOT, MARKER, MARKS, PATIENCE, Line

pytestmark = MARKS
ON, OFF = r"\300\001", r"\300\007"  # Slot Control: power and its indicator
LISTENING = "until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/input/event0; do sleep 1; done"


def test_a_guest_is_plugged_into_and_shut_down(shims: Shims, tmp_path: Path) -> None:
    place, image = tmp_path / "console", tmp_path / "disk"
    image.write_bytes(os.urandom(1 << 20))
    words = ["-M", "virt", "-m", "512", "-bios", BOOT["firmware"], "-nodefaults", "-display", "none", "-no-shutdown", "-S"]
    words += ["-kernel", BOOT["kernel"], "-initrd", BOOT["initrd"], "-append", BOOT["append"]]
    words += ["-chardev", f"socket,id=con,path={place},server=on,wait=off", "-serial", "chardev:con"]
    words += ["-device", "pcie-root-port,id=rp0,chassis=1,slot=1,addr=2"]
    process, qmp = shims.start("riscv64", *words)
    with qmp:
        console = Line(place)
        qmp.execute("cont")
        console.until(MARKER)
        assert "Power Button" in console.sh(f"{LISTENING}; insmod /lib/modules/virtio_blk.ko; cat /proc/bus/input/devices")
        node = {"driver": "raw", "node-name": "n0", "file": {"driver": "file", "filename": str(image), "node-name": "f0"}}
        qmp.execute("blockdev-add", node)
        qmp.execute("device_add", driver="virtio-blk-pci", id="d0", bus="rp0", drive="n0")
        # The kernel has no hot-plug driver: the shell powers the slot and looks.
        config = "/sys/bus/pci/devices/0000:00:02.0/config"
        console.sh(f"slot() {{ printf \"$1\" | dd of={config} bs=1 seek=108 conv=notrunc 2>/dev/null; }}")
        found = console.sh(f"slot '{ON}'; echo 1 > /sys/bus/pci/rescan; sleep 1; sha256sum /dev/vda")
        assert hashlib.sha256(image.read_bytes()).hexdigest() in found
        qmp.execute("device_del", id="d0")
        console.sh(f"echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove; slot '{OFF}'")
        assert qmp.wait_event("DEVICE_DELETED", timeout=PATIENCE)["data"] == {"device": "d0", "path": "/machine/peripheral/d0"}
        qmp.execute("blockdev-del", {"node-name": "n0"})
        qmp.execute("system_powerdown")
        data = qmp.wait_event("SHUTDOWN", timeout=PATIENCE)["data"]
        assert data == {"guest": True, "reason": "guest-shutdown"}
        qmp.wait_event("STOP")
        assert qmp.execute("query-status")["status"] == "shutdown"
        console.sock.close()
        qmp.execute("quit")
    assert process.wait(30) == 0

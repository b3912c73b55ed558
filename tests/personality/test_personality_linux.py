"""Linux and OpenSBI by QEMU's command lines; Debian's on the board `virt`: its power button, a disk and a card below ports."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from personality_kit import Shims

from ratite.clients.boots import guests
from tests.debian import BOOT, INITRD, MARKER, MARKS, PATIENCE, PLACE, Line
from tests.terminal import Terminal

FETCHED = MARKS[1]
ON, OFF = r"\300\001", r"\300\007"  # Slot Control: power and its indicator
DISK, CARD = "0000:00:02.0", "0000:00:03.0"  # their ports
LISTENING = "until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/input/event0; do sleep 1; done"


def at_a_terminal(shims: Shims, target: str, *words: str) -> Terminal:
    return Terminal([shims.path(target), *words, "-nographic"], {name: os.environ[name] for name in ("PATH", "XDG_CACHE_HOME")})


def asked(terminal: Terminal, question: str, answer: str) -> None:
    """Ctrl-A c, a question to the monitor, and Ctrl-A c."""
    terminal.send("\x01c")
    terminal.expect("(qemu) ", PATIENCE)
    terminal.send(f"{question}\r")
    terminal.expect(answer)
    terminal.expect("(qemu) ")
    terminal.send("\x01c")


@pytest.mark.peer
@FETCHED
@pytest.mark.parametrize("harts", [1, 4])
def test_debian_by_qemus_command_line(shims: Shims, tmp_path: Path, harts: int) -> None:
    image = tmp_path / "disk"
    image.write_bytes(b"what is on the disk".ljust(1 << 20, b"\0"))
    words = f"-M virt -m 512 -smp {harts} -drive file={image},if=none,format=raw,id=hd0 -device virtio-blk-device,drive=hd0"
    more = ["-netdev", "socket,id=net0,listen=127.0.0.1:0", "-device", "virtio-net-device,netdev=net0", "-no-reboot"]
    boot = ["-bios", BOOT["firmware"], "-kernel", BOOT["kernel"], "-initrd", str(INITRD), "-append", BOOT["append"]]
    with at_a_terminal(shims, "riscv64", *words.split(), *more, *boot) as terminal:
        terminal.expect(MARKER, PATIENCE)
        terminal.expect("# ", PATIENCE)
        terminal.send("cd /lib/modules; for name in virtio_blk failover net_failover virtio_net; do insmod $name.ko; done\r")
        terminal.send("dd if=/dev/vda bs=19 count=1; ls /sys/class/net; echo $(nproc) harts\r")
        terminal.expect("what is on the disk", PATIENCE)
        terminal.expect("eth0", PATIENCE)
        terminal.expect(f"{harts} harts", PATIENCE)
        asked(terminal, "info cpus", f"CPU #{harts - 1}: thread_id=")
        terminal.send("reboot -f\r")  # an end, by -no-reboot
        assert terminal.ended(PATIENCE) == 0


@pytest.mark.parametrize("target, board", [("microblaze", "s3adsp1800"), ("microblazeel", "ml605")])
def test_microblaze_by_qemus_command_line(shims: Shims, tmp_path: Path, target: str, board: str) -> None:
    guests.unpack_microblaze(tmp_path)
    boot = guests.boot_of(board, tmp_path)
    words = ["-M", f"petalogix-{board}", "-m", "256", *(word for name, text in boot.items() for word in (f"-{name}", text))]
    with at_a_terminal(shims, target, *words) as terminal:
        terminal.expect(MARKER, PATIENCE)
        terminal.expect("# ", PATIENCE)
        asked(terminal, "info status", "VM status: running")
        terminal.send("uname -m\r")
        terminal.expect("microblaze\r", PATIENCE)
        terminal.send("reboot -f\r")
        terminal.expect("Restarting system", PATIENCE)
        terminal.send("\x01x")
        assert terminal.ended() == 0


@pytest.mark.peer
@FETCHED
def test_riscv32_firmware_by_qemus_command_line(shims: Shims) -> None:
    firmware = str(PLACE / "opensbi-riscv32" / "fw_dynamic.bin")
    with at_a_terminal(shims, "riscv32", "-M", "virt", "-smp", "2", "-bios", firmware) as it:
        it.expect("Boot HART Base ISA          : rv32imafdc", PATIENCE)
        asked(it, "info status", "VM status: running")
        it.send("\x01x")
        assert it.ended() == 0


@pytest.mark.peer
@FETCHED
def test_a_guest_is_plugged_into_and_shut_down(shims: Shims, tmp_path: Path) -> None:
    place, image = tmp_path / "console", tmp_path / "disk"
    image.write_bytes(os.urandom(1 << 20))
    words = ["-M", "virt", "-m", "512", "-bios", BOOT["firmware"], "-nodefaults", "-display", "none", "-no-shutdown", "-S"]
    words += ["-kernel", BOOT["kernel"], "-initrd", BOOT["initrd"], "-append", BOOT["append"]]
    words += ["-chardev", f"socket,id=con,path={place},server=on,wait=off", "-serial", "chardev:con"]
    words += ["-device", "pcie-root-port,id=rp0,chassis=1,slot=1,addr=2"]
    words += ["-device", "pcie-root-port,id=rp1,chassis=1,slot=2,addr=3"]
    process, qmp = shims.start("riscv64", *words)
    with qmp:
        console = Line(place)
        qmp.execute("cont")
        console.until(MARKER)
        assert "Power Button" in console.sh(f"{LISTENING}; cat /proc/bus/input/devices")
        console.sh("cd /lib/modules; for name in virtio_blk failover net_failover virtio_net; do insmod $name.ko; done")
        # The kernel has no hot-plug driver: the shell powers slots and looks.
        console.sh("slot() { printf \"$2\" | dd of=/sys/bus/pci/devices/$1/config bs=1 seek=108 conv=notrunc 2>/dev/null; }")

        node = {"driver": "raw", "node-name": "n0", "file": {"driver": "file", "filename": str(image), "node-name": "f0"}}
        qmp.execute("blockdev-add", node)
        qmp.execute("device_add", driver="virtio-blk-pci", id="d0", bus="rp0", drive="n0")
        found = console.sh(f"slot {DISK} '{ON}'; echo 1 > /sys/bus/pci/rescan; sleep 1; sha256sum /dev/vda")
        assert hashlib.sha256(image.read_bytes()).hexdigest() in found

        qmp.execute("netdev_add", type="socket", id="net0", listen="127.0.0.1:0")
        qmp.execute("device_add", driver="virtio-net-pci", id="e0", bus="rp1", netdev="net0", mac="52:54:00:00:00:77")
        console.sh(f"slot {CARD} '{ON}'; echo 1 > /sys/bus/pci/rescan")
        assert "52:54:00:00:00:77" in console.sh("sleep 1; cat /sys/class/net/*/address")

        for name, slot in ("d0", DISK), ("e0", CARD):
            qmp.execute("device_del", id=name)
            console.sh(f"echo 1 > $(echo /sys/bus/pci/devices/{slot}/*:*:*.*/remove); slot {slot} '{OFF}'")
            data = qmp.wait_event("DEVICE_DELETED", timeout=PATIENCE)["data"]
            assert data == {"device": name, "path": f"/machine/peripheral/{name}"}
        qmp.execute("blockdev-del", {"node-name": "n0"})
        qmp.execute("netdev_del", id="net0")

        qmp.execute("system_powerdown")
        data = qmp.wait_event("SHUTDOWN", timeout=PATIENCE)["data"]
        assert data == {"guest": True, "reason": "guest-shutdown"}
        qmp.wait_event("STOP")
        assert qmp.execute("query-status")["status"] == "shutdown"
        console.sock.close()
        qmp.execute("quit")
    assert process.wait(60) == 0

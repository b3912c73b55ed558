"""libvirt and Linux guests: Debian's kernel on RISC-V with hot plug and the power button, MicroBlaze's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_kit import Terminal
from libvirt_kit import PLAIN, PORTS, Domain, disk, linux, wait

from ratite.clients.bench.libvirtd import CONSOLE, Libvirtd, domain_xml
from ratite.clients.boots import guests
from ratite.clients.boots.initramfs import MARKER
from ratite.clients.demo_linux import MAILBOX, WINDOW, guests_of
from tests.debian import BOOT, MARKS, PATIENCE, PLACE

pytestmark = pytest.mark.peer
MODULES = "failover net_failover virtio_net virtio_blk virtio_balloon"
MIB = 1 << 20
# PCI Express: the capability's number, its Slot Control register, and in that power, power light and attention light.
PCI_EXPRESS, SLOT_CONTROL, SLOT_ON, SLOT_OFF = 0x10, 0x18, 0x01C0, 0x07C0


def net(mac: str) -> str:
    return f"<interface type='ethernet'><mac address='{mac}'/><model type='virtio'/></interface>"


def free(sh: Shell) -> int:
    """KiB of memory that a guest doesn't use."""
    return int(sh("awk '/MemFree/ {print $2}' /proc/meminfo"))


class Shell:
    """A guest's shell on a domain's console."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._count = 0
        self._console.expect(MARKER, PATIENCE)
        self._console.expect("# ", PATIENCE)
        self("stty -echo; PS1=; cd /lib/modules")

    def __call__(self, command: str) -> str:
        """What a command prints."""
        self._count += 1
        line = f"{command}; echo @@$(({self._count}+1000))@@"
        self._console.send(f"{line}\r")
        said = self._console.expect(f"@@{self._count + 1000}@@", PATIENCE).strip()
        # MicroBlaze's busybox has no stty.
        return said.removeprefix(line).strip()

    def finds(self, what: str, folder: str) -> None:
        """What a driver for hot plug does, which Debian's kernel has not: slots get power, and what is new there is found."""
        for port in re.findall(r"0000:00:01\.\w", self("ls /sys/bus/pci/devices")):
            self._slot(port, SLOT_ON)
        self(f"echo 1 > /sys/bus/pci/rescan; until [ -e {folder}/{what} ]; do sleep 0.1; done")

    def lets_go(self, path: str) -> None:
        """The same where the button is pressed: the device goes, then its slot's power."""
        port, device = re.findall(r"0000:\w\w:\w\w\.\w", self(f"readlink -f {path}"))[-2:]
        self(f"echo 1 > /sys/bus/pci/devices/{device}/remove")
        self._slot(port, SLOT_OFF)

    def _slot(self, port: str, value: int) -> None:
        """Writes Slot Control of a port."""
        config = bytes.fromhex(self(f"od -An -v -tx1 /sys/bus/pci/devices/{port}/config"))
        at = config[0x34]
        while config[at] != PCI_EXPRESS:
            at = config[at + 1]
        octets = "".join(f"\\x{byte:02x}" for byte in value.to_bytes(2, "little"))
        where = f"/sys/bus/pci/devices/{port}/config bs=2 seek={(at + SLOT_CONTROL) // 2}"
        self(f"printf '{octets}' | dd of={where} conv=notrunc 2>/dev/null")


@MARKS[1]
def test_debian_with_disks_and_nets(libvirtd: Libvirtd, shims: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.img", tmp_path / "second.img"
    first.write_bytes(b"the first disk".ljust(MIB, b"\0"))
    second.write_bytes(b"the second disk".ljust(MIB, b"\0"))
    devices = CONSOLE + PORTS + disk(first, "vda") + net("52:54:00:00:00:01") + "<memballoon model='virtio'/>"
    xml = domain_xml("debian", shims / "qemu-system-riscv64", boot=linux(BOOT), memory=512, cpus=2, devices=devices)
    with Domain(libvirtd, xml) as debian:
        sh = Shell(debian.start())
        sh(f"for m in {MODULES}; do insmod $m.ko; done")
        assert sh("nproc") == "2"
        assert sh("dd if=/dev/vda bs=14 count=1 2>/dev/null") == "the first disk"
        reads = debian("domblkstat", "vda").splitlines()
        assert int(next(line for line in reads if " rd_bytes " in line).split()[-1]) > 0
        sh("ip link set eth0 up; ping -c 3 -W 1 10.0.0.1")
        name = debian("domiflist").splitlines()[-1].split()[0]
        assert "tx_bytes" in debian("domifstat", name)
        debian("domif-setlink", "52:54:00:00:00:01", "down")
        assert sh("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do sleep 0.1; done; echo down") == "down"
        debian("domif-setlink", "52:54:00:00:00:01", "up")
        assert sh("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done; echo up") == "up"
        debian("blockresize", "vda", "2MiB")
        assert sh("until [ $(cat /sys/class/block/vda/size) = 4096 ]; do sleep 0.1; done; echo grown") == "grown"
        before = free(sh)
        debian("setmem", "384MiB", "--live")
        wait(lambda: "actual 393216" in debian("dommemstat"), "the balloon to fill", lambda: debian("dommemstat"))
        assert before - free(sh) > 64 << 10
        debian("setmem", "512MiB", "--live")
        wait(lambda: "actual 524288" in debian("dommemstat"), "the balloon to empty", lambda: debian("dommemstat"))
        debian("dommemstat", "--period", "1", "--live")
        wait(lambda: "unused " in debian("dommemstat"), "the guest's numbers", lambda: debian("dommemstat"))
        debian.attach(disk(second, "vdb"))
        sh.finds("vdb", "/sys/class/block")
        assert sh("dd if=/dev/vdb bs=15 count=1 2>/dev/null") == "the second disk"
        debian("detach-device-alias", "virtio-disk1", "--live")
        assert "vdb" in debian("domblklist"), "the guest still has it"
        sh.lets_go("/sys/class/block/vdb")
        wait(lambda: "vdb" not in debian("domblklist"), "vdb to be gone", lambda: debian("domblklist"))
        debian.attach(net("52:54:00:00:00:02"))
        sh.finds("eth1", "/sys/class/net")
        assert sh("cat /sys/class/net/eth1/address") == "52:54:00:00:00:02"
        debian("detach-device-alias", "net1", "--live")
        sh.lets_go("/sys/class/net/eth1")
        wait(lambda: "00:02" not in debian("domiflist"), "eth1 to be gone", lambda: debian("domiflist"))
        assert "block.count=1" in debian("domstats")
        debian("shutdown")
        debian.become("shut off (shutdown)")


@MARKS[1]
def test_linux_of_two_architectures(libvirtd: Libvirtd, shims: Path, tmp_path: Path) -> None:
    """RISC-V Linux with MicroBlaze Linux beside it; a text goes from shell to shell, through RAM and mailbox that both see."""
    boot, beside = (guest.boot for guest in guests_of(PLACE, tmp_path))
    machine = ",".join(["file=managed-virt/simple", *(f"mb_{name}={value}" for name, value in beside.items())])
    devices = CONSOLE + "<serial type='pty'/>" + PLAIN
    xml = domain_xml(
        "both", shims / "qemu-system-riscv64", machine="hetero", boot=linux(boot), memory=256, cpus=2, devices=devices,
        arguments=["-machine", machine],
    )  # fmt: skip
    with Domain(libvirtd, xml) as both:
        riscv, microblaze = shells = [Shell(console) for console in both.start_all("serial0", "serial1")]
        assert [cpu["target"] for cpu in both.qmp("query-cpus-fast")] == ["microblaze", "riscv64", "riscv64"]
        assert [sh("uname -m") for sh in shells] == ["riscv64", "microblaze"]
        assert riscv("nproc") == "2"
        assert int(riscv("awk '/MemTotal/ {print $2}' /proc/meminfo")) < 256 << 10
        for sh in shells:
            sh("test -e /dev/mem || mknod /dev/mem c 1 1")
        both("suspend")
        assert both.state() == "paused (user)"
        both("resume")
        riscv(f"(echo from one to the other | window put {WINDOW:x} {MAILBOX:x} >/dev/null 2>&1 &)")
        assert microblaze(f"window get {WINDOW:x} {MAILBOX:x}") == "from one to the other"
        assert "vcpu.current=2" in both("domstats")
        both("destroy")
        assert both.state() == "shut off (destroyed)"


@pytest.fixture(scope="module")
def microblaze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MicroBlaze guests' files."""
    folder = tmp_path_factory.mktemp("microblaze")
    guests.unpack_microblaze(folder)
    return folder


@pytest.mark.parametrize("target, board", [("microblaze", "s3adsp1800"), ("microblazeel", "ml605")])
def test_microblaze_linux(libvirtd: Libvirtd, shims: Path, microblaze: Path, target: str, board: str) -> None:
    boot = linux(guests.boot_of(board, microblaze))
    emulator = shims / f"qemu-system-{target}"
    xml = domain_xml("mb", emulator, arch=target, machine=f"petalogix-{board}", boot=boot, memory=128, devices=CONSOLE + PLAIN)
    with Domain(libvirtd, xml) as domain:
        sh = Shell(domain.start())
        assert "microblaze" in sh("uname -m")
        domain("suspend")
        domain("resume")
        assert "microblaze" in sh("uname -m")
        assert "vcpu.current=1" in domain("domstats")
        domain("destroy")

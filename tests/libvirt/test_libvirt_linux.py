"""libvirt and Linux guests: Debian's kernel on RISC-V with hot plug and the power button, MicroBlaze's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from libvirt_kit import PLAIN, Domain, linux, wait

from ratite.clients.bench.libvirtd import CONSOLE, Libvirtd, domain_xml
from ratite.clients.boots import guests
from ratite.clients.boots.initramfs import MARKER
from tests.debian import BOOT, MARKS, PATIENCE

pytestmark = pytest.mark.peer
MODULES = "failover net_failover virtio_net virtio_blk"
PCI = "<controller type='pci' index='0' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 4
MIB = 1 << 20
# PCI Express: the capability's number, its Slot Control register, and in that power, power light and attention light.
PCI_EXPRESS, SLOT_CONTROL, SLOT_ON, SLOT_OFF = 0x10, 0x18, 0x01C0, 0x07C0


def disk(path: Path, name: str) -> str:
    driver = "<driver name='qemu' type='raw'/>"
    return f"<disk type='file' device='disk'>{driver}<source file='{path}'/><target dev='{name}' bus='virtio'/></disk>"


def net(mac: str) -> str:
    return f"<interface type='ethernet'><mac address='{mac}'/><model type='virtio'/></interface>"


class Shell:
    """A guest's shell on a domain's console."""

    def __init__(self, domain: Domain) -> None:
        assert domain.console is not None
        self._console = domain.console
        self._count = 0
        self._console.expect(MARKER, PATIENCE)
        self("stty -echo; PS1=; cd /lib/modules")

    def __call__(self, command: str) -> str:
        """What a command prints."""
        self._count += 1
        self._console.send(f"{command}; echo @@$(({self._count}+1000))@@\r")
        return self._console.expect(f"@@{self._count + 1000}@@", PATIENCE).strip()

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
    devices = CONSOLE + PCI + disk(first, "vda") + net("52:54:00:00:00:01")
    xml = domain_xml("debian", shims / "qemu-system-riscv64", boot=linux(BOOT), memory=512, cpus=2, devices=devices)
    with Domain(libvirtd, xml) as debian:
        debian.start()
        sh = Shell(debian)
        sh(f"for m in {MODULES}; do insmod $m.ko; done")
        assert sh("nproc") == "2"
        assert sh("dd if=/dev/vda bs=14 count=1 2>/dev/null") == "the first disk"
        reads = debian("domblkstat", "vda").splitlines()
        assert int(next(line for line in reads if " rd_bytes " in line).split()[-1]) > 0
        sh("ip link set eth0 up; ping -c 3 -W 1 10.0.0.1")
        name = debian("domiflist").splitlines()[-1].split()[0]
        assert "tx_bytes" in debian("domifstat", name)
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
        domain.start()
        sh = Shell(domain)
        assert "microblaze" in sh("uname -m")
        domain("suspend")
        domain("resume")
        assert "microblaze" in sh("uname -m")
        assert "vcpu.current=1" in domain("domstats")
        domain("destroy")

"""A domain's life under libvirt, with small guests."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from libvirt_kit import ELF, PLAIN, PORTS, Domain, bare, disk, wait

from ratite.clients.bench.libvirtd import CONSOLE, Libvirtd, LibvirtError, domain_xml

pytestmark = pytest.mark.peer
PAIR = """ratite: 1
machine-type:
  memory: ram
  serials: [rv-uart0/chardev, mb-uart0/chardev]
  aliases: {bios: rv-cpu0/image}
parameters:
  ram: {type: size, default: 64M, description: the RISC-V's}
  mb_image: {type: str, default: "", description: the MicroBlaze's program}
include:
  - profile: managed-virt/simple@1
    with: {ram: $(ram), mb_image: $(mb_image)}
"""


@pytest.fixture
def echo(libvirtd: Libvirtd, shims: Path) -> Domain:
    return Domain(
        libvirtd, domain_xml("echo", shims / "qemu-system-riscv64", boot=bare("echo.rv64.elf"), devices=CONSOLE + PLAIN)
    )


def test_a_domains_life(echo: Domain, tmp_path: Path) -> None:
    with echo:
        console = echo.start()
        console.expect("echo")
        console.send("hello\r")
        console.expect("HELLO")
        echo("suspend")
        assert echo.state() == "paused (user)"
        console.send("later\r")
        assert echo.qmp("query-status")["status"] == "paused"
        echo("resume")
        assert echo.state() == "running (unpaused)"
        console.expect("LATER")
        echo("reset")
        console.expect("echo")
        assert "VM status: running" in echo("qemu-monitor-command", "--hmp", "info status")
        assert "vcpu.current=1" in echo("domstats")
        said = (echo.libvirtd.folder / "log" / "qemu" / "echo.log").read_text()
        assert "native code is compiled" not in said, "a domain's fresh home has no compiled code, the system's place has"
        assert "CPU(s):         1" in echo("dominfo")
        echo("dump", tmp_path / "core", "--memory-only")
        assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"
        assert echo.state() == "running (unpaused)"
        echo("destroy")
        assert echo.state() == "shut off (destroyed)"


@pytest.fixture
def tuned(libvirtd: Libvirtd, shims: Path, tmp_path: Path) -> Domain:
    """With a disk of 1 MiB."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    boot, devices = bare("echo.rv64.elf"), CONSOLE + PORTS + disk(image, "vda")
    return Domain(libvirtd, domain_xml("tuned", shims / "qemu-system-riscv64", boot=boot, devices=devices))


def test_a_disks_limits_and_size(tuned: Domain, tmp_path: Path) -> None:
    with tuned:
        tuned.start()
        tuned("blkdeviotune", "vda", "--total-iops-sec", 100, "--live")
        limits = {"--read-bytes-sec": 5000, "--write-bytes-sec": 6000, "--write-bytes-sec-max": 7000}
        tuned("blkdeviotune", "vda", *(word for limit in limits.items() for word in limit), "--live")
        said = dict(re.findall(r"(\w+) *: (\d+)", tuned("blkdeviotune", "vda")))
        assert {name: number for name, number in said.items() if int(number) > 1} == {
            "total_iops_sec": "100", "read_bytes_sec": "5000", "write_bytes_sec": "6000", "write_bytes_sec_max": "7000",
        }  # fmt: skip
        tuned("blockresize", "vda", "2MiB")
        assert re.search(rf"Capacity: +{2 << 20}\b", tuned("domblkinfo", "vda"))
        assert (tmp_path / "disk.img").stat().st_size == 2 << 20
        assert f"block.0.capacity={2 << 20}" in tuned("domstats", "--block")


def test_a_disk_is_copied_and_moves(tuned: Domain, tmp_path: Path) -> None:
    image, kept, moved = (tmp_path / name for name in ("disk.img", "kept.img", "moved.img"))
    image.write_bytes(b"content." * (1 << 17))
    with tuned:
        tuned.start()
        copy = ("blockcopy", "vda", "--format", "raw", "--transient-job", "--wait")
        tuned(*copy, "--finish", "--dest", kept)
        assert str(image) in tuned("domblklist") and kept.read_bytes() == image.read_bytes()
        tuned(*copy, "--pivot", "--dest", moved)
        assert str(moved) in tuned("domblklist") and str(image) not in tuned("domblklist")
        assert moved.read_bytes() == image.read_bytes()
        tuned("blockresize", "vda", "2MiB")
        assert (moved.stat().st_size, image.stat().st_size) == (2 << 20, 1 << 20)


def test_a_watchdog_a_limited_generator_and_a_thread(libvirtd: Libvirtd, shims: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    rng = "<rng model='virtio'><rate bytes='1234' period='2000'/><backend model='random'>/dev/urandom</backend></rng>"
    # No PCI Express, so libvirt would look for a bridge to PCI if it were to find a place for it.
    dog = "<watchdog model='i6300esb' action='pause'><address type='pci' bus='0' slot='9'/></watchdog>"
    devices = CONSOLE + PORTS + dog + rng + disk(image, "vda").replace("type='raw'", "type='raw' iothread='1'")
    xml = domain_xml("guarded", shims / "qemu-system-riscv64", boot=bare("echo.rv64.elf"), devices=devices)
    with Domain(libvirtd, xml.replace("</vcpu>", "</vcpu><iothreads>1</iothreads>")) as domain:
        domain.start()
        (thread,) = domain.qmp("query-iothreads")
        assert thread["id"] == "iothread1" and thread["thread-id"]
        domain("iothreadadd", 2)
        assert [row.split()[0] for row in domain("iothreadinfo").splitlines()[2:] if row.strip()] == ["1", "2"]
        domain("iothreaddel", 2)
        ids = [device["id"] for bus in domain.qmp("query-pci") for device in bus["devices"]]
        assert (0x8086, 0x25AB) in [(id["vendor"], id["device"]) for id in ids]
        limit = {"path": "/machine/peripheral/rng0", "property": "max-bytes"}
        said = domain("qemu-monitor-command", json.dumps({"execute": "qom-get", "arguments": limit}))
        assert json.loads(said)["return"] == 1234


REFUSED = {
    ("send-key", "KEY_A"): "The command send-key has not been found",
    ("screenshot", "/dev/null"): "no screens to take screenshot from",
    ("inject-nmi",): "machine does not provide NMIs",
    ("dompmwakeup",): "wake-up from suspend is not supported by this guest",
    ("save", "/dev/null"): "The command migrate-set-parameters has not been found",
    ("blockpull", "vda"): "The command block-stream has not been found",
}


def test_what_there_is_not_is_refused(tuned: Domain) -> None:
    with tuned:
        console = tuned.start()
        console.expect("echo")
        for (command, *words), why in REFUSED.items():
            with pytest.raises(LibvirtError, match=why):
                tuned(command, *words)
        assert tuned.state().startswith("running")
        console.send("still there\r")
        console.expect("STILL THERE")


def test_events(echo: Domain, tmp_path: Path) -> None:
    said, told = tmp_path / "qmp", tmp_path / "libvirt"
    with echo, said.open("w") as one, told.open("w") as other:
        echo.start()
        words = ["--domain", echo.name, "--loop", "--event"]
        watchers = [
            subprocess.Popen(echo.libvirtd.command("qemu-monitor-event", *words, "RESET"), stdout=one),
            subprocess.Popen(echo.libvirtd.command("event", *words, "lifecycle"), stdout=other),
        ]
        try:
            # When they listen isn't told.
            wait(lambda: not echo("reset") or "host-qmp-system-reset" in said.read_text(), "RESET", said.read_text)
            wait(lambda: not turn(echo) or "Resumed Unpaused" in told.read_text(), "a change", told.read_text)
        finally:
            for watcher in watchers:
                watcher.kill()
                watcher.wait()


def turn(domain: Domain) -> bool:
    """Stop it and let it go on."""
    return bool(domain("suspend") and domain("resume"))


def test_a_guest_ends_itself(echo: Domain) -> None:
    with echo:
        console = echo.start()
        console.expect("echo")
        console.send("r\r")
        console.expect("echo")
        console.send("q\r")
        echo.become("shut off (shutdown)")


def test_libvirtd_is_restarted_in_between(echo: Domain, libvirtd: Libvirtd) -> None:
    with echo:
        console = echo.start()
        console.expect("echo")
        echo.hang_up()
        libvirtd.restart()
        assert echo.state() == "running (unpaused)"
        assert echo.qmp("query-status")["status"] == "running"
        console = echo.open()
        console.send("still there\r")
        console.expect("STILL THERE")
        echo("destroy")


def test_a_domain_of_two_architectures(libvirtd: Libvirtd, shims: Path, tmp_path: Path) -> None:
    machine = tmp_path / "pair.yaml"
    machine.write_text(PAIR)
    devices = CONSOLE + "<serial type='pty'/>" + PLAIN
    more = ["-machine", f"file={machine},mb_image={ELF / 'hello.s3adsp1800.elf'}"]
    boot = bare("echo.rv64.elf")
    emulator = shims / "qemu-system-riscv64"
    xml = domain_xml("pair", emulator, machine="hetero", boot=boot, cpus=2, devices=devices, arguments=more)
    with Domain(libvirtd, xml) as pair:
        console = pair.start("serial1")
        console.expect("hello from s3adsp1800")
        console = pair.open("serial0")
        console.send("a line\r")
        console.expect("A LINE")
        assert {cpu["target"] for cpu in pair.qmp("query-cpus-fast")} == {"riscv64", "microblaze"}
        assert "vcpu.current=2" in pair("domstats")
        pair("suspend")
        pair("resume")
        pair("reset")
        console.expect("echo")
        console.send("q\r")
        pair.become("shut off (shutdown)")

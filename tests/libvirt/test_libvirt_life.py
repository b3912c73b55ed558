"""A domain's life under libvirt, with small guests."""

from __future__ import annotations

from pathlib import Path

import pytest
from libvirt_kit import ELF, PLAIN, Domain, bare

from ratite.clients.bench.libvirtd import CONSOLE, Libvirtd, domain_xml

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

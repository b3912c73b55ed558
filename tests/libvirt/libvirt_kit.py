"""Helpers of the tests with libvirt: domains, their consoles, waiting for what libvirt says of it."""

from __future__ import annotations

import json
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from cli_kit import Terminal

from ratite.clients.bench.libvirtd import Libvirtd

# Of machines that have no PCI.
PLAIN = "<controller type='usb' model='none'/><memballoon model='none'/>"
# PCI's root and ports: for a disk, a network interface, a balloon, and two that are free.
PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 5
ELF = Path(__file__).parents[1] / "guests" / "elf"


def bare(guest: str) -> str:
    """<os> of a bare program, instead of firmware."""
    return f"<loader type='rom'>{ELF / guest}</loader>"


def linux(boot: dict[str, str], append: str = "") -> str:
    """<os> of a Linux guest: what `guests.boot_of` says."""
    loader = f"<loader type='rom'>{boot['firmware']}</loader>" if "firmware" in boot else ""
    initrd = f"<initrd>{boot['initrd']}</initrd>" if "initrd" in boot else ""
    return f"{loader}<kernel>{boot['kernel']}</kernel>{initrd}<cmdline>{escape(boot['append'] + append)}</cmdline>"


def disk(path: Path, name: str) -> str:
    """<disk> of an image."""
    driver = "<driver name='qemu' type='raw'/>"
    return f"<disk type='file' device='disk'>{driver}<source file='{path}'/><target dev='{name}' bus='virtio'/></disk>"


class Domain:
    """A domain that was started from XML; its console in a terminal; destroyed at the end."""

    def __init__(self, libvirtd: Libvirtd, xml: str) -> None:
        self.libvirtd = libvirtd
        path = libvirtd.folder / "domain.xml"
        path.write_text(xml)
        self.name = xml.partition("<name>")[2].partition("</name>")[0]
        libvirtd.virsh("define", path)
        self._consoles: dict[str, Terminal] = {}

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hang_up()
        if "running" in (state := self("domstate")) or "paused" in state:
            self("destroy")
        self("undefine")

    def __call__(self, command: str, *words: object) -> str:
        """`virsh COMMAND DOMAIN WORDS`."""
        return self.libvirtd.virsh(command, self.name, *words)

    def qmp(self, command: str) -> Any:
        """What a QMP command without arguments returns, by `virsh qemu-monitor-command`."""
        return json.loads(self("qemu-monitor-command", json.dumps({"execute": command})))["return"]

    def start(self, line: str = "") -> Terminal:
        """Start it paused, open its console, let it run: nothing that it says is missed."""
        return self.start_all(line)[0]

    def start_all(self, *lines: str) -> list[Terminal]:
        """The same with several serial lines."""
        self("start", "--paused")
        consoles = [self.open(line) for line in lines]
        self("resume")
        return consoles

    def open(self, line: str = "") -> Terminal:
        """`virsh console`, at a serial line's alias ("": the first)."""
        if line in self._consoles:
            self._consoles.pop(line).__exit__()
        where = ["--devname", line] if line else []
        console = self._consoles[line] = Terminal(command=self.libvirtd.command("console", self.name, "--force", *where))
        console.expect("Escape character is")
        console.expect("\n")
        # What is typed before virsh takes keys as they are would be a line of the terminal's.
        wait(lambda: not console.flags() & termios.ICANON, "virsh to take keys", console.flags)
        return console

    def hang_up(self) -> None:
        """Close the consoles."""
        while self._consoles:
            self._consoles.popitem()[1].__exit__()

    def state(self) -> str:
        """State and reason, as "shut off (destroyed)"."""
        return self("domstate", "--reason")

    def become(self, state: str, timeout: float = 120) -> None:
        """Wait until it is in this state."""
        wait(lambda: self.state() == state, f"{self.name} to be {state}", self.state, timeout)

    def attach(self, xml: str) -> Path:
        """`virsh attach-device`; the file of the device."""
        path = self.libvirtd.folder / "device.xml"
        path.write_text(xml)
        self("attach-device", path, "--live")
        return path


def wait(condition: Callable[[], bool], what: str, seen: Callable[[], object], timeout: float = 60) -> None:
    """Until something holds that nobody tells; AssertionError with what was seen last."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited for {what}, but it is {seen()}"
        time.sleep(0.05)

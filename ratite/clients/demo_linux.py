"""`make demo-linux`: a 64-bit little-endian RISC-V Linux and a 32-bit big-endian MicroBlaze Linux side by side in one machine.

    ratited <──QMP── this client ──keys, text──> two consoles
                         rv64 ──window put──> 1 MiB of shared RAM, a mailbox ──window get──> MicroBlaze, and back

Each guest has RAM, interrupt controller, timer and console of its own; both see the window and one side of the mailbox each.
A file is made in one shell, passed through the window by a program in both (tests/guests/linux/window.c) and summed up in the
other shell; the sums are compared with one computed here. Exit status 0 only if both directions were right.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ratite.clients.boots.guests import ELFS, boot_of
from ratite.clients.boots.initramfs import MARKER, with_program
from ratite.clients.boots.main import FOLDER
from ratite.clients.machines import Command, of_profile
from ratite.clients.qmp import Client, CommandError, DaemonProcess, QmpClientError

# Where the profile has them, and what its parameters for each guest start with.
WINDOW, MAILBOX = 0x20000000, 0x20200000
_PARAMETERS: Mapping[str, str] = MappingProxyType({"rv-": "", "mb-": "mb_"})
PROMPT = r"^(?:~ )?# "
LIMIT = 180.0


class DemoError(Exception):
    """The demo failed; the text says what was awaited and what came."""


class Guest(NamedTuple):
    """One Linux of the machine: its name in ``boots.machines``, what its ids start with, its boot properties."""

    name: str
    prefix: str
    boot: dict[str, str]


class Console:
    """A guest's serial line."""

    def __init__(self, name: str, path: Path, show: bool) -> None:
        self.name = name
        self.text = ""
        self._seen = 0
        self._show = show
        self._shown = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.sock: socket.socket | None = None

    def take(self) -> None:
        """What has come."""
        assert self.sock is not None
        chunk = self.sock.recv(65536)
        if not chunk:
            raise DemoError(f"{self.name}: the console was closed; last came {self.text[-200:]!r}")
        text = chunk.decode("latin-1").replace("\r", "")
        self.text += text
        while self._show and "\n" in self.text[self._shown :]:
            end = self.text.index("\n", self._shown) + 1
            print(f"{self.name:>10} | {self.text[self._shown : end]}", end="", flush=True)
            self._shown = end

    def send(self, line: str) -> None:
        """Types ``line`` and a return; what comes from now on is new."""
        assert self.sock is not None
        self._seen = len(self.text)
        self.sock.sendall(line.encode() + b"\n")

    def found(self, pattern: str) -> re.Match[str] | None:
        """In what is new."""
        return re.compile(pattern, re.MULTILINE).search(self.text, self._seen)


class Desk:
    """Both consoles; ``wait`` reads them until a text has come on one."""

    def __init__(self, consoles: Iterable[Console]) -> None:
        self._selector = selectors.DefaultSelector()
        for console in consoles:
            console.sock, _ = console.listener.accept()
            console.listener.close()
            self._selector.register(console.sock, selectors.EVENT_READ, console)

    def wait(self, console: Console, pattern: str, limit: float = LIMIT) -> re.Match[str]:
        """The match of ``pattern`` in what is new on ``console``. DemoError after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        while (match := console.found(pattern)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                last = console.text[-300:]
                raise DemoError(f"{console.name}: {pattern!r} did not come within {limit:g} s; last came {last!r}")
            for key, _ in self._selector.select(left):
                key.data.take()
        return match

    def type(self, console: Console, line: str) -> None:
        """Types ``line`` once the shell asks for one: what comes while it changes the terminal's mode may be lost."""
        self.wait(console, PROMPT)
        console.send(line)

    def close(self) -> None:
        """Both."""
        for key in list(self._selector.get_map().values()):
            key.data.sock.close()
        self._selector.close()


def machine(guests: Sequence[Guest], accel: str = "") -> Iterable[Command]:
    """The profile: both guests, the window and the mailbox that both see."""
    boot = {f"{_PARAMETERS[guest.prefix]}{name}": value for guest in guests for name, value in guest.boot.items()}
    yield "machine-create", {}
    yield from of_profile("managed-virt/simple@1", {**boot, "accel": accel})


def numbers(count: int) -> str:
    """MD5 of what `seq 1 count` prints."""
    return hashlib.md5("".join(f"{n}\n" for n in range(1, count + 1)).encode(), usedforsecurity=False).hexdigest()


def pass_file(desk: Desk, giver: Console, taker: Console, count: int) -> float:
    """A file of numbers from one shell to the other, through the window; seconds it took. DemoError if a sum is wrong."""
    want = numbers(count)
    desk.type(giver, f"seq 1 {count} > /tmp/given; md5sum /tmp/given")
    if (made := desk.wait(giver, r"^([0-9a-f]{32})  ")[1]) != want:
        raise DemoError(f"{giver.name}: made a file with the sum {made}, which should be {want}")
    before = time.monotonic()
    desk.type(taker, f"window get {WINDOW:x} {MAILBOX:x} > /tmp/taken; md5sum /tmp/taken")
    desk.type(giver, f"window put {WINDOW:x} {MAILBOX:x} < /tmp/given")
    got = desk.wait(taker, r"^([0-9a-f]{32})  ")[1]
    desk.wait(giver, r"^passed$")
    if got != want:
        raise DemoError(f"{taker.name}: took a file with the sum {got}, which should be {want}")
    return time.monotonic() - before


def guests_of(files: Path, folder: Path) -> list[Guest]:
    """Both guests, booting from ``files``; their initramfs with the program go to ``folder``."""
    found = []
    for name, prefix, program in ("riscv64", "rv-", "window.rv64-linux.elf"), ("s3adsp1800", "mb-", "window.mb-linux.elf"):
        boot = boot_of(name, files)
        image = folder / f"{prefix}initrd"
        image.write_bytes(with_program(Path(boot["initrd"]).read_bytes(), "window", (ELFS / program).read_bytes()))
        found.append(Guest(name, prefix, {**boot, "initrd": str(image)}))
    return found


def run(options: argparse.Namespace) -> None:
    """Assembles, boots, passes files, ends. DemoError, CommandError, QmpClientError, OSError."""
    with tempfile.TemporaryDirectory(prefix="ratite-demo-") as name, (Path(name) / "log").open("wb") as log:
        folder = Path(name)
        guests = guests_of(options.folder, folder)
        consoles = [Console(guest.name, folder / f"{guest.prefix}console", options.show) for guest in guests]
        with DaemonProcess(folder / "qmp", "--no-shutdown", "--paused", stderr=log) as daemon, \
                Client.connect(daemon.address, timeout=LIMIT) as qmp:  # fmt: skip
            began = time.monotonic()
            commands = list(machine(guests, options.accel))
            qmp.execute(*commands[0])
            for guest in guests:
                address = {"type": "unix", "data": {"path": str(folder / f"{guest.prefix}console")}}
                backend = {"type": "socket", "data": {"addr": address, "server": False}}
                qmp.execute("chardev-add", {"id": f"{guest.prefix}console", "backend": backend})
            for command, arguments in commands[1:]:
                qmp.execute(command, arguments)
            qmp.execute("x-exit-preconfig")
            desk = Desk(consoles)
            qmp.execute("cont")
            _converse(desk, consoles, began, options.count)
            desk.close()


def _converse(desk: Desk, consoles: list[Console], began: float, count: int) -> None:
    for console in consoles:
        desk.wait(console, MARKER)
        desk.wait(console, PROMPT)
        _say(f"{console.name}: a shell within {time.monotonic() - began:.1f} s")
        desk.type(console, "test -e /dev/mem || mknod /dev/mem c 1 1; uname -m; echo ready $((6 * 7))")
        desk.wait(console, "^ready 42$")
    for giver, taker in ((0, 1), (1, 0)):
        took = pass_file(desk, consoles[giver], consoles[taker], count)
        _say(f"{consoles[giver].name} -> {consoles[taker].name}: {count} lines passed and checked in {took:.2f} s")


def _say(text: str) -> None:
    print(f"demo-linux: {text}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 when something was wrong."""
    parser = argparse.ArgumentParser("python -m ratite.clients.demo_linux", description="Two Linux guests in one machine.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"files that the guests boot from (default {FOLDER})")
    parser.add_argument("--count", type=int, default=20000, help="lines of the file that is passed (default 20000)")
    parser.add_argument("--accel", default="", help="accelerator (default: the best usable)")
    parser.add_argument("--show", action="store_true", help="print both consoles")
    options = parser.parse_args(argv)
    try:
        run(options)
    except (DemoError, CommandError, QmpClientError, OSError) as error:
        print(f"demo-linux: FAILED: {error}", file=sys.stderr)
        return 1
    _say("both Linuxes run in one machine, and a file went there and back unharmed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

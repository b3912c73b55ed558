"""Debian's riscv64 kernel as a guest, and its console. RATITE_DEBIAN is a folder as
`python -m ratite.clients.boots.guests FOLDER` makes it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.boots.guests import boot_of
from ratite.clients.boots.initramfs import MARKER
from ratite.clients.boots.machines import linux
from ratite.clients.qmp import Client, DaemonProcess

PLACE = Path(os.environ.get("RATITE_DEBIAN", "/nowhere"))
INITRD = PLACE / "initramfs-riscv64-virtio.cpio.gz"
BOOT = {
    "firmware": str(PLACE / "opensbi-riscv64" / "fw_dynamic.bin"), "kernel": str(PLACE / "linux-riscv64-Image"),
    "initrd": str(INITRD), "append": "console=ttyS0 quiet",
}  # fmt: skip
MARKS = [
    pytest.mark.peer,
    pytest.mark.skipif(not INITRD.exists(), reason="RATITE_DEBIAN names no folder with a kernel and modules"),
]
PATIENCE = 300.0


class Line:
    """The other end of a chardev."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(path))
        self.seen = b""

    def until(self, text: str) -> str:
        """What comes up to `text`."""
        while text.encode() not in self.seen:
            data = self.sock.recv(65536)
            assert data and b"Kernel panic" not in self.seen, f"it said last: {self.seen[-2000:]!r}"
            self.seen += data
        found, _, self.seen = self.seen.partition(text.encode())
        return found.decode(errors="replace")

    def sh(self, command: str) -> str:
        """What a command prints."""
        self.sock.sendall(f"{command}; echo @@$((40+2))@@\n".encode())
        return self.until("@@42@@")


def chardev(qmp: Client, id: str, path: Path) -> Line:
    address = {"type": "unix", "data": {"path": str(path)}}
    qmp.execute("chardev-add", id=id, backend={"type": "socket", "data": {"addr": address, "server": True, "wait": False}})
    return Line(path)


class Linux:
    """A guest at its shell: the monitor of its daemon, its console."""

    def __init__(self, qmp: Client, console: Line) -> None:
        self.qmp = qmp
        self.console = console
        self.sh = console.sh


@contextmanager
def booted(
    place: Path, more: Iterable[tuple[str, dict[str, Any]]] = (), harts: int = 1, guest: str = "riscv64"
) -> Iterator[Linux]:
    """A guest in a daemon of its own; `more`: commands behind those that assemble its machine."""
    boot = BOOT if guest == "riscv64" else boot_of(guest, PLACE)
    with DaemonProcess(place / "m", "--no-shutdown") as daemon, Client.connect(daemon.address, PATIENCE) as qmp:
        qmp.execute("machine-create")
        console = chardev(qmp, "con", place / "c")
        for name, arguments in (*linux(guest, "con", boot, harts=harts), *more):
            qmp.execute(name, arguments)
        qmp.execute("x-exit-preconfig")
        console.until(MARKER)
        yield Linux(qmp, console)
        console.sock.close()

"""Linux of both byte orders boots to a shell and computes; its device tree is made from the machine."""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.clients.boots import machines
from ratite.clients.qmp import Client, DaemonProcess

ARCHIVE = Path(__file__).parent / "linux-microblaze" / "images.tar.xz"
GUESTS = {"be": ("s3adsp1800", "console=ttyUL0 quiet"), "le": ("ml605", "console=ttyS0,115200 quiet")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linux")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Linux:
    """A machine with one Linux, booting."""

    def __init__(self, endian: str, images: Path, folder: Path) -> None:
        guest, append = GUESTS[endian]
        boot = {"kernel": str(images / f"vmlinux-{endian}"), "initrd": str(images / f"initramfs-{endian}.cpio.gz"),
                "append": append}
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(folder / "console"))
        listener.listen(1)
        listener.settimeout(300)
        self.daemon = DaemonProcess(folder / "qmp", "--no-shutdown")
        self.qmp = Client.connect(self.daemon.address, timeout=300)
        self.qmp.execute("machine-create")
        address = {"type": "unix", "data": {"path": os.fspath(folder / "console")}}
        self.qmp.execute("chardev-add", {"id": "console", "backend": {
            "type": "socket", "data": {"addr": address, "server": False}}})
        self.console, _ = listener.accept()
        listener.close()
        for command, arguments in machines.linux(guest, "console", boot):
            self.qmp.execute(command, arguments)
        self.text = ""

    def wait(self, text: str, timeout: float = 300.0) -> str:
        """The console up to ``text``; what follows is kept."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            self.console.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = self.console.recv(4096)
            assert chunk, self.text
            self.text += chunk.decode(errors="replace").replace("\r", "")
        before, _, self.text = self.text.partition(text)
        return before

    def run(self, command: str) -> str:
        """What a shell command prints."""
        self.console.sendall(f"{command}; echo @@$((1+1))@@\n".encode())
        return self.wait("@@2@@\n").partition("@@\n")[2]

    def close(self) -> None:
        self.console.close()
        self.qmp.close()
        self.daemon.stop()


@pytest.fixture(params=["be", "le"])
def linux(request: pytest.FixtureRequest, images: Path, tmp_path: Path) -> Iterator[Linux]:
    guest = Linux(request.param, images, tmp_path)
    try:
        yield guest
    finally:
        guest.close()


def test_boots_to_a_shell(linux: Linux) -> None:
    linux.qmp.execute("x-exit-preconfig")
    linux.wait("@@SHELL-READY@@")
    assert "MMU:\t\t3" in linux.run("cat /proc/cpuinfo")
    numbers = "".join(f"{n}\n" for n in range(1, 3001)).encode()
    assert hashlib.md5(numbers, usedforsecurity=False).hexdigest() in linux.run("seq 1 3000 | md5sum")

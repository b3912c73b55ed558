"""Runs a guest of tests/guests in a daemon of its own, as any QMP client would."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from ratite.clients import machines
from ratite.clients.qmp import Client, DaemonProcess

ELF = Path(__file__).parent / "elf"


class Guest:
    """A machine with one guest; a context manager that ends the daemon."""

    def __init__(self, guest: str, board: str, folder: Path, *, accel: str = "", timer: bool = False) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(folder / "console"))
        self._listener.listen(1)
        self._daemon = DaemonProcess(folder / "qmp", "--no-shutdown")
        self.text = ""
        try:
            self.qmp = Client.connect(self._daemon.address, timeout=60)
            self._assemble(guest, board, folder, accel, timer)
            self._listener.settimeout(10)
            self.console, _ = self._listener.accept()
        except BaseException:
            self._listener.close()
            self._daemon.stop()
            raise

    def _assemble(self, guest: str, board: str, folder: Path, accel: str, timer: bool) -> None:
        address = {"type": "unix", "data": {"path": os.fspath(folder / "console")}}
        self.qmp.execute("machine-create")
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        self.qmp.execute("chardev-add", {"id": "console", "backend": backend})
        elf = ELF / f"{guest}.{board}.elf"
        for command, arguments in machines.one_cpu(board, elf, "console", accel=accel):
            self.qmp.execute(command, arguments)
        if timer:
            for command, arguments in machines.with_timer(board):
                self.qmp.execute(command, arguments)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.console.close()
        self._listener.close()
        self.qmp.close()
        self._daemon.stop()

    @property
    def client(self) -> Client:
        """The QMP session."""
        return self.qmp

    @property
    def address(self) -> str:
        """Where further sessions connect."""
        return self._daemon.address

    def start(self) -> None:
        """Realize and run."""
        self.qmp.execute("x-exit-preconfig")

    def send(self, text: str) -> None:
        """Type something."""
        self.console.sendall(text.encode())

    def wait_text(self, text: str, timeout: float = 30.0) -> str:
        """The whole console once it contains `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            self.console.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self.console.recv(4096)
            except TimeoutError:
                chunk = b""
            if not chunk:
                pytest.fail(f"the console must show {text!r}, it shows {self.text!r}")
            self.text += chunk.decode("ascii", "replace")
        return self.text

    def instructions(self) -> int:
        """Instructions executed so far."""
        return int(self.qmp.execute("qom-get", {"path": "/machine/peripheral/cpu", "property": "instructions"}))

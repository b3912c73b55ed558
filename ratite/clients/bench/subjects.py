"""What is measured: a daemon of ours, or a peer, as a command line that serves QMP at a UNIX socket."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Subject(NamedTuple):
    """Something that answers QMP: `command(socket path)` is its command line."""

    name: str
    command: Callable[[str], list[str]]


def ratite() -> Subject:
    """This ratite, with no machine."""
    return Subject("ratite", lambda path: [sys.executable, "-m", "ratite.daemon", "--qmp", f"unix:{path}"])


def peer(program: str) -> str | None:
    """The path of a peer's program; None if it isn't installed."""
    return shutil.which(program)


def version(program: str) -> str:
    """Its version line, shortened."""
    first = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.splitlines()[:1]
    return first[0].replace("QEMU emulator version", "QEMU").partition("(")[0].strip() if first else program


def qemu(program: str) -> Subject:
    """QEMU without a machine."""
    options = ["-M", "none", "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "none", "-qmp"]
    return Subject(version(program), lambda path: [program, *options, f"unix:{path},server=on,wait=off"])


class Session:
    """A subject that was started and has answered `qmp_capabilities`; `started` seconds after exec."""

    def __init__(self, subject: Subject) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ratite-bench-")
        path = str(Path(self._folder.name) / "qmp")
        before = time.perf_counter()
        self.process = subprocess.Popen(subject.command(path), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._sock = self._connect(path)
        self._buffer = bytearray()
        self.line()
        self.call(b'{"execute":"qmp_capabilities"}')
        self.started = time.perf_counter() - before

    def _connect(self, path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        while True:
            try:
                sock.connect(path)
                return sock
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.process.args!r} ended with status {self.process.returncode}") from None
                time.sleep(0.0002)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sock.close()
        self.process.terminate()
        self.process.wait(10)
        self._folder.cleanup()

    def line(self) -> bytes:
        """The next message."""
        while True:
            head, found, rest = self._buffer.partition(b"\r\n")
            if found:
                self._buffer = rest
                return bytes(head)
            self._more()

    def call(self, message: bytes) -> bytes:
        """Send a command, return its reply; events are skipped."""
        self._sock.sendall(message)
        while True:
            line = self.line()
            if b'"event"' not in line[:200] or line.startswith(b'{"return"'):
                return line

    def pipeline(self, message: bytes, count: int) -> None:
        """Send `count` commands as fast as they are taken, and read all replies."""
        import threading

        writer = threading.Thread(target=self._sock.sendall, args=(message * count,))
        writer.start()
        seen = 0
        while seen < count:
            self._more()
            seen += self._buffer.count(b"\r\n")
            del self._buffer[: self._buffer.rfind(b"\r\n") + 2 or None]
        writer.join()

    def private_memory(self) -> float:
        """MiB that belong to the process alone."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024

    def _more(self) -> None:
        chunk = self._sock.recv(1 << 18)
        if not chunk:
            raise RuntimeError(f"{self.process.args!r} closed the connection")
        self._buffer += chunk

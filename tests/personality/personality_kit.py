"""Programs in QEMU's place, started as management tools start them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from ratite.clients.qmp import Client

# The environment of a program is empty: a shim needs nothing of it but where compiled code is kept.
KEPT = ("XDG_CACHE_HOME", "PATH")


class Shims:
    """Ends what it has started."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder = folder
        self.place = place
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pids: list[int] = []

    def __enter__(self) -> Shims:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in self._pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    def path(self, target: str) -> str:
        """A shim's file."""
        return str(self.folder / f"qemu-system-{target}")

    def run(self, target: str, *words: str, timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
        """A start that ends by itself."""
        return subprocess.run(
            [self.path(target), *words], capture_output=True, text=True, timeout=timeout, cwd=self.place,
            stdin=subprocess.DEVNULL, env=_environment(), check=False, **more,
        )  # fmt: skip

    def start(self, target: str, *words: str) -> tuple[subprocess.Popen[bytes], Client]:
        """A start with a monitor at an inherited listening socket, as libvirt's; the process and a session."""
        path = str(self.place / f"monitor{len(self._processes)}")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            fd = listening.fileno()
            monitor = ["-chardev", f"socket,id=charmonitor,fd={fd},server=on,wait=off"]
            monitor += ["-mon", "chardev=charmonitor,id=monitor,mode=control"]
            process = subprocess.Popen(
                [self.path(target), *words, *monitor], stdin=subprocess.DEVNULL, env=_environment(), pass_fds=[fd],
                cwd=self.place,
            )  # fmt: skip
        self._processes.append(process)
        return process, Client.connect(f"unix:{path}", timeout=60, patience=0)

    def background(self, target: str, *words: str) -> int:
        """A start with -daemonize and a pidfile; the daemon's pid."""
        pidfile = self.place / "pid"
        done = self.run(target, *words, "-daemonize", "-pidfile", str(pidfile))
        assert done.returncode == 0, done.stderr
        pid = int(pidfile.read_text())
        self._pids.append(pid)
        return pid


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(pid: int, seconds: float = 10) -> bool:
    """Whether a process that isn't our child ends in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ}

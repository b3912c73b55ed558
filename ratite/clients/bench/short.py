"""Short runs whole: from exec of the emulator until it has ended by itself, when its guest powers off.

What a run of less than a second pays for besides its work: the start of the emulator, the machine, the first execution of each
piece of code. The assembling client runs already; QEMU gets its board by its command line.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ratite.clients import machines
from ratite.clients.bench.mix import GUESTS, LIMIT, QEMU_MACHINES
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version
from ratite.clients.qmp import Client, DaemonProcess

BOARD = "rv64"
#: guests that end within a second of work: seconds of it under QEMU 7.2, about
PROGRAMS = ("mix-short", "kernels-short")  # 0.1, 0.8
GOAL = 0.9  # of the peer's speed


def measure(count: int, accel: str, say: Callable[[str], None], which: Callable[[str], str | None]) -> list[Row]:
    """Two rows a guest: seconds of both, and the peer's over ours, each run against the peer's just behind it."""
    program, options = next((program, options) for board, program, options in QEMU_MACHINES if board == BOARD)
    path = which(program)
    peer = version(path) if path else "not installed"
    rows = []
    for name in PROGRAMS:
        elf = GUESTS / f"{name}.{BOARD}.elf"
        ours, theirs = [], []
        for number in range(count):
            say(f"short run of {name}: {number + 1} of {count}")
            ours.append(_ratite(elf, accel))
            if path:
                theirs.append(_qemu([path, *options], elf))
        rows.append(Row(f"{name} on {BOARD}, exec to exit", "s", ours, theirs, peer, False))
        gains = [other / mine for mine, other in zip(ours, theirs, strict=False)]
        if gains:
            rows.append(Row("… the peer's time over ours", "x", gains, [], "", True, GOAL))
    return rows


def _ratite(elf: Path, accel: str) -> float:
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as name:
        folder = Path(name)
        before = time.perf_counter()
        with DaemonProcess(folder / "qmp") as daemon, Client.connect(daemon.address, timeout=LIMIT) as qmp:
            backend = {"type": "file", "data": {"out": str(folder / "console")}}
            chardev = ("chardev-add", {"id": "console", "backend": backend})
            machine = machines.one_cpu(BOARD, elf, "console", accel=accel)
            qmp.execute_all([("machine-create", {}), chardev, *machine, ("x-exit-preconfig", {})])
            status = _end_of(daemon.process)
            seconds = time.perf_counter() - before
        _check((folder / "console").read_bytes(), status)
        return seconds


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Waits for it; its status. `Popen.wait` with a limit looks every 50 ms only, as long as the guest runs."""
    if sys.platform == "win32":
        return process.wait(LIMIT)
    fd = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not poller.poll(LIMIT * 1000):
            raise subprocess.TimeoutExpired(process.args, LIMIT)
    finally:
        os.close(fd)
    return process.wait()


def _qemu(command: list[str], elf: Path) -> float:
    before = time.perf_counter()
    done = subprocess.run(
        [*command, "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(elf)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LIMIT, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - before
    _check(done.stdout, done.returncode)
    return seconds


def _check(console: bytes, status: int) -> None:
    if b"@@DONE " not in console or status:
        raise RuntimeError(f"the guest didn't end well: status {status}, it said last: {console[-200:]!r}")

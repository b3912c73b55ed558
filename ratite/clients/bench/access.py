"""What a guest pays for a device: reads of a register, and the way of an interrupt under load (tests/guests/src/access.c).

The interrupt is measured from outside: a byte goes to the guest's UART, raises its line, and comes back out of the handler's
first instructions, while the guest computes and another client pipelines query-qmp-schema. So it holds two passes
through the backend's thread as well: an upper bound of the time from the line to the handler.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

from ratite.clients import machines
from ratite.clients.bench.mix import GUESTS, LIMIT, Timer
from ratite.clients.bench.report import Row
from ratite.clients.qmp import Client, DaemonProcess

READS = 200_000
BYTES = 2000


def measure(count: int, accel: str, say: Callable[[str], None]) -> list[Row]:
    """Rows of a register's read and of an interrupt's way."""
    reads: list[float] = []
    trips: list[float] = []
    for number in range(count):
        say(f"access: run {number + 1} of {count}")
        with tempfile.TemporaryDirectory(prefix="ratite-bench-") as name:
            _one(Path(name), accel, reads, trips)
    tail = [quantiles(trips, n=100)[98]] if len(trips) > 1 else []
    return [
        Row("read of a device's register", "us", reads, [], "", False, 0.6),
        Row("byte in, interrupt, byte out, median", "us", [quantiles(trips, n=2)[0]], [], "", False),
        Row("… 99th percentile, schema asked all the time", "us", tail, [], "", False, 1000.0),
    ]


def _one(folder: Path, accel: str, reads: list[float], trips: list[float]) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "console"))
    listener.listen(1)
    with (folder / "log").open("wb") as log, \
            DaemonProcess(folder / "qmp", "--no-shutdown", "--paused", stderr=log) as daemon, \
            Client.connect(daemon.address, timeout=LIMIT) as qmp:  # fmt: skip
        qmp.execute("machine-create")
        address = {"type": "unix", "data": {"path": str(folder / "console")}}
        qmp.execute("chardev-add", {
            "id": "console", "backend": {"type": "socket", "data": {"addr": address, "server": False}}})
        for command, arguments in machines.one_cpu("rv64", GUESTS / "access.rv64.elf", "console", accel=accel):
            qmp.execute(command, arguments)
        qmp.execute("wire-irq", {"from": "uart", "output": "irq", "to": "cpu", "input": "meip"})
        qmp.execute("x-exit-preconfig")
        console, _ = listener.accept()
        with listener, console:
            console.settimeout(LIMIT)
            qmp.execute("cont")
            timer = Timer()
            while not timer.done:
                timer.take(console.recv(4096))
            reads.append(timer.run().parts["mmio"] / READS * 1e6)
            trips += _round_trips(console, str(folder / "qmp"))


# A process of its own, which shares no interpreter with the one that takes the times; it only counts lines.
_ASK = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(b'{"execute":"qmp_capabilities"}')
while True:
    sock.sendall(b'{"execute":"query-qmp-schema"}' * 8)
    lines = 0
    while lines < 8:
        lines += sock.recv(1 << 20).count(b"\\n")
"""


def _round_trips(console: socket.socket, path: str) -> list[float]:
    """Microseconds of each byte's way, while another client pipelines query-qmp-schema at ``path``."""
    asker = subprocess.Popen([sys.executable, "-I", "-c", _ASK, path], stderr=subprocess.DEVNULL)
    times = []
    try:
        for number in range(BYTES):
            byte = bytes([33 + number % 90])
            before = time.perf_counter()
            console.sendall(byte)
            if console.recv(1) != byte:
                raise RuntimeError("the guest sent another byte back")
            times.append((time.perf_counter() - before) * 1e6)
    finally:
        asker.kill()
        asker.wait()
    return times

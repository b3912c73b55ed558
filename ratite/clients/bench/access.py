"""What a guest pays for a device: reads of a register, and the way of an interrupt under load (tests/guests/src/access.c).

The guest times its reads itself, in groups. An interrupt's way from the line to the handler is taken on the machine's clock:
the device notes when a client let it raise its line, the handler's first instructions read the time. The guest computes
meanwhile, and another client pipelines query-qmp-schema. Beside it stands the whole way from outside: a byte goes to the
guest's UART, raises its line, and comes back out of the handler; that holds two passes through the backend's thread as well.
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

GROUPS, READS = 2000, 100  # as the guest has them
BYTES = 2000
RAISES = 2000
SOURCE = 0x10010000
PAUSE = 0.001  # after a line was heard of: until the guest computes again


class Samples:
    """Microseconds: medians of reads and means, of lines raised, of bytes' ways."""

    def __init__(self) -> None:
        self.reads: list[float] = []
        self.means: list[float] = []
        self.raised: list[float] = []
        self.trips: list[float] = []


def measure(count: int, accel: str, say: Callable[[str], None]) -> list[Row]:
    """Rows of a register's read and of an interrupt's way."""
    got = Samples()
    for number in range(count):
        say(f"access: run {number + 1} of {count}")
        with tempfile.TemporaryDirectory(prefix="ratite-bench-") as name:
            _one(Path(name), accel, got)
    return [
        Row("read of a device's register, median", "us", got.reads, [], "", False, 0.6),
        Row("… mean from the first read on", "us", got.means, [], "", False),
        Row("line raised to handler, schema asked, median", "us", [_share(got.raised, 50)], [], "", False),
        Row("… 99th percentile", "us", [_share(got.raised, 99)], [], "", False, 1000.0),
        Row("byte in, interrupt, byte out, median", "us", [_share(got.trips, 50)], [], "", False),
        Row("… 99th percentile", "us", [_share(got.trips, 99)], [], "", False),
    ]


def _share(values: list[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]


def _one(folder: Path, accel: str, got: Samples) -> None:
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
            ticks = {"timebase-frequency": 1_000_000_000} if arguments.get("id") == "cpu" else {}
            qmp.execute(command, {**arguments, **ticks})
        qmp.execute("device_add", {"driver": "irq-source", "id": "source"})
        qmp.execute("map-region", {"space": "view", "region": "source", "offset": SOURCE})
        qmp.execute("wire-irq", {"from": "uart", "output": "irq", "to": "cpu", "input": "meip"})
        qmp.execute("wire-irq", {"from": "source", "output": "irq", "to": "cpu", "input": "msip"})
        qmp.execute("x-exit-preconfig")
        console, _ = listener.accept()
        with listener, console:
            console.settimeout(LIMIT)
            qmp.execute("cont")
            timer = Timer()
            while not timer.done:
                timer.take(console.recv(4096))
            run = timer.run()
            got.means.append(run.parts["mmio"] / READS / GROUPS * 1e6)
            got.reads.append(int(run.text.partition("group ")[2].split()[0]) / READS / 1000)
            asker = subprocess.Popen([sys.executable, "-I", "-c", _ASK, str(folder / "qmp")], stderr=subprocess.DEVNULL)
            try:
                got.raised += _lines_raised(console, qmp)
                got.trips += _round_trips(console)
            finally:
                asker.kill()
                asker.wait()


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


def _lines_raised(console: socket.socket, qmp: Client) -> list[float]:
    """Microseconds from the line to the handler, as the guest found them."""
    lines = console.makefile("rb")
    times = []
    for _ in range(RAISES):
        qmp.execute("qom-set", {"path": "/machine/peripheral/source", "property": "level", "value": True})
        times.append(int(lines.readline().removeprefix(b"raised ")) / 1000)
        time.sleep(PAUSE)
    return times


def _round_trips(console: socket.socket) -> list[float]:
    """Microseconds of each byte's way."""
    times = []
    for number in range(BYTES):
        byte = bytes([33 + number % 90])
        before = time.perf_counter()
        console.sendall(byte)
        if console.recv(1) != byte:
            raise RuntimeError("the guest sent another byte back")
        times.append((time.perf_counter() - before) * 1e6)
    return times

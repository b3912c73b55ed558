"""Speed of guests: the mix of eight kernels (tests/guests/src/mix.c) under ratite and under QEMU, and two CPUs against one.

Timed at the console, from the line @@START to the line @@DONE, so that neither start nor assembling counts.  QEMU executes the
same file, so the number of instructions is the one that ratite counted.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ratite.clients import machines
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version
from ratite.clients.boots.caches import CodeCache
from ratite.clients.qmp import Client, DaemonProcess

GUESTS = Path(__file__).resolve().parents[3] / "tests" / "guests" / "elf"

# What QEMU is told for a board's machine.
QEMU_MACHINES = (
    ("rv64", "qemu-system-riscv64", ("-M", "virt", "-bios", "none")),
    ("rv32", "qemu-system-riscv32", ("-M", "virt", "-bios", "none")),
    ("s3adsp1800", "qemu-system-microblaze", ("-M", "petalogix-s3adsp1800")),
    ("ml605", "qemu-system-microblazeel", ("-M", "petalogix-ml605")),
)

LIMIT = 300.0
SETTLED, SETTLE_LIMIT = 1.0, 15.0  # seconds without a region compiled that are enough, and to wait for them


class Guest(NamedTuple):
    """A program, `folder`/`name`.BOARD.elf: what its console is told first, and whether its board needs the timer."""

    name: str
    folder: Path = GUESTS
    typed: bytes = b""
    timer: bool = False

    def elf(self, board: str) -> Path:
        """The file for a board."""
        return self.folder / f"{self.name}.{board}.elf"


class Run(NamedTuple):
    """One run of a guest: seconds, its checksum, instructions (0 where nobody counts), seconds of each line, what it wrote,
    how many of the instructions were in compiled regions, CPU seconds (of ratite's busiest thread; of another's process)."""

    seconds: float
    checksum: str
    instructions: int
    parts: Mapping[str, float] = MappingProxyType({})
    text: str = ""
    compiled: int = 0
    busy: float = 0.0


class Timer:
    """Takes the console's bytes and the time between the two lines."""

    def __init__(self) -> None:
        self.text = b""
        self.began = 0.0
        self.ended = 0.0
        self._parts: dict[str, float] = {}

    @property
    def done(self) -> bool:
        """Whether the last line is complete."""
        return self.ended > 0

    def take(self, chunk: bytes) -> None:
        """More of the console."""
        if not chunk:
            raise RuntimeError(f"the guest's console ended early: {self.text[-200:]!r}")
        self.text += chunk
        now = time.perf_counter()
        if not self.began and b"@@START" in self.text:
            self.began = now
        if not self.ended and b"\n" in self.text.partition(b"@@DONE")[2]:
            self.ended = now
        for line in self.text.partition(b"@@START")[2].splitlines(keepends=True):
            if line.endswith(b"\n") and b" " in line and not line.startswith(b"@@"):
                self._parts.setdefault(line.split()[0].decode(), now)

    def run(self, instructions: int = 0) -> Run:
        """The result."""
        checksum = self.text.partition(b"@@DONE ")[2].split()[0].decode()
        parts, last = {}, self.began
        for name, now in self._parts.items():
            parts[name], last = now - last, now
        return Run(self.ended - self.began, checksum, instructions, MappingProxyType(parts), self.text.decode(errors="replace"))


def busiest(pid: int) -> float:
    """CPU seconds of the thread of a process that has used most; 0 where there is no /proc."""
    ticks = [0]
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        ticks.append(int(fields[11]) + int(fields[12]))  # utime and stime, proc(5)
    return max(ticks) / os.sysconf("SC_CLK_TCK")


def run_program(command: Sequence[str], typed: bytes = b"") -> Run:
    """One run of a program whose standard streams are the console, told `typed` first; ended at its last line. Its CPU time is
    that of the process: threads may be gone by then."""
    timer = Timer()
    before = os.times()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(typed)
            process.stdin.flush()
            while not timer.done:
                timer.take(os.read(process.stdout.fileno(), 4096))
        finally:
            process.kill()
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return timer.run()._replace(busy=busy)


def under_qemu(program: str, options: tuple[str, ...], elf: Path, typed: bytes = b"") -> Run:
    """One run under QEMU, whose console is told `typed` first."""
    command = [program, *options, "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(elf)]
    return run_program(command, typed)


def under_ratite(boards: list[str], guest: Guest, accel: str, env: Mapping[str, str] | None = None,
                 beside: Sequence[tuple[str, Guest]] = (), *, settle: bool = False) -> list[Run]:  # fmt: skip
    """One run of a machine that has every board of `boards` with `guest` on it, all at once; `env` for the daemon. It has the
    boards of `beside` too, whose guests must still be busy at the end. `settle`: it ends when nothing more is compiled."""
    every = [*((board, guest) for board in boards), *beside]
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as name, (Path(name) / "log").open("wb") as log:
        folder = Path(name)
        listeners = []
        for number in range(len(every)):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(folder / f"console{number}"))
            listener.listen(1)
            listener.settimeout(LIMIT)
            listeners.append(listener)
        with DaemonProcess(folder / "qmp", "--no-shutdown", "--paused", stderr=log, env=env) as daemon, \
                Client.connect(daemon.address, timeout=LIMIT) as qmp:  # fmt: skip
            qmp.execute("machine-create")
            for number, (board, program) in enumerate(every):
                address = {"type": "unix", "data": {"path": str(folder / f"console{number}")}}
                backend = {"type": "socket", "data": {"addr": address, "server": False}}
                qmp.execute("chardev-add", {"id": f"console{number}", "backend": backend})
                prefix = f"m{number}-"
                commands = [*machines.one_cpu(board, program.elf(board), f"console{number}", prefix=prefix, accel=accel)]
                if program.timer:
                    commands += machines.with_timer(board, prefix=prefix)
                for command, arguments in commands:
                    # One finisher would end the machine under the others.
                    if len(every) == 1 or "finisher" not in str(arguments):
                        qmp.execute(command, arguments)
            qmp.execute("x-exit-preconfig")
            timers = _consoles(listeners, lambda: qmp.execute("cont"), guest.typed, len(boards))
            busy = busiest(daemon.process.pid)
            if settle:
                _settle(qmp)
            qmp.execute("stop")
            counts = [
                qmp.execute("qom-get", {"path": f"/machine/peripheral/m{number}-cpu", "property": "instructions"})
                for number in range(len(boards))
            ]
            reports = [cpu for cluster in qmp.execute("query-jit") for cpu in cluster["cpus"]]
    compiled = {cpu["qom-path"]: cpu["compiled-instructions"] for cpu in reports}
    return [
        timer.run(count)._replace(compiled=compiled.get(f"/machine/peripheral/m{number}-cpu", 0), busy=busy)
        for number, (timer, count) in enumerate(zip(timers, counts, strict=True))
    ]


def _settle(qmp: Client) -> None:
    """Waits until nothing has been compiled for a while."""
    made, since, end = -1, 0.0, time.monotonic() + SETTLE_LIMIT
    while time.monotonic() < end:
        now = sum(tier["compiled"] for cluster in qmp.execute("query-jit") for tier in cluster.get("tiers", ()))
        if now != made:
            made, since = now, time.monotonic()
        elif time.monotonic() - since > SETTLED:
            return
        time.sleep(0.1)


def _consoles(listeners: list[socket.socket], start: Callable[[], object], typed: bytes, count: int) -> list[Timer]:
    """The first `count` of them, to their ends; the others must not have come to theirs."""
    import selectors

    timers: list[Timer] = []
    with selectors.DefaultSelector() as selector, ExitStack() as sockets:
        for listener in listeners:
            sockets.enter_context(listener)
        for listener in listeners:
            sock = sockets.enter_context(listener.accept()[0])
            sock.sendall(typed)
            timers.append(Timer())
            selector.register(sock, selectors.EVENT_READ, timers[-1])
        start()
        deadline = time.monotonic() + LIMIT
        while not all(timer.done for timer in timers[:count]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the guest did not end within {LIMIT:g} s: {[timer.text[-80:] for timer in timers]}")
            for key, _ in selector.select(1.0):
                chunk = key.fileobj.recv(4096)  # type: ignore[union-attr]
                key.data.take(chunk)
            if any(timer.done for timer in timers[count:]):
                raise RuntimeError("what was to compute beside the guest ended before it")
    return timers[:count]


def in_turns(board: str, guest: str, count: int, accel: str, path: str | None, options: tuple[str, ...],
             say: Callable[[str], None]) -> tuple[list[Run], list[Run]]:  # fmt: skip
    """`count` runs under ratite and, where `path` names it, under QEMU with `options`. No compiled region is kept from one of
    ratite's runs to the next, so that each has its compiling in it; tier 0 is."""
    ours: list[Run] = []
    theirs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as made:
        cache = CodeCache("cold", Path(made))
        cache.prepare()
        under_ratite([board], Guest("mix-short"), accel, cache.environment)
        for number in range(count):
            say(f"{guest}.{board}: run {number + 1} of {count}")
            cache.prepare()
            ours += under_ratite([board], Guest(guest), accel, cache.environment)
            if path:
                theirs.append(under_qemu(path, options, Guest(guest).elf(board)))
    return ours, theirs


def measure(boards: list[str], guest: str, count: int, accel: str, say: Callable[[str], None],
            which: Callable[[str], str | None]) -> list[Row]:  # fmt: skip
    """A row for each board: MIPS under ratite and under QEMU, `count` runs each, taking turns."""
    goals = {"rv64": 600.0, "s3adsp1800": 400.0}
    rows = []
    for board, program, options in QEMU_MACHINES:
        if board not in boards:
            continue
        path = which(program)
        ours, theirs = in_turns(board, guest, count, accel, path, options, say)
        if len({run.checksum for run in ours + theirs}) != 1:
            raise RuntimeError(f"{guest}.{board}: different checksums: {[run.checksum for run in ours + theirs]}")
        mips = [run.instructions / run.seconds / 1e6 for run in ours]
        peer_mips = [ours[0].instructions / run.seconds / 1e6 for run in theirs]
        goal = goals.get(board) if guest == "mix" else None
        rows.append(Row(f"{guest} on {board}", "MIPS", mips, peer_mips, version(path) if path else "not installed", True, goal))
    return rows


def scaling(guest: str, count: int, accel: str, say: Callable[[str], None]) -> list[Row]:
    """Two CPUs in one machine against one: together they must execute 1.8 times as much in the same time."""
    gains = []
    for number in range(count):
        say(f"two CPUs: run {number + 1} of {count}")
        (alone,) = under_ratite(["rv64"], Guest(guest), accel)
        both = under_ratite(["rv64", "rv64"], Guest(guest), accel)
        together = sum(run.instructions / run.seconds for run in both)
        gains.append(together / (alone.instructions / alone.seconds))
    return [Row("two vCPUs against one", "x", gains, [], "", True, 1.8 if guest == "mix" else None)]

"""`make boots`: Linux guests, booted to their shell again and again, each in a daemon of its own, assembled over QMP.

    python -m ratite.clients.boots --guest riscv64 --count 20 --harts 4 --peer

A boot counts when the guest's init has printed its marker and the shell on the console has answered: its number of CPUs, and
a sum.  The time is from the start of the client's work (the daemon's exec) to the marker.  One line a boot; the exit status
is 0 only if every boot reached its shell.  `--cache cold warm` boots with caches of its own, as caches.py says.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ratite.clients.boots.caches import STATES, CodeCache
from ratite.clients.boots.guests import boot_of
from ratite.clients.boots.initramfs import MARKER
from ratite.clients.boots.machines import GUESTS, RAM, linux
from ratite.clients.machines import MIB
from ratite.clients.qmp import Client, CommandError, DaemonProcess, QmpClientError

FOLDER = Path("build/guests")
LINE_LIMIT = 300.0  # seconds for one boot, unless told


class BootError(Exception):
    """A guest didn't reach its shell; the text ends in what it said last."""


class Result(NamedTuple):
    """One boot: seconds to the marker and until the shell had answered, peak memory of the emulator in bytes, instructions."""

    marker: float
    shell: float
    memory: int
    instructions: int


class Console:
    """The other end of a guest's serial line, a UNIX socket that the emulator listens at."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.text = ""
        self._deadline = deadline
        self._sock = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._sock.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise BootError("nobody listens at the console") from None
                time.sleep(0.002)

    def wait(self, wanted: str, since: int = 0) -> int:
        """Read until `wanted` is in the text from `since` on; gives where it ends.  BootError."""
        while (found := self.text.find(wanted, since)) < 0:
            self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise BootError(f"no {wanted!r} in time; it said last: {self.text[-300:]!r}") from None
            if not data:
                raise BootError(f"the console was closed before {wanted!r}; it said last: {self.text[-300:]!r}")
            self.text += data.decode("latin-1")
        return found + len(wanted)

    def ask(self, line: str, answer: str) -> None:
        """Type a line; its answer must come on a line of its own."""
        since = len(self.text)
        self._sock.sendall(line.encode() + b"\n")
        self.wait(f"\n{answer}\r", since)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


Work = Callable[[Console], None]


def boot_ratite(
    guest: str, boot: dict[str, str], harts: int, timeout: float, cache: CodeCache, work: Work | None = None
) -> Result:
    """One boot in a daemon of its own; `work` is done at the shell before it ends.  BootError."""
    cache.prepare()
    with tempfile.TemporaryDirectory(prefix="ratite-boots-") as folder:
        place = Path(folder) / "console"
        started = time.monotonic()
        # The first machine ever has to compile its engine: that is part of the time, and may take long.
        with DaemonProcess(Path(folder) / "qmp", env=cache.environment) as daemon:
            address = {"type": "unix", "data": {"path": str(place)}}
            backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
            # While the daemon starts.
            commands = [("chardev-add", {"id": "con", "backend": backend}), *linux(guest, "con", boot, harts=harts)]
            with Client.connect(daemon.address, timeout) as qmp:
                qmp.execute_all([("machine-create", {}), *commands])
                console = Console(place, started + timeout)
                try:
                    qmp.execute("x-exit-preconfig")
                    marker, shell = _to_shell(console, harts, started)
                    if work is not None:
                        work(console)
                    return Result(marker, shell, _peak(daemon.process.pid), _instructions(qmp, harts))
                finally:
                    console.close()


def boot_qemu(guest: str, boot: dict[str, str], harts: int, timeout: float, work: Work | None = None) -> Result:
    """The same guest on QEMU's board of the same name.  BootError; FileNotFoundError where there is no QEMU."""
    program, options = _qemu(guest, harts)
    given = {"-bios" if name == "firmware" else f"-{name}": value for name, value in boot.items()}
    with tempfile.TemporaryDirectory(prefix="ratite-boots-") as folder:
        place = Path(folder) / "console"
        command = [program, *options, "-m", str(RAM[guest] // MIB), "-display", "none", "-monitor", "none"]
        command += ["-serial", f"unix:{place},server=on,wait=on"]
        for name, value in given.items():
            command += [name, value]
        started = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                console = Console(place, started + timeout)
                try:
                    marker, shell = _to_shell(console, harts, started)
                    if work is not None:
                        work(console)
                    return Result(marker, shell, _peak(process.pid), 0)
                finally:
                    console.close()
            finally:
                process.kill()


def _qemu(guest: str, harts: int) -> tuple[str, list[str]]:
    if guest == "riscv64":
        name, options = "qemu-system-riscv64", ["-M", "virt", "-smp", str(harts)]
    elif guest == "s3adsp1800":
        name, options = "qemu-system-microblaze", ["-M", "petalogix-s3adsp1800"]
    else:
        name, options = "qemu-system-microblazeel", ["-M", "petalogix-ml605"]
    program = shutil.which(name)
    if program is None:
        raise FileNotFoundError(f"{name} is not installed")
    return program, options


def _to_shell(console: Console, harts: int, started: float) -> tuple[float, float]:
    console.wait(MARKER)
    marker = time.monotonic() - started
    console.wait("# ")
    count = "grep -c -E '^(processor|CPU-Family)' /proc/cpuinfo"
    console.ask(f"echo cpus=$({count}) sum=$((6*{harts}+1))", f"cpus={harts} sum={6 * harts + 1}")
    return marker, time.monotonic() - started


def _peak(pid: int) -> int:
    """The process's largest resident memory so far, in bytes; 0 where the host doesn't tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _instructions(qmp: Client, harts: int) -> int:
    return sum(int(qmp.execute("qom-get", path=f"/machine/peripheral/cpu{n}", property="instructions")) for n in range(harts))


def run(subjects: Sequence[tuple[str, Callable[[], Result]]], count: int) -> list[list[Result]]:
    """Each subject in turn, `count` times, a line a boot; a boot that failed is not in the subject's list."""
    results: list[list[Result]] = [[] for _ in subjects]
    for number in range(1, count + 1):
        for (name, once), reached in zip(subjects, results, strict=True):
            try:
                result = once()
            except (BootError, CommandError, QmpClientError, OSError) as error:
                print(f"{name} {number}: FAILED: {error}", flush=True)
                continue
            reached.append(result)
            text = f"marker {result.marker:.2f} s, shell {result.shell:.2f} s, peak {result.memory / MIB:.0f} MiB"
            if result.instructions:
                text += f", {result.instructions / 1e6:.0f} M instructions"
            print(f"{name} {number}: {text}", flush=True)
    return results


def compare(guest: str, harts: int, given: argparse.Namespace) -> bool:
    """All boots of one guest; whether every one of ours reached its shell.  FileNotFoundError when files are missing."""
    boot = boot_of(guest, given.folder)
    boot["append"] = f"{boot['append']} {given.append}".strip()
    with tempfile.TemporaryDirectory(prefix="ratite-boots-") as place:
        caches = [CodeCache(state, Path(place)) for state in given.cache]
        names = [guest if cache.state == "user" else f"{guest} {cache.state}" for cache in caches]
        subjects = [
            (name, partial(boot_ratite, guest, boot, harts, given.timeout, cache))
            for name, cache in zip(names, caches, strict=True)
        ]
        if given.peer:
            _qemu(guest, harts)
            subjects.append((f"{guest} QEMU", partial(boot_qemu, guest, boot, harts, given.timeout)))
        for subject, cache in zip(subjects, caches, strict=False):
            if cache.filling:
                print(f"{subject[0]}: {cache.filling} boots to fill its cache, not counted", flush=True)
                run([subject], cache.filling)
        results = run(subjects, given.count)
    for name, reached in zip(names, results, strict=False):
        print(f"{name}: {len(reached)} of {given.count} boots reached the shell", flush=True)
        if reached and results[-1] and given.peer:
            mine, other = (statistics.median(result.marker for result in rows) for rows in (reached, results[-1]))
            print(f"{name}: median {mine:.2f} s, QEMU {other:.2f} s: {mine / other:.2f} x", flush=True)
    return all(len(reached) == given.count for reached in results[: len(names)])


def main(args: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="ratite.clients.boots", description="Boot Linux guests to their shell.")
    parser.add_argument("--guest", choices=(*GUESTS, "all"), default="riscv64")
    parser.add_argument("--count", type=int, default=1, help="boots of each guest (default: 1)")
    parser.add_argument("--harts", type=int, default=1, help="CPUs of the riscv64 guest (default: 1)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where the guests' files are (default: {FOLDER})")
    parser.add_argument("--append", default="", help="added to the kernel's command line")
    parser.add_argument("--timeout", type=float, default=LINE_LIMIT, help=f"seconds for one boot (default: {LINE_LIMIT:g})")
    parser.add_argument(
        "--cache", nargs="+", choices=STATES, default=["user"], metavar="|".join(STATES),
        help="the code cache that boots start from, one after the other in turns (default: user)",
    )  # fmt: skip
    parser.add_argument("--peer", action="store_true", help="boot the same on QEMU in turn, and compare")
    given = parser.parse_args(args)
    if sys.dont_write_bytecode:
        print("PYTHONDONTWRITEBYTECODE is set: each start of the daemon compiles its modules anew", flush=True)
    try:
        guests = GUESTS if given.guest == "all" else (given.guest,)
        good = [compare(guest, given.harts if guest == "riscv64" else 1, given) for guest in guests]
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all(good) else 1

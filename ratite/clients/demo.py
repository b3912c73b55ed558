"""`make demo`: one machine with a little-endian 64-bit RISC-V and a big-endian 32-bit MicroBlaze, assembled over QMP.

    ratited <──QMP── this client ──seed, rounds──> shared RAM <──> rv64 makes blocks, mb checksums them, thousands of rounds
                         │  computes the result on its own              one UART, one mailbox that interrupts either side
                         └── compares: every console line, both results in RAM

The guests are tests/guests/src/demo-rv.c and demo-mb.c; the protocol is in demo.h beside them.  Each guest's chain starts from
the CRC-32 of its own program in memory, so one wrong byte of either fails the run.  Exit status 0 only if both are right.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ratite.clients import machines
from ratite.clients.qmp import Client, CommandError, DaemonProcess, QmpClientError

GUESTS = Path(__file__).resolve().parents[2] / "tests" / "guests" / "elf"
MAGIC = 0x31445452
MASK = (1 << 64) - 1


class DemoError(Exception):
    """The demo failed; the text says what was seen and what should have been."""


class Config(NamedTuple):
    """What the client writes into shared RAM."""

    rounds: int
    seed: int
    report: int
    block: int

    def packed(self) -> bytes:
        """As in demo.h: little-endian."""
        return struct.pack("<IIQII", MAGIC, self.rounds, self.seed, self.report, self.block)


class Expected(NamedTuple):
    """What the guests must print, and leave in shared RAM."""

    lines: list[str]
    rv_result: tuple[int, int, int, int]
    mb_result: tuple[int, int, int, int]


class Segment(NamedTuple):
    """What an ELF file loads: `data` of the file's bytes from `offset`, at `address`."""

    address: int
    offset: int
    data: bytes


def segment(elf: Path) -> Segment:
    """The one loaded segment of a demo guest.  DemoError."""
    from elftools.elf.elffile import ELFFile

    if not elf.exists():
        raise DemoError(f"there is no guest {elf}: the demo runs from a source tree, or give --guests")
    with elf.open("rb") as file:
        parts = [part for part in ELFFile(file).iter_segments() if part["p_type"] == "PT_LOAD"]
        if len(parts) != 1:
            raise DemoError(f"{elf} must have one segment to load, not {len(parts)}")
        return Segment(parts[0]["p_paddr"], parts[0]["p_offset"], parts[0].data())


def expect(config: Config, rv_image: bytes, mb_image: bytes) -> Expected:
    """The whole run, computed here: the rounds, every line in order, both results."""
    rv_crc, mb_crc = zlib.crc32(rv_image), zlib.crc32(mb_image)
    chain, crc = config.seed ^ (rv_crc << 32 | rv_crc), mb_crc
    words = range(config.block // 8)
    pack = struct.Struct(f"<{len(words)}Q").pack
    lines = [f"rv64: ready, seed {config.seed:016x}"]
    for number in range(1, config.rounds + 1):
        block = []
        for _ in words:
            chain = (chain * 6364136223846793005 + 1442695040888963407) & MASK
            block.append(chain ^ chain >> 29)
        crc = zlib.crc32(pack(*block), crc)
        chain ^= crc << 32 | (crc ^ number)
        if number % config.report == 0:
            lines += [f"rv64: round {number}, chain {chain:016x}", f"mb:   round {number}, crc {crc:08x}"]
    lines.append(f"mb:   RESULT rounds {config.rounds} crc {crc:08x} image {mb_crc:08x}")
    lines.append(f"rv64: RESULT rounds {config.rounds} chain {chain:016x} image {rv_crc:08x}")
    return Expected(lines, (1, config.rounds, chain, rv_crc), (1, config.rounds, crc, mb_crc))


def flipped(elf: Path, address: int, to: Path) -> Path:
    """A copy of `elf` whose byte at guest address `address` has one bit turned.  DemoError."""
    part = segment(elf)
    if not 0 <= address - part.address < len(part.data):
        end = part.address + len(part.data)
        raise DemoError(f"--flip: {address:#x} must be in the image, {part.address:#x} to {end - 1:#x}")
    data = bytearray(elf.read_bytes())
    data[part.offset + address - part.address] ^= 1
    to.write_bytes(data)
    return to


class Console:
    """The machine's console: shows each line as it comes and holds it against what must come."""

    def __init__(self, path: Path, lines: Sequence[str], show: Callable[[str], None]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(path))
        self._listener.listen(1)
        self._lines = lines
        self._show = show
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self.seen = 0
        self.last = time.monotonic()
        self.error = ""

    def start(self) -> None:
        """Take the daemon's connection, which is made by now."""
        self._sock, _ = self._listener.accept()
        self._listener.close()
        self._thread.start()

    def finish(self) -> None:
        """Wait for what is still on its way."""
        self._thread.join(2)

    def _run(self) -> None:
        buffer = b""
        with self._sock:
            while self.seen < len(self._lines) and not self.error:
                chunk = self._sock.recv(4096)
                if not chunk:
                    break
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._check(line.decode("ascii", "replace"))

    def _check(self, line: str) -> None:
        self._show(line)
        self.last = time.monotonic()
        if not self.error and line != self._lines[self.seen]:
            self.error = f"the console printed {line!r}, it must be {self._lines[self.seen]!r}"
        self.seen += 1


class Cpu(NamedTuple):
    """A CPU's line of the table."""

    name: str
    what: str
    instructions: int


class Outcome(NamedTuple):
    """A run that went right."""

    cpus: list[Cpu]
    rounds: int
    seconds: float


def run(
    config: Config,
    *,
    rv_elf: Path,
    mb_elf: Path,
    expected: Expected,
    folder: Path,
    accel: str = "",
    stall: float = 20.0,
    show: Callable[[str], None] = print,
) -> Outcome:
    """Start a daemon, assemble the machine, run it to its end and check everything.  DemoError."""
    shared, log = folder / "shared", folder / "ratited.log"
    shared.write_bytes(config.packed().ljust(machines.MIB, b"\0"))
    console = Console(folder / "console.sock", expected.lines, show)
    with log.open("wb") as stderr, DaemonProcess(folder / "qmp.sock", "--paused", "--no-shutdown", stderr=stderr) as daemon:
        try:
            # Patient: the first start of all compiles both instruction sets.
            with Client.connect(daemon.address, timeout=120) as qmp:
                _assemble(qmp, machines.demo(rv_elf, mb_elf, shared, "console", accel=accel), folder / "console.sock")
                console.start()
                qmp.execute("x-exit-preconfig")
                began = time.monotonic()
                qmp.execute("cont")
                console.last = time.monotonic()
                _wait(qmp, console, stall)
                seconds = time.monotonic() - began
                console.finish()
                _check(console, expected, shared.read_bytes())
                return Outcome([_cpu(qmp, "rv0", "riscv64, 64-bit little"), _cpu(qmp, "mb0", "microblaze, 32-bit big")],
                               config.rounds, seconds)  # fmt: skip
        except (CommandError, QmpClientError, OSError) as error:
            raise DemoError(f"{error}{_tail(log)}") from None


def _assemble(qmp: Client, commands: Iterable[machines.Command], console: Path) -> None:
    address = {"type": "unix", "data": {"path": os.fspath(console)}}
    for command, arguments in commands:
        qmp.execute(command, arguments)
        if command == "machine-create":
            backend = {"type": "socket", "data": {"addr": address, "server": False}}
            qmp.execute("chardev-add", {"id": "console", "backend": backend})
    qmp.execute("machine-wire")


def _wait(qmp: Client, console: Console, stall: float) -> None:
    """Until the guest ends the machine; DemoError when it can't any more."""
    while True:
        try:
            message = qmp.events.pop(0) if qmp.events else qmp.receive(0.25)
        except TimeoutError:
            message = {}
        match message.get("event"):
            case "SHUTDOWN":
                return
            case "GUEST_PANICKED":
                raise DemoError(f"a guest panicked: {message.get('data')}")
        if console.error:
            raise DemoError(console.error)
        if time.monotonic() - console.last > stall:
            raise DemoError(f"no console line for {stall:g} s; {console.seen} lines came, they must be {len(console._lines)}")


def _check(console: Console, expected: Expected, shared: bytes) -> None:
    if console.error:
        raise DemoError(console.error)
    if console.seen != len(expected.lines):
        raise DemoError(f"the console printed {console.seen} lines, they must be {len(expected.lines)}")
    for name, layout, at, want in (
        ("rv64", "<IIQI", 0x100, expected.rv_result),
        ("mb", "<IIII", 0x140, expected.mb_result),
    ):
        got = struct.unpack_from(layout, shared, at)
        if got != want:
            texts = [" ".join(f"{value:x}" for value in values) for values in (got, want)]
            raise DemoError(f"{name}'s result in shared RAM is {texts[0]}, it must be {texts[1]}")


def _cpu(qmp: Client, name: str, what: str) -> Cpu:
    path = f"/machine/peripheral/{name}"
    return Cpu(name, what, int(qmp.execute("qom-get", {"path": path, "property": "instructions"})))


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace").strip()
    return "\nratited's log ends:\n" + "\n".join(text.splitlines()[-8:]) if text else ""


def table(outcome: Outcome) -> str:
    """What the demo prints at its end."""
    rows = [f"{'CPU':<5}{'target, word size, byte order':<32}{'instructions':>14}{'MIPS':>10}"]
    for cpu in outcome.cpus:
        mips = cpu.instructions / outcome.seconds / 1e6
        rows.append(f"{cpu.name:<5}{cpu.what:<32}{cpu.instructions:>14,}{mips:>10.2f}")
    rate = outcome.rounds / outcome.seconds
    rows.append(f"{outcome.rounds:,} rounds in {outcome.seconds:.2f} s of wall time ({rate:,.0f} rounds/s)")
    return "\n".join(rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    text = "Assemble and run the two-architecture demo machine."
    parser = argparse.ArgumentParser("python -m ratite.clients.demo", description=text)
    parser.add_argument("--rounds", type=int, default=5000, help="blocks that go to and fro (default 5000)")
    parser.add_argument("--seed", type=lambda text: int(text, 0), help="64-bit seed (default: a fresh random one)")
    parser.add_argument("--block", type=int, default=512, help="bytes of a block, a multiple of 8, at most 16384 (default 512)")
    parser.add_argument("--accel", default="", help="accelerator of both clusters (default: the best usable)")
    parser.add_argument("--guests", type=Path, default=GUESTS, help="folder with demo-rv.rv64.elf and demo-mb.mb.elf")
    parser.add_argument("--stall", type=float, default=20.0, help="fail after so many seconds without a console line")
    parser.add_argument("--flip", metavar="rv:ADDR|mb:ADDR", help="turn one bit of that byte of a guest: must fail")
    parser.add_argument("--prepare", type=Path, metavar="FILE", help="only write shared memory; print what must come")
    options = parser.parse_args(argv)
    if not 1 <= options.rounds < 1 << 28:
        parser.error(f"--rounds must be 1 to {(1 << 28) - 1}, not {options.rounds}")
    if options.block % 8 or not 8 <= options.block <= 16384:
        parser.error(f"--block must be a multiple of 8 from 8 to 16384, not {options.block}")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(8), "little")
    if not 0 <= options.seed <= MASK:
        parser.error(f"--seed must be 0 to {MASK:#x}, not {options.seed:#x}")
    return options


def _flip(text: str, elfs: dict[str, Path], folder: Path) -> None:
    name, _, address = text.partition(":")
    if name not in elfs or not address:
        raise DemoError(f"--flip must be rv:ADDR or mb:ADDR, not {text!r}")
    elfs[name] = flipped(elfs[name], int(address, 0), folder / f"{name}-flipped.elf")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 only if both guests reported the right result."""
    options = _arguments(argv)
    elfs = {"rv": options.guests / "demo-rv.rv64.elf", "mb": options.guests / "demo-mb.mb.elf"}
    config = Config(options.rounds, options.seed, max(1, options.rounds // 10), options.block)
    try:
        expected = expect(config, segment(elfs["rv"]).data, segment(elfs["mb"]).data)
        if options.prepare:
            options.prepare.write_bytes(config.packed().ljust(machines.MIB, b"\0"))
            print("\n".join(expected.lines))
            return 0
        with tempfile.TemporaryDirectory(prefix="ratite-demo-") as name:
            folder = Path(name)
            if options.flip:
                _flip(options.flip, elfs, folder)
            print(f"seed {config.seed:#018x}, {config.rounds} rounds of {config.block} bytes; the console:", flush=True)
            outcome = run(
                config, rv_elf=elfs["rv"], mb_elf=elfs["mb"], expected=expected, folder=folder,
                accel=options.accel, stall=options.stall, show=lambda line: print(f"  | {line}", flush=True),
            )  # fmt: skip
    except DemoError as error:
        print(f"demo: FAILED: {error}", file=sys.stderr)
        return 1
    print(table(outcome))
    print("demo: both guests reported the result that was computed here")
    return 0


if __name__ == "__main__":
    sys.exit(main())

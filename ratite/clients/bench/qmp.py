"""Round trips of QMP commands under QEMU's manners, by a client in C (roundtrip.c): ratite and QEMU in turns, no machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import Subject

TARGET = "riscv64"


class Trip(NamedTuple):
    """A command, how often it is timed, and how many times QEMU's round trip ours may take."""

    name: str
    arguments: dict[str, Any]
    times: int
    share: float


TRIPS = (
    Trip("query-status", {}, 2000, 1.5),
    Trip("qom-get", {"path": "/machine", "property": "type"}, 1000, 1.5),
    Trip("qom-list", {"path": "/machine"}, 1000, 1.5),
    Trip("device-list-properties", {"typename": "virtio-blk-device"}, 500, 1.5),
    Trip("query-commands", {}, 500, 1.5),
    Trip("query-machines", {}, 500, 1.5),
    Trip("qom-list-types", {}, 200, 0.25),
    Trip("query-qmp-schema", {}, 40, 0.25),
)
PIPELINED, RATE = 20000, 0.8


def stand_in() -> Subject:
    """ratite in QEMU's place, without a machine."""
    options = ["-target", TARGET, "-M", "none", "-nodefaults", "-display", "none", "-qmp"]
    return Subject("ratite", lambda path: [sys.executable, "-m", "ratite.daemon", *options, f"unix:{path},server=on,wait=off"])


def build(folder: Path) -> Path:
    """The client, compiled.  FileNotFoundError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("a C compiler (cc) is needed")
    made = folder / "roundtrip"
    with resources.as_file(resources.files("ratite.clients.bench") / "roundtrip.c") as source:
        subprocess.run([compiler, "-O2", "-o", str(made), str(source)], check=True)
    return made


def measure(ours: Subject, theirs: Subject | None, count: int, say: Callable[[str], None]) -> list[Row]:
    """All rows, from `count` starts of each subject in turns."""
    subjects = [ours] if theirs is None else [ours, theirs]
    samples: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as folder:
        client = build(Path(folder))
        for number in range(count):
            for subject in subjects:
                say(f"qmp: start {number + 1} of {count}, {subject.name}")
                samples[subject.name].append(_one(subject, client, Path(folder) / f"{number}"))
    mine, others = samples[ours.name], samples[theirs.name] if theirs else []
    return [_row(name, mine, others, theirs.name if theirs else "not installed") for name in mine[0] if "bytes" not in name]


def _one(subject: Subject, client: Path, place: Path) -> dict[str, float]:
    """Median round trips in µs by command, "bytes of" each reply, and commands a second."""
    lines = [f"t {trip.times} {json.dumps({'execute': trip.name, 'arguments': trip.arguments})}" for trip in TRIPS]
    lines.append(f"p {PIPELINED} " + '{"execute":"query-status"}')
    process = subprocess.Popen(subject.command(str(place)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        done = subprocess.run([client, str(place)], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=300)
    finally:
        process.terminate()
        process.wait(10)
    if done.returncode:
        raise RuntimeError(f"{subject.name}: {done.stderr.strip()}")
    *trips, rate = done.stdout.split("\n")[:-1]
    found = {"pipelined query-status": float(rate)}
    for trip, line in zip(TRIPS, trips, strict=True):
        middle, _high, size = line.split()
        found[trip.name], found[f"bytes of {trip.name}"] = float(middle), float(size)
    return found


def _row(name: str, mine: Sequence[dict[str, float]], others: Sequence[dict[str, float]], peer: str) -> Row:
    ours, theirs = [found[name] for found in mine], [found[name] for found in others]
    trip = next((trip for trip in TRIPS if trip.name == name), None)
    if trip is None:
        return Row(name, "commands/s", ours, theirs, peer, True, RATE * median(theirs) if theirs else None)
    size = f"bytes of {name}"
    label = f"{name}, {mine[0][size]:.0f} B" + (f" (peer {others[0][size]:.0f} B)" if others else "")
    return Row(label, "us", ours, theirs, peer, False, trip.share * median(theirs) if theirs else None)

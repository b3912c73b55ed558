"""Compute-bound kernels (tests/guests/src/kernels.c) under ratite, under QEMU and on the host itself.

All execute in the same order, each timed by its line on the console; compiling counts. The host's own code is the same source
through the host's C compiler, where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median

from ratite.clients.bench.mix import GUESTS, QEMU_MACHINES, Run, in_turns, run_program
from ratite.clients.bench.report import Row, together
from ratite.clients.bench.subjects import version

SOURCE = GUESTS.parent / "src" / "kernels.c"
RUNTIME = GUESTS.parent / "runtime"


def compiled(program: Path, narrow: bool, scale: int) -> Path | None:
    """The kernels as a ``program`` of the host, ``scale`` as in the guest, as a CPU of 32 bits does them where ``narrow``; None
    without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    flags = ["-O2", "-DHOST", f"-DSCALE={scale}", *(["-DNARROW"] if narrow else []), f"-I{RUNTIME}"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(program)], check=True)
    return program


def native(narrow: bool, scale: int) -> Run | None:
    """One run of them on the host; None without a C compiler."""
    with tempfile.TemporaryDirectory(prefix="ratite-bench-") as name:
        program = compiled(Path(name) / "kernels", narrow, scale)
        return run_program([str(program)]) if program is not None else None


def _best(runs: list[Run], name: str) -> float:
    return median(run.parts[name] for run in runs)


def measure(boards: list[str], guest: str, count: int, accel: str, say: Callable[[str], None],
            which: Callable[[str], str | None]) -> list[Row]:  # fmt: skip
    """Rows of a board: seconds of each kernel, and the geometric mean of the speeds against QEMU's."""
    rows: list[Row] = []
    scales = {"kernels": 6, "kernels-long": 36}  # as tests/guests/Makefile has them
    for board, program, options in QEMU_MACHINES:
        if board not in boards or not (GUESTS / f"{guest}.{board}.elf").exists():
            continue
        host = native(board != "rv64", scales[guest]) if guest in scales else None
        path = which(program)
        ours, theirs = in_turns(board, guest, count, accel, path, options, say)
        sums = {run.checksum for run in [*ours, *theirs, *([host] if host else [])]}
        if len(sums) != 1:
            raise RuntimeError(f"{guest}.{board}: different checksums: {sorted(sums)}")
        peer = version(path) if path else "not installed"
        first, shares = len(rows), []
        for name in ours[0].parts:
            mine = [run.parts[name] for run in ours]
            other = [run.parts[name] for run in theirs]
            rows.append(Row(f"{name} on {board}", "s", mine, other, peer, False))
            if host and host.parts[name] > 0:  # what is shorter than the clock's step has no share
                shares.append(host.parts[name] / _best(ours, name))
        rows += together(f"{guest} on {board}", rows[first:], (2.0, 1.0) if host else None)
        if shares:
            mean = geometric_mean(shares)
            rows.append(Row(f"{guest} on {board}, share of the host's own speed", "x host", [mean], [], "", True))
    return rows

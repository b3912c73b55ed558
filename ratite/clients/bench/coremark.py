"""CoreMark (EEMBC), unmodified, under ratite, under QEMU and on the host itself.

Its source is not in this repository: `make peers COREMARK=its folder` builds the guests with the port in tests/guests/coremark
into build/coremark, `--source` does the same first. Every run does the same number of iterations, so many that CoreMark calls
the fastest valid (10 s); CoreMark validates each itself, and the last CRC of all must be the same.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from ratite.clients.bench.mix import GUESTS, QEMU_MACHINES, Guest, Run, run_program, under_qemu, under_ratite
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version
from ratite.clients.boots.caches import CodeCache

BUILT = GUESTS.parents[2] / "build" / "coremark"
BOARDS = ("rv64", "s3adsp1800", "ml605")
# Speed against QEMU's that is asked for, compiling included.
GOALS = MappingProxyType({"rv64": 1.0, "s3adsp1800": 1.5, "ml605": 1.5})

SHORT = 300
TRIAL = 3000
VALID, AIM = 10.0, 14.0  # seconds: what CoreMark calls valid, and what iterations are chosen for


class Measured(NamedTuple):
    """A board's runs: ratite's with nothing kept of its regions, its further ones, QEMU's in the same order, the host's."""

    iterations: int
    cold: Run
    warm: Sequence[Run]
    theirs: Sequence[Run]
    host: Run | None

    @property
    def all(self) -> list[Run]:
        """Every run."""
        return [self.cold, *self.warm, *self.theirs, *([self.host] if self.host else [])]


def build(source: Path, into: Path) -> str:
    """Guests from CoreMark's folder `source`, for each compiler there is; what the build said.  RuntimeError."""
    command = ["make", "-C", str(GUESTS.parent), "-f", "coremark/Makefile"]
    run = subprocess.run([*command, f"COREMARK={source.resolve()}", f"OUT={into}"], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"coremark: the build of {source} failed: {(run.stderr or run.stdout).strip()[-300:]}")
    return run.stdout


def built(boards: Sequence[str], folder: Path) -> list[str]:
    """Which of the boards have a guest in `folder`."""
    return [board for board in boards if Guest("coremark", folder).elf(board).exists()]


def checked(run: Run, who: str, short: bool) -> Run:
    """The run with its last CRC and the time of its iterations.  RuntimeError where CoreMark itself found something wrong."""
    lines = run.text.splitlines()
    wrong = [line for line in lines if "ERROR!" in line and not (short and "at least 10 secs" in line)]
    said = "Correct operation validated" in run.text or short
    if wrong or not said or "2K performance run parameters" not in run.text:
        raise RuntimeError(f"coremark: {who} is not valid: {' / '.join(wrong or lines[-4:])}")
    (last,) = (line.split()[-1] for line in lines if line.startswith("[0]crcfinal"))
    # (both lines can come in one piece)
    return run._replace(checksum=last, seconds=max(run.parts["iterate"], 1e-6))


def _line(iterations: int) -> bytes:
    """The performance run: all seeds 0, all algorithms."""
    return f"0 0 0 {iterations} 0\n".encode()


def _thousands(iterations: float) -> int:
    return max(1000, int(iterations) // 1000 * 1000)


def native(iterations: int, folder: Path) -> Run | None:
    """CoreMark on the host; None where it wasn't built."""
    program = folder / "coremark.host"
    if not program.exists():
        return None
    return run_program([str(program)], _line(iterations))


class Board:
    """Runs on one board, with a cache of compiled code that belongs to the measurement alone."""

    def __init__(self, board: str, accel: str, folder: Path, peer: str | None, options: tuple[str, ...]) -> None:
        self.board, self.folder = board, folder
        self._accel, self._peer, self._options = accel, peer, options
        self._place = tempfile.TemporaryDirectory(prefix="ratite-bench-")
        self._cache = CodeCache("cold", Path(self._place.name))
        self._cache.prepare()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exception: object) -> None:
        self._place.cleanup()

    def ours(self, iterations: int) -> Run:
        """A run under ratite."""
        guest = Guest("coremark", self.folder, _line(iterations), timer=True)
        (run,) = under_ratite([self.board], guest, self._accel, self._cache.environment)
        return run

    def theirs(self, iterations: int) -> list[Run]:
        """A run under QEMU, where it is installed."""
        if self._peer is None:
            return []
        return [under_qemu(self._peer, self._options, Guest("coremark", self.folder).elf(self.board), _line(iterations))]

    def trial(self) -> int:
        """Iterations that take the fastest some 14 s."""
        runs = [checked(run, "the trial", True) for run in [self.ours(TRIAL), self.ours(TRIAL), *self.theirs(TRIAL)]]
        return _thousands(TRIAL * AIM / min(run.seconds for run in runs[1:]))

    def measure(self, iterations: int, count: int) -> Measured:
        """A cold run and `count` further ones, in turns with QEMU."""
        self._cache.prepare()
        ours, theirs = [], []
        for _ in range(count + 1):
            ours.append(self.ours(iterations))
            theirs += self.theirs(iterations)
        host = native(iterations, self.folder) if self.board == "rv64" else None
        return Measured(iterations, ours[0], ours[1:], theirs, host)


def _valid(bench: Board, iterations: int, count: int, short: bool, say: Callable[[str], None]) -> Measured:
    """Measured, with more iterations where a run was faster than the trial promised."""
    while True:
        say(f"coremark.{bench.board}: {iterations} iterations, {count + 1} runs")
        got = bench.measure(iterations, count)
        fastest = min(run.parts["iterate"] for run in got.all)
        if short or fastest > VALID:
            break
        iterations = _thousands(iterations * AIM / fastest)
    runs = [checked(run, f"a run on {bench.board}", short) for run in got.all]
    if len({run.checksum for run in runs}) != 1:
        raise RuntimeError(f"coremark.{bench.board}: different CRCs: {sorted({run.checksum for run in runs})}")
    warm, theirs = runs[1 : 1 + count], runs[1 + count : 1 + count + len(got.theirs)]
    return Measured(iterations, runs[0], warm, theirs, runs[-1] if got.host else None)


def _rows(board: str, got: Measured, peer: str, short: bool) -> list[Row]:
    def speeds(runs: Sequence[Run]) -> list[float]:
        return [got.iterations / run.seconds for run in runs]

    def busy(runs: Sequence[Run]) -> list[float]:
        return [run.busy for run in runs]

    share = 100 * got.cold.compiled / got.cold.instructions
    rows = [
        Row(f"coremark on {board}, cold", "it/s", speeds([got.cold]), speeds(got.theirs[:1]), peer, True),
        Row(f"coremark on {board}, warm", "it/s", speeds(got.warm), speeds(got.theirs[1:]), peer, True),
        Row("… CPU time, cold", "s", busy([got.cold]), busy(got.theirs[:1]), peer, False),
        Row("… CPU time, warm", "s", busy(got.warm), busy(got.theirs[1:]), peer, False),
        Row("… iterations of each run", "", [got.iterations], [], "", True),
        Row("… instructions in compiled regions, cold", "%", [share], [], "", True),
    ]
    if got.theirs:
        rows.append(Row("… cold against QEMU", "x QEMU", [rows[0].ratio or 0.0], [], "", True, None if short else GOALS[board]))
    if got.host:
        best = median(speeds(got.warm))
        rows.append(Row("… warm, share of the host's own speed", "x host", [best / speeds([got.host])[0]], [], "", True))
        rows.append(Row("… the same by CPU time", "x host", [got.host.busy / median(busy(got.warm))], [], "", True))
    return rows


def measure(boards: Sequence[str], count: int, accel: str, short: bool, say: Callable[[str], None],
            which: Callable[[str], str | None], folder: Path) -> list[Row]:  # fmt: skip
    """Rows of every board that has a guest: iterations per second, cold and warm."""
    rows: list[Row] = []
    speed: dict[str, float] = {}
    for board, program, options in QEMU_MACHINES:
        if board not in built(boards, folder):
            continue
        path = which(program)
        with Board(board, accel, folder, path, options) as bench:
            say(f"coremark.{board}: trial")
            iterations = SHORT if short else bench.trial()
            got = _valid(bench, iterations, count, short, say)
        speed[board] = got.iterations / median(run.seconds for run in got.warm)
        rows += _rows(board, got, version(path) if path else "not installed", short)
    if "s3adsp1800" in speed and "ml605" in speed:
        ratio = speed["s3adsp1800"] / speed["ml605"]
        rows.append(Row("coremark, big-endian against little-endian", "x", [ratio], [], "", True, None if short else 0.9))
    return rows

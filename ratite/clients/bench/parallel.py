"""CPUs beside others: each one's speed beside one of another architecture, and four harts of a Linux guest on two cores."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ratite.clients.bench.kernels import compiled
from ratite.clients.bench.mix import Guest, run_program, under_ratite
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version
from ratite.clients.boots.caches import CodeCache
from ratite.clients.boots.guests import boot_of
from ratite.clients.boots.main import LINE_LIMIT, Console, boot_qemu, boot_ratite

PAIR = ("rv64", "s3adsp1800")
TURNS = 3  # at the least: one disturbance is not to decide
FILL = 2  # runs of each board alone that fill the code cache, not counted: what is compiled then takes a core
HARTS = 4
STEPS = 100_000  # that a shell counts, some second's worth
WARM, ROUNDS = 1, 3  # rounds at the shell, of which the first aren't counted
# One shell again and again in a boot of its own that fills the code cache: with cores to spare the most is compiled.
FILL_ROUNDS = 4
_COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); done"


def beside(count: int, accel: str, short: bool, say: Callable[[str], None]) -> list[Row]:
    """A row an architecture: its time alone over its time beside a CPU of the other one that computes all the while, in turns,
    with a code cache of our own that runs before have filled. The same of the host's own code stands beside it: what this host
    loses where all its cores are busy."""
    measured, other = Guest("mix-short" if short else "kernels"), Guest("mix" if short else "kernels-long")
    shares: dict[str, list[float]] = {board: [] for board in PAIR}
    hosts: dict[str, list[float]] = {board: [] for board in PAIR}
    with TemporaryDirectory(prefix="ratite-bench-") as made:
        cache = CodeCache("warm", Path(made))
        cache.prepare()

        def seconds(board: str, *others: tuple[str, Guest], settle: bool = False) -> float:
            return under_ratite([board], measured, accel, cache.environment, others, settle=settle)[0].seconds

        for number in range(FILL):
            for board in PAIR:
                say(f"{board}: run {number + 1} of {FILL} that fill the code cache")
                seconds(board, settle=True)
        programs = {board: _programs(Path(made), board, short) for board in PAIR}
        for number in range(count if short else max(count, TURNS)):
            for board, neighbour in (PAIR, PAIR[::-1]):
                say(f"{board} beside {neighbour}: run {number + 1}")
                turned = number % 2 == 1
                shares[board].append(_share(partial(seconds, board), partial(seconds, board, (neighbour, other)), turned))
                if programs[board]:
                    one, other_one = programs[board]
                    hosts[board].append(_share(partial(_host, one), partial(_host, one, other_one), turned))
    goal = 0.95 if not short and cores() >= len(PAIR) else None
    return [
        Row(f"{measured.name} on {board} beside {neighbour}, against alone", "x", shares[board], hosts[board],
            "the host's own code", True, goal)
        for board, neighbour in (PAIR, PAIR[::-1])
    ]  # fmt: skip


def _share(alone: Callable[[], float], both: Callable[[], float], turned: bool) -> float:
    """Seconds of the one over seconds of the other; ``turned``: in the other order."""
    if turned:
        second = both()
        return alone() / second
    first = alone()
    return first / both()


def _programs(folder: Path, board: str, short: bool) -> list[Path]:
    """The kernels as the host's own programs: what is measured, and a longer one; none without a C compiler."""
    scales = (1, 6) if short else (8, 120)
    made = [compiled(folder / f"{board}-{scale}", board != "rv64", scale) for scale in scales]
    return [program for program in made if program is not None]


def _host(program: Path, *others: Path) -> float:
    """Seconds of a program of the host while the others run."""
    with ExitStack() as stack:
        for other in others:
            process = stack.enter_context(subprocess.Popen([str(other)], stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
        return run_program([str(program)]).seconds


def cores() -> int:
    """Host cores that may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def harts(
    count: int, short: bool, say: Callable[[str], None], which: Callable[[str], str | None], folder: Path
) -> list[Row]:
    """Four shells that count, in a Linux guest of four harts, against one of them: what they do in the same time, and seconds.
    FileNotFoundError where the guest's files are missing."""
    boot = boot_of("riscv64", folder)
    steps = 2_000 if short else STEPS
    path = which("qemu-system-riscv64")
    ours, theirs = Rounds(), Rounds()
    with TemporaryDirectory(prefix="ratite-bench-") as made:
        cache = CodeCache("warm", Path(made))
        say(f"{HARTS} harts: the code cache is filled")
        boot_ratite("riscv64", boot, HARTS, LINE_LIMIT, cache, partial(_fill, steps))
        for number in range(count):
            say(f"{HARTS} harts: run {number + 1} of {count}")
            boot_ratite("riscv64", boot, HARTS, LINE_LIMIT, cache, partial(ours.work, steps))
            if path:
                boot_qemu("riscv64", boot, HARTS, LINE_LIMIT, partial(theirs.work, steps))
    peer = version(path) if path else "not installed"
    # as much more as there are cores, and no more than there are harts, would be all of it
    goal = 1.7 if not short and cores() == 2 else None
    return [
        Row(f"{HARTS} harts on {cores()} cores, Linux, work against one's", "x", ours.gains, theirs.gains, peer, True, goal),
        Row("… one worker", "s", ours.ones, theirs.ones, peer, False),
        Row(f"… {HARTS} workers", "s", ours.alls, theirs.alls, peer, False),
    ]


def _line(workers: int, steps: int) -> str:
    """A line for the guest's shell; its answer is ``all=2``."""
    count = _COUNT.format(n=steps)
    return f"for h in {' '.join(str(n) for n in range(workers))}; do ( {count} ) & done; wait; echo all=$((0+2))"


def _fill(steps: int, console: Console) -> None:
    for _ in range(FILL_ROUNDS):
        console.ask(_line(1, steps), "all=2")


class Rounds:
    """Seconds of one worker and of all of them, and how often the work of one all do in its time, of each round. Code gets
    faster while it runs, so one worker is timed before and after: the gain is against their mean."""

    def __init__(self) -> None:
        self.ones: list[float] = []
        self.alls: list[float] = []
        self.gains: list[float] = []

    def work(self, steps: int, console: Console) -> None:
        """At a guest's shell."""

        def timed(workers: int) -> float:
            begun = time.perf_counter()
            console.ask(_line(workers, steps), "all=2")
            return time.perf_counter() - begun

        for _ in range(WARM):
            timed(1)
            timed(HARTS)
        before = timed(1)
        for _ in range(ROUNDS):
            together, after = timed(HARTS), timed(1)
            self.add((before + after) / 2, together)
            before = after

    def add(self, one: float, together: float) -> None:
        """A round."""
        self.ones.append(one)
        self.alls.append(together)
        self.gains.append(HARTS * one / together)

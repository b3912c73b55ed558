"""CPUs beside others: each one's speed beside one of another architecture, and four harts of a Linux guest on two cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from ratite.clients.bench.mix import Guest, under_ratite
from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import version
from ratite.clients.boots.caches import CodeCache
from ratite.clients.boots.guests import boot_of
from ratite.clients.boots.main import LINE_LIMIT, Console, boot_qemu, boot_ratite

PAIR = ("rv64", "s3adsp1800")
HARTS = 4
ROUNDS = 2  # of one worker and all of them, after one that warms both up
_COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); done"


def beside(count: int, accel: str, short: bool, say: Callable[[str], None]) -> list[Row]:
    """A row an architecture: its time alone over its time beside a CPU of the other one that computes all the while."""
    measured, other = Guest("mix-short" if short else "kernels"), Guest("mix" if short else "kernels-long")
    rows = []
    for board, neighbour in (PAIR, PAIR[::-1]):
        shares = []
        for number in range(count + 1):
            say(f"{board} beside {neighbour}: run {number} of {count}")
            (alone,) = under_ratite([board], measured, accel)
            (both,) = under_ratite([board], measured, accel, beside=[(neighbour, other)])
            if number:  # the first time fills the code cache: what is compiled then takes a core of its own
                shares.append(alone.seconds / both.seconds)
        goal = 0.95 if not short and cores() >= len(PAIR) else None
        rows.append(Row(f"{measured.name} on {board} beside {neighbour}, against alone", "x", shares, [], "", True, goal))
    return rows


def cores() -> int:
    """Host cores that may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def harts(
    count: int, short: bool, say: Callable[[str], None], which: Callable[[str], str | None], folder: Path
) -> list[Row]:
    """Four shells that count, in a Linux guest of four harts, against one of them: what they do in the same time, and seconds.
    FileNotFoundError where the guest's files are missing."""
    boot = boot_of("riscv64", folder)
    steps = 2_000 if short else 100_000
    path = which("qemu-system-riscv64")
    seconds: list[list[tuple[float, float]]] = [[], []]
    for number in range(count):
        say(f"{HARTS} harts: run {number + 1} of {count}")
        work = partial(_work, steps, seconds[0])
        boot_ratite("riscv64", boot, HARTS, LINE_LIMIT, CodeCache("user", folder), work)
        if path:
            boot_qemu("riscv64", boot, HARTS, LINE_LIMIT, partial(_work, steps, seconds[1]))
    gains = [[HARTS * one / all_ for one, all_ in rows] for rows in seconds]
    peer = version(path) if path else "not installed"
    # as much more as there are cores, and no more than there are harts, would be all of it
    goal = 1.7 if not short and cores() == 2 else None
    return [
        Row(f"{HARTS} harts on {cores()} cores, Linux, work against one's", "x", gains[0], gains[1], peer, True, goal),
        Row("… one worker", "s", [one for one, _ in seconds[0]], [one for one, _ in seconds[1]], peer, False),
        Row(f"… {HARTS} workers", "s", [all_ for _, all_ in seconds[0]], [all_ for _, all_ in seconds[1]], peer, False),
    ]


def _work(steps: int, seconds: list[tuple[float, float]], console: Console) -> None:
    """At the guest's shell: (seconds of one worker, of all), medians of the rounds."""
    count = _COUNT.format(n=steps)
    one = f"( {count} ) & wait; echo one=$((0+1))"
    every = f"for h in {' '.join(str(n) for n in range(HARTS))}; do ( {count} ) & done; wait; echo all=$((0+2))"
    times: list[tuple[float, float]] = []
    for _ in range(1 + ROUNDS):
        begun = time.perf_counter()
        console.ask(one, "one=1")
        between = time.perf_counter()
        console.ask(every, "all=2")
        times.append((between - begun, time.perf_counter() - between))
    seconds.append((median(one for one, _ in times[1:]), median(all_ for _, all_ in times[1:])))

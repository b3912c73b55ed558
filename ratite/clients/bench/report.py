"""Rows of results, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, median, quantiles
from typing import NamedTuple


class Row(NamedTuple):
    """One measurement: our samples and the peer's, in `unit`; `samples` may be of different numbers."""

    name: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    peer: str
    larger_is_better: bool
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """How much better we are than the peer: above 1 is faster, or smaller where that is the aim."""
        if not self.ours or not self.theirs:
            return None
        ours, theirs = median(self.ours), median(self.theirs)
        return ours / theirs if self.larger_is_better else theirs / ours

    @property
    def met(self) -> bool | None:
        """Whether our median reaches the goal; None without one."""
        if self.goal is None or not self.ours:
            return None
        return median(self.ours) >= self.goal if self.larger_is_better else median(self.ours) <= self.goal


def together(name: str, rows: Sequence[Row], goals: tuple[float, float] | None) -> list[Row]:
    """How much better we are in all rows that have a peer: the geometric mean, and the least; `goals` of both."""
    gains = [row.ratio for row in rows if row.ratio]
    if not gains:
        return []
    mean, least = goals or (None, None)
    return [
        Row(f"{name}, geometric mean", "x QEMU", [geometric_mean(gains)], [], "", True, mean),
        Row(f"{name}, slowest", "x QEMU", [min(gains)], [], "", True, least),
    ]


def number(values: Sequence[float]) -> str:
    """A median with the spread of the middle half, "12.3 ±0.4"; "-" without samples."""
    if not values:
        return "-"
    middle = median(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 100 else 2
    if len(values) < 4:
        return f"{middle:,.{digits}f}"
    low, _, high = quantiles(values, n=4)
    return f"{middle:,.{digits}f} ±{(high - low) / 2:,.{digits}f}"


def table(rows: Sequence[Row]) -> str:
    """The rows for people: medians; "better" is how much better ratite is than the peer."""
    head = ("", "unit", "ratite", "peer", "better", "n", "peer is", "goal")
    cells = [head]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        goal = "" if row.goal is None else f"{row.goal:g} {'met' if row.met else 'NOT MET'}"
        count = f"{len(row.ours)}/{len(row.theirs)}" if row.theirs else f"{len(row.ours)}"
        cells.append((row.name, row.unit, number(row.ours), number(row.theirs), ratio, count, row.peer, goal))
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def host() -> str:
    """One line about where this was measured."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {usable} cores usable, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def as_json(rows: Sequence[Row]) -> str:
    """The rows with all samples."""
    plain = [{**row._asdict(), "ratio": row.ratio, "met": row.met} for row in rows]
    return json.dumps({"host": host(), "rows": plain}, indent=1)

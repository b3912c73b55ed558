"""The daemon without a machine: start, memory, round trips, throughput, introspection; subjects take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from ratite.clients.bench.report import Row
from ratite.clients.bench.subjects import Session, Subject

STATUS = b'{"execute":"query-status"}'
SCHEMA = b'{"execute":"query-qmp-schema"}'

Samples = dict[str, list[float]]


def measure(ours: Subject, theirs: Subject | None, count: int, say: Callable[[str], None]) -> list[Row]:
    """All rows, from `count` starts of each subject (medians need 30)."""
    subjects = [ours] if theirs is None else [ours, theirs]
    samples: dict[str, Samples] = {subject.name: {} for subject in subjects}
    sizes: dict[str, int] = {}
    for number in range(count + 1):
        say(f"monitor: start {number} of {count}")
        for subject in subjects:
            one: Samples = {}
            sizes[subject.name] = _one(subject, one)
            if number:  # the first start fills the page cache
                for key, values in one.items():
                    samples[subject.name].setdefault(key, []).extend(values)
    return _rows(samples, ours.name, theirs.name if theirs else "", sizes)


def _one(subject: Subject, into: Samples) -> int:
    with Session(subject) as session:
        into["start"] = [session.started * 1e3]
        into["memory"] = [session.private_memory()]
        into["trip"] = _times(partial(session.call, STATUS), 100, 1e6)
        into["schema"] = _times(partial(session.call, SCHEMA), 3, 1e3)
        size = len(session.call(SCHEMA))
        before = time.perf_counter()
        session.pipeline(STATUS, 2000)
        into["rate"] = [2000 / (time.perf_counter() - before)]
        return size


def _times(what: Callable[[], object], count: int, scale: float) -> list[float]:
    times = []
    for _ in range(count):
        before = time.perf_counter()
        what()
        times.append((time.perf_counter() - before) * scale)
    return times


def _rows(samples: dict[str, Samples], ours: str, theirs: str, sizes: dict[str, int]) -> list[Row]:
    def row(name: str, unit: str, key: str, larger: bool = False) -> Row:
        return Row(name, unit, _get(samples, ours, key), _get(samples, theirs, key), theirs or "not installed", larger)

    size = f"query-qmp-schema, {sizes[ours] / 1000:.0f} kB" + (f" (peer {sizes[theirs] / 1000:.0f} kB)" if theirs else "")
    return [
        row("exec to first reply", "ms", "start"),
        row("private memory, idle", "MiB", "memory"),
        row("query-status round trip", "us", "trip"),
        row("pipelined query-status", "commands/s", "rate", larger=True),
        row(size, "ms", "schema"),
    ]


def _get(samples: dict[str, Samples], name: str, key: str) -> Sequence[float]:
    return samples.get(name, {}).get(key, [])

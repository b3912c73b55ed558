"""What a soak has done so far: a file of JSON lines, one a chunk, that sums up over runs.

A chunk is known by (oracle, config, seed). A soak that is started again with the same ledger leaves out the chunks that
are in it, so runs resume and add up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Chunk:
    """What one seed did: instructions and traps compared, and the differences found, as text. ``compiled``: instructions
    that compiled regions executed, those around what is compared among them."""

    __slots__ = ("compiled", "count", "differences", "traps")

    def __init__(self, count: int, traps: int, differences: list[str], compiled: int = 0) -> None:
        self.count = count
        self.traps = traps
        self.differences = differences
        self.compiled = compiled


def commit() -> str:
    """The checked-out commit, with a + where the emulator's source differs from it."""
    def git(*args: str) -> str:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "ratite/core/isa", "ratite/core/engine", "ratite/targets")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


class Ledger:
    """Rows of one oracle and configuration in ``path`` (None: kept nowhere)."""

    def __init__(self, path: str | None, oracle: str, config: str) -> None:
        self._path = Path(path) if path else None
        self._key = {"oracle": oracle, "config": config}
        self.rows: list[dict[str, object]] = []
        if self._path and self._path.exists():
            rows = (json.loads(line) for line in self._path.read_text().splitlines() if line.strip())
            self.rows = [r for r in rows if all(r.get(k) == v for k, v in self._key.items())]

    def seeds(self) -> set[int]:
        """Seeds that are done."""
        return {int(str(r["seed"])) for r in self.rows}

    def total(self, what: str) -> int:
        return sum(int(str(r[what])) for r in self.rows)

    def add(self, seed: int, chunk: Chunk, seconds: float, at: str) -> None:
        row: dict[str, object] = {
            **self._key, "seed": seed, "count": chunk.count, "traps": chunk.traps,
            "differences": len(chunk.differences), "compiled": chunk.compiled, "seconds": round(seconds, 2), "commit": at}
        if chunk.differences:
            row["first"] = chunk.differences[0]
        self.rows.append(row)
        if self._path:
            with self._path.open("a") as f:
                f.write(json.dumps(row) + "\n")


def soak(ledger: Ledger, seed: int, count: int, run: Callable[[int, int], Chunk], chunk: int) -> int:
    """Runs chunks of ``chunk`` instructions from ``seed`` on until ``count`` have been compared in this call; the number
    of differences. ``run(seed, instructions)`` does one chunk."""
    done, bad, here = 0, 0, commit()
    known = ledger.seeds()
    while done < count:
        if seed in known:
            seed += 1
            continue
        start = time.monotonic()
        result = run(seed, min(chunk, count - done))
        seconds = time.monotonic() - start
        ledger.add(seed, result, seconds, here)
        for text in result.differences:
            print(f"DIFFERENCE seed {seed}: {text}", flush=True)
        done += result.count
        bad += len(result.differences)
        rate = result.count / seconds if seconds else 0
        print(f"seed {seed}: {result.count} instructions, {result.traps} traps, {rate:,.0f}/s", flush=True)
        seed += 1
    print(f"this run: {done} instructions, {bad} differences; ledger: {ledger.total('count')} instructions, "
          f"{ledger.total('traps')} traps, {ledger.total('differences')} differences, {len(ledger.rows)} seeds")
    return bad


def spans(numbers: set[int]) -> str:
    """{1, 2, 3, 7} as "1–3, 7"."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}–{b}" if a != b else str(a) for a, b in runs)


def totals(path: str) -> str:
    """The sums of a ledger as a table for the docs, a line per oracle, configuration and commit."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
    groups: dict[tuple[str, str, str], list[dict[str, int]]] = {}
    for row in rows:
        groups.setdefault((row["oracle"], row["config"], row["commit"]), []).append(row)
    head = "| oracle | ISA | instructions | traps | differences | in regions | seeds | commit |"
    lines = [head, "|---" * 8 + "|"]
    for (oracle, config, at), many in sorted(groups.items()):
        sums = " | ".join(f"{sum(r.get(k, 0) for r in many):,}" for k in ("count", "traps", "differences", "compiled"))
        lines.append(f"| {oracle} | {config} | {sums} | {spans({r['seed'] for r in many})} | {at} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(totals(sys.argv[1]))

"""The bench: its arithmetic, and that a peer which isn't installed is named and left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ratite.clients.bench.report import Row, table


def test_ratio_says_how_much_better_we_are() -> None:
    assert Row("", "ms", [2.0], [4.0], "peer", False).ratio == 2
    assert Row("", "MIPS", [2.0], [4.0], "peer", True).ratio == 0.5
    assert Row("", "MIPS", [2.0], [], "not installed", True).ratio is None


def test_goals() -> None:
    assert Row("", "x", [1.7, 1.9, 1.8], [], "", True, 1.8).met is True
    assert Row("", "x", [1.7], [], "", True, 1.8).met is False
    assert Row("", "x", [1.7], [], "", True).met is None
    assert "1.8 NOT MET" in table([Row("two", "x", [1.7], [], "", True, 1.8)])


def test_a_missing_peer_is_named_and_skipped(tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    command = [sys.executable, "-m", "ratite.bench", "monitor", "--starts", "2", "--json", str(samples)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    assert "qemu-system-riscv64 is not installed" in run.stdout
    assert "exec to first reply" in run.stdout
    rows = json.loads(samples.read_text())["rows"]
    assert len(rows) == 5 and all(row["ours"] and not row["theirs"] for row in rows)

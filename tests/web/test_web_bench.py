"""The bench of the page runs, with a browser of its own."""

from __future__ import annotations

import pytest

from ratite.clients.bench import page
from ratite.clients.bench.chromium import find


def test_bench_measures_what_it_names() -> None:
    if find() is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    rows = {row.name: row for row in page.measure(1, lambda text: None)}
    assert rows["page: first paint"].goal == 300
    assert all(len(row.ours) == 1 and row.ours[0] > 0 for row in rows.values())
    assert rows["page: first paint"].ours[0] < rows["page: signed in and machines listed"].ours[0]


def test_without_chromium_it_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert page.measure(1, lambda text: None) == []
    assert "chromium is not installed" in capsys.readouterr().out

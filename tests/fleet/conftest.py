"""A runtime folder of each test's own: short, since paths of sockets must be."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR, with no machine left there behind the test; processes find this tree's package."""
    place = Path(tempfile.mkdtemp(prefix="ratite-fleet-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield place
    left = [path.name for path in (place / "ratite" / "machines").glob("*")]
    shutil.rmtree(place)
    assert left == []


@pytest.fixture
def elf() -> Path:
    """Where the guest programs are."""
    return ROOT / "tests" / "guests" / "elf"

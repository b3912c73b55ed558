"""Shims for the tests: written once, as `ratite install-shims` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from personality_kit import Shims

from ratite.clients.cli.main import main


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shims."""
    folder = tmp_path_factory.mktemp("shims")
    assert main(["install-shims", str(folder)]) == 0
    return folder


@pytest.fixture
def shims(installed: Path, tmp_path: Path) -> Iterator[Shims]:
    """Starts programs of `installed`, and ends them with the test."""
    with Shims(installed, tmp_path) as made:
        yield made

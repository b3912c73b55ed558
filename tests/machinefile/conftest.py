"""What the tests of machine files share: one compiler, and short ways to ask it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machinefile_kit import Kit

from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.compile import Compiler


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    """Of this installation's types."""
    return Compiler(files.declarations())


@pytest.fixture
def kit(compiler: Compiler) -> Kit:
    """Compiles texts."""
    return Kit(compiler)

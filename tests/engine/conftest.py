"""One library of native code for all tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.core.engine.native import NativeLibrary


@pytest.fixture(scope="session")
def library(cache_home: Path) -> NativeLibrary:
    return NativeLibrary()

"""A library of native code with a cache of the test run's own."""

from __future__ import annotations

import pytest

from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.native import NativeLibrary


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> NativeLibrary:
    return NativeLibrary(ObjectCache(system="", user=str(tmp_path_factory.mktemp("cache") / "objects")))

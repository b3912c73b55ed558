"""Memory ordering: outcomes that the guests' memory models forbid are never seen, also between architectures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.core.engine.native import NativeLibrary
from tests.oracle.litmus import SHAPES, run


@pytest.fixture(scope="module")
def library(cache_home: Path) -> NativeLibrary:
    return NativeLibrary()


@pytest.mark.parametrize("kind", ["rv64", "rv32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_forbidden_outcome_is_never_seen(library: NativeLibrary, shape: str, kind: str) -> None:
    bodies, forbidden = SHAPES[shape]
    seen = run(library, bodies, [kind] * len(bodies))
    assert forbidden not in seen, seen


@pytest.mark.parametrize("kinds", [("rv64", "microblaze"), ("microblaze", "rv64")])
@pytest.mark.parametrize("shape", ["MP", "SB"])
def test_between_architectures(library: NativeLibrary, shape: str, kinds: tuple[str, str]) -> None:
    bodies, forbidden = SHAPES[shape]
    seen = run(library, bodies, kinds)
    assert forbidden not in seen, seen


def test_the_harness_sees_a_reordering(library: NativeLibrary) -> None:
    """Without fences the host's store buffer shows through: store buffering is allowed, and the cells do overlap."""
    bodies, relaxed = SHAPES["SB"]
    bare = [[op for op in body if op != ("F",)] for body in bodies]
    for _ in range(20):
        seen = run(library, bare, ["rv64", "rv64"])
        if relaxed in seen:
            return
    pytest.skip("one host CPU, or the threads never met")

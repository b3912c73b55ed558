"""The oracles, for a few seconds; soaks and what the judge can't judge: docs/oracles-microblaze.md."""

from __future__ import annotations

import random

import pytest

from ratite.core.engine.native import NativeLibrary
from tests.oracle import microblaze_evaluator, microblaze_qemu, microblaze_rsp
from tests.oracle.microblaze_qemu_mmu import MmuJudge


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    return NativeLibrary()


@pytest.mark.parametrize(("endian", "config"), [("be", 0), ("le", 0), ("be", 3), ("le", 7), ("be", 8)])
def test_evaluator_and_tier0(library: NativeLibrary, endian: str, config: int) -> None:
    run = microblaze_evaluator.Run(library, endian, microblaze_evaluator.CONFIGS[config:config + 1])
    try:
        count, differences = run.shard(f"test:{endian}", 5000)
    finally:
        run.close()
    assert count >= 5000 and not differences, differences[:3]


@pytest.mark.peer
@pytest.mark.parametrize(("endian", "kind"), [
    ("be", microblaze_qemu.Judge), ("le", microblaze_qemu.Judge), ("be", MmuJudge)])
def test_tier0_and_qemu(library: NativeLibrary, endian: str, kind: type[microblaze_qemu.Judge]) -> None:
    reason = microblaze_rsp.missing(endian)
    if reason:
        pytest.skip(reason)
    judge = kind(library, endian)
    try:
        for k in range(6):
            program = kind.PROGRAM(judge.isa, random.Random(f"test:{k}"), judge.base, 1000)
            count, differences = judge.batch(program)
            assert count > 5000 and not differences, differences[:3]
    finally:
        judge.close()

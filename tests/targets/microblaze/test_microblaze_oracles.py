"""The oracles, for a few seconds; soaks and what the judge can't judge: docs/oracles-microblaze.md."""

from __future__ import annotations

import pytest

from ratite.core.engine.native import NativeLibrary
from tests.oracle import microblaze_evaluator, microblaze_qemu, microblaze_rsp
from tests.oracle.microblaze_qemu_mmu import MmuJudge


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    return NativeLibrary()


@pytest.mark.parametrize(("endian", "config", "tier"), [
    ("be", 0, 0), ("le", 0, 0), ("be", 3, 0), ("le", 7, 0), ("be", 8, 0), ("be", 3, 2), ("le", 0, 1), ("le", 7, 1)])
def test_evaluator_and_native_code(library: NativeLibrary, endian: str, config: int, tier: int) -> None:
    run = microblaze_evaluator.Run(library, endian, microblaze_evaluator.CONFIGS[config:config + 1], tier)
    try:
        done = run.chunk(f"test:{endian}", 5000)
    finally:
        run.close()
    assert done.count >= 5000 and not done.differences, done.differences[:3]
    assert done.compiled > 500 if tier else done.compiled == 0


@pytest.mark.peer
@pytest.mark.parametrize(("endian", "kind", "tier", "batches"), [
    ("be", microblaze_qemu.Judge, 0, 6), ("le", microblaze_qemu.Judge, 0, 6), ("be", MmuJudge, 0, 6),
    ("le", microblaze_qemu.Judge, 1, 1), ("be", MmuJudge, 2, 1)])
def test_native_code_and_qemu(
    library: NativeLibrary, endian: str, kind: type[microblaze_qemu.Judge], tier: int, batches: int,
) -> None:
    reason = microblaze_rsp.missing(endian)
    if reason:
        pytest.skip(reason)
    run = microblaze_qemu.Run(library, endian, kind, tier)
    try:
        for k in range(batches):
            count, differences = run.batch(f"test:{k}")
            assert count > 5000 and not differences, differences[:3]
        assert run.judge.cpu.compiled_instructions > count / 4 if tier else not run.judge.cpu.compiled_instructions
    finally:
        run.close()

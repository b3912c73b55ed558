"""A small share of the floating-point soaks: every instruction and rounding mode, native code against the evaluator."""

from __future__ import annotations

import shutil

import pytest

from tests.oracle import riscv_fp_qemu, riscv_fp_traps
from tests.oracle.riscv_fp import Judged, cases

ROWS = 48


@pytest.mark.parametrize(("xlen", "fma"), [(64, None), (32, None), (64, False)])
def test_native_code_and_evaluator_agree(cache_home: object, xlen: int, fma: bool | None) -> None:
    judged = Judged(xlen, ROWS, fma)
    bad = []
    for insn, mode in cases(judged.isa):
        for seed in (1, 2) if fma is None else (1,):
            if fma is None or insn.name.startswith(("fmadd", "fnmsub")):
                bad += judged.chunk(insn, mode, seed, "reference").differences
    assert not bad


@pytest.mark.parametrize("xlen", [64, 32])
def test_native_code_and_a_recent_qemu_agree(cache_home: object, xlen: int) -> None:
    """Tier 0; and that one wrong bit is found."""
    qemu = shutil.which(f"qemu-system-riscv{xlen}")
    if qemu is None:
        pytest.skip(f"needs qemu-system-riscv{xlen}")
    judged = riscv_fp_qemu.Judged(xlen, qemu, 64, (0,))
    assert [difference for seed in (1, 3, 2) for difference in judged.chunk(seed, 0).differences] == []
    operands = judged.operands(2)
    wrong = bytearray(judged.by_qemu(2, operands))
    wrong[judged.result * (64 * 3 + 5)] ^= 1
    found = judged.differences(bytes(wrong), 0, "here", operands)
    judged.close()
    assert len(found) == 1 and f"here {judged.pairs[3][0].name} mode {judged.pairs[3][1]}" in found[0]


@pytest.mark.parametrize("xlen", [64, 32])
def test_states_of_fs_and_modes_that_are_none(cache_home: object, xlen: int) -> None:
    qemu = shutil.which(f"qemu-system-riscv{xlen}")
    if qemu is None:
        pytest.skip(f"needs qemu-system-riscv{xlen}")
    count, differences = riscv_fp_traps.compare(xlen, qemu)
    assert count > 1500 and differences == []

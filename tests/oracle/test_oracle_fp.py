"""A small share of the floating-point soaks: every instruction and rounding mode, native code against the evaluator."""

from __future__ import annotations

import pytest

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

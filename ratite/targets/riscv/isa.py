"""RISC-V, RV32 and RV64, built for one configuration; an extension is a file beside this one.

After the RISC-V Unprivileged ISA 20191213 and the Privileged ISA 1.12; newer extensions name their specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField
from ratite.targets.riscv import counters, csrs, pmp, rvf, supervisor
from ratite.targets.riscv.csrs import Csr, CsrRange
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.fields import FIELDS, X_NAMES


def build(config: Mapping[str, object]) -> Isa:
    """``config``: "word-size" (32 or 64); the extensions of ``features.FLAGS`` (bool; plain IMAC of machine mode unless
    told); "timebase-frequency" (Hz; 0: no ``time``); "misaligned" ("native" unless told, or "fault"). Other keys are ignored.
    Raises ValueError for what can't be together."""
    f = Features(config)
    compressed = f.has("c")
    return Isa(
        f"rv{f.xlen}{f.letters}", word=f.xlen, big_endian=False, fields=FIELDS, state=_state(f),
        parcel=2 if compressed else 4, default_length=2 if compressed else 4, lengths=((3, 3, 4),) if compressed else (),
        misaligned=str(config.get("misaligned", "native")), mmu_modes=f.mmu_modes, fp=rvf.fp_context() if f.has("f") else None,
        declare=partial(_declare, f))


def _declare(f: Features, isa: Isa) -> None:
    from ratite.targets.riscv import (
        mmu,
        privileged,
        rva,
        rvc,
        rvd,
        rvi,
        rvm,
        traps,
        zba,
        zbb,
        zbs,
        zicbo,
        zicond,
        zicsr,
        zifencei,
    )

    traps.declare(isa, f)
    rvi.declare(isa)
    privileged.declare(isa, f)
    if f.has("pmp"):
        pmp.declare(isa)
    if isa.mmu_modes:
        mmu.declare(isa, f)
    if f.has("zicsr"):
        zicsr.declare(isa, f, csr_table(f), csr_ranges(f))
    for name, module in (
        ("m", rvm), ("a", rva), ("f", rvf), ("d", rvd), ("zifencei", zifencei),
        ("zba", zba), ("zbb", zbb), ("zbs", zbs), ("zicond", zicond),
        ("c", rvc),
    ):
        if f.has(name):
            module.declare(isa)
    zicbo.declare(isa, f)


def _state(f: Features) -> list[StateField]:
    rows = [StateField("x", f.xlen, 32, zero=True, names=X_NAMES, text="general register"), *csrs.state_fields(f)]
    if f.has("f"):
        rows += rvf.fp_state(64 if f.has("d") else 32)
    if f.has("s"):
        rows += supervisor.state_fields(f)
    rows += counters.state_fields(f)
    if f.has("pmp"):
        rows += pmp.state_fields(f.xlen)
    return rows


def csr_table(f: Features) -> Mapping[int, Csr]:
    """The registers that have code of their own, by number."""
    rows = [*csrs.machine_csrs(f), supervisor.mip(f), *counters.csrs(f)]
    if f.has("f"):
        rows += rvf.fp_csrs()
    if f.has("s"):
        rows += supervisor.csrs(f)
    return csrs.table_of(rows)


def csr_ranges(f: Features) -> list[CsrRange]:
    """The others."""
    return [*csrs.zero_ranges(f), *(pmp.csr_ranges(f.xlen) if f.has("pmp") else ())]

"""RISC-V, RV32 and RV64: I, M, A, C, Zicsr, Zifencei with machine mode alone, built for one configuration.

After the RISC-V Unprivileged ISA 20191213 and the Privileged ISA 1.12; an extension is a file beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField
from ratite.targets.riscv import rva, rvc, rvi, rvm, traps, zicsr, zifencei
from ratite.targets.riscv.csrs import csr_table, state_fields
from ratite.targets.riscv.fields import FIELDS, X_NAMES


def build(config: Mapping[str, object]) -> Isa:
    """``config``: "word-size" (32 or 64); "m", "a", "c" (bool, True unless told); "misaligned" ("native" unless told, or
    "fault"). Other keys are ignored."""
    xlen = int(str(config["word-size"]))
    if xlen not in (32, 64):
        raise ValueError(f"word-size must be 32 or 64, not {xlen}")
    extensions = "i" + "".join(letter for letter in "mac" if config.get(letter, True))
    compressed = "c" in extensions
    isa = Isa(
        f"rv{xlen}{extensions}", word=xlen, big_endian=False, fields=FIELDS,
        state=[StateField("x", xlen, 32, zero=True, names=X_NAMES, text="general register"), *state_fields(xlen)],
        parcel=2 if compressed else 4, default_length=2 if compressed else 4, lengths=((3, 3, 4),) if compressed else (),
        misaligned=str(config.get("misaligned", "native")))
    traps.declare(isa)
    rvi.declare(isa)
    zifencei.declare(isa)
    zicsr.declare(isa, csr_table(xlen, extensions))
    for letter, module in (("m", rvm), ("a", rva), ("c", rvc)):
        if letter in extensions:
            module.declare(isa)
    return isa

"""Zifencei (RISC-V Unprivileged ISA 20191213 chapter 3). Reserved fields are ignored."""

from __future__ import annotations

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands


def declare(isa: Isa) -> None:
    @isa.insn("fence.i", "xxxxxxxxxxxx xxxxx 001 xxxxx 0001111")
    def fence_i(e: Emitter, i: Operands) -> None:
        e.flush_code()

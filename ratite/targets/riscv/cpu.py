"""RISC-V CPU types. A hart of machine mode; input lines after the bits of mip (Privileged ISA 1.12 §3.1.9)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ratite.core.cpu.base import Cpu
from ratite.core.objects.props import config
from ratite.targets.riscv.csrs import MEI, MSI, MTI


class RiscvCpu(Cpu):
    """A RISC-V hart."""

    TYPE = "riscv-cpu"
    ABSTRACT = True
    ISA = "ratite.targets.riscv.isa:build"
    ELF_MACHINE = 243
    LINES = MappingProxyType({"msip": MSI, "mtip": MTI, "meip": MEI})
    RESET_PC = 0x80000000

    hartid = config("uint32", 0, "number of the hart, as mhartid tells it")
    m = config("bool", True, "extension M: multiplication and division")
    a = config("bool", True, "extension A: atomic instructions")
    c = config("bool", True, "extension C: compressed instructions")

    def isa_config(self) -> Mapping[str, object]:
        """Word size and extensions."""
        return {**super().isa_config(), "m": self.m, "a": self.a, "c": self.c}

    def realize(self) -> None:
        """As any CPU's, with the hart's number."""
        super().realize()
        assert self.vcpu is not None, "realize() made it"
        self.vcpu.reset_values["mhartid"] = int(self.hartid)


class Rv64RiscvCpu(RiscvCpu):
    """A 64-bit RISC-V hart: RV64IMAC, Zicsr, Zifencei, machine mode."""

    TYPE = "rv64-riscv-cpu"
    TARGETS = ("riscv64",)


class Rv32RiscvCpu(RiscvCpu):
    """A 32-bit RISC-V hart: RV32IMAC, Zicsr, Zifencei, machine mode."""

    TYPE = "rv32-riscv-cpu"
    TARGETS = ("riscv32",)

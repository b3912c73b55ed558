"""RISC-V CPU models. Names and features are those of QEMU 10.0 (query-cpu-model-expansion, misa and the registers that
answer), as far as the extensions are made; what isn't made is absent: rv64 and rv32 lack H, Zawrs, Zbc, Zfa, Zicbop, the
hints Zihintntl and Zihintpause, Zihpm's counters and Svvptc, max whatever has no property here.
"""

from __future__ import annotations

from ratite.core.objects.props import config
from ratite.targets.riscv.cpu import RiscvCpu, flag
from ratite.targets.riscv.features import PRIV_SPECS


class Rv64RiscvCpu(RiscvCpu):
    """A 64-bit RISC-V hart with what is common."""

    TYPE = "rv64-riscv-cpu"
    TARGETS = ("riscv64",)

    sv39 = flag("sv39", True)
    sv48 = flag("sv48", True)
    sv57 = flag("sv57", True)


class Rv32RiscvCpu(RiscvCpu):
    """A 32-bit RISC-V hart with what is common."""

    TYPE = "rv32-riscv-cpu"
    TARGETS = ("riscv32",)

    sv32 = flag("sv32", True)


class MaxRiscvCpu(RiscvCpu):
    """A RISC-V hart with everything that is made."""

    TYPE = "max-riscv-cpu"
    TARGETS = ("riscv32", "riscv64")

    zicond = flag("zicond", True)
    svinval = flag("svinval", True)
    svpbmt = flag("svpbmt", True)
    svnapot = flag("svnapot", True)
    sv32 = flag("sv32", True)
    sv39 = flag("sv39", True)
    sv48 = flag("sv48", True)
    sv57 = flag("sv57", True)


class BareRiscvCpu(RiscvCpu):
    """The base instruction set alone."""

    STATIC_MODEL = True

    m = flag("m", False)
    a = flag("a", False)
    f = flag("f", False)
    d = flag("d", False)
    c = flag("c", False)
    s = flag("s", False)
    u = flag("u", False)
    zicsr = flag("zicsr", False)
    zicntr = flag("zicntr", False)
    zifencei = flag("zifencei", False)
    zba = flag("zba", False)
    zbb = flag("zbb", False)
    zbs = flag("zbs", False)
    zicbom = flag("zicbom", False)
    zicboz = flag("zicboz", False)
    mmu = flag("mmu", False)
    sstc = flag("sstc", False)
    svadu = flag("svadu", False)
    pmp = flag("pmp", False)
    sv32 = flag("sv32", False)
    sv39 = flag("sv39", False)
    sv48 = flag("sv48", False)
    sv57 = flag("sv57", False)


class Rv64iRiscvCpu(BareRiscvCpu):
    """RV64I and nothing else."""

    TYPE = "rv64i-riscv-cpu"
    TARGETS = ("riscv64",)


class Rv32iRiscvCpu(BareRiscvCpu):
    """RV32I and nothing else."""

    TYPE = "rv32i-riscv-cpu"
    TARGETS = ("riscv32",)


class SifiveERiscvCpu(BareRiscvCpu):
    """What the SiFive E cores share: no supervisor mode."""

    priv_spec = config("str", PRIV_SPECS[0], "version of the privileged specification", values=PRIV_SPECS)
    m = flag("m", True)
    a = flag("a", True)
    c = flag("c", True)
    u = flag("u", True)
    zicsr = flag("zicsr", True)
    zicntr = flag("zicntr", True)
    zifencei = flag("zifencei", True)
    pmp = flag("pmp", True)


class SifiveURiscvCpu(SifiveERiscvCpu):
    """What the SiFive U cores share: floating point and supervisor mode."""

    f = flag("f", True)
    d = flag("d", True)
    s = flag("s", True)
    mmu = flag("mmu", True)


class SifiveE31RiscvCpu(SifiveERiscvCpu):
    """SiFive E31: RV32IMAC, machine and user mode."""

    TYPE = "sifive-e31-riscv-cpu"
    TARGETS = ("riscv32",)


class SifiveE34RiscvCpu(SifiveERiscvCpu):
    """SiFive E34: RV32IMAFC, machine and user mode."""

    TYPE = "sifive-e34-riscv-cpu"
    TARGETS = ("riscv32",)

    f = flag("f", True)


class SifiveE51RiscvCpu(SifiveERiscvCpu):
    """SiFive E51: RV64IMAC, machine and user mode."""

    TYPE = "sifive-e51-riscv-cpu"
    TARGETS = ("riscv64",)


class SifiveU34RiscvCpu(SifiveURiscvCpu):
    """SiFive U34: RV32GC, Sv32."""

    TYPE = "sifive-u34-riscv-cpu"
    TARGETS = ("riscv32",)

    sv32 = flag("sv32", True)


class SifiveU54RiscvCpu(SifiveURiscvCpu):
    """SiFive U54: RV64GC, Sv39."""

    TYPE = "sifive-u54-riscv-cpu"
    TARGETS = ("riscv64",)

    sv39 = flag("sv39", True)


class ShaktiCRiscvCpu(SifiveURiscvCpu):
    """Shakti C: RV64GC, Sv39."""

    TYPE = "shakti-c-riscv-cpu"
    TARGETS = ("riscv64",)

    sv39 = flag("sv39", True)

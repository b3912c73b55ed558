"""RISC-V, 32 and 64 bits."""

TARGETS = (
    {"name": "riscv32", "word-size": 32, "big-endian": False, "default-cpu": "rv32-riscv-cpu", "page-bits": 12},
    {"name": "riscv64", "word-size": 64, "big-endian": False, "default-cpu": "rv64-riscv-cpu", "page-bits": 12},
)

# Types of this package, for the manifest.
TYPES = (
    "ratite.targets.riscv.cpu:RiscvCpu",
    "ratite.targets.riscv.models:MaxRiscvCpu",
    "ratite.targets.riscv.models:Rv32RiscvCpu",
    "ratite.targets.riscv.models:Rv32iRiscvCpu",
    "ratite.targets.riscv.models:Rv64RiscvCpu",
    "ratite.targets.riscv.models:Rv64iRiscvCpu",
    "ratite.targets.riscv.models:ShaktiCRiscvCpu",
    "ratite.targets.riscv.models:SifiveE31RiscvCpu",
    "ratite.targets.riscv.models:SifiveE34RiscvCpu",
    "ratite.targets.riscv.models:SifiveE51RiscvCpu",
    "ratite.targets.riscv.models:SifiveU34RiscvCpu",
    "ratite.targets.riscv.models:SifiveU54RiscvCpu",
)

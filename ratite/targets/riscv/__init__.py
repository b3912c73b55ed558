"""RISC-V, 32 and 64 bits."""


from __future__ import annotations

from typing import Any


def _from_fdt(width: int) -> dict[str, Any]:
    """How a hart stands in a device tree (bindings riscv/cpus.yaml and riscv/extensions.yaml); the rules: core/device.py."""
    return {
        "compatible": "riscv", "property": "riscv,isa", "value": f"rv{width}",
        "inputs": {"3": "msip", "7": "mtip", "11": "meip", "1": "ssip", "9": "seip"},
        "properties": {"hartid": "reg", "timebase-frequency": {"cell": "timebase-frequency", "node": "/cpus"}},
        "flags": {
            "list": "riscv,isa-extensions", "text": "riscv,isa", "skip": 4, "levels": "mmu-type", "always": ["i"],
            "names": [
                "m", "a", "f", "d", "c", "zicsr", "zicntr", "zifencei", "zba", "zbb", "zbs", "zicond", "zicbom", "zicboz",
                "svinval", "svpbmt", "svnapot", "sstc", "svade", "svadu",
            ],
        },
    }  # fmt: skip


TARGETS = (
    {"name": "riscv32", "word-size": 32, "big-endian": False, "default-cpu": "rv32-riscv-cpu", "page-bits": 12,
     "fdt": _from_fdt(32)},
    {"name": "riscv64", "word-size": 64, "big-endian": False, "default-cpu": "rv64-riscv-cpu", "page-bits": 12,
     "fdt": _from_fdt(64)},
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

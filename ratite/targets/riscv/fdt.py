"""A hart in a device tree, after the bindings riscv/cpus.yaml and riscv/extensions.yaml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ratite.core.fdt import DeviceTree

if TYPE_CHECKING:
    from ratite.targets.riscv.cpu import RiscvCpu

# Unprivileged ISA, "ISA Extension Naming Conventions": letters in this order; Z extensions by their second letter likewise.
_ORDER = "imafdqlcbkjtpvh"
_LETTERS = "mafdcbvh"
_MULTI = re.compile(r"z[a-z0-9]{2,}|s[mstv][a-z0-9]+")
_MODES = (57, 48, 39, 32)
CACHE_BLOCK = 64  # bytes


def extensions(cpu: RiscvCpu) -> list[str]:
    """The extensions that the hart's properties say it has, in canonical order: "i", "m", …, "zicsr", …, "sstc"."""
    given = {name for name, prop in cpu.PROPERTIES.items() if prop.kind == "config" and getattr(cpu, prop.attr) is True}
    letters = ["i", *(letter for letter in _LETTERS if letter in given)]
    several = {name for name in given if _MULTI.fullmatch(name) and not re.fullmatch(r"sv\d\d", name)}
    several |= {name for name in ("zicsr", "zifencei") if name not in cpu.PROPERTIES}

    def key(name: str) -> tuple[int, int, str]:
        return (name[0] == "s", _ORDER.find(name[1]) if name[0] == "z" else 0, name)

    return letters + sorted(several, key=key)


def isa_string(cpu: RiscvCpu) -> str:
    """As riscv,isa has it: "rv64imac_zicsr_zifencei"."""
    names = extensions(cpu)
    letters = "".join(name for name in names if len(name) == 1)
    return "_".join((f"rv{cpu.cluster.bits}{letters}", *(name for name in names if len(name) > 1)))


def mmu_type(cpu: RiscvCpu) -> str:
    """The largest translation that the hart can do, as mmu-type has it; "" when it has none."""
    for bits in _MODES:
        if getattr(cpu, f"sv{bits}", False) and cpu.s and cpu.mmu:
            return f"riscv,sv{bits}"
    return ""


def describe(cpu: RiscvCpu, tree: DeviceTree) -> None:
    """The hart's node with its interrupt controller, and the frequency of time."""
    tree.cpus_node["timebase-frequency"] = frequency_of(cpu)
    node = tree.cpus_node.child(f"cpu@{cpu.hartid:x}")
    node["device_type"] = "cpu"
    node["reg"] = cpu.hartid
    node["status"] = "okay"
    node["compatible"] = "riscv"
    node["riscv,isa"] = isa_string(cpu)
    node["riscv,isa-base"] = f"rv{cpu.cluster.bits}i"
    names = extensions(cpu)
    node["riscv,isa-extensions"] = tuple(names)
    for name, prop in ("zicbom", "cbom"), ("zicboz", "cboz"):
        if name in names:
            node[f"riscv,{prop}-block-size"] = CACHE_BLOCK
    if mmu := mmu_type(cpu):
        node["mmu-type"] = mmu
    controller = node.child("interrupt-controller")
    controller["compatible"] = "riscv,cpu-intc"
    controller["interrupt-controller"] = True
    controller["#interrupt-cells"] = 1
    tree.register(cpu, controller)


def frequency_of(cpu: RiscvCpu) -> int:
    """Hz of time: what the hart is told, else what the timer on its line mtip counts; a timer may be behind nothing else."""
    told = getattr(cpu, "timebase_frequency", 0)
    driver = cpu.inp("mtip").driver
    counted = getattr(driver.owner, "timebase_frequency", 0) if driver is not None else 0
    return int(told or counted)

"""What a MicroBlaze is built with: the parameters of UG984, chapter 3, "MicroBlaze Core Configurability", by property name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: property name -> default; those that decide which instructions there are and what they do
DEFAULTS: Mapping[str, bool | int | str] = MappingProxyType({
    "big": True,
    "version": "10.0",
    "base-vectors": 0,
    "use-barrel": True,
    "use-fpu": 2,
    "fpu-exception": False,
    "use-div": True,
    "use-hw-mul": 2,
    "use-msr-instr": True,
    "use-pcmp-instr": True,
    "use-reorder-instr": True,
    "use-stack-protection": False,
    "exclusive-access": True,
    "unaligned-exceptions": False,
    "dopb-bus-exception": False,
    "iopb-bus-exception": False,
    "ill-opcode-exception": False,
    "opcode-0x0-illegal": False,
    "div-zero-exception": False,
    "use-mmu": 0,
    "mmu-zones": 16,
    "mmu-tlb-access": 3,
    "mmu-privileged-instr": 0,
    "pvr": 2,
    "fsl-links": 0,
    "use-extended-fsl-instr": False,
    "fsl-exception": False,
})


class Config:
    """One configuration; attributes as the properties, with ``_`` for ``-``."""

    __slots__ = (
        "base_vectors", "big", "div_zero_exception", "dopb_bus_exception", "exclusive_access", "fpu_exception",
        "fsl_exception", "fsl_links", "ill_opcode_exception", "iopb_bus_exception",
        "mmu_privileged_instr", "mmu_tlb_access", "mmu_zones",
        "opcode_0x0_illegal", "pvr", "unaligned_exceptions", "use_barrel", "use_div",
        "use_extended_fsl_instr", "use_fpu", "use_hw_mul",
        "use_mmu", "use_msr_instr", "use_pcmp_instr", "use_reorder_instr", "use_stack_protection", "version")

    base_vectors: int
    big: bool
    div_zero_exception: bool
    dopb_bus_exception: bool
    exclusive_access: bool
    fpu_exception: bool
    fsl_exception: bool
    fsl_links: int
    ill_opcode_exception: bool
    iopb_bus_exception: bool
    mmu_privileged_instr: int
    mmu_tlb_access: int
    mmu_zones: int
    opcode_0x0_illegal: bool
    pvr: int
    unaligned_exceptions: bool
    use_barrel: bool
    use_div: bool
    use_extended_fsl_instr: bool
    use_fpu: int
    use_hw_mul: int
    use_mmu: int
    use_msr_instr: bool
    use_pcmp_instr: bool
    use_reorder_instr: bool
    use_stack_protection: bool
    version: str

    def __init__(self, values: Mapping[str, object]) -> None:
        """``values`` by property name, defaults for the rest; "big-endian" is taken for "big"."""
        for name, default in DEFAULTS.items():
            value = values.get(name, values.get("big-endian", default) if name == "big" else default)
            setattr(self, name.replace("-", "_"), type(default)(value))  # type: ignore[call-overload]

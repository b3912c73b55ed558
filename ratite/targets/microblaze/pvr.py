"""Processor version registers, UG984 tables "Processor Version Register 0 … 12 (PVR)"."""

from __future__ import annotations

from types import MappingProxyType

from ratite.targets.microblaze.config import Config

_COUNT = 13

#: MicroBlaze release version code, PVR0[16:23]
_RELEASES = MappingProxyType({
    "9.0": 0x1B, "9.1": 0x1D, "9.2": 0x1F, "9.3": 0x20, "9.4": 0x21, "9.5": 0x22, "9.6": 0x23, "10.0": 0x24, "11.0": 0x25,
})


def _bit(number: int, value: bool) -> int:
    """Bit ``number`` counted from the most significant one, as the guide does."""
    return int(value) << (31 - number)


def registers(c: Config) -> tuple[int, ...]:
    """Values of PVR0 … PVR12; all 0 without them (C_PVR = 0), PVR0 and PVR1 alone with C_PVR = 1."""
    if not c.pvr:
        return (0,) * _COUNT
    exceptions = any((c.unaligned_exceptions, c.ill_opcode_exception, c.dopb_bus_exception, c.iopb_bus_exception,
                      c.div_zero_exception, c.fpu_exception, c.use_mmu, c.fsl_links and c.fsl_exception))
    pvr0 = (
        _bit(0, c.pvr == 2) | _bit(1, c.use_barrel) | _bit(2, c.use_div) | _bit(3, c.use_hw_mul > 0) | _bit(4, c.use_fpu > 0)
        | _bit(5, exceptions)
        | _bit(8, c.use_mmu > 0) | _bit(10, not c.big) | _bit(12, c.use_stack_protection) | _bit(13, c.use_reorder_instr)
        | _RELEASES.get(c.version, 0) << 8)
    if c.pvr == 1:
        return (pvr0, *(0,) * (_COUNT - 1))
    pvr2 = (
        _bit(12, c.use_extended_fsl_instr) | _bit(13, c.fsl_exception)
        | _bit(14, c.use_msr_instr) | _bit(15, c.use_pcmp_instr) | _bit(17, c.use_barrel) | _bit(18, c.use_div)
        | _bit(19, c.use_hw_mul > 0) | _bit(20, c.use_fpu > 0) | _bit(21, c.use_hw_mul == 2)
        | _bit(22, c.use_fpu == 2) | _bit(25, c.opcode_0x0_illegal)
        | _bit(26, c.unaligned_exceptions) | _bit(27, c.ill_opcode_exception) | _bit(28, c.iopb_bus_exception)
        | _bit(29, c.dopb_bus_exception) | _bit(30, c.div_zero_exception)
        | _bit(31, c.fpu_exception))
    pvr3 = c.fsl_links << 7
    pvr11 = c.use_mmu << 30
    if c.use_mmu:
        pvr11 |= c.mmu_tlb_access << 22 | c.mmu_zones << 17 | _bit(15, c.mmu_privileged_instr > 0)
    return (pvr0, 0, pvr2, pvr3, *(0,) * 7, pvr11, c.base_vectors)

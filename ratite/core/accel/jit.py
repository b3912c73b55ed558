"""Accelerator ``jit``: native code made by LLVM from the ISA's description. Linux on x86-64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.core.accel.base import Accelerator, CpuPort, Vcpu

if TYPE_CHECKING:
    from ratite.core.engine.region.manager import RegionManager

_CODE_LIMIT = 256 << 20  # bytes of decoded records a vCPU may hold


class JitAccelerator(Accelerator):
    """Native interpretation (tier 0), whose objects are compiled once by a process of their own and kept on disk, and regions
    of hot code (tiers 1 and 2), compiled by workers while guests run."""

    NAME = "jit"

    def __init__(self) -> None:
        self._library: object = None
        self.regions: RegionManager | None = None

    @classmethod
    def probe(cls) -> str | None:
        import os
        import sys
        from importlib.util import find_spec

        if sys.platform != "linux":
            return f"needs Linux on x86-64, not {sys.platform}"
        # What platform.machine() tells, whose import takes longer.
        if os.uname().machine != "x86_64":
            return f"needs Linux on x86-64, not on {os.uname().machine}"
        if find_spec("llvmlite") is None:
            return "llvmlite is not installed (pip install 'ratite[jit]')"
        return None

    def compiled(self) -> dict[str, Any] | None:
        from ratite.core.engine.region.manager import RegionManager
        from ratite.core.engine.region.policy import Policy

        return (self.regions or RegionManager(Policy(code_size=self.code_size))).report()

    def create_vcpu(self, cpu: CpuPort, index: int) -> Vcpu:
        from ratite.core.engine.compiler import CompileFailed
        from ratite.core.engine.elf import BadObject
        from ratite.core.engine.native import NativeLibrary
        from ratite.core.engine.region.manager import RegionManager
        from ratite.core.engine.region.policy import Policy
        from ratite.core.engine.vcpu import NativeVcpu
        from ratite.core.memory import BusError
        from ratite.qapi.errors import GenericError

        reason = self.probe()
        if reason is not None:
            raise GenericError(f"Accelerator 'jit' is not usable: {reason}")
        if not isinstance(self._library, NativeLibrary):
            self._library = NativeLibrary()
        try:
            native = self._library.get(cpu.ISA, cpu.isa_config())
        except (CompileFailed, BadObject) as error:
            raise GenericError(f"Accelerator 'jit' could not make native code for {cpu.ISA}: {error}") from error
        if self.regions is None or self.regions.closed:
            self.regions = RegionManager(Policy(code_size=self.code_size))
        return NativeVcpu(native, cpu, BusError, _CODE_LIMIT, self.regions)

"""LLVM text to an object, in a worker: the passes that measured best for a region (see ``policy``)."""

from __future__ import annotations

from typing import Any


class Compiler:
    """Keeps a target machine per code generation level."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # for inline assembly
        self._llvm = llvm
        self._machines: dict[int, Any] = {}

    def _machine(self, level: int) -> Any:
        if level not in self._machines:
            llvm = self._llvm
            self._machines[level] = llvm.Target.from_default_triple().create_target_machine(
                opt=level, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), reloc="pic",
                codemodel="small")
        return self._machines[level]

    def compile(self, text: str, how: str) -> bytes:
        """``how``: code generation level, then "O<n>" or passes, joined by "+": "2+sroa+simplifycfg"."""
        llvm = self._llvm
        level, *passes = how.split("+")
        machine = self._machine(int(level))
        module = llvm.parse_assembly(text)
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, tuning)
        if passes and passes[0].startswith("O"):
            tuning = llvm.create_pipeline_tuning_options(speed_level=int(passes[0][1:]))
            tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
            builder = llvm.create_pass_builder(machine, tuning)
            builder.getModulePassManager().run(module, builder)
        else:
            manager = llvm.create_new_module_pass_manager()
            for name in passes:
                getattr(manager, f"add_{name}_pass")()
            manager.run(module, builder)
        body: bytes = machine.emit_object(module)
        return body

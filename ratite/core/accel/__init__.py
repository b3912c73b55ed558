"""Accelerators: the ways to execute guest code (``interp``, ``jit``), chosen per CPU cluster."""

ACCELERATORS = (
    {"name": "jit", "module": "ratite.core.accel.jit:JitAccelerator", "text": "LLVM-compiled native code"},
    {"name": "interp", "module": "ratite.core.accel.interp:InterpAccelerator", "text": "Python evaluator, the reference"},
)

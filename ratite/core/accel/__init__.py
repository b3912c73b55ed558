"""Accelerators: the ways to execute guest code (``interp``, ``jit``), chosen per CPU cluster.

``alias``: the name of QEMU's that comes nearest, by which it is known where QEMU's manners are spoken.
"""

ACCELERATORS = (
    {"name": "jit", "alias": "tcg", "module": "ratite.core.accel.jit:JitAccelerator", "text": "LLVM-compiled native code"},
    {"name": "interp", "module": "ratite.core.accel.interp:InterpAccelerator", "text": "Python evaluator, the reference"},
)

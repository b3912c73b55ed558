"""The QAPI floor: schema compiler, run-time tables, wire grammar, JSON Schema.

At run time a daemon needs `tables` and `wire` only; the compiler's stages load when a schema file is
compiled.  Nothing is imported here, so that importing one module costs no other.
"""

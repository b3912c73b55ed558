"""Memory of the host for code and CPU blocks. Native code runs on Linux alone; other hosts have the evaluator."""

from __future__ import annotations

import mmap
import sys


def private(size: int) -> mmap.mmap:
    """Private anonymous memory: zeros, writable."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

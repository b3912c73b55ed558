"""Anonymous memory of the host, in huge pages where the host has them for who asks (Linux, transparent huge pages).

A guest that boots touches most of its pages once: a fault for each 2 MiB instead of each 4 KiB is a tenth of its boot.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress

# MAP_NORESERVE, which Python 3.11 doesn't know.
_NORESERVE = 0x4000 if sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64") else 0

# Below this nothing is gained: a huge page has to fit in, wherever the host puts the mapping.
_HUGE_FROM = 4 << 20


def anonymous(size: int, share: bool = False, reserve: bool = False) -> mmap.mmap:
    """Zeroed memory of `size` bytes, which takes none of the host's until it is touched; `share`: forked children see it;
    `reserve`: the host counts it as promised all the same.

    OSError, ValueError or OverflowError as `mmap.mmap`.
    """
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    kind = mmap.MAP_SHARED if share else mmap.MAP_PRIVATE
    made = mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS | _unreserved(reserve))
    if not share and size >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel built without them
            made.madvise(mmap.MADV_HUGEPAGE)
    return made


def map_file(fd: int, size: int, offset: int, share: bool, reserve: bool) -> mmap.mmap:
    """A file's bytes from `offset` on; `share`: writes reach it.  OSError, ValueError or OverflowError as `mmap.mmap`."""
    if sys.platform == "win32":
        return mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if share else mmap.ACCESS_COPY, offset=offset)
    return mmap.mmap(fd, size, flags=(mmap.MAP_SHARED if share else mmap.MAP_PRIVATE) | _unreserved(reserve), offset=offset)


def _unreserved(reserve: bool) -> int:
    return 0 if reserve else getattr(mmap, "MAP_NORESERVE", _NORESERVE)


def memory_file(name: str) -> int:
    """A descriptor of memory that can be mapped; `name` is for people. OSError; NotImplementedError elsewhere than on Linux."""
    if sys.platform != "linux":
        raise NotImplementedError("memory without a file needs Linux")
    return os.memfd_create(name, os.MFD_CLOEXEC)

"""What the host is told about guest memory: merging of equal pages, core dumps, taking it all at once, NUMA nodes.

Linux; elsewhere asking for more than the default is refused.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ratite.qapi.errors import GenericError

# Of mbind(2), in the order of its numbers.
POLICIES = ("default", "preferred", "bind", "interleave")
NODES = 128
_MBIND: Mapping[str, int] = MappingProxyType({"x86_64": 237, "aarch64": 235})
_STRICT, _MOVE = 1, 2
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14


def advise(buf: mmap.mmap, name: str, wanted: bool) -> None:
    """`merge`: the host may merge equal pages; `dump`: they are in core dumps.  GenericError where the host can't."""
    words = {"merge": ("MADV_MERGEABLE", "MADV_UNMERGEABLE"), "dump": ("MADV_DODUMP", "MADV_DONTDUMP")}[name]
    advice = getattr(mmap, words[not wanted], None)
    try:
        if advice is None:
            raise OSError(0, "this host has no such advice")
        buf.madvise(advice)
    except OSError as error:
        # A kernel without KSM merges nothing, as was asked or as well as it can.
        if name == "dump" and not wanted:
            raise GenericError(f"Property '{name}' can't be off: {error.strerror}") from None


def populate(buf: mmap.mmap, address: int, size: int, threads: int) -> None:
    """Take all of the memory now, with some threads; GenericError when the host has too little."""
    from concurrent.futures import ThreadPoolExecutor

    page = mmap.PAGESIZE
    pages = -(-size // page)
    share = -(-pages // max(1, min(threads, pages))) * page
    pieces = [(at, min(share, pages * page - at)) for at in range(0, pages * page, share)]
    with ThreadPoolExecutor(len(pieces)) as pool:
        for error in pool.map(lambda piece: _populate(buf, address, *piece), pieces):
            if error:
                raise GenericError(f"preallocating memory failed: {os.strerror(error)}")


def _populate(buf: mmap.mmap, address: int, start: int, size: int) -> int:
    """An errno, or 0."""
    if sys.platform == "linux":
        import ctypes
        import errno

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.madvise(ctypes.c_void_p(address + start), ctypes.c_size_t(size), _POPULATE_WRITE) == 0:
            return 0
        if ctypes.get_errno() != errno.EINVAL:
            return ctypes.get_errno()
    for at in range(start, min(start + size, len(buf)), mmap.PAGESIZE):
        buf[at] = buf[at]
    return 0


def bind(address: int, size: int, policy: str, nodes: Sequence[int]) -> None:
    """Spread memory over NUMA nodes of the host; GenericError in QEMU's words."""
    if policy == "default":
        raise GenericError(
            "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default"
        )
    if not nodes:
        raise GenericError(f"host-nodes must be set for policy {policy}")
    number = _MBIND.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        raise GenericError(f"NUMA policy {policy} isn't supported on this host")
    import ctypes

    mask = (ctypes.c_ulong * (NODES // 64 + 1))()
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_void_p(address), ctypes.c_ulong(size), POLICIES.index(policy), mask, ctypes.c_ulong(NODES + 1))
    if libc.syscall(number, *arguments, _STRICT | _MOVE):
        raise GenericError(f"cannot bind memory to host NUMA nodes: {os.strerror(ctypes.get_errno())}")

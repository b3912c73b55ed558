"""Marks that engines keep on RAM: which pages and lines hold instructions that somebody has decoded.

A page's count says how many CPUs have it decoded; while it isn't 0 no CPU may write the page past its slow path. A line's
mark says that an instruction in it was decoded, so that data beside code costs little: only a store into a marked line
is told to the CPUs. Native code reads both tables and sets line marks; everything else goes through the methods.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

PAGE_BITS = 12
LINE_BITS = 6
_MOST = 255

WriteHook = Callable[[int, int], None]
MadeHook = Callable[[int], None]


class CodeMarks:
    """``pages``: a count a page of 4 KiB; ``lines``: a mark a line of 64 bytes; ``on_write``: called with offset and size
    of a write into code; ``on_made``: called with the number of a page that has just become code. Any thread."""

    __slots__ = ("_lock", "lines", "on_made", "on_write", "pages")

    def __init__(self, size: int) -> None:
        count = size + (1 << PAGE_BITS) - 1 >> PAGE_BITS
        self.pages = bytearray(count)
        self.lines = bytearray(count << PAGE_BITS - LINE_BITS)
        self.on_write: list[WriteHook] = []
        self.on_made: list[MadeHook] = []
        self._lock = threading.Lock()

    def enter(self, page: int) -> None:
        """A CPU is about to decode a page."""
        with self._lock:
            fresh = not self.pages[page]
            if self.pages[page] < _MOST:
                self.pages[page] += 1
        if fresh:
            for hook in tuple(self.on_made):
                hook(page)

    def leave(self, page: int) -> None:
        """A CPU has forgotten a page. A count that has once been full stays: nobody knows any more."""
        with self._lock:
            if 0 < self.pages[page] < _MOST:
                self.pages[page] -= 1
                if not self.pages[page]:
                    first = page << PAGE_BITS - LINE_BITS
                    last = page + 1 << PAGE_BITS - LINE_BITS
                    self.lines[first:last] = bytes(last - first)

    def written(self, offset: int, size: int, writer: object = None) -> None:
        """[offset, offset + size) was written: tells every hook but the writer's own if there is code on its pages."""
        first, last = offset >> PAGE_BITS, (offset + size - 1 >> PAGE_BITS) + 1
        if self.pages.count(0, first, last) != last - first:
            for hook in tuple(self.on_write):
                if writer is None or getattr(hook, "owner", None) is not writer:
                    hook(offset, size)

"""Marks that engines keep on RAM: which pages and lines hold instructions that somebody has decoded.

A page's count says how many CPUs have it decoded; while it isn't 0 no CPU may write the page past its slow path. A line's
mark says that an instruction in it was decoded, so that data beside code costs little: only a store into a marked line
is told to the CPUs. Native code reads both tables and sets line marks; everything else goes through the methods.

A CPU that decodes a page cannot wait until every other one has stopped writing it past the slow path. So each such page has
a generation: until all others have settled it (their TLBs were flushed since), what was decoded may have missed a store, and
an instruction that asks for fresh code makes it anew (``settled``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ratite.core.memory.host import anonymous
from ratite.core.memory.reserve import Reservations

PAGE_BITS = 12
LINE_BITS = 6
_MOST = 255

WriteHook = Callable[[int, int], None]


class MadeHook(Protocol):
    """A CPU that writes the RAM past its slow path."""

    def __call__(self, page: int, generation: int) -> None:
        """A page has just become code: its write entries must go."""

    def settled(self, generation: int) -> bool:
        """Whether those of every page made up to ``generation`` are gone, or will be before the CPU's next store."""


class CodeMarks:
    """``pages``: a count a page of 4 KiB; ``lines``: a mark a line of 64 bytes; ``on_write``: called with offset and size
    of a write into code; ``on_made``: told of pages that have just become code; ``generation``: of the last of them;
    ``reserved``: reservations, which a write breaks. Any thread."""

    __slots__ = ("_lock", "generation", "lines", "on_made", "on_write", "pages", "reserved")

    def __init__(self, size: int) -> None:
        count = size + (1 << PAGE_BITS) - 1 >> PAGE_BITS
        self.pages = bytearray(count)
        # Most of it is never touched; a bytearray would be, all of it.
        self.lines = anonymous(max(1, count << PAGE_BITS - LINE_BITS))
        self.on_write: list[WriteHook] = []
        self.on_made: list[MadeHook] = []
        self.generation = 0
        self.reserved = Reservations(size)
        self._lock = threading.Lock()

    def enter(self, page: int) -> int:
        """A CPU is about to decode a page; the generation that must be settled before what it reads is sure."""
        with self._lock:
            fresh = not self.pages[page]
            self.generation += fresh
            generation = self.generation
            if self.pages[page] < _MOST:
                self.pages[page] += 1
        if fresh:
            for hook in tuple(self.on_made):
                hook(page, generation)
        return generation

    def settled(self, generation: int, but: MadeHook) -> bool:
        """Whether no CPU other than ``but`` may still write pages of ``generation`` unseen."""
        return all(hook is but or hook.settled(generation) for hook in tuple(self.on_made))

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
        self.reserved.written(offset, size)
        first, last = offset >> PAGE_BITS, (offset + size - 1 >> PAGE_BITS) + 1
        if self.pages[first] if last - first == 1 else self.pages.count(0, first, last) != last - first:
            for hook in tuple(self.on_write):
                if writer is None or getattr(hook, "owner", None) is not writer:
                    hook(offset, size)

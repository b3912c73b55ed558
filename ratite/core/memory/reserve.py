"""Reservations of load-reserved and store-conditional, of every CPU that shares a RAM, whatever its architecture.

Each line of 64 bytes (the reservation set, aligned) has a 16-bit word: bit 0 says that somebody has reserved it, the rest
counts. A load-reserved sets bit 0 and remembers the word. Any store into the line — plain, atomic, a device's — that finds
bit 0 set adds 1: the bit goes and the count moves. A store-conditional succeeds if it can move the remembered word on, as a
store does, and the memory still holds the value that was read. So an equal value written back in between is seen, a
reservation is lost to one successful store-conditional at most, and lines that nobody reserved cost a store one test.

Memory ordering on the host (x86-TSO): a plain store looks at the word after it has stored, without a fence. Its look may be
older than a load-reserved that reads the memory before the store leaves the store buffer. If the store changes the value, the
comparison fails the store-conditional. If not, the store is one of the value that memory held before it and that the
load-reserved read: placed before the load-reserved in the global order it gives the same execution. A store-conditional
moves the word on with a locked instruction before it swaps the memory; a plain store of the very value that was read, in the
few instructions between the two, is ordered before the load-reserved for the same reason.

The count wraps after 32768 reservations of one line that were taken and broken between a CPU's own two instructions.
"""

from __future__ import annotations

import ctypes

from ratite.core.memory.host import anonymous

LINE_BITS = 6


class Reservations:
    """The words of one RAM of ``size`` bytes; pages of the table that nobody touches take no memory."""

    __slots__ = ("_map", "_view", "address")

    def __init__(self, size: int) -> None:
        self._map = anonymous((size + 63 >> LINE_BITS) * 2 + 2)  # native code tests a line's word and the next at once
        self._view = memoryview(self._map).cast("H")
        #: host address of the first word, for native code
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def written(self, offset: int, size: int) -> None:
        """[offset, offset + size) was stored to."""
        first, last = offset >> LINE_BITS, (offset + size - 1 >> LINE_BITS) + 1
        if last - first > 1 and not self._map[2 * first : 2 * last].strip(b"\0"):
            return
        for line in range(first, last):
            word = self._view[line]
            if word & 1:
                self._view[line] = (word + 1) & 0xFFFF

    def take(self, offset: int) -> int:
        """Reserves the line at ``offset``; the word to give back."""
        line = offset >> LINE_BITS
        self._view[line] |= 1
        return self._view[line]

    def give(self, offset: int, word: int) -> bool:
        """Whether the line is still reserved as it was; it no longer is."""
        line = offset >> LINE_BITS
        if self._view[line] != word:
            return False
        self._view[line] = (word + 1) & 0xFFFF
        return True

"""Packed virtqueues, the device's side.  Virtio 1.2, section 2.8.

One ring of descriptors that both sides write: the driver makes one available by its flags, the device overwrites it, and those
behind it in a chain are free with it.  Two small structures beside the ring, `driver` and `device`, say which notifications a
side wants.

A position in the ring is an index of 15 bits with a wrap counter in bit 15; both start with the counter set.  Descriptors
that were taken and not given back lie between `used_idx` and `last_avail`: never more than the ring has.
"""

from __future__ import annotations

from struct import Struct

from ratite.hw.virtio.queue import INDIRECT, INDIRECT_MAX, NEXT, SIZE_MAX, WRITE, Chain, ChainParts, Queue, QueueError

AVAIL, USED = 1 << 7, 1 << 15  # flags of a descriptor: equal to the side's wrap counter where it was the last to write
# flags of an event suppression structure
ENABLE, DISABLE, AT_DESCRIPTOR = 0, 1, 2
WRAP = 1 << 15

_DESC = Struct("<QIHH")
_LENGTH_ID = Struct("<IH")
_EVENT = Struct("<HH")


class PackedQueue(Queue):
    """One packed virtqueue.  `signalled` isn't used: `_pushed` counts the descriptors since the driver was last told."""

    __slots__ = ("_pushed",)

    PACKED = True
    START = WRAP

    def reset(self) -> None:
        """As after the device's reset."""
        super().reset()
        self._pushed = 0

    def check(self) -> None:
        """A packed ring may have any size."""
        if not 0 < self.num <= min(self.num_max, SIZE_MAX):
            raise QueueError(f"queue size {self.num} is not from 1 to {self.num_max}")
        if self.desc & 15 or self.driver & 3 or self.device & 3:
            raise QueueError("a ring that isn't aligned")

    def known(self) -> None:
        """Positions that were put back are checked, for they are used as indices."""
        for at in (self.last_avail, self.used_idx):
            if at & ~WRAP >= self.num:
                raise QueueError("position beyond the ring")
        self._pushed = 0

    def _find(self) -> None:
        dma = self._dma
        assert dma is not None
        self._desc = dma.window(self.desc, 16 * self.num)
        self._avail = dma.window(self.driver, 4)
        self._used = dma.window(self.device, 4)

    # -- positions

    def _linear(self, at: int) -> int:
        """A position as a number below twice the ring's size."""
        return (at & ~WRAP) + (0 if at & WRAP else self.num)

    def _moved(self, at: int, by: int) -> int:
        place = (self._linear(at) + by) % (2 * self.num)
        return place | WRAP if place < self.num else place - self.num

    def under_way(self) -> int:
        """Descriptors that were taken and not given back."""
        return (self._linear(self.last_avail) - self._linear(self.used_idx)) % (2 * self.num)

    # -- what is available

    def pop(self) -> Chain | None:
        if not self.ready:
            return None
        self._current()
        if not self._look():
            return None
        chain = self._take()
        if self.under_way() + chain.count > self.num:
            raise QueueError("more descriptors available than the ring has")
        self.last_avail = self._moved(self.last_avail, chain.count)
        return chain

    def unpop(self, chains: list[Chain]) -> None:
        self.last_avail = self._moved(self.last_avail, -sum(chain.count for chain in chains))

    def _look(self) -> bool:
        """Whether the next descriptor is available; its flags are loaded before the rest of it."""
        at, wrap = self.last_avail & ~WRAP, bool(self.last_avail & WRAP)
        flags = int.from_bytes(self._desc.read(16 * at + 14, 2), "little")
        return bool(flags & AVAIL) == wrap and bool(flags & USED) != wrap

    def drained(self) -> bool:
        if not self.ready:
            return True
        self._current()
        if self.event_idx:
            self._used.write(0, _EVENT.pack(self.last_avail, AT_DESCRIPTOR))
        else:
            self._used.write(0, _EVENT.pack(0, ENABLE))
        self.fence()
        return not self._look()

    def _take(self) -> Chain:
        """The chain at `last_avail`; its id stands in its last descriptor."""
        parts = ChainParts()
        at, count = self.last_avail & ~WRAP, 0
        while True:
            addr, size, id, flags = _DESC.unpack(self._desc.read(16 * at, 16))
            count += 1
            if flags & INDIRECT:
                if count > 1 or flags & NEXT:
                    raise QueueError("indirect descriptor in a chain")
                self._indirect(addr, size, parts)
                break
            parts.add(addr, size, bool(flags & WRITE))
            if not flags & NEXT:
                break
            if count >= self.num:
                raise QueueError("chain of descriptors longer than the ring")
            at = (at + 1) % self.num
        parts.check()
        return Chain(self, id, parts.out, parts.inp, count)

    def _indirect(self, table: int, size: int, parts: ChainParts) -> None:
        """Section 2.8.7: descriptors in order, of whose flags only WRITE counts."""
        if not self.indirect:
            raise QueueError("indirect descriptor without the feature")
        if not size or size % 16 or size // 16 > max(INDIRECT_MAX, self.num):
            raise QueueError("indirect table of a bad length")
        assert self._dma is not None
        for addr, count, _, flags in _DESC.iter_unpack(self._dma.read(table, size)):
            if flags & INDIRECT:
                raise QueueError("indirect descriptor in an indirect table")
            parts.add(addr, count, bool(flags & WRITE))

    # -- what was used

    def push(self, chain: Chain, written: int) -> None:
        if chain.epoch != self.epoch:
            return
        self._current()
        at = 16 * (self.used_idx & ~WRAP)
        flags = (AVAIL | USED if self.used_idx & WRAP else 0) | (WRITE if chain.inp else 0)
        self._desc.write(at + 8, _LENGTH_ID.pack(written, chain.head))
        self._desc.write(at + 14, flags.to_bytes(2, "little"))
        self.used_idx = self._moved(self.used_idx, chain.count)
        self._pushed += chain.count

    def wants_interrupt(self) -> bool:
        if not self.ready or not self._pushed:
            return False
        self._current()
        self.fence()
        pushed, self._pushed = self._pushed, 0
        event, flags = _EVENT.unpack(self._avail.read(0, 4))
        if flags & 3 != AT_DESCRIPTOR or not self.event_idx:
            return bool(flags & 3 != DISABLE)
        passed = (self._linear(self.used_idx) - self._linear(event) - 1) % (2 * self.num)
        return bool(passed < pushed)

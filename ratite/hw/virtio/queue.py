"""Split virtqueues, the device's side.  Virtio 1.2, section 2.7.

    pop()  the next chain of descriptors that the driver made available      (moves last_avail)
    push() gives a chain back with the number of bytes written to it          (moves used_idx)
    wants_interrupt()   whether the driver wants to hear of what was pushed

Rings and descriptors are the guest's: everything read from them is checked, and a rule broken is a QueueError, upon
which the device stops (device.py).  A chain holds addresses only; memory is read and written when the device does it.

Ordering: the host is one where stores are seen in order and loads are done in order (x86-64), so an element is seen
before the index that covers it.  A store must not be overtaken by the load of the other side's flag or event index:
`fence` stands between.

Packed virtqueues (packed.py) are these with other rings.
"""

from __future__ import annotations

import threading
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratite.core.memory import FlatView
    from ratite.hw.virtio.dma import Dma, Window

NEXT, WRITE, INDIRECT = 1, 2, 4  # flags of a descriptor
NO_INTERRUPT = 1  # flag of the available ring

SIZE_MAX = 32768  # entries of a queue, section 2.7
INDIRECT_MAX = 1024  # entries that a table of descriptors may have here, at least
CHAIN_MAX = 1 << 32  # bytes of a chain, section 2.7.4

_DESC = Struct("<QIHH")
_USED = Struct("<II")

Piece = tuple[int, int]  # address, bytes


class QueueError(Exception):
    """The driver broke a rule of the queue; the text says which."""


class Chain:
    """A chain of descriptors: `out` is what the device may read, `inp` what it may write, in order.  `head` names it to the
    driver, `count` is how many descriptors of the ring it takes."""

    __slots__ = ("count", "epoch", "head", "in_size", "inp", "out", "out_size", "queue")

    def __init__(self, queue: Queue, head: int, out: list[Piece], inp: list[Piece], count: int = 1) -> None:
        self.queue = queue
        self.epoch = queue.epoch
        self.head = head
        self.count = count
        self.out = out
        self.inp = inp
        self.out_size = sum([size for _, size in out])
        self.in_size = sum([size for _, size in inp])

    def read(self, dma: Dma, start: int, size: int) -> bytes:
        """Bytes [start, start + size) of what the device may read, fewer where it ends; DmaError."""
        if not start and self.out and self.out[0][1] >= size:
            return dma.read(self.out[0][0], size)
        return b"".join([dma.read(addr, count) for addr, count in _cut(self.out, start, size)])

    def pieces(self, start: int, size: int) -> list[Piece]:
        """Where bytes [start, start + size) of what the device may read are."""
        return _cut(self.out, start, size)

    def write(self, dma: Dma, start: int, data: bytes | bytearray | memoryview) -> int:
        """Puts `data` at byte `start` of what the device may write; gives how many bytes fit.  DmaError."""
        if not start and self.inp and self.inp[0][1] >= len(data):
            dma.write(self.inp[0][0], data)
            return len(data)
        done = 0
        view = memoryview(data)
        for addr, count in _cut(self.inp, start, len(data)):
            dma.write(addr, view[done : done + count])
            done += count
        return done


def _cut(pieces: list[Piece], start: int, size: int) -> list[Piece]:
    """The pieces of [start, start + size) of a run of pieces."""
    found = []
    for addr, count in pieces:
        if start >= count:
            start -= count
            continue
        take = min(count - start, size)
        if take <= 0:
            break
        found.append((addr + start, take))
        size -= take
        start = 0
    return found


class ChainParts:
    """A chain while it is read."""

    __slots__ = ("inp", "out", "total")

    def __init__(self) -> None:
        self.out: list[Piece] = []
        self.inp: list[Piece] = []
        self.total = 0

    def add(self, addr: int, size: int, write: bool) -> None:
        """One more descriptor; QueueError."""
        self.total += size
        if write:
            self.inp.append((addr, size))
        elif self.inp:
            raise QueueError("readable descriptor behind a writable one")
        else:
            self.out.append((addr, size))

    def check(self) -> None:
        """That is all; QueueError."""
        if self.total > CHAIN_MAX:
            raise QueueError("chain of more than 4 GiB")


class Queue:
    """One virtqueue.  `num`, `desc`, `driver`, `device` are the driver's; all of it under the machine lock."""

    __slots__ = (
        "_avail", "_desc", "_dma", "_fence", "_known", "_used", "_view", "desc", "device", "driver", "epoch", "event_idx",
        "index", "indirect", "last_avail", "num", "num_max", "ready", "signalled", "used_idx",
    )  # fmt: skip

    PACKED = False
    START = 0  # of positions in the rings

    def __init__(self, index: int, num_max: int) -> None:
        self.index = index
        self.num_max = num_max
        # Counts lives of the queue: what was popped in a former one isn't pushed any more.
        self.epoch = 0
        self._fence = threading.Lock()
        self._dma: Dma | None = None
        self.reset()

    def reset(self) -> None:
        """As after the device's reset."""
        self.epoch += 1
        self.num = self.num_max
        self.ready = 0
        self.desc = self.driver = self.device = 0
        self.last_avail = self.used_idx = self.signalled = self.START
        self.indirect = self.event_idx = False
        self._known = 0
        self._view: FlatView | None = None

    def enable(self, dma: Dma, indirect: bool, event_idx: bool) -> None:
        """The driver has set the queue up; QueueError, DmaError when it can't be so."""
        self.check()
        self._dma, self.indirect, self.event_idx = dma, indirect, event_idx
        self.known()
        self._attach()
        self.ready = 1

    def check(self) -> None:
        """Size and addresses as the driver set them; QueueError."""
        if self.num & (self.num - 1) or not 0 < self.num <= self.num_max:
            raise QueueError(f"queue size {self.num} is not a power of two up to {self.num_max}")
        if self.desc & 15 or self.driver & 1 or self.device & 3:
            raise QueueError("a ring that isn't aligned")

    def known(self) -> None:
        """The positions were set; QueueError."""
        self._known = self.last_avail

    def restored(self, dma: Dma | None, indirect: bool, event_idx: bool) -> None:
        """The fields were put back from saved state; the rings are found at the next use."""
        self.epoch += 1
        self._dma, self.indirect, self.event_idx = dma, indirect, event_idx
        self.known()
        self._view = None

    def disable(self) -> None:
        """The driver takes the queue back: nothing of it is touched any more."""
        self.epoch += 1
        self.ready = 0
        self._view = None
        self.last_avail = self.used_idx = self.signalled = self.START

    def _attach(self) -> None:
        """Finds the rings; again after the memory map changed."""
        dma = self._dma
        assert dma is not None
        self._view = None
        self._find()
        self._view = dma.space.view

    def _find(self) -> None:
        dma = self._dma
        assert dma is not None
        self._desc: Window = dma.window(self.desc, 16 * self.num)
        self._avail: Window = dma.window(self.driver, 6 + 2 * self.num)
        self._used: Window = dma.window(self.device, 6 + 8 * self.num)

    def _current(self) -> None:
        if self._dma is not None and self._view is not self._dma.space.view:
            self._attach()

    def fence(self) -> None:
        """What was stored before is seen by others before what is loaded after."""
        # Taking a lock is an atomic operation of the host, which orders a store before a later load.
        with self._fence:
            pass

    # -- available ring

    def pop(self) -> Chain | None:
        """The next chain, None when there is none; QueueError, DmaError."""
        if not self.ready:
            return None
        self._current()
        last = self.last_avail
        if last == self._known and not self._look():
            return None
        if (last - self.used_idx) & 0xFFFF >= self.num:
            raise QueueError("more chains available than the ring has entries")
        head = int.from_bytes(self._avail.read(4 + 2 * (last & self.num - 1), 2), "little")
        chain = self._walk(head)
        self.last_avail = last + 1 & 0xFFFF
        return chain

    def unpop(self, chains: list[Chain]) -> None:
        """Leaves the chains that were popped last, none of which was pushed, in the ring after all."""
        self.last_avail = self.last_avail - len(chains) & 0xFFFF

    def _look(self) -> bool:
        """Whether more is available than is known, the index checked."""
        index = int.from_bytes(self._avail.read(2, 2), "little")
        if (index - self.last_avail) & 0xFFFF > self.num:
            raise QueueError("available index jumps by more than the queue's size")
        self._known = index
        return index != self.last_avail

    def drained(self) -> bool:
        """Asks for a notification of the next chain; False when one has come meanwhile."""
        if not self.ready:
            return True
        self._current()
        if self.event_idx:
            self._used.write(4 + 8 * self.num, self.last_avail.to_bytes(2, "little"))
            self.fence()
        return not self._look()

    def _walk(self, head: int) -> Chain:
        parts = ChainParts()
        count = left = self.num
        table: bytes | None = None
        at = head
        if head >= count:
            raise QueueError("available entry beyond the descriptor table")
        while True:
            entry = self._desc.read(16 * at, 16) if table is None else table[16 * at : 16 * at + 16]
            addr, size, flags, following = _DESC.unpack(entry)
            if flags & INDIRECT:
                table = self._table(addr, size, flags, table)
                count = left = len(table) // 16
                at = 0
                continue
            if not left:
                raise QueueError("chain of descriptors that never ends")
            left -= 1
            parts.add(addr, size, bool(flags & WRITE))
            if not flags & NEXT:
                break
            if following >= count:
                raise QueueError("next descriptor beyond the table")
            at = following
        parts.check()
        return Chain(self, head, parts.out, parts.inp)

    def _table(self, addr: int, size: int, flags: int, outer: bytes | None) -> bytes:
        """The indirect table that a descriptor names."""
        if not self.indirect:
            raise QueueError("indirect descriptor without the feature")
        if outer is not None:
            raise QueueError("indirect descriptor in an indirect table")
        if flags & NEXT:
            raise QueueError("indirect descriptor with a next one")
        if not size or size % 16 or size // 16 > max(INDIRECT_MAX, self.num):
            raise QueueError("indirect table of a bad length")
        assert self._dma is not None
        return self._dma.read(addr, size)

    # -- used ring

    def push(self, chain: Chain, written: int) -> None:
        """Gives a chain back, of which `written` bytes were written; nothing for one of a former life.  DmaError."""
        if chain.epoch != self.epoch:
            return
        self._current()
        index = self.used_idx
        self._used.write(4 + 8 * (index & self.num - 1), _USED.pack(chain.head, written))
        self.used_idx = index = index + 1 & 0xFFFF
        self._used.write(2, index.to_bytes(2, "little"))

    def wants_interrupt(self) -> bool:
        """Whether the driver wants an interrupt for what was pushed since it was asked last; DmaError."""
        if not self.ready or self.used_idx == self.signalled:
            return False
        self._current()
        self.fence()
        old, new = self.signalled, self.used_idx
        self.signalled = new
        if self.event_idx:
            event = int.from_bytes(self._avail.read(4 + 2 * self.num, 2), "little")
            return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        return not self._avail.read(0, 1)[0] & NO_INTERRUPT

"""virtio-balloon: memory that the guest lends to the host.  Virtio 1.2, section 5.5.

    client ──balloon──> num_pages ──interrupt──> driver ──page numbers──> inflate: the host takes the pages
                                                        └──page numbers──> deflate: the guest uses them again
    timer ──the buffer back──> driver ──statistics──> guest-stats

Queues: 0 inflate, 1 deflate, 2 statistics.  A page is 4 KiB.  A page that is taken reads zeros; where its memory is
private to the machine the host gets it back.

Left out: free page hints and reports, poisoning.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.objects.props import config, debug, state, tunable
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.clock import Timer
    from ratite.hw.virtio.queue import Chain, Queue

F_STATS_VQ, F_DEFLATE_ON_OOM = 1 << 1, 1 << 2
INFLATE, DEFLATE, STATS = range(3)
PAGE_SHIFT = 12
ACTUAL = 4  # offset in the configuration space
PAGES_AT_ONCE = 4096  # page numbers that are looked at, of one buffer, and at one kick
STATS_AT_ONCE = 64

_CONFIG = struct.Struct("<II")
_STAT = struct.Struct("<HQ")
_SECOND = 1_000_000_000
_UNKNOWN = (1 << 64) - 1

# By their numbers, section 5.5.6.4; those that Linux added later follow.
STATISTICS = (
    "stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory", "stat-total-memory",
    "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail", "stat-oom-kills",
    "stat-alloc-stalls", "stat-async-scans", "stat-direct-scans", "stat-async-reclaims", "stat-direct-reclaims",
)  # fmt: skip


class VirtioBalloon(VirtioDevice):
    """A memory balloon, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 5
    FEATURES: ClassVar[int] = F_STATS_VQ

    deflate_on_oom = config("bool", False, "the guest may take pages back where it needs them")
    num_pages = state("uint32", 0, "pages that a client wants", unit="pages of 4 KiB", name="num-pages")
    actual = state("uint32", 0, "pages that the guest has given", unit="pages of 4 KiB")
    guest_stats = debug("any", text="what the guest tells of its memory", getter="_statistics")
    guest_stats_polling_interval = tunable(
        "int64", 0, "seconds between questions for statistics, 0 for none", unit="s", getter="_interval", setter="_set_interval"
    )

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._seconds = 0
        self._timer: Timer | None = None
        # The driver's buffer, which it gets back when it is to fill it anew.
        self._buffer: Chain | None = None
        self._values = dict.fromkeys(STATISTICS, _UNKNOWN)
        self._updated = 0

    # -- what a device is

    def queue_sizes(self) -> Sequence[int]:
        return 128, 128, 128

    def offered(self) -> int:
        return F_DEFLATE_ON_OOM if self.deflate_on_oom else 0

    def make_config(self) -> bytearray:
        return bytearray(_CONFIG.pack(self.num_pages, self.actual))

    def realize(self) -> None:
        others = (obj for obj in self.machine.tree.members() if obj is not self and isinstance(obj, VirtioBalloon))
        if any(obj.phase == "realized" for obj in others):
            raise GenericError("Only one balloon device is supported")
        super().realize()
        self._timer = self.machine.clock.timer(self._ask)

    def unrealize(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self.actual = 0
        self.config[:] = self.make_config()

    def post_load(self) -> None:
        self.config[:] = self.make_config()
        super().post_load()

    def stopped(self) -> None:
        self._buffer = None
        if self._timer is not None:
            self._timer.cancel()

    def started(self) -> None:
        self._arm()
        # Linux kicks while it still sets the device up, when no queue is to be touched, and never again by itself.
        self.notify(STATS)

    # -- clients

    def ram_size(self) -> int:
        """Bytes of memory that the device's address space shows."""
        space = self.ram_space()
        size: int = 0 if space is None else sum(row[1] for row in space.view.ram_table() if not row[5])
        return size

    def ram_space(self) -> Any:
        """The address space whose memory it is about, whether or not the device may use it now; None before it has one."""
        return None if self.dma is None else self.dma.space

    @property
    def balloon_actual(self) -> int:
        """Bytes that the guest has left."""
        given: int = self.actual << PAGE_SHIFT
        return max(0, self.ram_size() - given)

    def balloon_to(self, target: int) -> None:
        """The guest is to be left `target` bytes."""
        wanted = max(0, self.ram_size() - target) >> PAGE_SHIFT
        self.num_pages = min(wanted, 0xFFFFFFFF)
        self.config[:] = self.make_config()
        self.config_changed()

    def config_written(self, offset: int, data: bytes) -> None:
        end = min(offset + len(data), ACTUAL + 4)
        if offset < ACTUAL or end <= ACTUAL:
            return
        self.config[offset:end] = data[: end - offset]
        now = int.from_bytes(self.config[ACTUAL : ACTUAL + 4], "little")
        if now != self.actual:
            self.actual = now
            self.machine.emit("BALLOON_CHANGE", actual=self.balloon_actual)

    # -- queues

    def handle(self, queue: Queue) -> None:
        if queue.index == STATS:
            self._take_statistics(queue)
            return
        assert self.dma is not None
        left = PAGES_AT_ONCE
        for chain in self.chains(queue):
            if queue.index == INFLATE:
                count = min(chain.out_size // 4, PAGES_AT_ONCE)
                for (number,) in struct.iter_unpack("<I", chain.read(self.dma, 0, 4 * count)):
                    self._take_page(number << PAGE_SHIFT)
                left -= count
            queue.push(chain, 0)
            if left <= 0:
                # Others want the machine's lock, too.
                self.notify_soon(queue.index)
                break
        self.interrupt(queue)

    def _take_page(self, address: int) -> None:
        """The guest has given a page; one that is no memory is none of ours."""
        assert self.dma is not None
        found = self.dma.space.view.find(address)
        if found is not None and found.region.IS_RAM and not found.readonly and address + (1 << PAGE_SHIFT) <= found.end:
            ram: Any = found.region
            ram.discard(address - found.delta, 1 << PAGE_SHIFT)

    # -- statistics

    def _take_statistics(self, queue: Queue) -> None:
        assert self.dma is not None
        for chain in self.chains(queue):
            if self._buffer is not None:
                # One is enough.
                queue.push(self._buffer, 0)
            self._buffer = chain
            count = min(chain.out_size // _STAT.size, STATS_AT_ONCE)
            for tag, value in _STAT.iter_unpack(chain.read(self.dma, 0, count * _STAT.size)):
                if tag < len(STATISTICS):
                    self._values[STATISTICS[tag]] = value
            self._updated = self.machine.clock.time_of_day() // _SECOND
        self.interrupt(queue)

    def _ask(self) -> None:
        """Gives the driver its buffer back, to be filled anew."""
        chain, self._buffer = self._buffer, None
        if chain is not None and self.running and chain.epoch == chain.queue.epoch:
            self.guarded(lambda: self._give_back(chain))
        self._arm()

    def _give_back(self, chain: Chain) -> None:
        chain.queue.push(chain, 0)
        self.interrupt(chain.queue)

    def _arm(self) -> None:
        if self._timer is not None:
            if self._seconds:
                self._timer.arm_after(self._seconds * _SECOND)
            else:
                self._timer.cancel()

    def _statistics(self) -> dict[str, Any]:
        return {"stats": dict(self._values), "last-update": self._updated}

    def _interval(self) -> int:
        return self._seconds

    def _set_interval(self, seconds: int) -> None:
        if seconds < 0:
            raise GenericError("timer value must be greater than zero")
        if seconds > 0xFFFFFFFF:
            raise GenericError("timer value is too big")
        self._seconds = seconds
        self._arm()


class VirtioBalloonDevice(OnVirtioBus, VirtioBalloon):
    """Memory balloon.  Virtio 1.2, section 5.5."""

    TYPE: ClassVar[str] = "virtio-balloon-device"

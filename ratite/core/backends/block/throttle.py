"""Limits of a disk's I/O: bytes and requests a second, for reads, for writes, for both; bursts above them for a while.

Each limit is a leaky bucket.  A request fills it by its bytes, or by one, and the bucket leaks at the limit's rate; what may
stand in it is what a burst gives in its time, or a tenth of a second's worth where no burst was asked for.  A request waits
while a bucket that it fills stands higher.  Disks of one group share its buckets, and their requests of one kind go in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.clock import VirtualClock
    from ratite.core.machine import Machine

# As block_set_io_throttle names them.
RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
RATE_MAX = 10**15
_PARTS = 10  # of a second that a bucket without a burst holds
_SECOND = 1_000_000_000


class Limits:
    """The numbers of block_set_io_throttle, checked; GenericError in QEMU's words."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.rates = {name: given.get(name, 0) for name in RATES}
        self.bursts = {name: given.get(f"{name}_max", 0) for name in RATES}
        self.lengths = {name: given.get(f"{name}_max_length", 1) for name in RATES}
        self.iops_size: int = given.get("iops_size", 0)
        self._check()

    def _check(self) -> None:
        for table in (self.rates, self.bursts):
            for unit in ("bps", "iops"):
                if table[unit] and (table[f"{unit}_rd"] or table[f"{unit}_wr"]):
                    raise GenericError("bps/iops/max total values and read/write values cannot be used at the same time")
        if self.iops_size < 0:
            raise GenericError(f"Parameter 'iops_size' must not be negative, it is {self.iops_size}")
        if self.iops_size and not any(self.rates[name] for name in ("iops", "iops_rd", "iops_wr")):
            raise GenericError("iops size requires an iops value to be set")
        for name in RATES:
            self._check_one(self.rates[name], self.bursts[name], self.lengths[name])

    @staticmethod
    def _check_one(rate: int, burst: int, length: int) -> None:
        if not 0 <= rate <= RATE_MAX or not 0 <= burst <= RATE_MAX:
            raise GenericError(f"bps/iops/max values must be within [0, {RATE_MAX}]")
        if length <= 0:
            raise GenericError("the burst length cannot be 0")
        if length > 1 and not burst:
            raise GenericError("burst length set without burst rate")
        if burst and length > RATE_MAX // burst:
            raise GenericError("burst length too high for this burst rate")
        if burst and not rate:
            raise GenericError("bps_max/iops_max require corresponding bps/iops values")
        if burst and burst < rate:
            raise GenericError("bps_max/iops_max cannot be lower than bps/iops")

    @property
    def none(self) -> bool:
        """Whether nothing is limited."""
        return not any(self.rates.values())

    def info(self) -> dict[str, int]:
        """As BlockDeviceInfo has them."""
        found = dict(self.rates)
        found |= {f"{name}_max": self.bursts[name] for name in RATES if self.bursts[name]}
        found |= {f"{name}_max_length": self.lengths[name] for name in RATES if self.bursts[name]}
        return found | ({"iops_size": self.iops_size} if self.iops_size else {})


class _Bucket:
    """One limit; times are ns."""

    def __init__(self, rate: int, burst: int, length: int) -> None:
        self.rate, self.burst = rate, burst
        self.room = burst * length if burst else rate / _PARTS
        # A burst has a rate, too, where it lasts.
        self.burst_room = burst / _PARTS if length > 1 else 0.0
        self.level = self.burst_level = 0.0

    def leak(self, elapsed: int) -> None:
        """Time has passed."""
        self.level = max(0.0, self.level - self.rate * elapsed / _SECOND)
        self.burst_level = max(0.0, self.burst_level - self.burst * elapsed / _SECOND)

    def fill(self, amount: float) -> None:
        """A request goes."""
        self.level += amount
        if self.burst_room:
            self.burst_level += amount

    def wait(self) -> int:
        """How long the next one has to wait."""
        excess = max(0.0, self.level - self.room) / self.rate
        if self.burst_room:
            excess = max(excess, max(0.0, self.burst_level - self.burst_room) / self.burst)
        return int(excess * _SECOND)


class ThrottledDisk(Protocol):
    """What a device is to its limits."""

    machine: Machine
    throttle: ThrottleGroup | None

    @property
    def path(self) -> str:
        """Its place."""

    def set_throttle(self, group: ThrottleGroup | None) -> None:
        """Its requests ask this group from now on; those that wait elsewhere go."""


class ThrottleGroup:
    """Disks that share limits.  Everything under the machine's lock."""

    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name = name
        self.members: set[ThrottledDisk] = set()
        self.limits = Limits({})
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._when = clock.now()
        # What waits, reads and writes: (when it came, who, bytes, what lets it go).
        self._queues: dict[bool, deque[tuple[int, object, int, Callable[[], None]]]] = {False: deque(), True: deque()}
        self._came = 0
        self._timer = clock.timer(self._go_on)

    def set_limits(self, limits: Limits) -> None:
        """New limits; the buckets are empty, and what waits is looked at again."""
        self.limits = limits
        self._when = self._clock.now()
        self._buckets = {
            name: _Bucket(limits.rates[name], limits.bursts[name], limits.lengths[name]) for name in RATES if limits.rates[name]
        }
        self._go_on()

    def submit(self, who: object, write: bool, size: int, go: Callable[[], None]) -> None:
        """Has `go` called when the limits let a request of `size` bytes pass: at once, or when a timer fires."""
        queue = self._queues[write]
        if queue or self._wait(write):
            self._came += 1
            queue.append((self._came, who, size, go))
            self._arm()
        else:
            self._account(write, size)
            go()

    def drain(self, who: object) -> None:
        """What `who` has waiting goes at once."""
        for write, queue in self._queues.items():
            mine = [each for each in queue if each[1] is who]
            self._queues[write] = deque(each for each in queue if each[1] is not who)
            for _, _, size, go in mine:
                self._account(write, size)
                go()
        self._arm()

    def _leak(self) -> None:
        now = self._clock.now()
        for bucket in self._buckets.values():
            bucket.leak(now - self._when)
        self._when = now

    def _names(self, write: bool) -> tuple[str, ...]:
        return ("bps", "iops", "bps_wr", "iops_wr") if write else ("bps", "iops", "bps_rd", "iops_rd")

    def _wait(self, write: bool) -> int:
        self._leak()
        return max((self._buckets[name].wait() for name in self._names(write) if name in self._buckets), default=0)

    def _account(self, write: bool, size: int) -> None:
        unit = self.limits.iops_size
        requests = max(1.0, size / unit) if unit else 1.0
        for name in self._names(write):
            if name in self._buckets:
                self._buckets[name].fill(size if name.startswith("bps") else requests)

    def _go_on(self) -> None:
        # Where reads and writes fill the same bucket, who came first goes first.
        while free := [(queue[0][0], write) for write, queue in self._queues.items() if queue and not self._wait(write)]:
            _, write = min(free)
            _, _, size, go = self._queues[write].popleft()
            self._account(write, size)
            go()
        self._arm()

    def _arm(self) -> None:
        waits = [self._wait(write) for write, queue in self._queues.items() if queue]
        if waits:
            self._timer.arm_after(max(min(waits), 1))
        else:
            self._timer.cancel()

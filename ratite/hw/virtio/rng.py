"""virtio-rng: the entropy device.  Virtio 1.2, section 5.4.

One queue; each buffer gets random bytes from a backend, at most CHUNK of them (the driver asks again), and all together at
most `max-bytes` in `period` milliseconds of the machine's time; a period begins with the first buffer in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.objects.props import config, link, state
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.rng import RngBackend
    from ratite.hw.virtio.queue import Chain, Queue

CHUNK = 4096
UNLIMITED = (1 << 63) - 1
_MS = 1_000_000


class VirtioRng(VirtioDevice):
    """The entropy device, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 4

    rng: RngBackend | None = link("rng-backend", "where the numbers come from (default: the host's generator)", optional=True)

    max_bytes = config("uint64", UNLIMITED, "random bytes that the guest gets in a period at most", unit="bytes")
    period = config("uint32", 1 << 16, "a period", unit="ms")
    left = state("uint64", UNLIMITED, "random bytes that the guest still gets in this period", unit="bytes")
    period_end = state("int64", 0, "when the period ends; 0: none has begun", unit="ns")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        # Buffers that wait for their turn, and those that the source was asked for.
        self._held: deque[Chain] = deque()
        self._asked: deque[Chain] = deque()

    def check_property(self, name: str, value: Any) -> None:
        super().check_property(name, value)
        if name == "max-bytes" and not 0 < value <= UNLIMITED:
            raise GenericError("'max-bytes' parameter must be positive, and less than 2^63")
        if name == "period" and not value:
            raise GenericError("'period' parameter expects a positive integer")

    def queue_sizes(self) -> Sequence[int]:
        return (8,)

    def wire(self) -> None:
        super().wire()
        from ratite.core.backends.rng import RngBuiltin

        self._source = self.rng or RngBuiltin("rng")

    def realize(self) -> None:
        super().realize()
        self.left = self.max_bytes
        self._timer = self.machine.clock.timer(self._next_period)

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def stopped(self) -> None:
        self._held.clear()
        self._asked.clear()
        self._source.forget(self._answer)

    def handle(self, queue: Queue) -> None:
        for chain in self.chains(queue):
            if chain.in_size:
                self._held.append(chain)
            else:
                queue.push(chain, 0)
        self._ask()
        self.interrupt(queue)

    def _ask(self) -> None:
        while self._held and self.left:
            chain = self._held.popleft()
            size = min(chain.in_size, CHUNK, self.left)
            if self.max_bytes < UNLIMITED:
                self.left -= size
                if not self.period_end:
                    self.period_end = self.machine.clock.now() + self.period * _MS
                    self._timer.arm(self.period_end)
            self._asked.append(chain)
            self._source.request(size, self._answer)

    def post_load(self) -> None:
        super().post_load()
        if self.period_end:
            self._timer.arm(self.period_end)
        else:
            self._timer.cancel()

    def _next_period(self) -> None:
        self.left = self.max_bytes
        self.period_end = 0
        self.guarded(self._ask)

    def _answer(self, data: bytes) -> None:
        if self._asked:
            self.guarded(lambda: self._fill(self._asked.popleft(), data))

    def _fill(self, chain: Chain, data: bytes) -> None:
        assert self.dma is not None
        if chain.epoch == chain.queue.epoch:
            chain.queue.push(chain, chain.write(self.dma, 0, data))
            self.interrupt(chain.queue)


class VirtioRngDevice(OnVirtioBus, VirtioRng):
    """Entropy device.  Virtio 1.2, section 5.4."""

    TYPE: ClassVar[str] = "virtio-rng-device"

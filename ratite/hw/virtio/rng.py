"""virtio-rng: the entropy device.  Virtio 1.2, section 5.4.

One queue; each buffer gets random bytes from a backend, at most CHUNK of them (the driver asks again).

Left out: the limits `max-bytes` and `period`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ratite.core.objects.props import link
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from ratite.core.backends.rng import RngBackend
    from ratite.hw.virtio.queue import Chain, Queue

CHUNK = 4096


class VirtioRng(VirtioDevice):
    """The entropy device, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 4

    rng: RngBackend | None = link("rng-backend", "where the numbers come from (default: the host's generator)", optional=True)

    def queue_sizes(self) -> Sequence[int]:
        return (8,)

    def wire(self) -> None:
        super().wire()
        from ratite.core.backends.rng import RngBuiltin

        self._source = self.rng or RngBuiltin("rng")
        self._waiting: deque[Chain] = deque()

    def stopped(self) -> None:
        self._waiting.clear()
        self._source.forget(self._answer)

    def handle(self, queue: Queue) -> None:
        for chain in self.chains(queue):
            if chain.in_size:
                self._waiting.append(chain)
                self._source.request(min(chain.in_size, CHUNK), self._answer)
            else:
                queue.push(chain, 0)
        self.interrupt(queue)

    def _answer(self, data: bytes) -> None:
        if self._waiting:
            self.guarded(lambda: self._fill(self._waiting.popleft(), data))

    def _fill(self, chain: Chain, data: bytes) -> None:
        assert self.dma is not None
        if chain.epoch == chain.queue.epoch:
            chain.queue.push(chain, chain.write(self.dma, 0, data))
            self.interrupt(chain.queue)


class VirtioRngDevice(OnVirtioBus, VirtioRng):
    """Entropy device.  Virtio 1.2, section 5.4."""

    TYPE: ClassVar[str] = "virtio-rng-device"

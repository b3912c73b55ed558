"""virtio-button: an input device with one key, by which system_powerdown reaches a guest.  Virtio 1.2, section 5.8.

A press is four events in the event queue: key down, key up, each followed by the end of a report.  They wait for buffers.
What the driver sets in the status queue (there are no lights) is taken and forgotten.

`key` is the number that Linux gives the key (input-event-codes.h); 116 is power, which systemd-logind and acpid obey.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ratite.core.objects.props import config, state
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from ratite.hw.virtio.queue import Queue

EVENTS, STATUS = 0, 1
ID_NAME, ID_DEVIDS, EV_BITS = 0x01, 0x03, 0x11
EV_SYN, EV_KEY = 0, 1
KEY_POWER, KEY_MAX = 116, 0x2FF
_EVENT = struct.Struct("<HHI")
_HEAD, _ANSWER = 8, 128
BUS_VIRTUAL = 6
# Events that wait at most: a driver that gives no buffers doesn't make them grow.
WAITING_MAX = 64


class VirtioButton(VirtioDevice):
    """A button, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 18

    key = config("uint16", KEY_POWER, "the key's number, as Linux counts them", minimum=1, maximum=KEY_MAX)
    label = config("str", "Power Button", "the device's name; at most 127 bytes count")
    select: int = state("uint8", 0, "what the driver asks the configuration space for")
    subsel: int = state("uint8", 0, "of that, which")
    waiting: list[int] = state("list:uint64", [], "events that wait for buffers, as they are in memory")

    def queue_sizes(self) -> Sequence[int]:
        return 64, 64

    def make_config(self) -> bytearray:
        return bytearray(_HEAD + _ANSWER)

    def config_written(self, offset: int, data: bytes) -> None:
        """The driver selects; the rest isn't its to write."""
        for at, value in enumerate(data, offset):
            if at == 0:
                self.select = value
            elif at == 1:
                self.subsel = value
        self._answer()

    def _answer(self) -> None:
        data = b""
        if self.select == ID_NAME and not self.subsel:
            data = str(self.label).encode()[: _ANSWER - 1]
        elif self.select == ID_DEVIDS and not self.subsel:
            data = struct.pack("<4H", BUS_VIRTUAL, 0x1AF4, self.DEVICE_ID, 1)
        elif self.select == EV_BITS and self.subsel == EV_KEY:
            data = (1 << self.key).to_bytes(self.key // 8 + 1, "little")
        self.config[:] = bytes((self.select, self.subsel, len(data))).ljust(_HEAD, b"\0") + data.ljust(_ANSWER, b"\0")

    def reset(self) -> None:
        super().reset()
        self.select = self.subsel = 0
        self._answer()

    def post_load(self) -> None:
        super().post_load()
        self._answer()

    def stopped(self) -> None:
        self.waiting.clear()

    def power_button(self) -> None:
        """Pressed and released; nothing where no driver listens."""
        if self.running and len(self.waiting) < WAITING_MAX:
            for kind, code, value in (EV_KEY, self.key, 1), (EV_SYN, 0, 0), (EV_KEY, self.key, 0), (EV_SYN, 0, 0):
                self.waiting.append(int.from_bytes(_EVENT.pack(kind, code, value), "little"))
            self.guarded(self._deliver)

    def handle(self, queue: Queue) -> None:
        if queue.index == EVENTS:
            self._deliver()
            return
        for chain in self.chains(queue):
            queue.push(chain, 0)
        self.interrupt(queue)

    def _deliver(self) -> None:
        queue, dma = self.queues[EVENTS], self.dma
        assert dma is not None
        while self.waiting and queue.ready:
            chain = queue.pop()
            if chain is not None:
                queue.push(chain, chain.write(dma, 0, self.waiting.pop(0).to_bytes(_EVENT.size, "little")))
            elif queue.drained():
                break
        self.interrupt(queue)


class VirtioButtonDevice(OnVirtioBus, VirtioButton):
    """Input device with one key.  Virtio 1.2, section 5.8."""

    TYPE: ClassVar[str] = "virtio-button-device"

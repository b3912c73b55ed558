"""virtio-net: an Ethernet card.  Virtio 1.2, section 5.1.

Two queues: 0 to the driver, 1 from it.  Each frame stands behind a header of 12 bytes.  Frames that the driver has no
buffers for wait at the netdev, whose peer then waits too; frames that the netdev doesn't take wait in their ring.  A
driver that doesn't run gets nothing: what comes meanwhile is dropped.

Left out: checksum and segmentation offloads, the control queue (there is no receive filter: every frame is the driver's),
multi-queue, notification coalescing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.net.netdev import FRAME_MAX
from ratite.core.objects.props import config, debug, link, state
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice
from ratite.hw.virtio.queue import QueueError
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.netdev import Netdev
    from ratite.hw.virtio.queue import Chain, Queue

F_MTU, F_MAC, F_MRG_RXBUF, F_STATUS = 1 << 3, 1 << 5, 1 << 15, 1 << 16
RX, TX = 0, 1
HEADER = 12
LINK_UP = 1

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}")


class VirtioNet(VirtioDevice):
    """An Ethernet card, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 1
    FEATURES: ClassVar[int] = F_MAC | F_STATUS

    netdev: Netdev | None = link("netdev", "the other end of the line", optional=True)
    mac = config("str", "", "hardware address, as 52:54:00:12:34:56 (default: one made of the device's path)")
    host_mtu = config("uint16", 0, "MTU that the driver is told; 0: it isn't", name="host_mtu")
    mrg_rxbuf = config("bool", True, "offer VIRTIO_NET_F_MRG_RXBUF", name="mrg_rxbuf")
    rx_queue_size = config(
        "uint16", 256, "entries of the queue to the driver; a power of two", minimum=64, maximum=1024, name="rx_queue_size"
    )
    tx_queue_size = config(
        "uint16", 256, "entries of the queue from the driver; a power of two", minimum=64, maximum=1024, name="tx_queue_size"
    )
    bootindex = config("int32", -1, "place in firmware's boot order; -1: none (ours asks for none)", minimum=-1)
    link_up = state("bool", True, "whether the cable is in (set_link)")
    frames_dropped = debug("uint64", 0, "frames that were too long for the driver's buffers, or malformed")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        # What the netdev hasn't taken yet.
        self._stalled: Chain | None = None
        # Frames taken by the net_receive under way.
        self._done = 0

    # -- life cycle

    def check_property(self, name: str, value: Any) -> None:
        super().check_property(name, value)
        if name == "mac" and value and not _MAC.fullmatch(value):
            raise GenericError(f"Property '{self.inner_type}.mac' doesn't take value '{value}'")
        if name in ("rx_queue_size", "tx_queue_size") and value & (value - 1):
            raise GenericError(f"Property '{self.TYPE}.{name}' must be a power of two, not {value}")

    def realize(self) -> None:
        super().realize()
        if self.netdev is not None:
            if self.netdev.frontend is not None:
                raise GenericError(f"Property '{self.inner_type}.netdev' can't take value '{self.netdev.id}', it's in use")
            self.netdev.attach(self)
            self.set_link(self.netdev.link_up)

    def unrealize(self) -> None:
        if self.netdev is not None:
            self.netdev.detach()
        super().unrealize()

    def queue_sizes(self) -> Sequence[int]:
        return int(self.rx_queue_size), int(self.tx_queue_size)

    def offered(self) -> int:
        return (F_MRG_RXBUF if self.mrg_rxbuf else 0) | (F_MTU if self.host_mtu else 0)

    def make_config(self) -> bytearray:
        if not self.mac:
            # The same for the same machine, whatever the order of assembly.
            tail = zlib.crc32(self.path.encode()).to_bytes(4, "big")[1:]
            self.mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)
        mac = bytes.fromhex(re.sub("[:-]", "", self.mac))
        status = LINK_UP if self.netdev is not None and self.link_up else 0
        return bytearray(mac + status.to_bytes(2, "little") + (1).to_bytes(2, "little") + self.host_mtu.to_bytes(2, "little"))

    def set_link(self, up: bool) -> None:
        """The cable is pulled or put in: the driver is told, and without it frames are lost."""
        if up != self.link_up:
            self.link_up = up
            self.config[:] = self.make_config()
            self.config_changed()

    def post_load(self) -> None:
        self.config[:] = self.make_config()
        super().post_load()

    def rx_filter(self) -> dict[str, Any]:
        """RxFilterInfo: every frame is the driver's, since there is no control queue by which it could say otherwise."""
        return {
            "name": self.id, "promiscuous": True, "multicast": "normal", "unicast": "normal", "vlan": "all",
            "broadcast-allowed": False, "multicast-overflow": False, "unicast-overflow": False,
            "main-mac": self.mac.replace("-", ":").lower(), "vlan-table": list(range(4095, -1, -1)), "unicast-table": [],
            "multicast-table": [],
        }  # fmt: skip

    def unwire(self) -> None:
        if "mac" not in self.given:
            self.mac = ""
        super().unwire()

    def stopped(self) -> None:
        self._stalled = None

    # -- queues

    def handle(self, queue: Queue) -> None:
        if queue.index == TX:
            self._transmit(queue)
        elif self.netdev is not None:
            self.netdev.accept_input()

    def _transmit(self, queue: Queue) -> None:
        stalled, self._stalled = self._stalled, None
        if stalled is None or stalled.epoch != queue.epoch or self._send(stalled):
            for chain in self.chains(queue):
                if not self._send(chain):
                    self._stalled = chain
                    break
        else:
            self._stalled = stalled
        if self.netdev is not None:
            self.netdev.flush()
        self.interrupt(queue)

    def _send(self, chain: Chain) -> bool:
        """Sends a frame; False when the netdev has no room."""
        assert self.dma is not None
        size = chain.out_size - HEADER
        if size < 0:
            raise QueueError("frame without a header")
        if size > FRAME_MAX:
            self.frames_dropped += 1
        elif self.netdev is not None and self.link_up and size and not self.netdev.send(chain.read(self.dma, HEADER, size)):
            return False
        chain.queue.push(chain, 0)
        return True

    # -- the netdev's side

    def net_writable(self) -> None:
        """The netdev has room again."""
        queue = self.queues[TX]
        if self.running and queue.ready and self._stalled is not None:
            self.guarded(lambda: self._transmit(queue))

    def net_receive(self, frames: Sequence[bytes]) -> int:
        """Frames for the driver; gives how many were taken or dropped."""
        queue = self.queues[RX] if self.queues else None
        if queue is None or not self.running or not queue.ready or not self.link_up:
            return len(frames)
        self._done = 0
        self.guarded(lambda: self._receive(queue, frames))
        return self._done if self.running else len(frames)

    def _receive(self, queue: Queue, frames: Sequence[bytes]) -> None:
        for frame in frames:
            # Without buffers asks for a notification; those that came meanwhile are used at once.
            if not self._put(queue, frame) and (queue.drained() or not self._put(queue, frame)):
                break
            self._done += 1
        self.interrupt(queue)

    def _put(self, queue: Queue, frame: bytes) -> bool:
        """Writes a frame to buffers; False when there aren't enough."""
        assert self.dma is not None
        merge = bool(self.driver_features & F_MRG_RXBUF)
        need = HEADER + len(frame)
        chains: list[Chain] = []
        room = 0
        while room < need and (merge or not chains) and len(chains) < queue.num:
            chain = queue.pop()
            if chain is None:
                queue.unpop(chains)
                return False
            chains.append(chain)
            room += chain.in_size
        if room < need:
            # Longer than all the buffers that the driver can give.
            queue.unpop(chains)
            self.frames_dropped += 1
            return True
        data = memoryview(bytes(10) + len(chains).to_bytes(2, "little") + frame)
        done = 0
        for chain in chains:
            count = chain.write(self.dma, 0, data[done : done + chain.in_size])
            queue.push(chain, count)
            done += count
        return True


class VirtioNetDevice(OnVirtioBus, VirtioNet):
    """Ethernet card.  Virtio 1.2, section 5.1."""

    TYPE: ClassVar[str] = "virtio-net-device"

"""What every virtio device shares, whatever carries it.  Virtio 1.2, sections 2 and 3; legacy drivers aren't served.

    0 ──ACKNOWLEDGE, DRIVER──> negotiating ──FEATURES_OK──> queues set up ──DRIVER_OK──> running
    ^                                                                                      │ a rule broken, a ring lost
    └───────────────────────────── 0 is written (reset) ──────────── DEVICE_NEEDS_RESET <──┘

Between a device and what carries it stand two small interfaces, all under the machine lock.

**Transport → device** (methods of `VirtioDevice`).  `attach(transport)` once, in the transport's or the device's
wire(), `detach()` when it goes.  Then, as the driver's registers ask:

    DEVICE_ID, device_features, driver_features (64 bits each)     accept_features(value)
    device_status, write_status(value)       0 is a reset: the transport then clears what is its own (vectors, ISR)
    config_generation, read_config(offset, size), write_config(offset, size, value)
    queues[i]: num_max, num, desc, driver, device, ready           set_queue(i, field, value), enable_queue(i), disable_queue(i)
    notify(i)                                                      the driver kicked queue i

None of them raises, whatever the values.

**Device → transport** (`Transport`): `space`, and the two interrupt causes.

A device is a subclass with DEVICE_ID, FEATURES, queue_sizes() and handle(queue); in `handle` and in everything called by
`guarded` it may use its queues and `dma` freely: QueueError and DmaError end in `fail`.  To put it behind another
transport, derive from it and from the transport's device, as bus.py does; its properties come along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ratite.core.device import Device
from ratite.core.memory import SiteCounter
from ratite.core.objects.props import Prop, config, debug, state
from ratite.hw.virtio.dma import Dma, DmaError
from ratite.hw.virtio.packed import PackedQueue
from ratite.hw.virtio.queue import Queue, QueueError

if TYPE_CHECKING:
    from ratite.core.memory import Space
    from ratite.hw.virtio.queue import Chain

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80

F_INDIRECT_DESC, F_EVENT_IDX, F_VERSION_1, F_RING_PACKED = 1 << 28, 1 << 29, 1 << 32, 1 << 34

FAULT_SITES = 64
_SAVED = ("num", "desc", "driver", "device", "ready", "last_avail", "used_idx", "signalled")
DESCRIPTORS = 4  # for each entry of a queue, that one kick may take


class Transport(Protocol):
    """What a device needs of what carries it."""

    @property
    def space(self) -> Space:
        """The address space that the device's memory accesses go to."""

    def queue_interrupt(self, index: int) -> None:
        """Buffers of the queue were used, and the driver wants to know."""

    def config_interrupt(self) -> None:
        """The configuration or the status changed."""


class QueueProp(Prop):
    """A field of every queue of a device, as a list of kind state."""

    __slots__ = ("field",)

    def __init__(self, field: str, type: str, text: str) -> None:
        super().__init__("state", f"list:{type}", None, text, getter="queue_fields", setter="queue_fields")
        self.field = field


class VirtioDevice(Device):
    """A virtio device: see the module's head."""

    TYPE: ClassVar[str] = "virtio-device"
    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 0
    # Offered besides those that the rings need.
    FEATURES: ClassVar[int] = 0

    indirect_desc = config("bool", True, "offer VIRTIO_F_INDIRECT_DESC", name="indirect_desc")
    event_idx = config("bool", True, "offer VIRTIO_F_EVENT_IDX", name="event_idx")

    packed = config("bool", False, "offer VIRTIO_F_RING_PACKED")

    device_status: int = state("uint8", 0, "the device status field")
    driver_features: int = state("uint64", 0, "features that the driver accepted")
    config_generation: int = state("uint8", 0, "counts changes of the configuration")
    queue_num = QueueProp("num", "uint32", "sizes of the queues")
    queue_ready = QueueProp("ready", "uint8", "whether the driver has enabled the queues")
    queue_desc = QueueProp("desc", "uint64", "addresses of the descriptor tables")
    queue_driver = QueueProp("driver", "uint64", "addresses of the available rings")
    queue_device = QueueProp("device", "uint64", "addresses of the used rings")
    queue_last_avail = QueueProp("last_avail", "uint16", "how far the available rings were taken")
    queue_used_idx = QueueProp("used_idx", "uint16", "how far the used rings were filled")
    queue_signalled = QueueProp("signalled", "uint16", "how far the driver was told of used buffers")
    guest_faults = debug("uint64", text="rules that drivers broke; each stopped the device", getter="_fault_count")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.transport: Transport | None = None
        self.dma: Dma | None = None
        self.queues: tuple[Queue, ...] = ()
        self.config: bytearray = bytearray()
        self.device_features = 0
        # Whether queues are served.
        self.running = False
        self.faults = SiteCounter(FAULT_SITES)
        self._again: set[int] = set()

    # -- what a device is

    @property
    def inner_type(self) -> str:
        """The type that QEMU's refusals name: that of the device itself, whatever the transport."""
        return self.TYPE

    def cannot_find(self, name: str, text: str) -> str:
        """As Obj's."""
        return super().cannot_find(name, text).replace(self.TYPE, self.inner_type, 1)

    def queue_sizes(self) -> Sequence[int]:
        """The largest size of each queue; asked in wire()."""
        raise NotImplementedError

    def offered(self) -> int:
        """The device's own features, besides FEATURES; asked in wire()."""
        return 0

    def make_config(self) -> bytearray:
        """The configuration space; asked in wire()."""
        return bytearray()

    def config_written(self, offset: int, data: bytes) -> None:
        """The driver wrote to the configuration space; nothing has changed."""

    def started(self) -> None:
        """The driver has set DRIVER_OK."""

    def stopped(self) -> None:
        """The device was reset or has failed: drop what is under way."""

    def handle(self, queue: Queue) -> None:
        """The driver kicked a queue that is ready.  May raise QueueError and DmaError."""
        raise NotImplementedError

    # -- life cycle

    def wire(self) -> None:
        """Make the queues and the configuration space.  Subclasses that are asked for them call super() last."""
        super().wire()
        self.queues = tuple(Queue(i, size) for i, size in enumerate(self.queue_sizes()))
        self.config = self.make_config()
        features = self.FEATURES | self.offered() | F_VERSION_1
        features |= F_INDIRECT_DESC if self.indirect_desc else 0
        features |= F_EVENT_IDX if self.event_idx else 0
        features |= F_RING_PACKED if self.packed else 0
        self.device_features = features

    def unwire(self) -> None:
        """Forget them."""
        super().unwire()
        self.queues = ()
        self.running = False

    def attach(self, transport: Transport) -> None:
        """`transport` carries the device from now on."""
        self.transport = transport
        self.dma = Dma(transport.space)

    def detach(self) -> None:
        """It does no more."""
        self.transport = self.dma = None
        self.running = False

    def reset(self) -> None:
        """As the driver's reset."""
        super().reset()
        self.config_generation = 0
        self.reset_device()

    def reset_device(self) -> None:
        """Section 2.4: everything to its initial state; what is under way touches no memory any more."""
        self.running = False
        self.device_status = 0
        self.driver_features = 0
        for queue in self.queues:
            queue.reset()
        self._fit_queues()
        self.stopped()

    def _fit_queues(self) -> None:
        """Split or packed, as was negotiated; what was popped from a queue of the other kind isn't pushed any more."""
        packed = bool(self.driver_features & F_RING_PACKED)
        if all(queue.PACKED is packed for queue in self.queues):
            return
        kind = PackedQueue if packed else Queue
        made = []
        for old in self.queues:
            queue = kind(old.index, old.num_max)
            for field in ("num", "desc", "driver", "device"):
                setattr(queue, field, getattr(old, field))
            old.reset()
            made.append(queue)
        self.queues = tuple(made)

    def post_load(self) -> None:
        """Find the rings again."""
        super().post_load()
        self.running = self._may_run()
        saved = [{name: getattr(queue, name) for name in _SAVED} for queue in self.queues]
        self._fit_queues()
        for queue, fields in zip(self.queues, saved, strict=True):
            for name, value in fields.items():
                setattr(queue, name, value)
            self.guarded(partial(queue.restored, self.dma, *self._ring_features()))

    # -- the transport's side

    def accept_features(self, value: int) -> None:
        """What the driver accepts; kept until FEATURES_OK ends the negotiation."""
        if not self.device_status & FEATURES_OK:
            self.driver_features = value

    def write_status(self, value: int) -> None:
        """Section 2.1: bits are only ever added, but for 0, which resets."""
        value &= 0xFF
        if not value:
            self.reset_device()
            return
        old = self.device_status
        fresh = value & ~(old | NEEDS_RESET)
        if fresh & FEATURES_OK and not self._features_fit():
            fresh &= ~FEATURES_OK
        elif fresh & FEATURES_OK:
            self._fit_queues()
        if fresh & DRIVER_OK and not (old | fresh) & FEATURES_OK:
            fresh &= ~DRIVER_OK
        self.device_status = old | fresh
        if fresh & FAILED:
            self.running = False
            self.stopped()
        elif fresh & DRIVER_OK and self._may_run():
            self.running = True
            self.guarded(self.started)

    def _features_fit(self) -> bool:
        accepted = self.driver_features
        return bool(accepted & F_VERSION_1) and not accepted & ~self.device_features

    def _may_run(self) -> bool:
        return self.device_status & (DRIVER_OK | NEEDS_RESET | FAILED) == DRIVER_OK

    def _ring_features(self) -> tuple[bool, bool]:
        accepted = self.driver_features
        return bool(accepted & F_INDIRECT_DESC), bool(accepted & F_EVENT_IDX)

    def set_queue(self, index: int, field: str, value: int) -> None:
        """"num", "desc", "driver" or "device" of a queue that isn't enabled; else nothing."""
        if index < len(self.queues) and not self.queues[index].ready:
            setattr(self.queues[index], field, value)

    def enable_queue(self, index: int) -> None:
        """The driver has set the queue up."""
        if index < len(self.queues) and not self.queues[index].ready and self.dma is not None:
            queue, dma = self.queues[index], self.dma
            self.guarded(lambda: queue.enable(dma, *self._ring_features()))

    def disable_queue(self, index: int) -> None:
        """The driver takes the queue back."""
        if index < len(self.queues) and self.queues[index].ready:
            self.queues[index].disable()

    def notify(self, index: int) -> None:
        """The driver kicked a queue."""
        if self.running and index < len(self.queues):
            queue = self.queues[index]
            if queue.ready:
                try:
                    self.handle(queue)
                except (QueueError, DmaError) as error:
                    self.fail(str(error), queue.index)

    def read_config(self, offset: int, size: int) -> int:
        """Bytes of the configuration space; 0 beyond its end."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """The driver writes to the configuration space."""
        if offset + size <= len(self.config):
            self.guarded(lambda: self.config_written(offset, value.to_bytes(size, "little")))

    # -- the device's side

    def guarded(self, step: Callable[[], None]) -> None:
        """Does a step; a rule that the driver broke stops the device."""
        try:
            step()
        except (QueueError, DmaError) as error:
            self.fail(str(error))

    def fail(self, reason: str, queue: int = -1) -> None:
        """Section 2.1.2: the device can't go on until it is reset; the driver is told."""
        if self.device_status & NEEDS_RESET:
            return
        self.device_status |= NEEDS_RESET
        self.running = False
        self.faults.hit("virtio device needs reset", device=self.path, reason=reason, queue=queue)
        self.stopped()
        if self.device_status & DRIVER_OK and self.transport is not None:
            self.transport.config_interrupt()

    def chains(self, queue: Queue) -> Iterator[Chain]:
        """What is available, up to a few descriptors for each entry; if there is more, the owner calls `handle` again.

        The bound is for the machine's lock, which is held: against chains of a thousand descriptors, and a driver that
        fills the queue on one CPU while another is in here.
        """
        left = DESCRIPTORS * queue.num
        while self.running:
            chain = queue.pop() if left > 0 else None
            if chain is not None:
                left -= 1 + len(chain.out) + len(chain.inp)
                yield chain
            elif queue.drained():
                return
            elif left <= 0:
                self.notify_soon(queue.index)
                return

    def notify_soon(self, index: int) -> None:
        """Has the owner do what a kick of the queue does, when others have had the lock."""

        def again() -> None:
            self._again.discard(index)
            self.notify(index)

        if index not in self._again:
            self._again.add(index)
            self.machine.owner.soon(again)

    def interrupt(self, queue: Queue) -> None:
        """Tell the driver of used buffers, if it wants to know."""
        if queue.wants_interrupt() and self.transport is not None:
            self.transport.queue_interrupt(queue.index)

    def config_changed(self) -> None:
        """The configuration space changed: tell the driver."""
        self.config_generation = self.config_generation + 1 & 0xFF
        if self.device_status & DRIVER_OK and self.transport is not None:
            self.transport.config_interrupt()

    # -- properties

    def raw_property(self, prop: Prop) -> Any:
        """As Device's, with fields out of queues."""
        if isinstance(prop, QueueProp):
            return [getattr(queue, prop.field) for queue in self.queues]
        return super().raw_property(prop)

    def store_property(self, prop: Prop, value: Any) -> None:
        """As Device's, with fields into queues."""
        if isinstance(prop, QueueProp):
            for queue, each in zip(self.queues, value, strict=False):
                setattr(queue, prop.field, each)
        else:
            super().store_property(prop, value)

    def _fault_count(self) -> int:
        return self.faults.total

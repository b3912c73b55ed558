"""virtio over PCI, modern only: virtio 1.2, section 4.1.

    BAR 1   MSI-X (a vector for changes of the configuration and one a queue, unless `vectors` says otherwise)
    BAR 4   0x0000 common configuration   0x1000 ISR status   0x2000 the device's own   0x3000 notifications, 4 bytes a queue

The vendor capabilities point there; one more (PCI configuration access) reaches BAR 4 through configuration space.

A driver that kicks a queue while the function isn't bus master finds its rings unreachable: the device needs a reset then.

Left out: the transitional interface, queue reset, notification data, shared memory regions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.memory import MmioRegion
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config, state
from ratite.hw.pci.express import endpoint
from ratite.hw.pci.function import PciFunction
from ratite.hw.pci.regs import CAP_VENDOR
from ratite.hw.virtio.balloon import VirtioBalloon
from ratite.hw.virtio.blk import VirtioBlk
from ratite.hw.virtio.button import VirtioButton
from ratite.hw.virtio.device import VirtioDevice
from ratite.hw.virtio.net import VirtioNet
from ratite.hw.virtio.rng import VirtioRng
from ratite.hw.virtio.serial import VirtioSerial
from ratite.qapi.errors import GenericError

BACKEND = "virtio-backend"
MSIX_BAR, BAR = 1, 4
COMMON, ISR, DEVICE, NOTIFY, BAR_SIZE = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000
CFG_COMMON, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI = 1, 2, 3, 4, 5
NOTIFY_STEP = 4
NO_VECTOR = 0xFFFF
USED_BUFFER, CONFIG_CHANGE = 1, 2
AUTO = 0xFFFFFFFF

# (offset, size) → name: of registers of the common configuration read by _read_NAME(), and written by _write_NAME(value).
READS: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (0x00, 4): "device_select", (0x04, 4): "device_feature", (0x08, 4): "driver_select", (0x0C, 4): "driver_feature",
        (0x10, 2): "config_vector", (0x12, 2): "num_queues", (0x14, 1): "status", (0x15, 1): "generation",
        (0x16, 2): "queue_select", (0x18, 2): "queue_size", (0x1A, 2): "queue_vector", (0x1C, 2): "queue_enable",
        (0x1E, 2): "queue_notify_off",
    }
)  # fmt: skip
WRITES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (0x00, 4): "device_select", (0x08, 4): "driver_select", (0x0C, 4): "driver_feature", (0x10, 2): "config_vector",
        (0x14, 1): "status", (0x16, 2): "queue_select", (0x18, 2): "queue_size", (0x1A, 2): "queue_vector",
        (0x1C, 2): "queue_enable",
    }
)  # fmt: skip
# Offset of the lower half of a 64-bit address → field of a queue.
RINGS: Mapping[int, str] = MappingProxyType({0x20: "desc", 0x28: "driver", 0x30: "device"})


class ConfigAccess:
    """The capability through which configuration space reaches BAR 4: section 4.1.4.9."""

    def __init__(self, function: VirtioPci) -> None:
        self._conf = function.conf
        self.start = function.vendor_capability(CFG_PCI, 0, 0, 4)
        self.end = self.start + 20
        for offset, size in ((4, 1), (8, 4), (12, 4), (16, 4)):
            self._conf.declare(self.start + offset, size, 0, (1 << 8 * size) - 1)

    def target(self) -> tuple[int, int] | None:
        """(offset in BAR 4, bytes) of the access that the capability is set to; None if it is none."""
        bar, offset, size = (self._conf.get(self.start + at, count) for at, count in ((4, 1), (8, 4), (12, 4)))
        if bar != BAR or size not in (1, 2, 4) or offset % size or offset + size > BAR_SIZE:
            return None
        return offset, size

    def written(self, offset: int, end: int) -> None:
        """What there is to do is done by the function."""


class VirtioPci(PciFunction, VirtioDevice):
    """A virtio device as a PCI function."""

    TYPE: ClassVar[str] = "virtio-pci"
    ABSTRACT: ClassVar[bool] = True
    PCI_VENDOR: ClassVar[int] = 0x1AF4
    PCI_REVISION: ClassVar[int] = 1

    vectors = config("uint32", AUTO, "number of MSI-X vectors; 0: no MSI-X (default: one more than queues)")

    isr: int = state("uint8", 0, "ISR status", maximum=3)
    device_feature_select: int = state("uint32", 0, "device_feature_select")
    driver_feature_select: int = state("uint32", 0, "driver_feature_select")
    queue_select: int = state("uint16", 0, "queue_select")
    config_vector: int = state("uint16", NO_VECTOR, "config_msix_vector")
    queue_vectors: list[int] = state("list:uint16", [], "queue_msix_vector of each queue")

    def child_named(self, name: str) -> Obj | None:
        """As Obj's; device and transport are one here, but tools know the device by a path of its own."""
        return self if name == BACKEND else super().child_named(name)

    # -- life cycle

    @property
    def inner_type(self) -> str:
        """The device behind the transport."""
        return f"{self.TYPE.partition('-pci')[0]}-device"

    def check_property(self, name: str, value: Any) -> None:
        super().check_property(name, value)
        if name == "vectors" and value != AUTO and value > 2048:
            raise GenericError(f"Property '{self.TYPE}.vectors' must be at most 2048, not {value}")

    def build(self) -> None:
        """Capabilities and BARs; the device has its queues already."""
        super().build()
        self._queue_count = len(self.queues)
        # The device's kind is its number; queues and configuration are known from VirtioDevice.wire() on.
        self.conf.declare(0x02, 2, 0x1040 + self.DEVICE_ID)
        self.capabilities.append(endpoint(self))
        self.add_power()
        self.vendor_capability(CFG_COMMON, COMMON, 0x1000)
        self.vendor_capability(CFG_ISR, ISR, 0x1000)
        self.vendor_capability(CFG_DEVICE, DEVICE, 0x1000)
        notify = self.vendor_capability(CFG_NOTIFY, NOTIFY, 0x1000, 4)
        self.conf.declare(notify + 16, 4, NOTIFY_STEP)
        self._access = ConfigAccess(self)
        self.capabilities.append(self._access)
        vectors = self._queue_count + 1 if self.vectors == AUTO else int(self.vectors)
        if vectors:
            self.add_msix(vectors, MSIX_BAR)
        region = MmioRegion(f"{self.id}/virtio", BAR_SIZE, self, self._load, self._store, access=(1, 8), impl=(1, 4))
        self.add_bar(BAR, region, wide=True, prefetch=True)
        self._reads: dict[tuple[int, int], Callable[[], int]] = {at: getattr(self, f"_read_{n}") for at, n in READS.items()}
        self._writes: dict[tuple[int, int], Callable[[int], None]] = {
            at: getattr(self, f"_write_{name}") for at, name in WRITES.items()
        }
        for at, field in RINGS.items():
            for half, shift in ((at, 0), (at + 4, 32)):
                self._reads[half, 4] = partial(self._read_ring, field, shift)
                self._writes[half, 4] = partial(self._write_ring, field, shift)

    def vendor_capability(self, kind: int, offset: int, length: int, more: int = 0) -> int:
        """A vendor capability (section 4.1.4) with `more` bytes behind; gives its offset in configuration space."""
        size = 16 + more
        at = self.conf.add_capability(CAP_VENDOR, size)
        self.conf.declare(at + 2, 1, size)
        self.conf.declare(at + 3, 1, kind)
        if length:
            self.conf.declare(at + 4, 1, BAR)
            self.conf.declare(at + 8, 4, offset)
            self.conf.declare(at + 12, 4, length)
        return at

    def wire(self) -> None:
        super().wire()
        self.attach(self)

    def unrealize(self) -> None:
        # What is under way touches no memory any more.
        self.reset_device()
        super().unrealize()

    def unwire(self) -> None:
        self.detach()
        super().unwire()

    def reset_function(self) -> None:
        """The device goes with its function."""
        self._reset_registers()
        super().reset_function()
        self.reset_device()

    def _reset_registers(self) -> None:
        self.isr = self.device_feature_select = self.driver_feature_select = self.queue_select = 0
        self.config_vector = NO_VECTOR
        self.queue_vectors = [NO_VECTOR] * self._queue_count
        self.line(0)

    # -- the device's side

    def queue_interrupt(self, index: int) -> None:
        """Buffers of a queue were used."""
        if not self._notify_driver(self.queue_vectors[index]):
            self.isr |= USED_BUFFER
            self.line(1)

    def config_interrupt(self) -> None:
        """The configuration or the status changed."""
        self.isr |= CONFIG_CHANGE
        if not self._notify_driver(self.config_vector):
            self.line(1)

    def _notify_driver(self, vector: int) -> bool:
        """By message; False where interrupts come by line."""
        if self.msix is None or not self.msix.enabled:
            return False
        if vector != NO_VECTOR:
            self.signal(vector)
        return True

    # -- BAR 4

    def _load(self, offset: int, size: int, access: Any = None) -> int:
        if offset < ISR:
            read = self._reads.get((offset, size))
            return read() if read is not None else 0
        if offset < DEVICE:
            return self._take_isr() if offset == ISR else 0
        if offset < NOTIFY:
            return self.read_config(offset - DEVICE, size)
        return 0

    def _store(self, offset: int, size: int, value: int, access: Any = None) -> None:
        if offset >= NOTIFY:
            self.notify((offset - NOTIFY) // NOTIFY_STEP)
        elif offset >= DEVICE:
            self.write_config(offset - DEVICE, size, value)
        elif offset < ISR:
            write = self._writes.get((offset, size))
            if write is not None:
                write(value)

    def _take_isr(self) -> int:
        value, self.isr = self.isr, 0
        self.line(0)
        return value

    # -- the same through configuration space

    def config_read(self, offset: int, size: int) -> int:
        at = self._access.start + 16
        if offset < at + 4 and offset + size > at:
            target = self._access.target()
            if target is not None and self.awake:
                self.conf.put(at, 4, self._load(*target))
        return super().config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        super().config_write(offset, size, value)
        at = self._access.start + 16
        if offset < at + 4 and offset + size > at:
            target = self._access.target()
            if target is not None and self.awake:
                self._store(*target, self.conf.get(at, target[1]))

    # -- registers that are read

    def _read_device_select(self) -> int:
        return self.device_feature_select

    def _read_device_feature(self) -> int:
        select = self.device_feature_select
        return self.device_features >> 32 * select & 0xFFFFFFFF if select < 2 else 0

    def _read_driver_select(self) -> int:
        return self.driver_feature_select

    def _read_driver_feature(self) -> int:
        select = self.driver_feature_select
        return self.driver_features >> 32 * select & 0xFFFFFFFF if select < 2 else 0

    def _read_config_vector(self) -> int:
        return self.config_vector

    def _read_num_queues(self) -> int:
        return self._queue_count

    def _read_status(self) -> int:
        return self.device_status

    def _read_generation(self) -> int:
        return self.config_generation

    def _read_queue_select(self) -> int:
        return self.queue_select

    def _read_queue_size(self) -> int:
        return int(self.queues[self.queue_select].num) if self.queue_select < self._queue_count else 0

    def _read_queue_vector(self) -> int:
        return self.queue_vectors[self.queue_select] if self.queue_select < self._queue_count else NO_VECTOR

    def _read_queue_enable(self) -> int:
        return int(self.queues[self.queue_select].ready) if self.queue_select < self._queue_count else 0

    def _read_queue_notify_off(self) -> int:
        return self.queue_select

    def _read_ring(self, field: str, shift: int) -> int:
        if self.queue_select >= self._queue_count:
            return 0
        return int(getattr(self.queues[self.queue_select], field)) >> shift & 0xFFFFFFFF

    # -- registers that are written

    def _write_device_select(self, value: int) -> None:
        self.device_feature_select = value

    def _write_driver_select(self, value: int) -> None:
        self.driver_feature_select = value

    def _write_driver_feature(self, value: int) -> None:
        if self.driver_feature_select < 2:
            shift = 32 * self.driver_feature_select
            self.accept_features(self.driver_features & ~(0xFFFFFFFF << shift) | value << shift)

    def _vector(self, value: int) -> int:
        return value if self.msix is not None and value < self.msix.count else NO_VECTOR

    def _write_config_vector(self, value: int) -> None:
        self.config_vector = self._vector(value)

    def _write_status(self, value: int) -> None:
        self.write_status(value)
        if not value:
            self._reset_registers()

    def _write_queue_select(self, value: int) -> None:
        self.queue_select = value

    def _write_queue_size(self, value: int) -> None:
        self.set_queue(self.queue_select, "num", value)

    def _write_queue_vector(self, value: int) -> None:
        if self.queue_select < self._queue_count:
            self.queue_vectors[self.queue_select] = self._vector(value)

    def _write_queue_enable(self, value: int) -> None:
        if value == 1 and self.queue_select < self._queue_count:
            self.enable_queue(self.queue_select)

    def _write_ring(self, field: str, shift: int, value: int) -> None:
        if self.queue_select < self._queue_count:
            old = getattr(self.queues[self.queue_select], field)
            self.set_queue(self.queue_select, field, old & ~(0xFFFFFFFF << shift) | value << shift)


class VirtioBalloonPci(VirtioPci, VirtioBalloon):
    """Memory balloon on PCI.  Virtio 1.2, sections 4.1 and 5.5."""

    TYPE: ClassVar[str] = "virtio-balloon-pci"
    PCI_CLASS: ClassVar[int] = 0x00FF00

    def ram_space(self) -> Any:
        # The function's own sight of memory is empty until the guest makes it bus master.
        return self.bus.host.space


class VirtioBlkPci(VirtioPci, VirtioBlk):
    """Disk on PCI.  Virtio 1.2, sections 4.1 and 5.2."""

    TYPE: ClassVar[str] = "virtio-blk-pci"
    PCI_CLASS: ClassVar[int] = 0x010000


class VirtioButtonPci(VirtioPci, VirtioButton):
    """Input device with one key on PCI.  Virtio 1.2, sections 4.1 and 5.8."""

    TYPE: ClassVar[str] = "virtio-button-pci"
    PCI_CLASS: ClassVar[int] = 0x098000


class VirtioNetPci(VirtioPci, VirtioNet):
    """Ethernet card on PCI.  Virtio 1.2, sections 4.1 and 5.1."""

    TYPE: ClassVar[str] = "virtio-net-pci"
    PCI_CLASS: ClassVar[int] = 0x020000


class VirtioRngPci(VirtioPci, VirtioRng):
    """Entropy device on PCI.  Virtio 1.2, sections 4.1 and 5.4."""

    TYPE: ClassVar[str] = "virtio-rng-pci"
    PCI_CLASS: ClassVar[int] = 0x00FF00


class VirtioSerialPci(VirtioPci, VirtioSerial):
    """Console device on PCI, a bus for ports.  Virtio 1.2, sections 4.1 and 5.3."""

    TYPE: ClassVar[str] = "virtio-serial-pci"
    PCI_CLASS: ClassVar[int] = 0x078000

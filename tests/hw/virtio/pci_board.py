"""The same driver over PCI: the registers of virtio-mmio that virtio_kit knows, found where virtio-pci has them."""

from __future__ import annotations

from typing import Any

from blk_kit import Disk
from virtio_kit import LITTLE, RAM, RAM_SIZE, Board, new_machine

ECAM, WINDOW, WINDOW64, BELL = 0x30000000, 0x40000000, 0x400000000, RAM + RAM_SIZE - 0x1000
BDF = 1 << 3
# Offset of virtio-mmio → (offset in BAR 4, bytes).
PLACES = {
    0x010: (0x04, 4), 0x014: (0x00, 4), 0x020: (0x0C, 4), 0x024: (0x08, 4), 0x030: (0x16, 2), 0x034: (0x18, 2),
    0x038: (0x18, 2), 0x044: (0x1C, 2), 0x070: (0x14, 1), 0x0FC: (0x15, 1), 0x080: (0x20, 4), 0x084: (0x24, 4),
    0x090: (0x28, 4), 0x094: (0x2C, 4), 0x0A0: (0x30, 4), 0x0A4: (0x34, 4),
}  # fmt: skip


class PciBoard(Board):
    """RAM, a host bridge and one virtio-*-pci device at 01.0, its BARs assigned and the function bus master."""

    def __init__(self, driver: str, inline: bool = True, machine: Any = None, **props: Any) -> None:
        self.machine = m = machine or new_machine(inline)
        self.events: list[tuple[str, dict[str, Any]]] = []
        m.on_event = lambda name, data: self.events.append((name, data))
        self.call(m.create_object, "address-space", "mem", {})
        self.call(m.create_object, "memory-backend-ram", "ram", {"size": RAM_SIZE})
        self.call(m.device_add, "gpex-pcihost", "pci0", {"address-space": "mem"})
        for region, at in (("ram", RAM), ("pci0/ecam", ECAM), ("pci0/mmio", WINDOW), ("pci0/mmio64", WINDOW64)):
            self.call(m.map_region, "mem", region, at)
        props = {name.replace("_", "-"): value for name, value in props.items()}
        self.call(m.device_add, driver.replace("-device", "-pci"), "dev", props)
        self.isr = 0
        self.bdf = BDF

    def start(self) -> PciBoard:
        self.call(self.machine.exit_preconfig)
        self.space: Any = self.machine.resolve("/objects/mem")
        self.dev: Any = self.machine.resolve("/machine/peripheral/dev")
        self.host: Any = self.machine.resolve("/machine/peripheral/pci0")
        self.queues = {}
        self.top = RAM
        self.enable()
        return self

    def enable(self) -> None:
        """Addresses, memory decoding, bus mastering."""
        for offset, value in ((0x14, WINDOW), (0x20, WINDOW64 & 0xFFFFFFFF), (0x24, WINDOW64 >> 32), (4, 6)):
            self.conf_set(offset, value)

    def start_below(self, port: int) -> None:
        """The same for a device below a port, which gets bus 1 and windows for the device alone."""
        device, self.bdf = self.bdf, port
        self.call(self.machine.exit_preconfig)
        self.space = self.machine.resolve("/objects/mem")
        self.dev = self.machine.resolve("/machine/peripheral/dev")
        self.host = self.machine.resolve("/machine/peripheral/pci0")
        self.queues, self.top = {}, RAM
        high = WINDOW64 >> 32
        for offset, value in ((0x18, 0x10100), (0x20, WINDOW >> 16 | WINDOW), (0x24, 0), (0x28, high), (0x2C, high), (4, 6)):
            self.conf_set(offset, value)
        self.bdf = device
        self.enable()

    def conf(self, offset: int, size: int = 4) -> int:
        with self.machine.lock:
            value: int = self.space.load(ECAM + (self.bdf << 12) + offset, size, LITTLE)
        return value

    def conf_set(self, offset: int, value: int, size: int = 4) -> None:
        with self.machine.lock:
            self.space.store(ECAM + (self.bdf << 12) + offset, size, value, LITTLE)

    def bar(self, offset: int, size: int = 4) -> int:
        with self.machine.lock:
            value: int = self.space.load(WINDOW64 + offset, size, LITTLE)
        return value

    def bar_set(self, offset: int, value: int, size: int = 4) -> None:
        with self.machine.lock:
            self.space.store(WINDOW64 + offset, size, value, LITTLE)

    def reg(self, offset: int, size: int = 4) -> int:
        if offset >= 0x100:
            return self.bar(0x2000 + offset - 0x100, size)
        if offset == 0x60:
            self.isr |= self.bar(0x1000, 1)
            return self.isr
        return self.bar(*PLACES[offset]) if offset in PLACES else 0

    def set(self, offset: int, value: int, size: int = 4) -> None:
        if offset >= 0x100:
            self.bar_set(0x2000 + offset - 0x100, value, size)
        elif offset == 0x64:
            self.isr &= ~value
        elif offset == 0x50:
            self.bar_set(0x3000 + 4 * (value & 0x3FF), value & 0xFFFF, 2)
        elif offset in PLACES:
            at, count = PLACES[offset]
            self.bar_set(at, value & (1 << 8 * count) - 1, count)

    def irq(self) -> int:
        level: int = self.host.out("intx", 1).level
        return level

    def faults(self) -> int:
        regions = [self.host.regions["ecam"], *(bar.region for bar in self.dev.bars)]
        return sum(region.faults.total for region in regions)


class PciDisk(Disk, PciBoard):
    """A virtio-blk-pci on a file node "n0"."""

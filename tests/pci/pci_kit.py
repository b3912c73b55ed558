"""A machine with a PCI host bridge, and a driver for it: everything through ECAM and the windows, as a guest does it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from ratite.core.clock import VirtualClock
from ratite.core.device import MmioDevice, Window
from ratite.core.machine import Machine
from ratite.core.memory import TYPES as MEMORY_TYPES
from ratite.core.memory import Access, MmioRegion
from ratite.core.objects.props import state
from ratite.core.objects.registry import TypeRegistry
from ratite.hw import TYPES as HW_TYPES
from ratite.hw.pci.express import endpoint
from ratite.hw.pci.function import PciFunction

ECAM, MMIO, MMIO64, PIO, DOORBELL, RAM = 0x30000000, 0x40000000, 0x400000000, 0x3000000, 0x28000000, 0x80000000
MIB = 1 << 20


class Doorbell(MmioDevice):
    """Takes messages: a machine's MSI target."""

    TYPE = "doorbell"
    REGIONS: ClassVar = {"regs": Window(0x1000, (4, 4))}
    taken: list[int] = state("list:uint64", [], "offset << 32 | data of each message")

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        self.taken.append(offset << 32 | value)

    def pop(self) -> list[tuple[int, int]]:
        """(offset, data) of what came since the last call."""
        found = [(each >> 32, each & 0xFFFFFFFF) for each in self.taken]
        self.taken.clear()
        return found


class Sink(MmioDevice):
    """Four irq inputs."""

    TYPE = "sink"
    INPUTS: ClassVar = {"irq": 4}


class TestFunction(PciFunction):
    """A function with one of everything: memory BARs of 32 and 64 bits, an I/O BAR, MSI-X, MSI, power management."""

    __test__ = False
    TYPE = "pci-test"
    PCI_DEVICE = 0x7E57
    PCI_CLASS = 0xFF0000
    words: list[int] = state("list:uint64", [0] * 8, "registers of BAR 0")

    def build(self) -> None:
        super().build()
        mine = MmioRegion(f"{self.id}/bar0", 0x1000, self, self.load, self.store, access=(1, 8), impl=(4, 4))
        self.add_bar(0, mine)
        wide = MmioRegion(f"{self.id}/bar2", 64 << 10, self, lambda o, n, a: 0x22, lambda o, n, v, a: None)
        self.add_bar(2, wide, wide=True, prefetch=True)
        self.add_bar(4, MmioRegion(f"{self.id}/bar4", 32, self, lambda o, n, a: 0x44, lambda o, n, v, a: None), io=True)
        self.capabilities.append(endpoint(self))
        self.add_power()
        self.add_msi(4)
        self.add_msix(70, 5)

    def reset_function(self) -> None:
        self.words = [0] * 8
        super().reset_function()

    def load(self, offset: int, size: int, access: Any) -> int:
        return self.words[offset >> 2 & 7]

    def store(self, offset: int, size: int, value: int, access: Any) -> None:
        """0: line, 4: vector to send, 8: DMA write of 4 bytes of 0x55 there; else a word."""
        self.words[offset >> 2 & 7] = value
        if offset == 0:
            self.line(value & 1)
        elif offset == 4:
            self.signal(value)
        elif offset == 8:
            self.message(value, 0x55555555)


def registry() -> TypeRegistry:
    made = TypeRegistry(manifest={"types": {}, "targets": {}, "accelerators": {}}, plugins=False)
    for path in (*MEMORY_TYPES, *HW_TYPES):
        module, _, name = path.partition(":")
        made.register(getattr(import_module(module), name))
    for cls in (Doorbell, Sink, TestFunction):
        made.register(cls)
    return made


class BarInfo(NamedTuple):
    """What sizing a BAR gives."""

    index: int
    io: bool
    wide: bool
    prefetch: bool
    size: int


class Pci:
    """A machine and its guest.  `bdf` is bus << 8 | slot << 3 | function."""

    def __init__(self, *devices: tuple[str, str, dict[str, Any]], start: bool = True, **host: Any) -> None:
        self.clock = VirtualClock(manual=True)
        self.machine = m = Machine(registry(), "pci", autostart=False, clock=self.clock, inline=True)
        self.events: list[tuple[str, str]] = []
        m.on_event = lambda name, data: self.events.append((name, data.get("device", "")))
        m.create_object("address-space", "sys", {})
        m.create_object("memory-backend-ram", "ram", {"size": MIB})
        m.device_add("gpex-pcihost", "pci0", {"address-space": "sys", **host})
        m.device_add("doorbell", "bell", {})
        m.device_add("sink", "sink", {})
        for pin in range(4):
            m.wire_irq("pci0", f"intx[{pin}]", "sink", f"irq[{pin}]")
        for region, at in (
            ("pci0/ecam", ECAM), ("pci0/mmio", MMIO), ("pci0/mmio64", MMIO64), ("pci0/pio", PIO), ("bell", DOORBELL),
            ("ram", RAM),
        ):  # fmt: skip
            m.map_region("sys", region, at)
        for driver, id, props in devices:
            m.device_add(driver, id, props)
        self.next_bus, self.next_memory, self.next_wide, self.next_io = 1, MMIO, MMIO64, 0x1000
        if start:
            self.start()

    def start(self) -> None:
        self.machine.exit_preconfig()
        self.space: Any = self.machine.resolve("sys")
        self.host: Any = self.machine.resolve("pci0")
        self.bell: Any = self.machine.resolve("bell")
        self.clock.start()

    def close(self) -> None:
        self.machine.close()

    def dev(self, id: str) -> Any:
        return self.machine.resolve(f"/machine/peripheral/{id}")

    # -- the bus of the CPU

    def rd(self, addr: int, size: int = 4) -> int:
        value: int = self.space.load(addr, size, Access())
        return value

    def wr(self, addr: int, value: int, size: int = 4) -> None:
        self.space.store(addr, size, value, Access())

    def lines(self) -> list[int]:
        return [line.level for line in self.dev("sink").all_inputs()]

    # -- configuration space

    def cr(self, bdf: int, offset: int, size: int = 4) -> int:
        return self.rd(ECAM + (bdf << 12) + offset, size)

    def cw(self, bdf: int, offset: int, value: int, size: int = 4) -> None:
        self.wr(ECAM + (bdf << 12) + offset, value, size)

    def scan(self, bus: int = 0) -> list[int]:
        """What answers on a bus: functions 1 to 7 only where the header says that there are more."""
        found = []
        for slot in range(32):
            bdf = bus << 8 | slot << 3
            if self.cr(bdf, 0) == 0xFFFFFFFF:
                continue
            several = self.cr(bdf, 0xE, 1) & 0x80
            found += [bdf + n for n in range(8 if several else 1) if self.cr(bdf + n, 0) != 0xFFFFFFFF]
        return found

    def capability(self, bdf: int, id: int) -> int:
        """Offset of a capability; 0 when there is none."""
        at = self.cr(bdf, 0x34, 1)
        for _ in range(48):
            if not at or self.cr(bdf, at, 1) == id:
                return at
            at = self.cr(bdf, at + 1, 1)
        raise AssertionError("the list of capabilities has a loop")

    def bars(self, bdf: int, count: int = 6) -> list[BarInfo]:
        """Size every BAR, with decoding off."""
        command = self.cr(bdf, 4, 2)
        self.cw(bdf, 4, command & ~3, 2)
        found, index = [], 0
        while index < count:
            at = 0x10 + 4 * index
            old = self.cr(bdf, at)
            self.cw(bdf, at, 0xFFFFFFFF)
            mask = self.cr(bdf, at)
            self.cw(bdf, at, old)
            io, wide, prefetch = bool(mask & 1), mask & 7 == 4, mask & 9 == 8
            bits = mask & (0xFFFC if io else 0xFFFFFFF0)
            full = 1 << (16 if io else 32)
            if wide:
                high = self.cr(bdf, at + 4)
                self.cw(bdf, at + 4, 0xFFFFFFFF)
                bits |= self.cr(bdf, at + 4) << 32
                self.cw(bdf, at + 4, high)
                full = 1 << 64
            if mask:
                found.append(BarInfo(index, io, wide, prefetch, full - bits))
            index += 2 if wide else 1
        self.cw(bdf, 4, command, 2)
        return found

    def enumerate(self, bus: int = 0) -> dict[str, int]:
        """Number the buses, give every BAR an address and open the bridges' windows; {device id: bdf}."""
        names = {}
        for bdf in self.scan(bus):
            function = self.host.functions()[bdf]
            names[function.id] = bdf
            bridge = self.cr(bdf, 0xE, 1) & 0x7F == 1
            if bridge:
                names.update(self._enumerate_bridge(bdf))
            self.assign(bdf, 2 if bridge else 6)
            self.cw(bdf, 4, 7, 2)
        return names

    def assign(self, bdf: int, count: int = 6) -> dict[int, int]:
        """Give the BARs addresses; {index: address}."""
        given = {}
        for bar in self.bars(bdf, count):
            where = "next_io" if bar.io else "next_wide" if bar.wide else "next_memory"
            at = getattr(self, where) + bar.size - 1 & -bar.size
            setattr(self, where, at + bar.size)
            self.cw(bdf, 0x10 + 4 * bar.index, at & 0xFFFFFFFF)
            if bar.wide:
                self.cw(bdf, 0x14 + 4 * bar.index, at >> 32)
            given[bar.index] = at
        return given

    def _enumerate_bridge(self, bdf: int) -> dict[str, int]:
        secondary = self.next_bus
        self.next_bus += 1
        self.cw(bdf, 0x18, 0xFF << 16 | secondary << 8 | bdf >> 8)
        self.next_memory = self.next_memory + MIB - 1 & -MIB
        self.next_wide = self.next_wide + MIB - 1 & -MIB
        self.next_io = self.next_io + 0xFFF & -0x1000
        starts = (self.next_memory, self.next_wide, self.next_io)
        names = self.enumerate(secondary)
        self.cw(bdf, 0x1A, self.next_bus - 1, 1)
        # Room for what may be plugged later.
        self.next_memory = max(self.next_memory, starts[0] + MIB) + MIB - 1 & -MIB
        self.next_wide = max(self.next_wide, starts[1] + MIB) + MIB - 1 & -MIB
        self.next_io = max(self.next_io, starts[2] + 0x1000) + 0xFFF & -0x1000
        self.cw(bdf, 0x20, (self.next_memory - 1 >> 16 & 0xFFF0) << 16 | starts[0] >> 16)
        self.cw(bdf, 0x24, (self.next_wide - 1 >> 16 & 0xFFF0) << 16 | starts[1] >> 16 & 0xFFF0)
        self.cw(bdf, 0x28, starts[1] >> 32)
        self.cw(bdf, 0x2C, self.next_wide - 1 >> 32)
        self.cw(bdf, 0x1C, (self.next_io - 1 >> 8 & 0xF0) << 8 | starts[2] >> 8, 2)
        return names

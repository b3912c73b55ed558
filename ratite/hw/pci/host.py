"""gpex-pcihost: a generic PCI Express host bridge, as the device tree binding `pci-host-ecam-generic` has it.

    ecam     configuration space: bus << 20 | slot << 15 | function << 12 | register  (PCI Express 4.0, section 7.2.2)
    mmio     PCI memory from `mmio-base` on, below 4 GiB        mmio64    PCI memory from `mmio64-base` on
    pio      PCI I/O from 0 on                                  intx[0..3]  INTA to INTD, level

The bus `pcie.0` is a part of it.  Devices access `address-space`; PCI addresses are its addresses. An interrupt of pin P of
the device in slot S of the root bus comes out of intx[(P + S) % 4], P counted from 0; each bridge adds the slot it is in.

What nobody answers reads all ones, and writes to it are dropped. A window is one region of the address space that it is
mapped in: what the guest does to BARs changes only the bridge's own map, made anew at the next access to a window, so
configuration writes cost the same whatever they say. Devices can't access each other: such an access is as to nobody, so
that no device can be made to call itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.bus import Bus
from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.memory import Access, BusError, MmioRegion, Space
from ratite.core.memory.regions import LeafRegion
from ratite.core.objects.props import config, debug, link
from ratite.hw.pci.bus import PcieBus
from ratite.hw.pci.function import PciFunction
from ratite.hw.pci.mapping import Shown, pieces
from ratite.hw.pci.query import describe_bus
from ratite.qapi.errors import GenericError

PINS = 4
BUS_SIZE = 1 << 20
BACKGROUND = -1  # priority of what answers where nobody does
_WHOLE = 1 << 64


class PciWindow(LeafRegion):
    """Addresses of a CPU through which a piece of a PCI space is seen."""

    KIND = "pci-window"
    __slots__ = ("_base", "_host", "_space")

    def __init__(self, name: str, size: int, host: GpexPcihost, space: Space, base: int) -> None:
        super().__init__(name, size)
        self._host = host
        self._space = space
        self._base = base

    # An access to a device is looked up here, not by Space.load: half the time.

    def load(self, offset: int, size: int, access: Access) -> int:
        host = self._host
        if (host.stale or isinstance(access.initiator, PciFunction)) and not host.admits(access):
            return (1 << 8 * size) - 1
        addr = self._base + offset
        view = self._space.view
        r = view.ranges[bisect_right(view.starts, addr) - 1]
        if addr + size <= r.end:
            try:
                return r.load(addr - r.delta, size, access)
            except BusError:
                pass
        return (1 << 8 * size) - 1

    def store(self, offset: int, size: int, value: int, access: Access) -> None:
        host = self._host
        if (host.stale or isinstance(access.initiator, PciFunction)) and not host.admits(access):
            return
        addr = self._base + offset
        view = self._space.view
        r = view.ranges[bisect_right(view.starts, addr) - 1]
        if addr + size <= r.end:
            try:
                r.store(addr - r.delta, size, value, access)
            except BusError:
                return


class GpexRoot(PciFunction):
    """The host bridge as a function on its own bus."""

    TYPE: ClassVar[str] = "gpex-root"
    KIND: ClassVar[str] = ""
    PCI_DEVICE: ClassVar[int] = 0x0008
    PCI_CLASS: ClassVar[int] = 0x060000
    PIN: ClassVar[int] = 0

    def default_bus(self) -> Bus:
        """The bridge's own."""
        bus: Bus = self.parent.root_bus  # type: ignore[union-attr]  # a part of GpexPcihost
        return bus

    @property
    def wanted(self) -> int:
        """Slot 0."""
        return 0


class GpexPcihost(MmioDevice):
    """Generic PCI Express host bridge with ECAM."""

    TYPE: ClassVar[str] = "gpex-pcihost"
    IMPLEMENTS: ClassVar[tuple[str, ...]] = ("pci-host-bridge",)
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"intx": PINS}
    REGIONS: ClassVar[Mapping[str, Window]] = {
        "ecam": Window("ecam-size", (1, 8), (1, 4)),
        "mmio": Window("mmio-size"),
        "mmio64": Window("mmio64-size"),
        "pio": Window("pio-size"),
    }

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["pci-host-ecam-generic"],
            "regions": ["ecam"],
            "properties": {
                "address-space": {"const": "view"},
                "ecam-size": {"size": True},
                "pio-size": {"window": [1, 2]},
                "mmio-base": {"window": [2, 0]},
                "mmio-size": {"window": [2, 2]},
                "mmio64-base": {"window": [3, 0]},
                "mmio64-size": {"window": [3, 2]},
            },
            "ranges": {"1": "pio", "2": "mmio", "3": "mmio64"},
            "map": "intx",
        },
    )

    address_space = link("address-space", "what the devices' memory accesses and messages go to")
    ecam_size = config("size", 256 << 20, "size of the configuration window: 1 MiB a bus", unit="bytes")
    mmio_base = config("size", 0x40000000, "PCI address of the window below 4 GiB")
    mmio_size = config("size", 0x40000000, "size of the window below 4 GiB", unit="bytes")
    mmio64_base = config("size", 0x400000000, "PCI address of the other window")
    mmio64_size = config("size", 0x400000000, "size of the other window", unit="bytes")
    pio_size = config("size", 0x10000, "size of the I/O window", unit="bytes")
    peer_accesses = debug("uint64", 0, "accesses of devices to devices that were refused")
    messages_lost = debug("uint64", 0, "messages that nobody took")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        # Whether routes and maps are older than what the guest has written.
        self.stale = True
        self._routes: dict[int, PciFunction] = {}
        self._asserted: list[dict[PciFunction, None]] = [{} for _ in range(PINS)]
        self._sending = False

    # -- life cycle

    def make_parts(self) -> None:
        """The bus, and the function that the bridge is on it."""
        self.root_bus = PcieBus("pcie.0")
        self.add_child(self.root_bus)
        self.add_child(GpexRoot("gpex_root"))

    @property
    def space(self) -> Space:
        """What the devices access."""
        space: Space = self.address_space
        return space

    def windows(self) -> Mapping[str, Window]:
        """Only the configuration window is registers."""
        return {"ecam": self.REGIONS["ecam"]}

    def check_property(self, name: str, value: Any) -> None:
        """Sizes that mean something."""
        super().check_property(name, value)
        if name == "ecam-size" and (not BUS_SIZE <= value <= 256 * BUS_SIZE or value % BUS_SIZE):
            raise GenericError(f"Property '{self.TYPE}.ecam-size' must be 1 MiB a bus, for 1 to 256 buses, not {value}")
        if name == "pio-size" and not 0x1000 <= value <= 0x10000:
            raise GenericError(f"Property '{self.TYPE}.pio-size' must be between 4096 and 65536, not {value}")
        if name in ("mmio-size", "mmio64-size") and not value:
            raise GenericError(f"Property '{self.TYPE}.{name}' must be at least 1")

    def wire(self) -> None:
        for low, size, end in (
            (self.mmio_base, self.mmio_size, 1 << 32),
            (self.mmio64_base, self.mmio64_size, _WHOLE),
        ):
            if low + size > end:
                raise GenericError(f"'{self.path}': a window from {low:#x} on of {size:#x} bytes must end at or below {end:#x}")
        super().wire()
        self._memory = Space(f"{self.id}/memory")
        self._io = Space(f"{self.id}/io", 1 << 16)
        self._shown = (Shown(self._memory), Shown(self._io))
        for space in (self._memory, self._io):
            nobody = MmioRegion("nobody", space.root.size, self, _ones, _drop)
            space.map(nobody, 0, BACKGROUND)
        for name, space, base, size in (
            ("mmio", self._memory, self.mmio_base, self.mmio_size),
            ("mmio64", self._memory, self.mmio64_base, self.mmio64_size),
            ("pio", self._io, 0, self.pio_size),
        ):
            self.regions[name] = PciWindow(f"{self.id}/{name}", size, self, space, base)
        self._lines = [self.out("intx", pin) for pin in range(PINS)]
        self._asserted = [{} for _ in range(PINS)]
        self.moved()

    def fdt_node(self, tree: DeviceTree) -> None:
        """The bridge and its windows; what is behind it a guest finds out itself."""
        from ratite.hw.pci.fdt import describe

        describe(self, tree)

    # -- configuration space

    def moved(self) -> None:
        """BARs, windows, bus numbers or functions have changed."""
        self.stale = True

    def refresh(self) -> None:
        """Make routes and maps anew if something has changed."""
        if self.stale:
            self.stale = False
            self._routes = {}
            self._route(self.root_bus, 0, 0, self.ecam_size // BUS_SIZE - 1)
            memory, io = self._shown
            memory.show(set(pieces(self.root_bus, False, [(0, _WHOLE)])))
            io.show(set(pieces(self.root_bus, True, [(0, 1 << 16)])))

    def _route(self, bus: PcieBus, number: int, low: int, high: int) -> None:
        """Who answers for a bus and the buses low..high below it.  Where two bridges claim a number, the first has it."""
        if not bus.powered:
            return
        for devfn in sorted(bus.functions):
            function = bus.functions[devfn]
            # A device is found by its function 0.
            if devfn & ~7 in bus.functions:
                self._routes.setdefault(number << 8 | devfn, function)
        for devfn in sorted(bus.functions):
            bridge = bus.functions[devfn]
            child = bridge.secondary_bus
            if child is not None:
                secondary, subordinate = bridge.bus_numbers()
                first, last = max(secondary, low + 1), min(subordinate, high)
                if secondary == first and first <= last:
                    self._route(child, secondary, secondary, last)

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        self.refresh()
        function = self._routes.get(offset >> 12)
        if function is None or not self.admits(access):
            return (1 << 8 * size) - 1
        return function.config_read(offset & 0xFFF, size)

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        self.refresh()
        function = self._routes.get(offset >> 12)
        if function is not None and self.admits(access):
            function.config_write(offset & 0xFFF, size, value)

    def admits(self, access: Access | None) -> bool:
        """Whether the access may go to devices: not one of theirs.  Brings the map up to date."""
        if access is not None and isinstance(access.initiator, PciFunction):
            self.peer_accesses += 1
            return False
        if self.stale:
            self.refresh()
        return True

    # -- interrupts

    def line(self, function: PciFunction, level: int | bool) -> None:
        """What a function drives its pin to."""
        pin = self.pin_of(function)
        asserted = self._asserted[pin]
        if level:
            asserted[function] = None
        else:
            asserted.pop(function, None)
        self._lines[pin].set(bool(asserted))

    def pin_of(self, function: PciFunction) -> int:
        """Which of the four lines a function's interrupt comes out of."""
        pin, at = function.PIN - 1, function
        while True:
            pin += at.devfn >> 3
            bridge = at.bus.bridge
            if bridge is None:
                return pin % PINS
            at = bridge

    def forget(self, function: PciFunction) -> None:
        """A function goes: it drives nothing any more."""
        for pin, asserted in enumerate(self._asserted):
            if asserted.pop(function, self) is None:
                self._lines[pin].set(bool(asserted))

    def message(self, function: PciFunction, address: int, data: int) -> None:
        """A message of a function: 4 bytes to an address that the guest chose.  Dropped where nobody takes it."""
        if not function.is_master:
            return
        function.messages += 1
        if self._sending:
            self._lost(function)
            return
        self._sending = True
        try:
            self.space.store(address, 4, data, function.access)
        except BusError:
            self._lost(function)
        finally:
            self._sending = False

    def _lost(self, function: PciFunction) -> None:
        function.messages_lost += 1
        self.messages_lost += 1

    # -- for tests and query-pci

    def functions(self) -> dict[int, PciFunction]:
        """What a guest finds, by bus << 8 | slot << 3 | function."""
        self.refresh()
        return self._routes

    def describe_buses(self) -> list[dict[str, Any]]:
        """What every "pci-host-bridge" answers query-pci with."""
        return [{"bus": 0, "devices": describe_bus(self.root_bus, 0)}]


def _ones(offset: int, size: int, access: Access) -> int:
    return (1 << 8 * size) - 1


def _drop(offset: int, size: int, value: int, access: Access) -> None:
    pass

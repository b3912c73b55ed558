"""`PciFunction`: what every function on a PCI bus has.

A subclass gives its numbers as class attributes and, in `build()`, BARs and capabilities.  Configuration accesses come
through `config_read` and `config_write`; they never raise, whatever the guest writes.

    line(level)            INTx, if neither the guest has turned it off nor messages have replaced it
    signal(vector)         MSI-X or MSI, whichever the guest has turned on; False: neither
    space                  memory as the function sees it: nothing while it isn't bus master
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ratite.core.assembly import READY
from ratite.core.bus import BusDevice
from ratite.core.memory import Access, FlatView, Region
from ratite.core.objects.props import Prop, debug, state
from ratite.core.objects.props import config as config_prop
from ratite.hw.pci.config import ConfigSpace
from ratite.hw.pci.express import Power
from ratite.hw.pci.msi import Msi, Msix
from ratite.hw.pci.regs import (
    BAR0,
    BAR_64,
    BAR_IO,
    BAR_PREFETCH,
    CACHE_LINE,
    CAPABILITIES,
    CLASS,
    COMMAND,
    COMMAND_INTX_OFF,
    COMMAND_IO,
    COMMAND_MASTER,
    COMMAND_MEMORY,
    COMMAND_WRITABLE,
    CONFIG_SIZE,
    DEVICE,
    HEADER_END,
    HEADER_TYPE,
    INT_LINE,
    INT_PIN,
    MULTIFUNCTION,
    REVISION,
    STATUS,
    STATUS_INTX,
    STATUS_W1C,
    SUBSYSTEM,
    SUBSYSTEM_VENDOR,
    VENDOR,
)
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.hw.pci.bus import PcieBus

_ADDR = re.compile(r" *(?:0[xX])?0*([0-9a-fA-F]{1,2})(?:\.(?:0[xX])?0*([0-7]))?")
_NOTHING = FlatView()


class Capability(Protocol):
    """A capability with something to do when it is written."""

    start: int
    end: int

    def written(self, offset: int, end: int) -> None: ...


class Bar:
    """A base address register: `region` is seen where the guest puts it."""

    __slots__ = ("index", "io", "offset", "prefetch", "region", "wide")

    def __init__(self, index: int, region: Region, io: bool, wide: bool, prefetch: bool) -> None:
        self.index = index
        self.offset = BAR0 + 4 * index
        self.region = region
        self.io = io
        self.wide = wide
        self.prefetch = prefetch

    def address(self, config: ConfigSpace) -> int:
        """The address in it; -1 where nothing can be seen: at the very end of the addresses it can hold."""
        size = self.region.size
        address = config.get(self.offset, 8 if self.wide else 4) & ~(size - 1)
        end = 1 << 16 if self.io else 1 << 64 if self.wide else 1 << 32
        return address if address + size < end else -1


class BusMaster:
    """Memory as a function sees it: `view` is that of the host's address space while the function is bus master."""

    __slots__ = ("_function",)

    def __init__(self, function: PciFunction) -> None:
        self._function = function

    @property
    def view(self) -> FlatView:
        """The present view; nothing is in it while the function may not master the bus."""
        return self._function.bus.host.space.view if self._function.is_master else _NOTHING


class PciFunction(BusDevice):
    """A PCI function."""

    TYPE: ClassVar[str] = "pci-device"
    ABSTRACT: ClassVar[bool] = True
    BUS: ClassVar[str] = "PCIE"

    PCI_VENDOR: ClassVar[int] = 0x1B36
    PCI_DEVICE: ClassVar[int] = 0
    PCI_CLASS: ClassVar[int] = 0
    PCI_REVISION: ClassVar[int] = 0
    PCI_SUBSYSTEM: ClassVar[tuple[int, int]] = (0x1AF4, 0x1100)
    HEADER: ClassVar[int] = 0
    BARS: ClassVar[int] = 6
    # 1: INTA
    PIN: ClassVar[int] = 1
    # Whether it can only be a port of the root complex.
    ROOT_ONLY: ClassVar[bool] = False

    addr = config_prop("str", "", "Slot and optional function number, example: 06.0 or 06 (default: the first free slot)")
    multifunction = config_prop("bool", False, "other functions may be in the same slot")

    config_space: bytearray = state("bytes", b"", "configuration space")
    msix_table: bytearray = state("bytes", b"", "MSI-X table")
    msix_pending: bytearray = state("bytes", b"", "MSI-X pending bits")
    line_level: int = state("uint8", 0, "level of the function's own interrupt", maximum=1)
    messages: int = debug("uint64", 0, "messages sent")
    messages_lost: int = debug("uint64", 0, "messages that nobody took")
    address = debug("str", text="bus and address, once wired", getter="_address")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.config_space = bytearray(CONFIG_SIZE)
        self.conf = ConfigSpace(self.config_space)
        self.bars: list[Bar] = []
        self.capabilities: list[Capability] = []
        self.msi: Msi | None = None
        self.msix: Msix | None = None
        self.power: Power | None = None
        self.devfn = -1
        self._fresh = False
        self.access = Access(initiator=self)
        self.space: Any = BusMaster(self)

    # -- properties

    def set_property(self, name: str, value: Any) -> None:
        """As Obj's; an address may be a number as well, slot * 8 + function, -1: left open."""
        super().set_property(name, address_text(value) if name == "addr" else value)

    def check_property(self, name: str, value: Any) -> None:
        """An address is SLOT or SLOT.FUNCTION in hex."""
        super().check_property(name, value)
        if name == "addr" and value and parse_address(value) is None:
            raise GenericError(f"Property '{self.TYPE}.addr' doesn't take value '{value}'")

    @property
    def wanted(self) -> int | None:
        """The address that the client gave: slot * 8 + function."""
        return parse_address(self.addr) if self.addr else None

    @property
    def spelling(self) -> str:
        """For messages, as QEMU: "pcie-root-port,id=rp0"."""
        return f"{self.TYPE},id={self.id}"

    def _address(self) -> str:
        return f"{self.bus.id}:{self.devfn >> 3:02x}.{self.devfn & 7}" if self.devfn >= 0 and self.bus is not None else ""

    def given_as(self, prop: Prop) -> Any:
        """As Obj's, with the address that was found."""
        found = prop.name == "addr" and self.devfn >= 0
        return f"{self.devfn >> 3:02x}.{self.devfn & 7}" if found else super().given_as(prop)

    # -- life cycle

    def wire(self) -> None:
        """Take the place on the bus and make the configuration space."""
        super().wire()
        self.bus.plug(self)
        self.conf = ConfigSpace(self.config_space)
        self.bars, self.capabilities = [], []
        self.msi = self.msix = self.power = None
        config = self.conf
        config.declare(VENDOR, 2, self.PCI_VENDOR)
        config.declare(DEVICE, 2, self.PCI_DEVICE)
        config.declare(COMMAND, 2, 0, COMMAND_WRITABLE)
        config.declare(STATUS, 2, 0, 0, STATUS_W1C)
        config.declare(REVISION, 1, self.PCI_REVISION)
        config.declare(CLASS, 3, self.PCI_CLASS)
        config.declare(CACHE_LINE, 1, 0, 0xFF)
        config.declare(HEADER_TYPE, 1, self.HEADER | (MULTIFUNCTION if self.multifunction else 0))
        config.declare(INT_PIN, 1, self.PIN)
        if self.PIN:
            config.declare(INT_LINE, 1, 0, 0xFF)
        if not self.HEADER:
            config.declare(SUBSYSTEM_VENDOR, 2, self.PCI_SUBSYSTEM[0])
            config.declare(SUBSYSTEM, 2, self.PCI_SUBSYSTEM[1])
        self.build()
        config.reset()

    def unwire(self) -> None:
        """Leave the bus."""
        if self.bus is not None:
            self.bus.unplug_now(self)
        self.devfn = -1
        super().unwire()

    def build(self) -> None:
        """Declare what the function has besides the common header."""

    def add_bar(
        self, index: int, region: Region, *, io: bool = False, wide: bool = False, prefetch: bool = False
    ) -> None:
        """A BAR for a region, whose size must be a power of two (of at least 16 bytes; I/O: 4)."""
        size = region.size
        if size & (size - 1) or size < (4 if io else 16) or index + wide >= self.BARS:
            raise ValueError(f"BAR {index} of '{self.path}' can't have {size:#x} bytes")
        kind = BAR_IO if io else (BAR_64 if wide else 0) | (BAR_PREFETCH if prefetch else 0)
        bar = Bar(index, region, io, wide, prefetch)
        width = 8 if wide else 4
        mask = -size & (1 << 8 * width) - 1
        self.conf.declare(bar.offset, width, kind, mask if not io else mask & 0xFFFF)
        self.bars.append(bar)

    def add_msix(self, count: int, bar: int) -> Msix:
        """MSI-X with its table in a BAR of its own."""
        self.msix = Msix(self, count, bar)
        self.add_bar(bar, self.msix.region)
        self.capabilities.append(self.msix)
        return self.msix

    def add_msi(self, count: int = 1) -> Msi:
        """MSI."""
        self.msi = Msi(self, count)
        self.capabilities.append(self.msi)
        return self.msi

    def add_power(self) -> None:
        """Power management."""
        self.power = Power(self)
        self.capabilities.append(self.power)

    def reset(self) -> None:
        """As the guest's reset of the function."""
        super().reset()
        self.reset_function()
        if self._fresh:
            self._fresh = False
            if self.bus.bridge is not None:
                self.bus.bridge.plugged(self)

    def reset_function(self) -> None:
        """Everything that the guest sees, to its state after reset."""
        self.conf.reset()
        if self.msix is not None:
            self.msix.reset()
        self.line_level = 0
        self.update_line()
        self.moved()

    def post_load(self) -> None:
        super().post_load()
        self.update_line()
        self.moved()

    # -- hot plug

    def realize(self) -> None:
        """A device that comes while the machine is realized is told to its port, once it is reset."""
        super().realize()
        self._fresh = self.machine.phase == READY

    def unplug_request(self) -> bool:
        """A client wants the function gone: the port asks the guest."""
        if self.devfn < 0:
            # The guest has let go of it already.
            return True
        bridge = self.bus.bridge
        if bridge is None:
            raise GenericError(f"Bus '{self.bus.id}' does not support hotplugging")
        return bool(bridge.unplug_of(self))

    # -- configuration accesses: offset and size inside, naturally aligned

    def config_read(self, offset: int, size: int) -> int:
        """A read."""
        return self.conf.get(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """A write."""
        self.conf.write(offset, size, value)
        end = offset + size
        if offset < HEADER_END:
            self.header_written(offset, end)
        for capability in self.capabilities:
            if offset < capability.end and end > capability.start:
                capability.written(offset, end)

    def header_written(self, offset: int, end: int) -> None:
        """A write to the header."""
        if offset < COMMAND + 2 and end > COMMAND:
            self.update_line()
        if end > COMMAND and offset < CAPABILITIES:
            self.moved()

    def moved(self) -> None:
        """Where BARs are seen may have changed."""
        if self.bus is not None:
            self.bus.host.moved()

    # -- what a bridge has besides

    @property
    def secondary_bus(self) -> PcieBus | None:
        """The bus that the function makes."""
        return None

    def bus_numbers(self) -> tuple[int, int]:
        """The numbers of that bus and of the last one below it."""
        return 0, 0

    def windows(self, io: bool) -> list[tuple[int, int]]:
        """The addresses that reach that bus: [first, behind the last)."""
        return []

    # -- what the command register and power allow

    @property
    def awake(self) -> bool:
        """Whether it does more than answer configuration accesses."""
        return self.devfn >= 0 and self.bus.powered and (self.power is None or not self.power.off)

    def decodes(self, io: bool) -> bool:
        """Whether BARs of this sort are seen."""
        return bool(self.conf.data[COMMAND] & (COMMAND_IO if io else COMMAND_MEMORY)) and self.awake

    @property
    def is_master(self) -> bool:
        """Whether it may access memory: it and every bridge above is bus master."""
        function: PciFunction | None = self
        while function is not None:
            if not function.conf.data[COMMAND] & COMMAND_MASTER or not function.awake:
                return False
            function = function.bus.bridge
        return True

    # -- interrupts

    def line(self, level: int | bool) -> None:
        """The function's interrupt by line."""
        self.line_level = 1 if level else 0
        self.update_line()

    def update_line(self) -> None:
        """Tell the host what INTx is like."""
        data = self.conf.data
        if self.line_level:
            data[STATUS] |= STATUS_INTX
        else:
            data[STATUS] &= ~STATUS_INTX
        off = data[COMMAND + 1] & COMMAND_INTX_OFF >> 8 or self.by_messages or not self.awake
        if self.PIN and self.bus is not None and self.devfn >= 0:
            self.bus.host.line(self, self.line_level and not off)

    @property
    def by_messages(self) -> bool:
        """Whether the guest has turned MSI or MSI-X on."""
        return (self.msix is not None and self.msix.enabled) or (self.msi is not None and self.msi.enabled)

    def signal(self, vector: int) -> bool:
        """Send a vector's message; False if messages are off: the line must do."""
        if self.msix is not None and self.msix.enabled:
            self.msix.notify(vector)
            return True
        if self.msi is not None and self.msi.enabled:
            self.msi.notify(vector)
            return True
        return False

    def message(self, address: int, data: int) -> None:
        """The write that a message is."""
        self.bus.host.message(self, address, data)


def parse_address(text: str) -> int | None:
    """"06.0", "6" or "0x6.0x0" → slot * 8 + function; None when it is none."""
    match = _ADDR.fullmatch(text)
    if match is None or int(match[1], 16) > 31:
        return None
    return int(match[1], 16) << 3 | int(match[2] or "0", 16)


def address_text(value: Any) -> str:
    """An address as text; GenericError in QEMU's words for what is neither a text nor a number of the range."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        raise GenericError("Invalid parameter type for 'addr', expected: integer")
    if isinstance(value, bool) or not isinstance(value, int):
        raise GenericError("Invalid parameter type for 'addr', expected int or str")
    if not -(1 << 31) <= value < 1 << 31:
        raise GenericError("Parameter 'addr' expects int32_t")
    if not -1 <= value <= 255:
        raise GenericError("Parameter 'addr' expects a value between -1 and 255")
    return f"{value >> 3:02x}.{value & 7}" if value >= 0 else ""

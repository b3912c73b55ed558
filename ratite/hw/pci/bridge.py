"""`PciBridge`: a type 1 header: bus numbers, windows, bridge control.  PCI-to-PCI Bridge Architecture 1.2, section 3.2.

After reset every window is closed (base above limit), as in QEMU's ports.  A change of bus numbers or windows is seen at the
next access.  Left out: VGA and ISA forwarding, the secondary status' errors.
"""

from __future__ import annotations

from typing import ClassVar

from ratite.hw.pci.bus import PcieBus
from ratite.hw.pci.function import PciFunction
from ratite.hw.pci.regs import (
    BRIDGE_CONTROL,
    BRIDGE_CONTROL_WRITABLE,
    BRIDGE_RESET,
    IO_BASE,
    IO_BASE_HIGH,
    IO_LIMIT,
    IO_LIMIT_HIGH,
    MEMORY_BASE,
    MEMORY_LIMIT,
    PREF_BASE,
    PREF_BASE_HIGH,
    PREF_LIMIT,
    PREF_LIMIT_HIGH,
    PRIMARY,
    SECONDARY,
    SECONDARY_STATUS,
    STATUS_W1C,
    SUBORDINATE,
)
from ratite.qapi.errors import GenericError


class PciBridge(PciFunction):
    """A PCI-to-PCI bridge with a bus below it, named as the bridge."""

    TYPE: ClassVar[str] = "pci-bridge-device"
    ABSTRACT: ClassVar[bool] = True
    PCI_CLASS: ClassVar[int] = 0x060400
    HEADER: ClassVar[int] = 1
    BARS: ClassVar[int] = 2

    child: PcieBus | None = None

    def make_parts(self) -> None:
        """The bus."""
        self.child = PcieBus(self.id)
        self.add_child(self.child)

    @property
    def secondary_bus(self) -> PcieBus | None:
        """The bus below."""
        return self.child

    def plug_refusal(self) -> str:
        """Why nothing can be plugged below while the machine is realized; "": it can."""
        return f"Bus '{self.id}' does not support hotplugging"

    def plugged(self, function: PciFunction) -> None:
        """A device came while the machine is realized."""

    def unplug_of(self, function: PciFunction) -> bool:
        """A client wants a device gone: as PciFunction.unplug."""
        raise GenericError(f"Bus '{self.id}' does not support hotplugging")

    def build(self) -> None:
        """The header."""
        super().build()
        config = self.conf
        for offset in (PRIMARY, SECONDARY, SUBORDINATE):
            config.declare(offset, 1, 0, 0xFF)
        config.declare(IO_BASE, 1, 0xF0, 0xF0)
        config.declare(IO_LIMIT, 1, 0, 0xF0)
        config.declare(SECONDARY_STATUS, 2, 0, 0, STATUS_W1C)
        config.declare(MEMORY_BASE, 2, 0xFFF0, 0xFFF0)
        config.declare(MEMORY_LIMIT, 2, 0, 0xFFF0)
        config.declare(PREF_BASE, 2, 0xFFF1, 0xFFF0)
        config.declare(PREF_LIMIT, 2, 1, 0xFFF0)
        config.declare(PREF_BASE_HIGH, 4, 0, 0xFFFFFFFF)
        config.declare(PREF_LIMIT_HIGH, 4, 0, 0xFFFFFFFF)
        config.declare(IO_BASE_HIGH, 2, 0)
        config.declare(IO_LIMIT_HIGH, 2, 0)
        config.declare(BRIDGE_CONTROL, 2, 0, BRIDGE_CONTROL_WRITABLE)

    def bus_numbers(self) -> tuple[int, int]:
        """Secondary and subordinate; the numbers are the guest's, whatever they are."""
        return self.conf.data[SECONDARY], self.conf.data[SUBORDINATE]

    def windows(self, io: bool) -> list[tuple[int, int]]:
        """The windows that are open."""
        get = self.conf.get
        if io:
            found = [((get(IO_BASE, 1) & 0xF0) << 8, (get(IO_LIMIT, 1) & 0xF0) << 8 | 0xFFF)]
        else:
            low = (get(PREF_BASE, 2) & 0xFFF0) << 16 | get(PREF_BASE_HIGH, 4) << 32
            high = (get(PREF_LIMIT, 2) & 0xFFF0) << 16 | get(PREF_LIMIT_HIGH, 4) << 32 | 0xFFFFF
            found = [
                ((get(MEMORY_BASE, 2) & 0xFFF0) << 16, (get(MEMORY_LIMIT, 2) & 0xFFF0) << 16 | 0xFFFFF),
                (low, high),
            ]
        return [(low, high + 1) for low, high in found if low <= high]

    def header_written(self, offset: int, end: int) -> None:
        """A secondary bus reset resets what is below."""
        super().header_written(offset, end)
        if offset <= BRIDGE_CONTROL < end and self.conf.data[BRIDGE_CONTROL] & BRIDGE_RESET and self.child is not None:
            self.child.reset_functions()

    def reset_function(self) -> None:
        """The bus below is reset with it."""
        super().reset_function()
        if self.child is not None:
            self.child.reset_functions()

"""Message-signalled interrupts: a write of 4 bytes to an address that the guest chose.

MSI: PCI Local Bus 3.0, section 6.8.1 (64-bit address, masks by vector). MSI-X: section 6.8.2; table and pending bits lie in
one BAR of their own, entries of 16 bytes: address, data, control (bit 0: masked).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.core.memory import MmioRegion
from ratite.hw.pci.regs import CAP_MSI, CAP_MSIX

if TYPE_CHECKING:
    from ratite.hw.pci.function import PciFunction

ENTRY = 16
MSIX_ENABLE, MSIX_MASK = 0x8000, 0x4000
MSIX_VECTORS_MAX = 2048
MSI_SIZE = 24


class Msi:
    """The MSI capability: `count` vectors, a power of two up to 32."""

    def __init__(self, function: PciFunction, count: int) -> None:
        config = function.conf
        self.start = config.add_capability(CAP_MSI, MSI_SIZE)
        self.end = self.start + MSI_SIZE
        self.count = count
        self._function = function
        self._config = config
        config.declare(self.start + 2, 2, count.bit_length() - 1 << 1 | 0x180, 0x71)
        config.declare(self.start + 4, 4, 0, 0xFFFFFFFC)
        config.declare(self.start + 8, 4, 0, 0xFFFFFFFF)
        config.declare(self.start + 12, 2, 0, 0xFFFF)
        config.declare(self.start + 16, 4, 0, (1 << count) - 1)

    @property
    def enabled(self) -> bool:
        """Whether it replaces the line."""
        return bool(self._config.data[self.start + 2] & 1)

    def notify(self, vector: int) -> None:
        """Send the vector's message, later if it is masked.  Vectors beyond those that the guest allots fold onto them."""
        config, start = self._config, self.start
        allotted = min(1 << (config.data[start + 2] >> 4 & 7), self.count)
        vector &= allotted - 1
        pending = config.get(start + 20, 4)
        if config.get(start + 16, 4) >> vector & 1:
            config.put(start + 20, 4, pending | 1 << vector)
            return
        config.put(start + 20, 4, pending & ~(1 << vector))
        data = config.get(start + 12, 2) & ~(allotted - 1) | vector
        self._function.message(config.get(start + 4, 8), data)

    def written(self, offset: int, end: int) -> None:
        """The guest wrote to the capability: what is pending and may go, goes."""
        self._function.update_line()
        if self.enabled:
            due = self._config.get(self.start + 20, 4) & ~self._config.get(self.start + 16, 4)
            for vector in range(self.count):
                if due >> vector & 1:
                    self.notify(vector)


class Msix:
    """The MSI-X capability with `count` vectors; `region` is to be a BAR's."""

    def __init__(self, function: PciFunction, count: int, bar: int) -> None:
        config = function.conf
        if not 0 < count <= MSIX_VECTORS_MAX:
            raise ValueError(f"MSI-X vectors must be between 1 and {MSIX_VECTORS_MAX}, not {count}")
        self.count = count
        self.start = config.add_capability(CAP_MSIX, 12)
        self.end = self.start + 12
        self._function = function
        self._config = config
        self._pending_at = max(0x800, 1 << (count * ENTRY - 1).bit_length())
        size = max(0x1000, 2 * self._pending_at)
        config.declare(self.start + 2, 2, count - 1, MSIX_ENABLE | MSIX_MASK)
        config.declare(self.start + 4, 4, bar)
        config.declare(self.start + 8, 4, self._pending_at | bar)
        self.region = MmioRegion(
            f"{function.id}/msix", size, function, self._read, self._write, access=(1, 8), impl=(4, 4)
        )
        self.reset()

    def reset(self) -> None:
        """Every vector masked, none pending."""
        self._function.msix_table = bytearray((bytes(12) + b"\1\0\0\0") * self.count)
        self._function.msix_pending = bytearray(self.count + 63 >> 6 << 3)

    @property
    def enabled(self) -> bool:
        """Whether it replaces the line."""
        return bool(self._config.data[self.start + 3] & 0x80)

    def notify(self, vector: int) -> None:
        """Send the vector's message, later if it or the function is masked; nothing for a vector that isn't there."""
        if vector >= self.count:
            return
        table, pending = self._function.msix_table, self._function.msix_pending
        at = vector * ENTRY
        if table[at + 12] & 1 or self._config.data[self.start + 3] & 0x40:
            pending[vector >> 3] |= 1 << (vector & 7)
            return
        pending[vector >> 3] &= ~(1 << (vector & 7)) & 0xFF
        address = int.from_bytes(table[at : at + 8], "little") & ~3
        self._function.message(address, int.from_bytes(table[at + 8 : at + 12], "little"))

    def written(self, offset: int, end: int) -> None:
        """The guest wrote to the capability: what is pending and may go, goes."""
        self._function.update_line()
        pending = self._function.msix_pending
        if self.enabled and any(pending):
            for vector in range(self.count):
                if pending[vector >> 3] >> (vector & 7) & 1:
                    self.notify(vector)

    # -- the BAR

    def _read(self, offset: int, size: int, access: Any = None) -> int:
        table, pending = self._function.msix_table, self._function.msix_pending
        if offset >= self._pending_at:
            return int.from_bytes(pending[offset - self._pending_at : offset - self._pending_at + size], "little")
        return int.from_bytes(table[offset : offset + size], "little")

    def _write(self, offset: int, size: int, value: int, access: Any = None) -> None:
        table = self._function.msix_table
        if offset < len(table):
            control = offset & 15 == 12
            table[offset : offset + 4] = (value & 1 if control else value).to_bytes(4, "little")
            vector = offset >> 4
            if control and self.enabled and self._function.msix_pending[vector >> 3] >> (vector & 7) & 1:
                self.notify(vector)

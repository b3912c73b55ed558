"""Configuration space of a function: bytes, which of their bits a write changes, and the lists of capabilities.

PCI Local Bus 3.0, section 6; PCI Express 4.0, section 7.  Values are little-endian.  `data` is the function's state, kept by
it; what is here says what a write does to it.
"""

from __future__ import annotations

from ratite.hw.pci.regs import CAPABILITIES, CONFIG_SIZE, EXTENDED, HEADER_END, STATUS, STATUS_CAPABILITIES


class ConfigSpace:
    """4096 bytes in `data`.  Offsets and sizes (1, 2, 4, and 8 for what the device sets) lie inside."""

    __slots__ = ("_last", "_last_extended", "_next", "_next_extended", "_reset", "_w1c", "_writable", "data")

    def __init__(self, data: bytearray) -> None:
        data[:] = bytes(CONFIG_SIZE)
        self.data = data
        self._reset = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._w1c = bytearray(CONFIG_SIZE)
        self._last, self._next = CAPABILITIES, HEADER_END
        self._last_extended, self._next_extended = 0, EXTENDED

    # -- what the function declares

    def declare(self, offset: int, size: int, value: int, writable: int = 0, w1c: int = 0) -> None:
        """A register: value after reset, bits that a write sets, bits that writing 1 clears."""
        end = offset + size
        self._reset[offset:end] = self.data[offset:end] = value.to_bytes(size, "little")
        self._writable[offset:end] = writable.to_bytes(size, "little")
        self._w1c[offset:end] = w1c.to_bytes(size, "little")

    def add_capability(self, id: int, size: int) -> int:
        """Room for a capability of `size` bytes with its two bytes of head; gives its offset."""
        offset = self._next
        self._next = offset + size + 3 & ~3
        if self._next > EXTENDED:
            raise ValueError("capabilities of a function must fit 192 bytes")
        self.declare(offset, 1, id)
        self.declare(self._last, 1, offset)
        self._last = offset + 1
        self.declare(STATUS, 1, self._reset[STATUS] | STATUS_CAPABILITIES)
        return offset

    def add_extended(self, id: int, version: int, size: int) -> int:
        """Room for an extended capability with its four bytes of head; gives its offset."""
        offset = self._next_extended
        self._next_extended = offset + size + 3 & ~3
        self.declare(offset, 4, id | version << 16)
        if self._last_extended:
            last = self._last_extended
            head = int.from_bytes(self._reset[last : last + 4], "little")
            self.declare(last, 4, head & 0xFFFFF | offset << 20)
        self._last_extended = offset
        return offset

    # -- use

    def get(self, offset: int, size: int) -> int:
        """A value."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    def put(self, offset: int, size: int, value: int) -> None:
        """The function itself changes a register."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest writes."""
        end = offset + size
        old = int.from_bytes(self.data[offset:end], "little")
        writable = int.from_bytes(self._writable[offset:end], "little")
        w1c = int.from_bytes(self._w1c[offset:end], "little")
        new = (old & ~writable | value & writable) & ~(value & w1c)
        self.data[offset:end] = new.to_bytes(size, "little")

    def reset(self) -> None:
        """Every register to its value after reset."""
        self.data[:] = self._reset

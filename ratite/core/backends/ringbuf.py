"""The chardev `ringbuf`: keeps the newest bytes for ringbuf-read.

ringbuf-write puts bytes into the same ring (as QEMU's does), so they come out of ringbuf-read and reach no guest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import Chardev, int_option
from ratite.core.memory.limits import check_host_memory
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet

MAX_SIZE = 1 << 30


class RingbufChardev(Chardev):
    """A ring of `size` bytes (a power of two); the oldest are overwritten."""

    TYPE: ClassVar[str] = "chardev-ringbuf"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"size"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self.size = int_option(options, "size", 65536)
        if self.size <= 0 or self.size & (self.size - 1):
            raise GenericError("size of ringbuf chardev must be power of two")
        if self.size > MAX_SIZE:
            raise GenericError(f"size of ringbuf chardev must be at most {MAX_SIZE}, not {self.size}")
        check_host_memory(id, self.size)
        self._ring = bytearray()

    def put(self, data: bytes) -> int:
        with self.mutex:
            self._ring += data[-self.size :]
            excess = len(self._ring) - self.size
            if excess > 0:
                del self._ring[:excess]
        return len(data)

    def read(self, size: int) -> bytes:
        """Takes up to `size` of the oldest bytes out."""
        with self.mutex:
            data = bytes(self._ring[:size])
            del self._ring[:size]
        return data

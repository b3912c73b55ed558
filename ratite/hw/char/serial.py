"""What serial devices share: the link to a chardev, and a transmit queue that stalls while the peer doesn't read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.device import MmioDevice
from ratite.core.objects.props import debug, link

if TYPE_CHECKING:
    from ratite.core.backends.chardev import Chardev, Line


class SerialDevice(MmioDevice):
    """A device with one chardev; without one, what it sends is dropped."""

    TYPE: ClassVar[str] = "serial-device"
    ABSTRACT: ClassVar[bool] = True

    # Offset → the read hook of a 4-byte register that guests poll: called without a look into the table.
    HOT_READS: ClassVar[Mapping[int, str]] = MappingProxyType({})

    chardev: Chardev | None = link("chardev", "the other end of the line", optional=True)
    sent_bytes = debug("uint64", 0, "bytes that were given to the chardev")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.line: Line | None = None

    def wire(self) -> None:
        super().wire()
        self._hot: dict[int, Callable[[int], int]] = {at: getattr(self, name) for at, name in self.HOT_READS.items()}

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        hot = self._hot.get(offset)
        return hot(0) if hot is not None and size == 4 else super().mmio_read(region, offset, size, access)

    def mmio_reader(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[], int] | None:
        hot = self._hot.get(offset)
        return partial(hot, 0) if hot is not None and size == 4 else super().mmio_reader(region, offset, size, access)

    def realize(self) -> None:
        super().realize()
        if self.chardev is not None:
            self.chardev.attach(self)

    def unrealize(self) -> None:
        if self.line is not None:
            self.line.detach()
            self.line = None
        super().unrealize()

    def send(self, data: bytes) -> int:
        """How many bytes of `data` the line took."""
        if self.line is None:
            return len(data)
        taken = self.line.write(data)
        self.sent_bytes += taken
        return taken

    def made_room(self) -> None:
        """Asks the chardev for what it holds back; called after the guest took bytes, never from `chr_receive`."""
        if self.line is not None:
            self.line.accept_input()

    def chr_changed(self, chardev: Chardev) -> None:
        """Another chardev takes the place of the line's (chardev-change)."""
        self.chardev = chardev

    def chr_can_receive(self) -> int:
        """Room for bytes from the line."""
        raise NotImplementedError

    def chr_receive(self, data: bytes) -> None:
        """Bytes from the line."""
        raise NotImplementedError

    def chr_event(self, name: str) -> None:
        """The peer came or went, or held the line low ("break")."""

    def chr_writable(self) -> None:
        """The line takes bytes again."""

"""The chardevs `pipe` (two named pipes, or one thing that is read and written) and `serial` (a serial port of the host).

A port is set to 115200 baud, 8 bits, no parity, raw; what a guest sets at its UART doesn't reach it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import str_option
from ratite.core.backends.file import open_for_bytes
from ratite.core.backends.stream import StreamChardev
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet


class DeviceChardev(StreamChardev):
    """What both have: `device`, a path."""

    TYPE: ClassVar[str] = "chardev-device"
    ABSTRACT: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"device"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.device = str_option(options, "device")

    def _begin(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self.connected_event.set()
        self.io.add(self)

    def hang_up(self) -> None:
        """There is nobody else to talk to."""


class PipeChardev(DeviceChardev):
    """`device`.in is read and `device`.out written; where one isn't there, `device` itself is both."""

    TYPE: ClassVar[str] = "chardev-pipe"

    def open(self) -> None:
        files = self.owner.files
        try:
            read_fd = open_for_bytes(files, f"{self.device}.in", os.O_RDWR)
        except GenericError:
            both = open_for_bytes(files, self.device, os.O_RDWR)
            self._begin(both, both)
            return
        try:
            write_fd = open_for_bytes(files, f"{self.device}.out", os.O_RDWR)
        except GenericError:
            os.close(read_fd)
            both = open_for_bytes(files, self.device, os.O_RDWR)
            self._begin(both, both)
            return
        self._begin(read_fd, write_fd)


class SerialChardev(DeviceChardev):
    """The serial port `device`."""

    TYPE: ClassVar[str] = "chardev-serial"

    def open(self) -> None:
        fd = open_for_bytes(self.owner.files, self.device, os.O_RDWR)
        if sys.platform != "win32" and os.isatty(fd):
            import termios
            import tty

            with suppress(termios.error):
                tty.setraw(fd)
                now = termios.tcgetattr(fd)
                now[2] |= termios.CLOCAL | termios.CREAD
                now[4] = now[5] = termios.B115200
                termios.tcsetattr(fd, termios.TCSANOW, now)
        self._begin(fd, fd)

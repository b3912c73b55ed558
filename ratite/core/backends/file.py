"""The chardevs `file` (output to a file) and `stdio` (the daemon's own standard input and output).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import bool_option, str_option
from ratite.core.backends.stream import StreamChardev
from ratite.core.hostfiles import STDIO
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet
    from ratite.core.hostfiles import HostFiles

_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_for_bytes(files: HostFiles, path: str, flags: int) -> int:
    """A descriptor that doesn't block; GenericError."""
    try:
        return files.open(path, flags | _NONBLOCK, 0o666)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not open '{path}': {reason}") from None


class OwnStream(StreamChardev):
    """Descriptors with no peer behind them: the end of the input is not the end of the line."""

    ABSTRACT: ClassVar[bool] = True

    def hang_up(self) -> None:
        """There is nobody else to talk to."""

    def end_of_input(self) -> None:
        with self.mutex:
            fd, self._read_fd = self._read_fd, -1
        os.close(fd)


class FileChardev(OwnStream):
    """Output goes to the file `out`, made new or (`append`) continued; input comes from the file `in`, if any."""

    TYPE: ClassVar[str] = "chardev-file"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"in", "out", "append"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.out = str_option(options, "out")
        self.append = bool_option(options, "append", False)
        self.input = None if options.get("in") is None else str_option(options, "in")

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self.append else os.O_TRUNC)
        self._write_fd = open_for_bytes(self.owner.files, self.out, flags)
        if self.input is not None:
            try:
                self._read_fd = open_for_bytes(self.owner.files, self.input, os.O_RDONLY)
            except GenericError:
                os.close(self._write_fd)
                raise
        self.connected_event.set()
        self.io.add(self)


class StdioChardev(OwnStream):
    """The daemon's standard input and output; a terminal is raw while it is in use (`signal`: ^C still ends us)."""

    TYPE: ClassVar[str] = "chardev-stdio"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"signal"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.signal = bool_option(options, "signal", True)
        self.fds = (0, 1)
        self._terminal: list[Any] | None = None

    def open(self) -> None:
        self.owner.files.need(STDIO, "chardev 'stdio'")
        if any(isinstance(other, StdioChardev) for other in self.owner.children.values()):
            raise GenericError("cannot use stdio by multiple character devices")
        if sys.platform == "win32":
            raise GenericError("chardev 'stdio' needs a POSIX host")
        self._raw_terminal()
        self._read_fd = _own_description(self.fds[0], os.O_RDONLY)
        self._write_fd = _own_description(self.fds[1], os.O_WRONLY)
        self.connected_event.set()
        self.io.add(self)

    def close(self) -> None:
        super().close()
        if sys.platform != "win32" and self._terminal is not None:
            import termios

            termios.tcsetattr(self.fds[0], termios.TCSANOW, self._terminal)
            self._terminal = None

    def _raw_terminal(self) -> None:
        if sys.platform == "win32" or not os.isatty(self.fds[0]):
            return
        try:
            import termios
        except ImportError as error:
            raise GenericError(f"chardev 'stdio' can't use a terminal on this host: {error}") from None
        self._terminal = termios.tcgetattr(self.fds[0])
        raw = termios.tcgetattr(self.fds[0])
        raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR)
        raw[0] &= ~(termios.IGNCR | termios.ICRNL | termios.IXON)
        raw[1] |= termios.OPOST
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self.signal:
            raw[3] &= ~termios.ISIG
        termios.tcsetattr(self.fds[0], termios.TCSANOW, raw)


def _own_description(fd: int, mode: int) -> int:
    """`fd` again, non-blocking without making it so for the processes that share it, where the host can."""
    try:
        return os.open(f"/proc/self/fd/{fd}", mode | _NONBLOCK)
    except OSError:
        try:
            copy = os.dup(fd)
        except OSError:
            return -1
        if sys.platform != "win32":
            os.set_blocking(copy, False)
        return copy

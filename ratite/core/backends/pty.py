"""The chardev `pty`: a pseudo terminal, whose slave somebody may open.

    nobody ──(the slave is opened)──> connected ──(its last holder closes it)──> nobody

The kernel tells the second step (hang-up) but not the first, so while nobody is there the master is looked at now and
then, and whenever the guest sends something.  What it sends to nobody is dropped.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import BUFFER, str_option
from ratite.core.backends.stream import StreamChardev
from ratite.core.hostfiles import PTY
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet


class PtyChardev(StreamChardev):
    """A pseudo terminal; `slave` is the path to open."""

    TYPE: ClassVar[str] = "chardev-pty"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"path"})

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self._init_stream()
        self.slave = ""
        self.look_after = 0.25  # host seconds between looks
        self._master = -1
        self._link = None if options.get("path") is None else str_option(options, "path")

    @property
    def filename(self) -> str:
        return f"pty:{self.slave}"

    def open(self) -> None:
        self.owner.files.need(PTY, "chardev 'pty'")
        if sys.platform == "win32":
            raise GenericError("chardev 'pty' needs a POSIX host")
        try:
            import tty
        except ImportError as error:
            raise GenericError(f"chardev 'pty' can't be used on this host: {error}") from None
        try:
            master, slave = os.openpty()
        except OSError as error:
            raise GenericError(f"Failed to create PTY: {error.strerror}") from None
        self.slave = os.ttyname(slave)
        tty.setraw(slave)
        os.set_blocking(master, False)
        os.close(slave)
        try:
            self._make_link()
        except GenericError:
            os.close(master)
            raise
        self._master = master
        self.io.add(self)

    def _make_link(self) -> None:
        if self._link is None:
            return
        try:
            with self.owner.files.place(self._link, make=True) as place:
                os.symlink(self.slave, place)
        except OSError as error:
            self._link = None
            raise GenericError(f"Failed to create PTY symlink: {error.strerror}") from None

    def close(self) -> None:
        if self._link is not None:
            files = self.owner.files
            with suppress(OSError), files.place(self._link, make=True) as place:
                # Only our own: somebody may have put another one there.
                if os.readlink(place) == self.slave:
                    files.unlink(self._link)
        super().close()

    def close_fd(self, fd: int) -> None:
        """The master stays open: it is the same one for the next who comes."""

    def put(self, data: bytes) -> int:
        with self.mutex:
            if self._write_fd < 0 and self._is_open():
                # Who has opened it since the last look misses nothing.
                self._early += data[: BUFFER - len(self._early)]
                self.io.call(self.poll)
                return len(data)
        return super().put(data)

    def _is_open(self) -> bool:
        """Whether somebody has the slave."""
        if sys.platform == "win32" or self._master < 0:
            return False
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poller.poll(0))

    def poll_after(self) -> float | None:
        return self.look_after if self._read_fd < 0 else None

    def poll(self) -> None:
        """Looks whether somebody opened the slave."""
        if self._read_fd < 0 and self._is_open():
            self.peer_came(self._master, self._master)

    def _shut(self) -> None:
        super()._shut()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

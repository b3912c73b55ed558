"""The driver `file`: a regular file of the host as an image, locked while a device uses it.

A file that isn't a multiple of 512 bytes long counts as if zeros followed it.  Left out: block devices,
persistent reservations, the ways of asynchronous I/O (there is one: a thread).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.block.direct import Direct, open_direct
from ratite.core.backends.block.hostio import CONSISTENT_READ, LOCKLESS, WRITE, Locks
from ratite.core.backends.block.node import SECTOR, BlockNode, NodeOptions
from ratite.core.backends.block.worker import DISCARD, Request, Worker
from ratite.core.hostfiles import FREE, HostFiles
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.iothread import IoThread
    from ratite.core.owner import Owner


class FileNode(BlockNode):
    """An image file."""

    TYPE: ClassVar[str] = "block-file"
    DRIVER: ClassVar[str] = "file"

    def __init__(
        self,
        id: str,
        owner: Owner,
        path: str,
        chosen: NodeOptions,
        locking: str = "auto",
        files: HostFiles = FREE,
    ) -> None:
        super().__init__(id, chosen)
        self._path = path
        self._files = files
        self._locking = locking
        self._fd, self.read_only = _open_as(path, chosen, files)
        self._bytes = os.fstat(self._fd).st_size
        self._locks = Locks(self._fd) if locking != "off" else None
        if locking == "on" and not Locks.supported():
            os.close(self._fd)
            raise GenericError("File locking is not supported on this host")
        self._worker = Worker(self._fd, self._bytes, owner, id, Direct(self._fd) if chosen.direct else None)
        self._discards = {"discard-nb-ok": 0, "discard-nb-failed": 0, "discard-bytes-ok": 0}

    @property
    def filename(self) -> str:
        return self._path

    def length(self) -> int:
        return -(-self._bytes // SECTOR) * SECTOR

    def file_bytes(self) -> int:
        if sys.platform == "win32":
            return self._bytes
        return os.fstat(self._fd).st_blocks * 512

    def check_reopen(self, options: Mapping[str, Any]) -> None:
        super().check_reopen(options)
        if options["filename"] != self._path:
            raise GenericError("Cannot change the option 'filename'")
        if options.get("locking", "auto") != self._locking:
            raise GenericError("Cannot change the option 'locking'")

    def reopen(self, chosen: NodeOptions, options: Mapping[str, Any]) -> None:
        was = self.chosen
        if (chosen.read_only, chosen.direct, chosen.force_share) == (self.read_only, was.direct, was.force_share):
            self.chosen = chosen
            return
        fd, read_only = _open_as(self._path, chosen, self._files)
        try:
            direct = Direct(fd) if chosen.direct else None
            self._move_locks(fd, chosen)
        except (OSError, GenericError):
            os.close(fd)
            raise
        self._fd, self.read_only = fd, read_only
        self._worker.switch(fd, direct)

    def _move_locks(self, fd: int, chosen: NodeOptions) -> None:
        """Takes the locks of the users on another descriptor, as `chosen` wants them; GenericError, and all is as before."""
        was, old = self.chosen, self._locks
        if old is not None:
            # Locks of one descriptor would be in the way of the other's.
            old.take(frozenset(), frozenset())
            self._locks = Locks(fd)
        self.chosen = chosen
        try:
            self.users_changed()
        except GenericError:
            self.chosen, self._locks = was, old
            self.users_changed()
            raise

    def resize(self, size: int) -> None:
        if self.read_only:
            raise GenericError("Image is read-only")
        try:
            os.ftruncate(self._fd, size)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise GenericError(f"Failed to resize the image: {reason}") from None
        self._bytes = size
        self._worker.resized(size)
        self.resized()

    def image_info(self) -> dict[str, Any]:
        return {"format-specific": {"type": "file", "data": {}}}

    def served_by(self, thread: IoThread | None) -> None:
        self._worker.served_by(thread)

    def forward(self, request: Request) -> None:
        self._worker.submit(request)

    def passed_by(self, request: Request, end: int) -> None:
        super().passed_by(request, end)
        if request.op == DISCARD:
            self._discards["discard-nb-failed" if request.error else "discard-nb-ok"] += 1
            self._discards["discard-bytes-ok"] += 0 if request.error else request.size

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "driver-specific": {"driver": "file", **self._discards}}

    def users_changed(self) -> None:
        """Locks that say what the users do."""
        if self._locks is None:
            return
        used: frozenset[int] = frozenset()
        unshared: frozenset[int] = frozenset()
        if self.users and not self.chosen.force_share:
            used, unshared = frozenset({CONSISTENT_READ}), frozenset({WRITE})
            if any(user.writes for user in self.users.values()):
                used |= {WRITE}
        try:
            clash = self._locks.take(used, unshared)
        except OSError as error:
            if error.errno in LOCKLESS:
                self._locks = None  # a file system without locks
                return
            raise GenericError(f"Failed to lock '{self._path}': {error.strerror}") from None
        if clash:
            raise GenericError(clash)

    def close(self) -> None:
        self._worker.end()


def _open_as(path: str, chosen: NodeOptions, files: HostFiles) -> tuple[int, bool]:
    """A descriptor, and whether it is read-only; GenericError."""
    if chosen.read_only or not chosen.auto_read_only:
        return _open(path, chosen.read_only, chosen.direct, files), chosen.read_only
    try:
        return _open(path, False, chosen.direct, files), False
    except GenericError:
        # Whatever the reason was: if reading fails, too, that is the error.
        return _open(path, True, chosen.direct, files), True


def _open(path: str, read_only: bool, direct: bool, files: HostFiles) -> int:
    if sys.platform == "win32":
        raise GenericError("The 'file' block driver needs a POSIX host")
    if not path:
        raise GenericError("The 'file' block driver requires a file name")
    # Not waiting for the other end of a pipe; of no effect on a regular file.
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = open_direct(path, flags, files) if direct else files.open(path, flags)
    except (OSError, ValueError) as error:
        told = getattr(error, "desc", "")
        if told:
            raise GenericError(told) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not open '{path}': {reason}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise GenericError(f"'file' driver requires '{path}' to be a regular file")
    return fd

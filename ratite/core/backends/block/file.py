"""The driver `file`: a regular file of the host as an image, locked while a device uses it.

A file that isn't a multiple of 512 bytes long counts as if zeros followed it.  Left out: block devices,
auto-read-only, persistent reservations, the ways of asynchronous I/O (there is one: a thread).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.block.direct import Direct, open_direct
from ratite.core.backends.block.hostio import CONSISTENT_READ, WRITE, Locks
from ratite.core.backends.block.node import SECTOR, BlockNode
from ratite.core.backends.block.worker import DISCARD, Request, Worker
from ratite.core.hostfiles import FREE, HostFiles
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
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
        read_only: bool,
        discard: bool,
        no_flush: bool,
        direct: bool = False,
        locking: str = "auto",
        files: HostFiles = FREE,
    ) -> None:
        super().__init__(id, read_only, discard, no_flush, direct)
        self._path = path
        self._fd = _open(path, read_only, direct, files)
        self._bytes = os.fstat(self._fd).st_size
        self._locks = Locks(self._fd) if locking != "off" else None
        if locking == "on" and not Locks.supported():
            os.close(self._fd)
            raise GenericError("File locking is not supported on this host")
        self._worker = Worker(self._fd, self._bytes, owner, id, Direct(self._fd) if direct else None)
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
        if self.users:
            used, unshared = frozenset({CONSISTENT_READ}), frozenset({WRITE})
            if any(user.writes for user in self.users.values()):
                used |= {WRITE}
        try:
            clash = self._locks.take(used, unshared)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK):
                self._locks = None  # a file system without locks
                return
            raise GenericError(f"Failed to lock '{self._path}': {error.strerror}") from None
        if clash:
            raise GenericError(clash)

    def close(self) -> None:
        self._worker.end()


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

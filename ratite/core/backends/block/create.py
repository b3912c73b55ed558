"""Making images (blockdev-create): regular files of a size, with or without the host's blocks."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratite.core.backends.block.hostio import LOCKLESS, WRITE, Locks
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.hostfiles import HostFiles
    from ratite.core.jobs import Progress

_PIECE = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def create(options: Mapping[str, Any], files: HostFiles, progress: Progress) -> None:
    """Makes the image of BlockdevCreateOptions, unless it is there and used; GenericError.  On a job's thread."""
    name, size = options["filename"], options["size"]
    try:
        fd = files.open(name, _FLAGS, 0o644)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not create '{name}': {reason}") from None
    try:
        _lock(fd, name)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
        _fill(fd, size, options.get("preallocation", "off"), progress)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else os.strerror(errno.EFBIG)
        raise GenericError(f"Could not resize file: {reason}") from None
    finally:
        os.close(fd)


def _lock(fd: int, name: str) -> None:
    """Tells others that the file is written, until it is closed; GenericError if a disk uses it, ours or another's."""
    try:
        clash = Locks(fd).take(frozenset({WRITE}), frozenset())
    except OSError as error:
        if error.errno in LOCKLESS:
            return
        raise GenericError(f"Failed to lock '{name}': {error.strerror}") from None
    if clash:
        raise GenericError(clash)


def _fill(fd: int, size: int, how: str, progress: Progress) -> None:
    if how == "off" or not size:
        os.ftruncate(fd, size)
    elif how == "falloc":
        if sys.platform == "win32":
            raise GenericError("preallocation 'falloc' needs a POSIX host")
        os.posix_fallocate(fd, 0, size)
    else:
        progress.total = size
        while progress.done < size and not progress.cancelled:
            progress.done += os.write(fd, bytes(min(_PIECE, size - progress.done)))
        os.fsync(fd)

"""Making images (blockdev-create): regular files of a size, with or without the host's blocks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratite.core.backends.block.node import SECTOR
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.hostfiles import HostFiles
    from ratite.core.jobs import Progress

_PIECE = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def create(options: Mapping[str, Any], files: HostFiles, progress: Progress) -> None:
    """Makes the image of BlockdevCreateOptions; GenericError.  On a job's thread."""
    name, size = options["filename"], -(-options["size"] // SECTOR) * SECTOR
    try:
        fd = files.open(name, _FLAGS, 0o644)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not create '{name}': {reason}") from None
    try:
        _fill(fd, size, options.get("preallocation", "off"), progress)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not resize image: {reason}") from None
    finally:
        os.close(fd)


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

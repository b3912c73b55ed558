"""The host's calls on image files: reads and writes of a given length, holes, locks.

Locks are open-file-description locks on single bytes of the image, the ones that QEMU takes, so that either sees the
other: byte 100 + p is held (shared) by who uses permission p, byte 200 + p by who doesn't let others use it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Permissions by number.
CONSISTENT_READ, WRITE = 0, 1
_USED, _UNSHARED = 100, 200
# How file systems say that they have no locks.
LOCKLESS = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK)
_NAMES = ("consistent read", "write")

_IOV_MAX = 512  # buffers of one call
_PUNCH_HOLE, _KEEP_SIZE, _ZERO_RANGE = 2, 1, 16
_ZEROS = 1 << 20  # bytes of zeros written at once


def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """os.preadv; OSError where the host has none."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.preadv(fd, buffers, offset)


def pwritev(fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """os.pwritev; OSError where the host has none."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.pwritev(fd, buffers, offset)


def read_at(fd: int, size: int, offset: int) -> bytearray:
    """`size` bytes from `offset` on, fewer at the end of the file; OSError."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = preadv(fd, [view[done:]], offset + done)
        if not count:
            view.release()
            del data[done:]
            break
        done += count
    return data


def write_at(fd: int, pieces: Sequence[bytes], offset: int) -> None:
    """All of `pieces` one behind the other from `offset` on; OSError."""
    for first in range(0, len(pieces), _IOV_MAX):
        batch: list[bytes | memoryview] = [*pieces[first : first + _IOV_MAX]]
        while batch:
            count = pwritev(fd, batch, offset)
            offset += count
            while batch and count >= len(batch[0]):
                count -= len(batch.pop(0))
            if count:
                batch[0] = memoryview(batch[0])[count:]
            elif batch and not count and len(batch[0]) == 0:
                batch.pop(0)


def punch(fd: int, offset: int, size: int) -> None:
    """Gives the host's blocks back; the range then reads zeros.  OSError."""
    _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, size)


def zero(fd: int, offset: int, size: int, unmap: bool, write: Callable[[int, Sequence[bytes], int], None] = write_at) -> None:
    """Makes the range read zeros, by a hole if `unmap`, else as the host can, by `write` in the end; OSError."""
    for mode in (_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE) if unmap else (_ZERO_RANGE,):
        try:
            _fallocate(fd, mode, offset, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY):
                raise
    empty = bytes(min(size, _ZEROS))
    while size:
        count = min(size, _ZEROS)
        write(fd, [empty[:count]], offset)
        offset += count
        size -= count


def _fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Locks:
    """The locks of one open file; GenericError's text is the caller's, `take` gives what clashed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    @staticmethod
    def supported() -> bool:
        """Whether this host has such locks."""
        return sys.platform == "linux"

    def take(self, used: frozenset[int], unshared: frozenset[int]) -> str:
        """Hold these from now on instead of the former; else why not, in QEMU's words, and nothing changed."""
        was = self._held
        self._hold(was[0] | used, was[1] | unshared)
        clash = self._clash(used, unshared)
        if clash:
            self._hold(*was)
        else:
            self._hold(used, unshared)
        return clash

    def _hold(self, used: frozenset[int], unshared: frozenset[int]) -> None:
        for base, now, was in zip((_USED, _UNSHARED), (used, unshared), self._held, strict=True):
            for number in sorted(now - was):
                self._lock("F_RDLCK", base + number)
            for number in sorted(was - now):
                self._lock("F_UNLCK", base + number)
        self._held = (used, unshared)

    def _clash(self, used: frozenset[int], unshared: frozenset[int]) -> str:
        for number in sorted(used):
            if self._taken(_UNSHARED + number):
                return f'Failed to get "{_NAMES[number]}" lock'
        for number in sorted(unshared):
            if self._taken(_USED + number):
                return f'Failed to get shared "{_NAMES[number]}" lock'
        return ""

    def _lock(self, kind: str, byte: int) -> None:
        if sys.platform == "linux":
            import fcntl

            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(getattr(fcntl, kind), byte))

    def _taken(self, byte: int) -> bool:
        """Whether somebody else holds the byte."""
        if sys.platform != "linux":
            return False
        import fcntl

        answer: Any = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, byte))
        kind: int = struct.unpack_from("h", answer)[0]
        return kind != fcntl.F_UNLCK


def _flock(kind: int, byte: int) -> bytes:
    # struct flock of the host: l_type, l_whence, l_start, l_len, l_pid (0 for locks of a description)
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)

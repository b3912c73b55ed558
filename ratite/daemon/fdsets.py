"""Sets of file descriptors that clients handed over (add-fd); /dev/fdset/N names the set N wherever a file is opened."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from typing import Any

from ratite.qapi.errors import GenericError

PLACE = "/dev/fdset/"
# More than any client has disks; each is a descriptor of the process.
LIMIT = 1024


class FdSets:
    """The sets of one daemon: number to descriptors, each with the client's text.  Any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._sets: dict[int, dict[int, str | None]] = {}

    def add(self, fd: int, number: int | None, opaque: str | None) -> dict[str, int]:
        """Put a descriptor into a set, a new one if `number` is None; AddfdInfo.  Closes `fd` when it refuses."""
        with self._mutex:
            if number is None:
                number = next(n for n in range(len(self._sets) + 1) if n not in self._sets)
            elif number < 0:
                os.close(fd)
                raise GenericError("Parameter 'fdset-id' expects a non-negative value")
            if sum(map(len, self._sets.values())) >= LIMIT:
                os.close(fd)
                raise GenericError(f"the sets hold {LIMIT} file descriptors, as many as they may")
            self._sets.setdefault(number, {})[fd] = opaque
        return {"fdset-id": number, "fd": fd}

    def remove(self, number: int, fd: int | None) -> None:
        """Close one descriptor of a set, or all; GenericError in QEMU's words if there is none."""
        with self._mutex:
            fds = self._sets.get(number)
            if fds is None or (fd is not None and fd not in fds):
                name = f"fdset-id:{number}" if fd is None else f"fdset-id:{number}, fd:{fd}"
                raise GenericError(f"File descriptor named '{name}' not found")
            for each in [fd] if fd is not None else list(fds):
                del fds[each]
                os.close(each)
            if not fds:
                del self._sets[number]

    def describe(self) -> list[dict[str, Any]]:
        """What query-fdsets answers."""
        with self._mutex:
            return [
                {
                    "fdset-id": number,
                    "fds": [{"fd": fd} if text is None else {"fd": fd, "opaque": text} for fd, text in fds.items()],
                }
                for number, fds in sorted(self._sets.items())
            ]

    def open(self, path: str, flags: int) -> int:
        """A copy of the set's descriptor whose access fits `flags`; FdSetError."""
        with self._mutex:
            fd = self._find(path, flags)
            copy = os.dup(fd)
        try:
            if flags & os.O_TRUNC:
                os.ftruncate(copy, 0)
            if sys.platform != "win32" and flags & os.O_NONBLOCK:
                os.set_blocking(copy, False)
        except OSError:
            os.close(copy)
            raise
        return copy

    def stat(self, path: str) -> os.stat_result:
        """Facts about a set's first descriptor; FdSetError."""
        with self._mutex:
            return os.fstat(self._find(path, None))

    def _find(self, path: str, flags: int | None) -> int:
        digits = path.removeprefix(PLACE)
        if not re.fullmatch("[0-9]{1,9}", digits):
            raise FdSetError(errno.EINVAL, f"Could not parse fdset {path}")
        fds = self._sets.get(int(digits))
        if fds is None:
            raise FdSetError(errno.ENOENT, f"Failed to find fdset {path}")
        for fd in fds:
            if flags is None or _access(fd) == flags & _ACCESS:
                return fd
        raise FdSetError(errno.EACCES, f"Failed to find file descriptor with matching flags=0x{(flags or 0) & _ACCESS:x}")

    def close(self) -> None:
        """Close everything."""
        with self._mutex:
            for fds in self._sets.values():
                for fd in fds:
                    os.close(fd)
            self._sets.clear()


_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


def _access(fd: int) -> int:
    """How a descriptor may be used: O_RDONLY, O_WRONLY or O_RDWR."""
    if sys.platform == "win32":
        return os.O_RDWR
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & _ACCESS


class FdSetError(OSError):
    """A set has no descriptor for what was asked; `desc` are QEMU's words where it gives more than the errno's."""

    def __init__(self, code: int, desc: str) -> None:
        super().__init__(code, os.strerror(code))
        self.desc = desc

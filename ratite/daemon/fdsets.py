"""Sets of file descriptors that clients handed over (add-fd); /dev/fdset/N names the set N."""

from __future__ import annotations

import os
from typing import Any

from ratite.qapi.errors import GenericError


class FdSets:
    """The sets of one daemon: number to descriptors, each with the client's text."""

    def __init__(self) -> None:
        self._sets: dict[int, dict[int, str | None]] = {}

    def add(self, fd: int, number: int | None, opaque: str | None) -> dict[str, int]:
        """Put a descriptor into a set, a new one if `number` is None; AddfdInfo.  Closes `fd` when it refuses."""
        if number is None:
            number = next(n for n in range(len(self._sets) + 1) if n not in self._sets)
        elif number < 0:
            os.close(fd)
            raise GenericError("Parameter 'fdset-id' expects a non-negative value")
        self._sets.setdefault(number, {})[fd] = opaque
        return {"fdset-id": number, "fd": fd}

    def remove(self, number: int, fd: int | None) -> None:
        """Close one descriptor of a set, or all; GenericError in QEMU's words if there is none."""
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
        return [
            {
                "fdset-id": number,
                "fds": [{"fd": fd} if text is None else {"fd": fd, "opaque": text} for fd, text in fds.items()],
            }
            for number, fds in sorted(self._sets.items())
        ]

    def close(self) -> None:
        """Close everything."""
        for fds in self._sets.values():
            for fd in fds:
                os.close(fd)
        self._sets.clear()

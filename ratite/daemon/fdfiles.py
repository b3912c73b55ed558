"""Files of the host as a daemon's machine may open them: with the sets of descriptors that clients handed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ratite.core.hostfiles import HostFiles
from ratite.daemon.fdsets import PLACE, FdSets


class FilesWithSets(HostFiles):
    """`files`, and the sets under /dev/fdset.  What a client has handed over itself needs no permission."""

    def __init__(self, files: HostFiles, sets: FdSets) -> None:
        self._files = files
        self._sets = sets

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        if path.startswith(PLACE):
            return self._sets.open(path, flags)
        return self._files.open(path, flags, mode)

    def stat(self, path: str) -> os.stat_result:
        return self._sets.stat(path) if path.startswith(PLACE) else self._files.stat(path)

    def unlink(self, path: str) -> None:
        if not path.startswith(PLACE):
            self._files.unlink(path)

    def temporary(self, folder: str) -> int:
        return self._files.temporary(folder)

    @contextmanager
    def place(self, path: str, make: bool) -> Iterator[str]:
        with self._files.place(path, make) as place:
            yield place

    def need(self, permission: str, what: str) -> None:
        self._files.need(permission, what)

"""Reads and writes past the host's cache (O_DIRECT), by way of a buffer.

The host takes whole blocks from and to memory that is aligned; the guest's pieces are neither, so everything goes through one
buffer of pages.  A write that covers a block in part reads it first.  A last block that the file has only in part is written
whole and the file is cut to its length again.  One thread uses it at a time.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence

from ratite.core.backends.block.hostio import preadv, pwritev
from ratite.core.hostfiles import FREE, HostFiles
from ratite.qapi.errors import GenericError

BUFFER = 1 << 20
_BLOCKS = (512, 1024, 2048, 4096)  # what hosts ask for; the largest always does


def open_direct(path: str, flags: int, files: HostFiles = FREE) -> int:
    """Opens a file for it; OSError, GenericError where the file system can't."""
    direct = getattr(os, "O_DIRECT", 0)
    try:
        if not direct:
            raise OSError(errno.EINVAL, "")
        return files.open(path, flags | direct)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise GenericError(f"Could not open '{path}': filesystem does not support O_DIRECT") from None
        raise


class Direct:
    """The I/O of a file that `open_direct` opened."""

    def __init__(self, fd: int) -> None:
        self._buffer = memoryview(mmap.mmap(-1, BUFFER))
        self.block = self._probe(fd)

    def _probe(self, fd: int) -> int:
        """The smallest block that the host takes.  At the end of a file it may take anything."""
        for block in _BLOCKS[:-1]:
            if os.fstat(fd).st_size < block:
                break
            try:
                preadv(fd, [self._buffer[:block]], 0)
                return block
            except OSError:
                continue
        return _BLOCKS[-1]

    def read_at(self, fd: int, size: int, offset: int) -> bytearray:
        """As `hostio.read_at`."""
        data = bytearray()
        while len(data) < size:
            want = size - len(data)
            start = (offset + len(data)) & -self.block
            skip = offset + len(data) - start
            length = min(-(-(skip + want) // self.block) * self.block, BUFFER)
            got = self._fill(fd, start, length)
            data += self._buffer[skip : min(got, skip + want)]
            if got < length:
                break
        return data

    def write_at(self, fd: int, pieces: Sequence[bytes], offset: int) -> None:
        """As `hostio.write_at`."""
        data = memoryview(b"".join(pieces))
        size, end = os.fstat(fd).st_size, offset + len(data)
        done = 0
        while done < len(data):
            start = (offset + done) & -self.block
            skip = offset + done - start
            count = min(len(data) - done, BUFFER - skip)
            length = -(-(skip + count) // self.block) * self.block
            self._keep_edges(fd, start, skip, count, length)
            self._buffer[skip : skip + count] = data[done : done + count]
            self._drain(fd, start, length)
            done += count
        if os.fstat(fd).st_size > max(size, end):
            os.ftruncate(fd, max(size, end))

    def _keep_edges(self, fd: int, start: int, skip: int, count: int, length: int) -> None:
        """What the first and the last block hold beside what is written."""
        block, last = self.block, length - self.block
        edges = [0] if skip else []
        if (skip + count) % block and (last or not skip):
            edges.append(last)
        for at in edges:
            got = 0
            while got < block:
                more = preadv(fd, [self._buffer[at + got : at + block]], start + at + got)
                got += more
                if not more or got % block:
                    break
            self._buffer[at + got : at + block] = bytes(block - got)

    def _fill(self, fd: int, start: int, length: int) -> int:
        """Reads into the buffer; how much there was."""
        got = 0
        while got < length:
            more = preadv(fd, [self._buffer[got:length]], start + got)
            got += more
            if not more or got % self.block:
                break
        return got

    def _drain(self, fd: int, start: int, length: int) -> None:
        done = 0
        while done < length:
            more = pwritev(fd, [self._buffer[done:length]], start + done)
            if more < self.block:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            done += more & -self.block

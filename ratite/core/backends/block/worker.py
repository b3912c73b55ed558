"""The thread that does one image's I/O, so that neither a vCPU nor the owner waits for a disk.

    machine lock held            worker                         owner, machine lock held
    submit(request) ──queue──>   request.work(fd)  ──done──>    request.done(request), a batch at a time

Requests are done in order, by a thread of the image's own, which the first one starts, or by an `iothread` that a device
names.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ratite.core import log
from ratite.core.backends.block import hostio
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.direct import Direct
    from ratite.core.backends.block.iothread import IoThread
    from ratite.core.owner import Owner

READ, WRITE, FLUSH, DISCARD, ZERO, NOTHING = "read", "write", "flush", "discard", "write-zeroes", "nothing"


class Passed(Protocol):
    """What a request passes."""

    def passed_by(self, request: Request, end: int) -> None:
        """It was done or has failed; `end`: of its bytes here.  On the owner thread."""


class Request:
    """One piece of I/O.  `data` is what was read or is to be written; `error` an errno, 0 for success.

    `sync`: the write is on the disk before it counts as done.  `unmap`: zeros may be a hole.
    """

    __slots__ = ("data", "done", "error", "offset", "op", "passed", "size", "sync", "tag", "unmap")

    def __init__(
        self,
        op: str,
        offset: int,
        size: int,
        done: Callable[[Request], None],
        data: Sequence[bytes] = (),
        sync: bool = False,
        unmap: bool = False,
        tag: object = None,
    ) -> None:
        self.op = op
        self.offset = offset
        self.size = size
        self.done = done
        self.data: Sequence[bytes | bytearray] = data
        self.sync = sync
        self.unmap = unmap
        self.tag = tag
        self.error = 0
        # (node, where it ends there) of what it passed on its way down.
        self.passed: list[tuple[Passed, int]] = []


class _Switch(NamedTuple):
    """Another descriptor of the file."""

    fd: int
    direct: Direct | None


_CLOSE = "close"
# None: the thread ends.
_Todo = Request | _Switch | str | None


class Worker:
    """The I/O of the file `fd`, `length` bytes long when it was opened; `name` is for messages; `direct`: past the host's
    cache."""

    def __init__(self, fd: int, length: int, owner: Owner, name: str, direct: Direct | None = None) -> None:
        self._fd = fd
        self._length = length
        # What the last sector has beyond the end of the file reads zeros.
        self._rounded = -(-length // 512) * 512
        self._read_at = hostio.read_at if direct is None else direct.read_at
        self._write_at = hostio.write_at if direct is None else direct.write_at
        self._owner = owner
        self._name = name
        self._todo: SimpleQueue[_Todo] = SimpleQueue()
        self._finished: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._served_by: IoThread | None = None
        # What is queued and not yet told to be done.
        self._under_way = 0
        self._told = False

    def served_by(self, thread: IoThread | None) -> None:
        """Another thread does the I/O from now on, None: one of its own.  GenericError while requests are under way."""
        if thread is self._served_by:
            return
        if self._under_way:
            raise GenericError("Cannot change iothread of active block backend")
        if self._thread is not None:
            # It has nothing more to do, and leaves the file alone.
            self._todo.put(None)
            self._todo, self._thread = SimpleQueue(), None
        self._served_by = thread

    def switch(self, fd: int, direct: Direct | None) -> None:
        """What follows is done with `fd`, a descriptor of the same file; the former is closed behind what is queued."""
        if self._thread is None and self._served_by is None:
            self._take_over(_Switch(fd, direct))
        else:
            self._put(_Switch(fd, direct))

    def _take_over(self, to: _Switch) -> None:
        os.close(self._fd)
        self._fd = to.fd
        self._read_at = hostio.read_at if to.direct is None else to.direct.read_at
        self._write_at = hostio.write_at if to.direct is None else to.direct.write_at

    def resized(self, length: int) -> None:
        """The file is `length` bytes long from now on."""
        self._length = length
        self._rounded = -(-length // 512) * 512

    def submit(self, request: Request) -> None:
        """Have a request done; its `done` is called on the owner thread under the machine lock."""
        self._put(request)

    def _put(self, what: _Todo) -> None:
        self._under_way += 1
        self._todo.put(what)
        if self._served_by is not None and self._served_by.kick(self):
            return
        if self._thread is None:
            name = f"ratite-disk-{self._name}"
            self._thread = threading.Thread(target=self._main, args=(self._todo, self._served_by), name=name, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Do what is queued, then close the file; a thread of its own ends.  Never waits."""
        if self._thread is None and self._served_by is None:
            os.close(self._fd)
            return
        self._put(_CLOSE)
        if self._thread is not None:
            self._todo.put(None)

    def serve(self, most: int) -> bool:
        """See iothread.Client."""
        for _ in range(most):
            try:
                request = self._todo.get_nowait()
            except Empty:
                return False
            if request is None:
                # The last there is, and for a thread of its own, which waits for this one.
                self._todo.put(None)
                return False
            self._do(request)
        return not self._todo.empty()

    def _main(self, todo: SimpleQueue[_Todo], before: IoThread | None) -> None:
        if before is not None:
            before.wait_ended()  # of two, one might close the file that the other writes to
        while (request := todo.get()) is not None:
            self._do(request)

    def _do(self, request: Request | _Switch | str) -> None:
        if isinstance(request, _Switch):
            self._take_over(request)
            self._owner.soon(self._switched)
            return
        if not isinstance(request, Request):
            os.close(self._fd)
            return
        try:
            self._work(request)
        except OSError as error:
            request.error = error.errno or errno.EIO
        except Exception as error:
            log.error("disk I/O failed inside", image=self._name, error=repr(error))
            request.error = errno.EIO
        self._finished.append(request)
        # More than one: a delivery is posted or at work, and looks again after each.
        if len(self._finished) == 1:
            self._owner.soon(self._deliver)

    def _switched(self) -> None:
        self._under_way -= 1

    def _deliver(self) -> None:
        finished = self._finished
        while finished:
            request = finished[0]
            self._under_way -= 1
            try:
                for node, end in request.passed:
                    node.passed_by(request, end)
                request.done(request)
            except Exception as error:
                log.error("end of disk I/O failed inside", image=self._name, error=repr(error))
            finished.popleft()

    def _work(self, request: Request) -> None:
        fd, op, offset, size = self._fd, request.op, request.offset, request.size
        if op == READ:
            request.data = (self._read(offset, size),)
            return
        if op in (FLUSH, NOTHING):
            if op == FLUSH:
                os.fsync(fd)
            return
        self._check_length()
        if op == WRITE:
            self._write_at(fd, request.data, offset)  # type: ignore[arg-type]  # what is written are bytes
        elif op == ZERO:
            hostio.zero(fd, offset, size, request.unmap, self._write_at)
        else:
            hostio.punch(fd, offset, size)
        if request.sync:
            os.fsync(fd)

    def _read(self, offset: int, size: int) -> bytearray:
        data = self._read_at(self._fd, size, offset)
        if len(data) < size:
            if offset + len(data) < self._length or offset + size > self._rounded:
                self._shrunk()
            data += bytes(size - len(data))
        return data

    def _check_length(self) -> None:
        # A write beyond the end of an image that was cut would make a hole of what was lost.
        if os.fstat(self._fd).st_size < self._length:
            self._shrunk()

    def _shrunk(self) -> None:
        if not self._told:
            self._told = True
            now = os.fstat(self._fd).st_size
            log.error("image is shorter than it was when it was opened", image=self._name, size=now, was=self._length)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

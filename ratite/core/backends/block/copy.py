"""Jobs that copy one block node to another while guests use it: `blockdev-mirror` and `blockdev-backup`.

    source ──READ──> job ──WRITE or ZERO──> target         everything on the owner; I/O on the nodes' own threads
       ^
       └── guests' writes pass the job (BlockNode.job): a mirror marks what they change and copies it again, a backup
           copies what they are about to change before it lets them pass

The map has a byte a chunk.  What a guest writes while its chunk is under way is copied once more afterwards, so that two
copies of a chunk never race.  A mirror that is to end lets no write begin any more, copies the rest, and then users of the
source use the target instead (`complete`) or go on as before (a cancel once it is ready).

Left out: bitmaps, `sync` by them or by the top of a chain (there are no chains: top is full), compression, `replaces`, nodes
of the job's own in the graph.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.block.node import BlockNode, User, all_zero
from ratite.core.backends.block.worker import DISCARD, READ, WRITE, ZERO, Request
from ratite.core.jobs import CANCELLED, Job
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.block.set import BlockSet

CLEAN, DIRTY, BUSY = 0, 1, 2  # BUSY | DIRTY: under way, and changed since
GRANULARITY = 64 << 10
CHUNKS_MAX = 1 << 26
PIECE = 1 << 20  # bytes of one request
BUFFER = 16 << 20  # bytes under way
_PARTS = 10  # pieces a second at least, where speed is limited
_RETRY_S = 0.1  # an error that is to be ignored is tried again
_CHANGES = (WRITE, ZERO, DISCARD)
_IS_DIRTY = bytes([DIRTY])
Range = tuple[int, int]  # chunks: first, behind the last


class CopyJob(Job):
    """What both kinds have.  `options`: the command's arguments, checked by the schema."""

    ON_NODE: ClassVar[bool] = True

    def __init__(self, blocks: BlockSet, options: Mapping[str, Any]) -> None:
        super().__init__(options.get("job-id", ""), options.get("auto-finalize", True), options.get("auto-dismiss", True))
        self.source = _node(blocks, options["device"])
        self.target = _node(blocks, options["target"])
        self.speed = options.get("speed", 0)
        self._policy = {READ: options.get("on-source-error", "report"), WRITE: options.get("on-target-error", "report")}
        self._chunk: int = options.get("granularity") or GRANULARITY
        self._buffer: int = options.get("buf-size") or BUFFER
        self._length = 0
        self._map = bytearray()
        self._dirty = 0
        self._at = 0
        self._under_way = 0
        # Chunks that somebody waits for, whatever speed says; what goes on when a range is clean.
        self._urgent: deque[int] = deque()
        self._waiting: list[tuple[Range, Callable[[], None]]] = []
        self._fate = ""
        self._not_before = 0.0
        self._timer: threading.Timer | None = None

    # -- life

    def check(self) -> None:
        """GenericError for what can't be copied so."""
        if self.speed < 0:
            raise GenericError("Parameter 'speed' expects a non-negative value")
        self.source.check_free()
        self.target.check_free()
        if self.source.length() // self._chunk > CHUNKS_MAX:
            raise GenericError(f"a granularity of {self._chunk} is too small for {self.source.length()} bytes")

    def prepare(self) -> None:
        """Takes both nodes, and sees what guests write from now on."""
        self.check()
        self.source.use(self, User(f"block job '{self.id}' (uses node '{self.source.id}' as 'root' child)", False, True))
        try:
            self.target.use(self, User(f"block job '{self.id}' (uses node '{self.target.id}' as 'target' child)", True))
        except GenericError:
            self.source.release(self)
            raise
        self._length = self.source.length()
        self._map = bytearray(-(-self._length // self._chunk))
        self.source.job = self

    def _let_go(self) -> None:
        """Gives the nodes back; what waited for the job goes on."""
        self.source.job = None
        self.source.release(self)
        self.target.release(self)
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, []
        for _, go in waiting:
            go()

    def commit(self) -> None:
        self._let_go()

    def abort(self) -> None:
        self._let_go()

    def close(self) -> None:
        super().close()
        if self.source.job is self:
            self._let_go()

    def drive_resized(self) -> None:
        """One of the nodes has another size, by way of what it stands on."""
        self._stop("The size of the image has changed")

    def cancel(self, force: bool) -> None:
        self._stop(CANCELLED)

    def go_on(self) -> None:
        self._not_before = 0.0
        self._pump()

    def _stop(self, error: str) -> None:
        self._fate = self._fate or error
        self._pump()

    def block_info(self) -> dict[str, Any]:
        return {**super().block_info(), "busy": bool(self._under_way)}

    # -- guests' writes

    def intercept(self, request: Request) -> bool:
        """A request is about to begin at the source: True keeps it, and the job lets it go on later."""
        raise NotImplementedError

    def _chunks(self, offset: int, size: int) -> Range:
        return offset // self._chunk, min(-(-(offset + size) // self._chunk), len(self._map))

    def _mark(self, chunks: Range) -> None:
        """They are to be copied."""
        for n in range(*chunks):
            if not self._map[n] & DIRTY:
                self._map[n] |= DIRTY
                self._dirty += 1
                self.progress.total += self._bytes((n, n + 1))

    def _mark_all(self) -> None:
        self._map[:] = _IS_DIRTY * len(self._map)
        self._dirty = len(self._map)
        self.progress.total = self._length

    def _bytes(self, chunks: Range) -> int:
        first, end = chunks
        return min(end * self._chunk, self._length) - first * self._chunk

    def _when_clean(self, chunks: Range, go: Callable[[], None]) -> None:
        self._urgent.extend(range(*chunks))
        self._waiting.append((chunks, go))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        ready = []
        for chunks, go in waiting:
            if any(self._map[slice(*chunks)]):
                self._waiting.append((chunks, go))
            else:
                ready.append(go)
        for go in ready:
            go()

    # -- copying

    def _pump(self) -> None:
        """Begin as much as may be under way; look whether all is done."""
        if self.source.job is not self or self.status in ("created", "waiting", "pending"):
            return
        while not self._fate and self._under_way < self._buffer:
            piece = self._next_urgent()
            if piece is None and not self.paused and not self._too_fast():
                piece = self._next()
            if piece is None:
                break
            self._copy(piece)
        if not self._under_way:
            if self._fate:
                self.ended(self._fate)
            elif not self._dirty and not self.paused:
                self.all_copied()

    def all_copied(self) -> None:
        """Nothing is left to copy, nor under way."""
        raise NotImplementedError

    def _next_urgent(self) -> Range | None:
        while self._urgent:
            chunk = self._urgent.popleft()
            if self._map[chunk] == DIRTY:
                return chunk, chunk + 1
        return None

    def _next(self) -> Range | None:
        """Dirty chunks side by side, from where the last were on and round again."""
        found = self._map.find(_IS_DIRTY, self._at)
        if found < 0:
            found = self._map.find(_IS_DIRTY)
        if found < 0:
            return None
        piece = min(PIECE, self.speed // _PARTS) if self.speed else PIECE
        end, most = found + 1, found + max(1, piece // self._chunk)
        while end < min(most, len(self._map)) and self._map[end] == DIRTY:
            end += 1
        self._at = end
        if self.speed:
            now = time.monotonic()
            self._not_before = max(now, self._not_before) + self._bytes((found, end)) / self.speed
        return found, end

    def _too_fast(self) -> bool:
        wait = self._not_before - time.monotonic() if self.speed else 0
        if wait > 0:
            self._later(wait)
        return wait > 0

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self.jobs.soon, (self._pump,))
        self._timer.daemon = True
        self._timer.start()

    def _copy(self, chunks: Range) -> None:
        first, end = chunks
        self._map[first:end] = bytes([BUSY]) * (end - first)
        self._dirty -= end - first
        size = self._bytes(chunks)
        self._under_way += size
        self.source.forward(Request(READ, first * self._chunk, size, self._read, tag=chunks))

    def _read(self, request: Request) -> None:
        chunks: Range = request.tag  # type: ignore[assignment]  # what _copy gave
        if request.error:
            self._failed(chunks, READ, request.error)
            return
        data = request.data
        zero = all_zero(data)
        offset, size = chunks[0] * self._chunk, self._bytes(chunks)
        made = Request(ZERO if zero else WRITE, offset, size, self._written, unmap=zero, tag=chunks)
        if not zero:
            made.data = data
        self.target.submit(made)

    def _written(self, request: Request) -> None:
        chunks: Range = request.tag  # type: ignore[assignment]  # what _read gave
        if request.error:
            self._failed(chunks, WRITE, request.error)
            return
        size = self._bytes(chunks)
        for n in range(*chunks):
            self._map[n] &= DIRTY
        self._under_way -= size
        self.progress.done += size
        self._wake()
        self._pump()

    def _failed(self, chunks: Range, operation: str, code: int) -> None:
        for n in range(*chunks):
            self._dirty += not self._map[n] & DIRTY
            self._map[n] = DIRTY
        self._under_way -= self._bytes(chunks)
        if self._fate:
            self._pump()
            return
        policy = self._policy[operation]
        if policy == "enospc":
            policy = "stop" if code == errno.ENOSPC else "report"
        action = "report" if policy == "auto" else policy
        self.jobs.tell_error(self, operation, action)
        if action == "report":
            self._stop(os.strerror(code))
        elif action == "stop":
            self.io_status = "nospace" if code == errno.ENOSPC else "failed"
            self.jobs.pause_for_error(self)
        else:
            self._not_before = time.monotonic() + _RETRY_S
            self._later(_RETRY_S)


class Mirror(CopyJob):
    """blockdev-mirror."""

    KIND: ClassVar[str] = "mirror"

    def __init__(self, blocks: BlockSet, options: Mapping[str, Any]) -> None:
        super().__init__(blocks, options)
        self._blocking = options.get("copy-mode", "background") == "write-blocking"
        self._full = options["sync"] != "none"
        self._is_ready = self._ending = self._pivot = False
        # Guests' writes that the source does, and those that wait for the end.
        self._writing = 0
        self._held: list[Request] = []
        granularity, size = options.get("granularity", 0), options.get("buf-size", 0)
        if granularity and not 512 <= granularity <= 64 << 20:
            raise GenericError("Parameter 'granularity' expects a value in range [512B, 64MB]")
        if granularity & (granularity - 1):
            raise GenericError("Parameter 'granularity' expects a power of 2")
        if size < 0:
            raise GenericError("Invalid parameter 'buf-size'")

    def check(self) -> None:
        if self.source is self.target:
            raise GenericError("Can't mirror node into itself")
        super().check()

    def run(self) -> None:
        self.progress.total = 0
        if self.source.length() != self.target.length():
            self.ended("Source and target image have different sizes")
            return
        if self._full:
            self._mark_all()
        self._pump()

    def block_info(self) -> dict[str, Any]:
        return {**super().block_info(), "actively-synced": self._blocking and self._is_ready}

    def intercept(self, request: Request) -> bool:
        if request.op not in _CHANGES:
            return False
        if self._ending:
            self._held.append(request)
            return True
        self._writing += 1
        request.done = partial(self._changed, self._chunks(request.offset, request.size), request.done)
        return False

    def _changed(self, chunks: Range, done: Callable[[Request], None], request: Request) -> None:
        """A guest's write is done at the source."""
        self._writing -= 1
        if self.source.job is not self:
            done(request)
            return
        self._mark(chunks)
        if self._blocking and not request.error:
            self._when_clean(chunks, lambda: done(request))
        else:
            done(request)
        self._pump()

    def complete(self) -> None:
        self._ending = self._pivot = True
        self._pump()

    def cancel(self, force: bool) -> None:
        if self._is_ready and not force:
            self._ending = True
            self._pump()
        else:
            super().cancel(force)

    def all_copied(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.ready()
        elif self._ending and not self._writing and not self._waiting:
            self.ended()

    def commit(self) -> None:
        self._end(self.target if self._pivot else self.source)

    def abort(self) -> None:
        self._end(self.source)

    def _end(self, node: BlockNode) -> None:
        self._let_go()
        if node is not self.source:
            self.source.replace_by(node)
        held, self._held = self._held, []
        for request in held:
            node.submit(request)


class Backup(CopyJob):
    """blockdev-backup."""

    KIND: ClassVar[str] = "backup"

    def __init__(self, blocks: BlockSet, options: Mapping[str, Any]) -> None:
        super().__init__(blocks, options)
        # With `sync` none only what guests are about to change is copied.
        self._only_changes = options["sync"] == "none"

    def check(self) -> None:
        if self.source is self.target:
            raise GenericError("Source and target cannot be the same")
        if self.source.length() != self.target.length():
            raise GenericError("Source and target image have different sizes")
        super().check()

    def prepare(self) -> None:
        super().prepare()
        self._mark_all()

    def run(self) -> None:
        self._pump()

    def intercept(self, request: Request) -> bool:
        if request.op not in _CHANGES or self._fate:
            return False
        chunks = self._chunks(request.offset, request.size)
        if not any(self._map[slice(*chunks)]):
            return False
        self._when_clean(chunks, partial(self.source.submit_past_job, request))
        self._pump()
        return True

    def _next(self) -> Range | None:
        return None if self._only_changes else super()._next()

    def all_copied(self) -> None:
        self.ended()


def _node(blocks: BlockSet, name: str) -> BlockNode:
    return blocks.find(name, f"Cannot find device='{name}' nor node-name='{name}'")

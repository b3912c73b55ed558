"""From a hot place to a region: looked up on disk at once, else compiled when its turn comes.

    submit ─> lookup thread ─┬─ known, or on disk ──────────────> installed
                             └─> waiting ─> compile threads ─> worker ─> installed, kept on disk

What waits is compiled in the order in which control comes there now (``waiting.py``).
A region is made better (tier 2) when nothing that waits to be made at all is hot now.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ratite.core import log
from ratite.core.engine import block as B
from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.native import NativeIsa
from ratite.core.engine.pages import CodePage, Frame
from ratite.core.engine.region.client import Blobs, Client, WorkerFailed
from ratite.core.engine.region.policy import Policy
from ratite.core.engine.region.records import Request, Snapshot
from ratite.core.engine.region.store import PieceRow, RegionStore
from ratite.core.engine.region.waiting import Waiting

if TYPE_CHECKING:
    from ratite.core.engine.region.manager import RegionManager
    from ratite.core.engine.vcpu import NativeVcpu


Place = tuple[int, int, int]  # id of the RAM, page, offset


class Builder:
    """One per manager, which installs what is built. ``closed`` is set once."""

    def __init__(self, manager: RegionManager, policy: Policy, cache: ObjectCache) -> None:
        self.policy = policy
        self.closed = False
        self._manager = manager
        self._cache = cache
        self._stores: dict[int, RegionStore] = {}
        self._grown = 0  # bytes put on disk since that was held to its bound
        self._covered: dict[Place, int] = {}
        self._tried: dict[Place, int] = {}
        self._wake = threading.Condition()  # guards what follows
        self._new: deque[Request] = deque()
        self._waiting = Waiting()
        self._counted = 0.0  # when its counters were read
        self._nothing = False  # what they said then was that nothing is worth it
        self._failures = 0  # of workers, since one did its work
        self._resumed = 0.0  # when something is asked of one again
        self._rested = 0.0  # when worker 0 may take anything again, though CPUs leave it no core
        self._pause = policy.count_seconds
        self._better: deque[Request] = deque()
        self._current: dict[int, NativeVcpu] = {}  # whose request each thread is at
        self._asking: dict[int, Client] = {}  # whom each thread waits for
        self._threads: list[threading.Thread] = []
        self._clients: set[Client] = set()
        self._own: dict[int, Client] = {}  # of a CPU that waits for its regions

    # -- asked by others
    @property
    def waiting(self) -> int:
        """Places that are to be compiled."""
        return len(self._waiting) + len(self._better) + len(self._new)

    def submit(self, request: Request) -> None:
        """Takes microseconds, unless the policy is to wait."""
        if self.closed or request.cpu.leaving:
            return
        request.view = self._manager.views
        if self.policy.synchronous:
            if request.tier == 2 or not self._found(request):
                self._compile(request, self._own)
            return
        with self._wake:
            (self._new if request.tier == 1 else self._better).append(request)
            self._wake.notify_all()
            if not self._threads:
                self._start("regions", self._look_up)
                for number in range(max(1, min(self.policy.workers, (os.cpu_count() or 1) - 1))):
                    self._start(f"regions-{number}", self._compile_all, number)

    def _start(self, name: str, body: Any, *args: int) -> None:
        thread = threading.Thread(target=self._guarded, args=(body, *args), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def forget_tries(self) -> None:
        """Memory means something else now."""
        self._tried.clear()

    def forget(self, cpu: NativeVcpu) -> None:
        """Drops what ``cpu`` asked for and waits until nobody is at it, for its pages go. A worker that takes long is ended.
        Not under the manager's lock."""
        end = time.monotonic() + self.policy.seconds
        with self._wake:
            cpu.leaving = True
            self._waiting.keep(lambda request: request.cpu is not cpu)
            for queue in (self._new, self._better):
                kept = [request for request in queue if request.cpu is not cpu]
                queue.clear()
                queue.extend(kept)
            while not self._wake.wait_for(lambda: cpu not in self._current.values(), self.policy.leave_seconds):
                for thread, other in self._current.items():
                    if other is cpu and thread in self._asking:
                        self._asking[thread].interrupt()
                if time.monotonic() > end:
                    break

    def close(self) -> None:
        """Ends threads and workers. Not under the manager's lock."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()
            threads, clients = list(self._threads), list(self._clients)
        for client in clients:
            client.kill()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        for client in self._clients:
            client.close()
        self._trim()

    # -- threads
    def _guarded(self, body: Any, *args: int) -> None:
        try:
            body(*args)
        except Exception:
            log.error("a region could not be made; no more are tried", exc_info=True)
            with self._wake:
                self.closed = True
                self._end()  # nobody is to wait for the request that failed

    def _look_up(self) -> None:
        pause = self.policy.look_seconds[0]
        while not self.closed:
            with self._wake:
                if not self._new:
                    self._wake.wait(pause)
                request = self._begin(self._new.popleft() if self._new else None)
            if request is not None:
                found = self._found(request)
                with self._wake:
                    if not found and not request.cpu.leaving:
                        self._waiting.append(request)
                        self._pause = self.policy.count_seconds  # something new is hot: how hot is soon known
                    self._end()
            pause = self._manager.look(pause)

    def _compile_all(self, number: int) -> None:
        clients: dict[int, Client] = {}
        worked = time.monotonic()
        while not self.closed:
            with self._wake:
                request = self._begin(self._next(number))
                if request is None:
                    self._wake.wait(self._patience(number))
                    if time.monotonic() - worked > self.policy.idle_seconds:
                        for client in clients.values():
                            client.close()
            if number == 0 and (self._grown > self.policy.disk >> 4 or time.monotonic() - worked > self.policy.lull_seconds):
                self._trim()
            if request is not None:
                begun = time.monotonic()
                self._compile(request, clients)
                worked = time.monotonic()
                with self._wake:
                    self._rested = worked + self.policy.rest * (worked - begun)
                    self._end()

    def _begin(self, request: Request | None) -> Request | None:
        if request is not None:
            self._current[threading.get_ident()] = request.cpu
        return request

    def _end(self) -> None:
        self._current.pop(threading.get_ident(), None)
        self._wake.notify_all()

    def _next(self, number: int) -> Request | None:
        """What thread ``number`` compiles now: a place where control comes now, else something better for what has a region.
        Guests go first: there are as many threads at work as they leave processors; where they leave none, there is one
        for what is worth it at once, and seldom for the rest."""
        now, policy = time.monotonic(), self.policy
        if now < self._resumed:
            return None
        spare = (os.cpu_count() or 1) - self._manager.busy
        if number >= max(spare, 1):
            return None
        if now - self._counted >= policy.count_seconds:
            self._waiting.count(now - self._counted)
            self._counted = now
        elif self._nothing:
            return None
        anything = spare > 0 or now >= self._rested
        found = self._waiting.take(policy.pressing if anything else policy.worth)
        if found is None and anything and self._better:
            found = self._better.popleft()
        self._nothing = found is None
        if found is not None:
            self._pause = policy.count_seconds
        return found

    def _patience(self, number: int) -> float:
        """Seconds until thread ``number`` looks unasked: what waits may have got hot by then, or a core be free."""
        if (left := self._resumed - time.monotonic()) > 0:
            return left
        if number or not (self._waiting or self._better):
            return self.policy.lull_seconds if self._grown and not number else self.policy.idle_seconds
        pause, self._pause = self._pause, min(2 * self._pause, self.policy.choice_seconds)
        return pause

    # -- what is there
    def _found(self, request: Request) -> bool:
        """Whether nothing is to be compiled: the place has a region by now, or must come again."""
        manager, store = self._manager, self._store(request.cpu.native)
        if self._needless(request):
            return True
        if store is None:
            return False
        for request.tier in (2, 1):
            seen: dict[int, Snapshot] = {}
            kept = self._stored(request, store, seen)
            if kept is not None and manager.accept(request, *kept, seen):
                manager.counters[request.tier].cached += 1
                return True
        return False

    def _needless(self, request: Request) -> bool:
        """Whether nothing is to be made: memory means something else by now, what was to be replaced is gone, or the place has
        a region, must come again, or was tried often enough."""
        if request.view != self._manager.views:
            return True
        if request.replaces is not None:
            return not request.replaces.alive
        often = self._tried.get(self._place(request), 0) >= self.policy.attempts
        return self._manager.known(request) or self._inside(request) or often

    @staticmethod
    def _place(request: Request) -> Place:
        return id(request.page.ram), request.page.page, request.offset

    def _store(self, native: NativeIsa) -> RegionStore | None:
        if not self.policy.persistent:
            return None
        store = self._stores.get(id(native))
        if store is None:
            store = self._stores[id(native)] = RegionStore(native, self._cache)
        return store

    def _stored(
        self, request: Request, store: RegionStore, seen: dict[int, Snapshot],
    ) -> tuple[dict[str, Any], bytes] | None:
        """The region from an earlier run, if the code is the same."""
        around: dict[int, list[Snapshot]] = {0: [(request.page, self._copy(request, request.page))]}

        def fits(pieces: list[PieceRow]) -> bool:
            seen.clear()
            seen[0] = around[0][0]
            for number in {row[0] for row in pieces}:
                if number not in around:
                    around[number] = [(frame, self._copy(request, frame)) for frame in self._maybe(request, number)]
                rows = [(start, code) for at, start, code in pieces if at == number]
                for frame, code in around[number]:
                    if all(code[start:start + len(part)] == part for start, part in rows):
                        seen[number] = frame, code
                        break
                else:
                    return False
            return True

        return store.find(request.kind, request.offset, around[0][0][1], fits)

    def _copy(self, request: Request, frame: Frame) -> bytes:
        """The bytes of ``frame``; none where memory means something else by now, and that one may be the host's again."""
        with self._manager.lock:
            if request.view != self._manager.views:
                return b""
            return ctypes.string_at(frame.host, request.cpu.native.shape.page)

    def _maybe(self, request: Request, number: int) -> Iterator[Frame]:
        """What may be the page ``number`` pages behind the request's: as its CPU has it mapped, or, if it doesn't know or knows
        better by now, as memory goes on. A region looks whether it was so."""
        mapped = self._neighbour(request, number)
        if mapped is not None:
            yield mapped
        beside = request.cpu.frame(request.page.phys + number * request.cpu.native.shape.page)
        if beside is not None and (mapped is None or beside.phys != mapped.phys):
            yield beside

    def _inside(self, request: Request) -> bool:
        """Whether a region has the place, if not as an entry: that it was reached from elsewhere so often was most likely
        before there was the region. It gets one of its own only if that goes on."""
        if not self._manager.covers(request):
            return False
        place = self._place(request)
        self._covered[place] = self._covered.get(place, 0) + 1
        if self._covered[place] > self.policy.covered:
            return False
        self.count_anew(request)
        return True

    def count_anew(self, request: Request) -> None:
        """The place has no region: it is to be asked for again. Any thread."""
        native = request.cpu.native
        with self._manager.lock:
            for page in request.cpu.pages.of_key(self._place(request)[:2]):
                word = ctypes.c_uint64.from_address(
                    page.base + native.shape.records + 8 * (request.offset // native.isa.parcel))
                if word.value < B.REGION_ADDRESS:
                    word.value = 0

    # -- what is made
    def _compile(self, request: Request, clients: dict[int, Client]) -> None:
        manager, place = self._manager, self._place(request)
        if self._needless(request):
            return
        self._tried[place] = self._tried.get(place, 0) + 1
        seen: dict[int, Snapshot] = {}
        started = time.perf_counter_ns()
        answer = self._ask(request, seen, clients)
        manager.spent(request.tier, time.perf_counter_ns() - started, answer is None)
        store = self._store(request.cpu.native)
        if answer is None:
            self._failed(request)
            return
        self._failures = 0
        if "none" in answer[0]:
            return
        if not manager.accept(request, *answer, seen):
            self.count_anew(request)
        elif store is not None and not request.calls:  # what gave up here may do better in another run
            codes = {k: code for k, (_, code) in seen.items()}
            self._grown += store.keep(request.kind, request.offset, codes, *answer)

    def _failed(self, request: Request) -> None:
        """A worker did not do it. It may have been ended by somebody: once more (a failure counts as two attempts). Or there is
        no memory for any, and then trying costs guests their time."""
        first, most = self.policy.fail_seconds
        with self._wake:
            self._resumed = time.monotonic() + min(first * 2**min(self._failures, 20), most)
            self._failures += 1
        place = self._place(request)
        self._tried[place] = self._tried.get(place, 0) + 1  # forgotten meanwhile where memory means something else
        self.count_anew(request)

    def _trim(self) -> None:
        """Holds what is on disk to its bound if anything was added. Ten thousand files take 50 ms of system calls, each of
        which lets go of the interpreter: while a guest starts, they made its devices twice as slow and kept its regions."""
        if self._grown:
            self._grown = 0
            self._cache.trim(self.policy.disk)

    def _ask(
        self, request: Request, seen: dict[int, Snapshot], clients: dict[int, Client],
    ) -> tuple[dict[str, Any], bytes] | None:
        """What a worker made of it: a region, or "none" and why, where there is nothing to compile; None where it failed."""
        native = request.cpu.native
        client = clients.get(id(native))
        if client is None:
            client = clients[id(native)] = Client(native)
            with self._wake:
                self._clients.add(client)
                if self.closed:
                    client.kill()

        def more(number: int) -> Blobs:
            found = self._neighbour(request, number)
            if found is None:
                return {}, []
            view = self._view(native, found)
            seen[number] = found, view[1][0]
            return view

        head, blobs = self._view(native, request.page)
        seen[0] = request.page, blobs[0]
        limits = self.policy.limits(request.tier, calls=request.calls, window=request.window)
        wanted = request.replaces.offsets if request.replaces is not None else []
        head |= {"ask": "region", "entry": request.offset, "wanted": wanted, "limits": limits,
                 "level": self.policy.passes(request.tier)}
        thread = threading.get_ident()
        with self._wake:
            self._asking[thread] = client
        try:
            answer, body = client.ask(head, blobs, more, self.policy.seconds)
        except WorkerFailed as error:
            if not self.closed and not request.cpu.leaving:  # else it was ended by us
                log.warn("the compiler of regions failed", pc=f"{request.pc:#x}", reason=str(error))
            return None
        finally:
            with self._wake:
                del self._asking[thread]
        return answer, body[0] if body else b""

    @staticmethod
    def _neighbour(request: Request, number: int) -> CodePage | None:
        """The page ``number`` pages behind the request's, as its CPU has it mapped in the mode in which that place became hot:
        by now it may be in another one."""
        shape, isa = request.cpu.native.shape, request.cpu.native.isa
        at = (request.pc & -shape.page) + number * shape.page & (1 << isa.word) - 1
        base = request.cpu.records_at(at, request.mode)
        return request.cpu.pages.at_base(base) if base else None

    @staticmethod
    def _view(native: NativeIsa, page: CodePage) -> Blobs:
        shape = native.shape
        columns = [memoryview((ctypes.c_uint64 * (2 * shape.slots)).from_address(page.base + shape.context_offset(k)))
                   .cast("B").cast("Q")[::2].tobytes() for k in range(len(native.isa.contexts))]
        fresh = [int.from_bytes(row[:8], "little") for row in native.decode]
        jumps = {at: tuple(seen) for at, seen in page.jumps.copy().items()}
        return {"fresh": fresh, "jumps": jumps}, [ctypes.string_at(page.host, shape.page), *columns]

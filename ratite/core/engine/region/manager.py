"""Regions of an accelerator's CPUs: asked for where code is hot, compiled by workers, installed, and gone when it changes.

    tier 0 counts ─ hot() ─> builder: from disk or a worker ─> object ─> arena ─> words of the side arrays
                                 compared with memory before it is installed ─┘

A region is *installed* where a page's side array holds its entries' addresses; each CPU has side arrays of its own. Who writes
code is followed by the marks on RAM (core.memory.code): a write kills the regions made from the bytes at once, on the
writer's thread, and makes the CPUs inside leave. What was written while no CPU had the page is found by comparing the bytes
when a CPU decodes the page again.

Threads: ``hot``, ``page_made`` and the write hooks run on vCPU threads and take the lock for microseconds; compiling holds no
lock. Lock order: the builder's and ``_evicting`` before the manager's, which is taken last.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ratite.core import log
from ratite.core.accel.base import RamBlock
from ratite.core.engine import block as B
from ratite.core.engine.cache import ObjectCache
from ratite.core.engine.elf import BadObject
from ratite.core.engine.pages import CodePage
from ratite.core.engine.region.arena import Arena
from ratite.core.engine.region.builder import Builder
from ratite.core.engine.region.policy import Policy
from ratite.core.engine.region.records import Installed, Piece, Request, Snapshot, TierCounters
from ratite.core.memory.code import LINE_BITS, PAGE_BITS

if TYPE_CHECKING:
    from ratite.core.engine.vcpu import NativeVcpu

_ATTEMPTS = 4  # to find room for a region, while others take it


class RegionManager:
    """One per accelerator object."""

    def __init__(self, policy: Policy, cache: ObjectCache | None = None) -> None:
        self.policy = policy
        self.builder = Builder(self, policy, cache or ObjectCache())
        self.lock = threading.RLock()
        self.counters = {1: TierCounters(), 2: TierCounters()}
        self._cpus: list[NativeVcpu] = []
        self._added = 0  # CPUs so far
        self._watched: dict[int, tuple[RamBlock, _WriteHook]] = {}
        self._by_page: dict[tuple[int, int], set[Installed]] = {}
        self._segments: dict[int, set[Installed]] = {}
        self._arena: Arena | None = None
        self._evicting = threading.Lock()  # taken before the other
        self._closed = False
        self.views = 0  # how often the CPUs' view of memory changed
        self._next_look = 0.0
        self._total = 0
        self._step = policy.look_seconds[0]

    # -- CPUs
    def add(self, cpu: NativeVcpu) -> int:
        """``cpu`` will ask; before it runs. Which of a region's counters are its own, see block.STRIPE."""
        with self.lock:
            self._cpus.append(cpu)
            self._added += 1
            return (self._added - 1) % B.STRIPES * B.STRIPE_SIZE

    def remove(self, cpu: NativeVcpu) -> None:
        """``cpu`` runs no more. With the last one everything goes."""
        with self.lock:
            if cpu in self._cpus:
                self._cpus.remove(cpu)
            last = not self._cpus
        if last:
            self.close()
        else:
            self.builder.forget(cpu)

    @property
    def closed(self) -> bool:
        """Whether it is of no more use."""
        return self._closed

    def close(self) -> None:
        """Ends thread and workers, frees all code; no CPU runs any more."""
        self._closed = True
        self.builder.close()
        with self.lock:
            for region in [r for rows in self._segments.values() for r in rows]:
                self._kill(region)
            for ram, hook in self._watched.values():
                ram.code.on_write[:] = [h for h in ram.code.on_write if h is not hook]
            self._watched.clear()
            if self._arena is not None:
                self._arena.close()
                self._arena = None

    @property
    def busy(self) -> int:
        """CPUs that execute."""
        return sum(not cpu.outside for cpu in self._cpus)

    def watch(self, rams: Iterable[RamBlock]) -> None:
        """Code may come from these."""
        with self.lock:
            for ram in rams:
                if id(ram) not in self._watched:
                    hook = _WriteHook(self, ram)
                    ram.code.on_write.append(hook)
                    self._watched[id(ram)] = (ram, hook)

    def report(self) -> dict[str, Any]:
        """See JitInfo in the schema."""
        with self.lock:
            alive = [r for rows in self._segments.values() for r in rows]
            tiers = []
            for number, c in self.counters.items():
                mine = [r for r in alive if r.tier == number]
                tiers.append({
                    "tier": number, "regions": c.regions, "bytes": c.bytes, "compiled": c.compiled, "cached": c.cached,
                    "instructions": c.executed + sum(r.heat for r in mine), "source-instructions": c.source_instructions,
                    "compile-time": c.compile_ns, "failures": c.failures, "deopts": c.deopts + sum(r.deopts for r in mine),
                    "invalidations": c.invalidations, "evictions": c.evictions})
            return {"code-size": self.policy.code_size, "waiting": self.builder.waiting, "tiers": tiers}

    # -- on vCPU threads
    def hot(self, cpu: NativeVcpu, page: CodePage, offset: int, pc: int) -> None:
        """Control came to ``offset`` of ``page`` often enough, unless it took a guest that has nothing to do minutes to."""
        if self._closed:
            return
        request = Request(cpu, page, offset, pc)
        if cpu.dozing:
            self.builder.count_anew(request)
        else:
            self.builder.submit(request)

    def page_made(self, cpu: NativeVcpu, page: CodePage) -> None:
        """``cpu`` has made records for ``page``: it gets the entries there, if the bytes are what they were."""
        with self.lock:
            for region in tuple(self._by_page.get((id(page.ram), page.page), ())):
                if self._verify(region, page.ram, page.page) and region.native is cpu.native:
                    self._enter(cpu, region)

    def recheck(self, ram: RamBlock, page: int) -> None:
        """Stores into the page may have gone unseen."""
        with self.lock:
            for region in tuple(self._by_page.get((id(ram), page), ())):
                self._verify(region, ram, page)

    def written(self, ram: RamBlock, offset: int, size: int) -> None:
        """Bytes of ``ram`` changed."""
        first, last = offset >> PAGE_BITS, offset + size - 1 >> PAGE_BITS
        with self.lock:
            for number in range(first, last + 1) if last - first < len(self._by_page) else [p for _, p in self._by_page]:
                if not first <= number <= last:
                    continue
                for region in tuple(self._by_page.get((id(ram), number), ())):
                    for piece in region.pieces:
                        start = (piece.page << PAGE_BITS) + piece.at
                        if piece.ram is ram and start < offset + size and offset < start + len(piece.code):
                            self.counters[region.tier].invalidations += 1
                            self._kill(region)
                            break

    def forget_all(self) -> None:
        """The CPUs' view of memory changed."""
        with self.lock:
            for region in [r for rows in self._segments.values() for r in rows]:
                self._kill(region)
            self.builder.forget_tries()
            self.views += 1

    # -- under the lock
    def _verify(self, region: Installed, ram: RamBlock, number: int) -> bool:
        pieces = [p for p in region.pieces if p.ram is ram and p.page == number]
        self._mark(pieces)
        if all(p.unchanged() for p in pieces):
            return True
        self.counters[region.tier].invalidations += 1
        self._kill(region)
        return False

    def _mark(self, pieces: Iterable[Piece]) -> None:
        """Stores into the lines of the pieces are told from now on."""
        for p in pieces:
            start = (p.page << PAGE_BITS) + p.at
            for line in range(start >> LINE_BITS, (start + len(p.code) - 1 >> LINE_BITS) + 1):
                p.ram.code.lines[line] = 1
        self._fence()

    @staticmethod
    def _fence() -> None:
        """Orders the marks before the bytes that are read next: taking a lock is a locked instruction on x86-64."""
        with threading.Lock():
            pass

    def _enter(self, cpu: NativeVcpu, region: Installed) -> None:
        """The words of ``cpu``'s side arrays that lead into ``region``. An entry that another one has stays, unless of a
        lower tier."""
        shape = region.native.shape
        for k, ((ram, number), parcel, address) in enumerate(region.entries):
            for page in cpu.pages.of_key((ram, number)):
                word = ctypes.c_uint64.from_address(page.base + shape.records + 8 * parcel)
                if word.value < B.REGION_ADDRESS or k == 0 or region.tier == 2:
                    word.value = address

    def _kill(self, region: Installed) -> None:
        """No CPU enters ``region`` any more; those inside leave when they look."""
        if not region.alive:
            return
        region.alive = False
        shape = region.native.shape
        for (ram, number), parcel, address in region.entries:
            for cpu in self._cpus:
                for page in cpu.pages.of_key((ram, number)):
                    word = ctypes.c_uint64.from_address(page.base + shape.records + 8 * parcel)
                    if word.value == address:
                        word.value = 0
        for key in region.pages():
            rows = self._by_page.get(key)
            if rows is not None:
                rows.discard(region)
                if not rows:
                    del self._by_page[key]
        self._segments[region.placed.segment].discard(region)
        counters = self.counters[region.tier]
        counters.regions -= 1
        counters.bytes -= region.placed.size
        counters.deopts += region.deopts
        counters.executed += region.heat
        for cpu in self._cpus:
            cpu.look_again()

    # -- the builder's threads
    def look(self, pause: float) -> float:
        """Regions that deserve better are asked for; seconds until the next look: soon where heat rises fast."""
        low, high = self.policy.look_seconds
        if time.monotonic() < self._next_look:
            return min(pause, self._next_look - time.monotonic())
        total, better = 0, []
        with self.lock:
            for region in [r for rows in self._segments.values() for r in rows]:
                heat = region.heat
                total += heat
                if region.tier == 1 and not region.promoted:
                    better.append(self._better(region, heat))
            for cpu in self._cpus:
                if not cpu.outside:
                    cpu.look_up()  # heat is told when a region is left
        for request in better:
            if request is not None:
                self.builder.submit(request)
        wanted = self._step * self.policy.look_heat / max(abs(total - self._total), 1)
        step = max(low, min(high, wanted, 2 * self._step))
        self._total, self._step = total, step
        self._next_look = time.monotonic() + step
        return step

    def _better(self, region: Installed, heat: int) -> Request | None:
        """What to ask for in the place of ``region``, once it deserves that."""
        deopts = region.deopts
        gives_up = deopts > 1000 and deopts * self.policy.deopt_distance > heat
        if heat < self.policy.promote_heat and not (gives_up and deopts > 10_000):
            return None
        region.promoted = True
        (ram, number), parcel, _ = region.entries[0]
        for cpu in self._cpus:
            for page in cpu.pages.of_key((ram, number)):
                if cpu.native is region.native:
                    offset = parcel * region.native.isa.parcel
                    return Request(cpu, page, offset, region.pc, region, gives_up)
        return None

    def covers(self, request: Request) -> bool:
        """Whether a region was made from the place's code."""
        page, at = request.page, request.offset
        with self.lock:
            return any(region.native is request.cpu.native and any(
                p.ram is page.ram and p.page == page.page and p.at <= at < p.at + len(p.code) for p in region.pieces)
                for region in self._by_page.get((id(page.ram), page.page), ()))

    def accept(self, request: Request, head: dict[str, Any], body: bytes, seen: dict[int, Snapshot]) -> bool:
        """Installs a region, if its code still is what it was and it makes sense."""
        try:
            for _ in range(_ATTEMPTS):
                with self.lock:
                    done = self._install(request, head, body, seen)
                    segment = self._arena.segment if self._arena is not None else 0
                if done is not None:
                    return done
                if not self._make_room(segment, request.cpu if self.policy.synchronous else None):
                    return False
            return False
        except (BadObject, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            self.counters[request.tier].failures += 1
            log.warn("a region is refused", reason=str(error))
            return False

    def spent(self, tier: int, nanoseconds: int, failed: bool) -> None:
        """A region was compiled, or could not be."""
        with self.lock:
            self.counters[tier].compile_ns += nanoseconds
            self.counters[tier].failures += failed

    def known(self, request: Request) -> bool:
        """Whether a region has this entry: made since it was asked for, or its address was overtaken by a count."""
        page, native = request.page, request.cpu.native
        place = ((id(page.ram), page.page), request.offset // native.isa.parcel)
        with self.lock:
            for region in self._by_page.get(place[0], ()):
                if region.native is native and any(entry[:2] == place for entry in region.entries):
                    self._enter(request.cpu, region)
                    return True
        return False

    def _install(self, request: Request, head: dict[str, Any], body: bytes, seen: dict[int, Snapshot]) -> bool | None:
        """None where there is no room; then all is to be looked at again."""
        native = request.cpu.native
        shape, parcel = native.shape, native.isa.parcel
        pieces = []
        for number, start, end in head["ranges"]:
            page, code = seen[number]
            if not 0 <= start < end <= shape.page:
                raise ValueError(f"a range {start}…{end}")
            pieces.append(Piece(page.ram, page.page, page.host, start, code[start:end]))
        if request.view != self.views or request.cpu not in self._cpus:  # addresses mean something else now
            return False
        self._mark(pieces)
        if not all(p.unchanged() for p in pieces):  # since the worker was given them
            return False
        if self._arena is None:
            self._arena = Arena(self.policy.code_size)
        placed = self._arena.place(body)
        if placed is None:
            return None
        table = (ctypes.c_uint64 * len(head["pages"])).from_address(placed.symbols["pages"])
        for k, number in enumerate(head["pages"]):
            table[k] = seen[number][0].phys
        entries = []
        for k, off in enumerate(head["entries"]):
            number, at = divmod(off, shape.page)
            page = seen[number][0]
            entries.append(((id(page.ram), page.page), at // parcel, placed.symbols[f"e{k}"]))
        region = Installed(native, request.tier, placed, entries, head["entries"], pieces, head["count"], request)
        if request.replaces is not None:
            self._kill(request.replaces)
        for key in region.pages():
            self._by_page.setdefault(key, set()).add(region)
        self._segments.setdefault(placed.segment, set()).add(region)
        counters = self.counters[request.tier]
        counters.regions += 1
        counters.compiled += 1
        counters.bytes += placed.size
        counters.source_instructions += region.count
        for cpu in self._cpus:
            if cpu.native is native:
                self._enter(cpu, region)
        return True

    def _make_room(self, full: int, waits: NativeVcpu | None) -> bool:
        """Goes on behind segment ``full``, unless another thread has; False where a CPU did not leave what had to go for it.
        ``waits``: the CPU that waits for a region, in tier 0."""
        with self._evicting, self.lock:
            assert self._arena is not None
            if self._arena.segment == full:
                following = (full + 1) % self._arena.segments
                for region in tuple(self._segments.get(following, ())):
                    self.counters[region.tier].evictions += 1
                    self._kill(region)
                if not self._left(waits):
                    return False
                self._arena.advance()
            return True

    def _left(self, waits: NativeVcpu | None) -> bool:
        """Whether every CPU but ``waits`` has been outside of generated code since now. Waits a little, in which the lock is
        not held."""
        waiting = {cpu: cpu.services for cpu in self._cpus if not cpu.outside and cpu is not waits}
        end = time.monotonic() + self.policy.leave_seconds
        for cpu in waiting:
            cpu.look_again()
        while True:
            waiting = {cpu: n for cpu, n in waiting.items() if cpu.services == n and not cpu.outside}
            if not waiting:
                return True
            if time.monotonic() > end:
                return False
            self.lock.release()
            time.sleep(0.001)
            self.lock.acquire()


class _WriteHook:
    """What a RAM calls when code was written."""

    __slots__ = ("owner", "ram")

    def __init__(self, owner: RegionManager, ram: RamBlock) -> None:
        self.owner = owner
        self.ram = ram

    def __call__(self, offset: int, size: int) -> None:
        self.owner.written(self.ram, offset, size)

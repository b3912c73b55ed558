"""A vCPU of the native engine: its block, its callbacks, and the loop around generated code.

    run: service ─> native code ─> reason ─┬─ FLUSH, SERVED, OUT_OF_BUDGET ─> again
                                           └─ HALTED, KICKED, PANICKED ─> back to the thread, also to sleep (see idle)

Threads: ``run`` and the callbacks are the vCPU's own thread. Others only set a byte of the exit request, a line's bit
(under the machine's lock) or append to the list of stale ranges, which ``run`` takes at its next service.
"""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from ratite.core.accel.base import CpuPort, Decoded, Exit, RamBlock, RamRange, Vcpu
from ratite.core.engine import block as B
from ratite.core.engine.bus import BusCallbacks
from ratite.core.engine.codelog import CodeLog, NoLog
from ratite.core.engine.idle import IdleWatch
from ratite.core.engine.native import NativeIsa
from ratite.core.engine.pages import CodePage, CodePages, Frame
from ratite.core.engine.watch import IdleView, MadeHook, RamHook
from ratite.core.isa.state import StateField
from ratite.core.memory.code import LINE_BITS, PAGE_BITS
from ratite.core.memory.host import anonymous
from ratite.core.memory.reserve import LINE_BITS as RESERVED_BITS

if TYPE_CHECKING:
    from ratite.core.engine.region.manager import RegionManager

_MissHook = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
_WriteHook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
_AskHook = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
_ClockHook = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)

_GLIMPSE_S = 0.02
_BRIEF = 20_000  # instructions after a nap that are a short stay in the guest: some 0.1 ms, and a timer tick is less
_TYPES = MappingProxyType({1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64})
_PATIENCE = 64  # stores into a code page that hit no instruction before the page counts as data again
_TARGETS = 64  # of one computed jump that are remembered
_REWRITES = 24  # stores that did: somebody fills the page with something else, and what is left of it is decoded anew
_FILL = 8  # stores into code, each where the last one ended: somebody fills the page, word by word or byte by byte
_CROWD = 8  # stores into one page that wait together: it is dropped, not made anew piece by piece
_BACKLOG = 16  # stores that wait for a CPU which is outside, after which who stores does its work


class NativeVcpu(Vcpu):
    """See ``Vcpu``. ``code_limit``: bytes of decoded records at the most. ``regions``: who compiles hot code."""

    def __init__(
        self, native: NativeIsa, port: CpuPort, bus_error: type[Exception], code_limit: int,
        regions: RegionManager | None = None,
    ) -> None:
        super().__init__()
        self.native = native
        self._port = port
        self._bus = BusCallbacks(port, bus_error, self._bus_fault, self._broken)
        self.isa = native.isa
        self._codelog: NoLog = NoLog()
        self.layout = native.isa.layout
        self._map = anonymous(native.shape.size)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._pointer = self._start + B.BASE
        self._arrays = {
            f.name: (_TYPES[f.size] * f.count).from_address(self._pointer + f.offset) for f in self.layout}
        self._words = {
            at: ctypes.c_uint64.from_address(self._pointer + at)
            for at in (B.IRQ_LINES, B.TRAPS, B.LIMIT, B.EXC, B.EXC_ADDR, B.PC, B.BUDGET, B.REASON, B.CTX,
                       B.RESERVED_SIZE, B.MEMMAP, B.MEMMAP_COUNT, B.TRAP_PC, B.TRAP_MARK, B.TLB_DATA, B.TLB_CODE, B.TLB_USED,
                       B.LARGE_LOW, B.LARGE_HIGH, B.CLOCK_GETTIME, B.CLOCK_OFFSET, B.SCHED_YIELD, B.STRIPE, B.YOUNG, B.TABLE,
                       B.HOT_AT, B.REGION_INSNS, B.WINDOWED, B.MODE_DATA, B.MODE_CODE, B.CAME_FROM, B.CAME_TO)}
        self.pages = CodePages(native, code_limit)
        self._stale: deque[tuple[RamBlock, int, int] | None] = deque()  # None: somebody else decoded a page
        self._made: dict[int, MadeHook] = {}  # by RAM
        self._young: list[CodePage] = []  # that may have missed a store of another CPU
        self._drops: set[int] = set()  # physical addresses of pages that turned out to be data
        self._filled, self._fills = 0, 0  # where the CPU's last store into code ended, and how many came one behind the other
        self._failure: BaseException | None = None
        self._executed = 0  # as of the last time outside of generated code
        self._brief = 0  # where, by that, a short stay behind a dozing guest's nap ends; 0: no such one
        self._gate = threading.Lock()  # held while requests are served, and on the way into generated code
        self._outside = True  # no Event, which would cost more than the rest of a short stay in generated code
        self._glimpses: deque[threading.Event] = deque()  # of those who wait for that
        self._keep: list[object] = []
        self.regions = regions
        self.leaving = False  # no region is made for it any more
        self.services = 0  # how often requests were served
        self._ranges: list[RamRange] = []
        self.idle = IdleWatch(native.isa, IdleView(self))
        self._hooks()
        self._words[B.TLB_DATA].value = self._pointer + native.shape.tlb
        self._words[B.TABLE].value = native.table
        self._words[B.SCHED_YIELD].value = native.sched_yield
        self._words[B.TLB_CODE].value = self._pointer + native.shape.code_tlb
        for number, edges in enumerate(native.scratch_templates):
            scratch = B.BASE + native.shape.scratch + native.shape.context_offset(number)
            self._map[scratch:scratch + len(edges)] = edges
        self.flush_tlb()
        if regions is not None:
            self._words[B.HOT_AT].value = regions.policy.threshold
            self.pages.made = partial(regions.page_made, self)
            self.pages.lock = regions.lock
            self._words[B.STRIPE].value = regions.add(self)
        self.remap()
        self.reset(0)

    # -- set-up
    def _hooks(self) -> None:
        for at, kind, hook in (
            (B.ON_CODE_MISS, _MissHook, self._on_code_miss), (B.ON_CODE_WRITE, _WriteHook, self._on_code_write),
            (B.ON_CLOCK, _ClockHook, self._on_clock), (B.ON_NOTIFY, _WriteHook, self._on_notify),
            (B.ON_ASK, _AskHook, self._on_ask), (B.ON_HOT, _WriteHook, self._on_hot),
        ):
            function = kind(hook)
            self._keep.append(function)
            address = ctypes.cast(function, ctypes.c_void_p).value or 0
            ctypes.c_uint64.from_address(self._pointer + at).value = address
        for at, address in self._bus.words():
            ctypes.c_uint64.from_address(self._pointer + at).value = address

    def remap(self) -> None:
        self._bus.forget()
        self.idle.forget()
        with self._gate:
            self._flush_code()
        self._unwatch()
        self._ranges = list(self._port.ram_ranges())
        self._lines: dict[int, int] = {}  # address of a RAM's line marks
        words = B.MAP_ROW // 8
        table = (ctypes.c_uint64 * (words * max(1, len(self._ranges))))()
        flags: list[object] = [table]
        for k, r in enumerate(self._ranges):
            marks = [ctypes.c_char.from_buffer(table) for table in (r.ram.code.pages, r.ram.code.lines)]
            flags.append(marks)
            self._lines[id(r.ram)] = ctypes.addressof(marks[1])
            table[words * k:words * (k + 1)] = [
                r.start, r.start + r.size - 1, (r.host - r.start) & (1 << 64) - 1,
                ctypes.addressof(marks[0]) + (r.offset >> PAGE_BITS),
                ctypes.addressof(marks[1]) + (r.offset >> PAGE_BITS << PAGE_BITS - LINE_BITS),
                B.MAP_READONLY if r.readonly else 0,
                r.ram.code.reserved.address + (r.offset >> PAGE_BITS << PAGE_BITS - RESERVED_BITS + 1)]
        self._tables = flags
        self._words[B.MEMMAP].value = ctypes.addressof(table)
        self._words[B.MEMMAP_COUNT].value = len(self._ranges)
        for ram in {id(r.ram): r.ram for r in self._ranges}.values():
            ram.code.on_write.append(RamHook(self, ram))
            hook = MadeHook(self, ram)
            self._made[id(ram)] = hook
            ram.code.on_made.append(hook)
        if self.regions is not None:
            self.regions.forget_all()
            self.regions.watch(r.ram for r in self._ranges)
        self.flush_tlb()

    def _unwatch(self) -> None:
        for ram in {id(r.ram): r.ram for r in self._ranges}.values():
            ram.code.on_write[:] = [h for h in ram.code.on_write if getattr(h, "owner", None) is not self]
            ram.code.on_made[:] = [h for h in ram.code.on_made if getattr(h, "owner", None) is not self]
        self._made.clear()

    # -- other threads
    def kick(self) -> None:
        self._request(B.LEAVE)

    def _request(self, byte: int) -> None:
        self._map[B.BASE + B.EXIT_REQUEST + byte] = 1

    def set_line(self, bit: int, level: bool) -> None:
        lines = self._words[B.IRQ_LINES]
        lines.value = lines.value | 1 << bit if level else lines.value & ~(1 << bit)
        self._request(B.LOOK)

    def invalidate(self, ram: RamBlock, offset: int, size: int) -> None:
        if self.regions is not None:
            self.regions.written(ram, offset, size)
        self._stale.append((ram, offset, size))
        self._request(B.SERVICE)
        if len(self._stale) >= _BACKLOG and self._outside:
            self._serve_from_outside()

    def code_made(self) -> None:
        """A page has become code: what may be written past the check is to be found out anew."""
        self._stale.append(None)
        self.look_again()

    def look_up(self) -> None:
        """Leaves compiled code soon, and goes on: no Python is needed, which others may keep busy."""
        self._request(B.LOOK)

    def look_again(self) -> None:
        """Leaves compiled code soon; ``services`` counts then."""
        self._request(B.SERVICE)

    @property
    def code_mode(self) -> int:
        """Number of the mode of fetches. A hint where the CPU runs."""
        return self._words[B.MODE_CODE].value

    def records_at(self, addr: int, mode: int) -> int:
        """Host address of the records of the page at virtual ``addr``, as far as the CPU knows it in ``mode``; else 0. A hint
        where the CPU runs."""
        shape = self.native.shape
        index = (addr >> self.native.isa.page_bits) & (B.CODE_TLB_ENTRIES - 1)
        tlb = self._pointer + shape.code_tlb + mode * shape.code_tlb_size
        tag, base = (ctypes.c_uint64 * 2).from_address(tlb + index * B.CODE_TLB_ENTRY)
        return base if tag == addr & -shape.page else 0

    def frame(self, phys: int) -> Frame | None:
        """The page of RAM at physical ``phys``, if all of it is there."""
        found = self._find(phys, self.native.shape.page)
        if found is None:
            return None
        offset = found.offset + phys - found.start
        return Frame(phys, found.ram, offset >> PAGE_BITS, found.host + phys - found.start)

    def arrivals(self) -> array[int]:
        """How often control came to places that are hot already, by ``heat_slot``. The counters wrap around."""
        start = B.BASE + self.native.shape.heat
        return array("I", self._map[start:start + 4 * B.HEAT])

    def undisturbed(self) -> bool:
        request = B.BASE + B.EXIT_REQUEST
        return not (self._map[request + B.LEAVE] or self._map[request + B.LOOK])

    @property
    def windowed(self) -> bool:
        """Whether data accesses of the present mode may go through windows. A hint where the CPU runs."""
        return bool(self._words[B.WINDOWED].value >> self._words[B.MODE_DATA].value & 1)

    @property
    def dozing(self) -> bool:
        return self._brief > 0

    @property
    def outside(self) -> bool:
        """Whether the CPU is not in generated code; it serves requests before it goes there."""
        return self._outside

    # -- running
    def run(self) -> Exit:
        while True:
            if self._brief and self._executed + self.idle.left > self._brief:
                self._brief = 0
                return Exit(Exit.BUDGET)
            ended = self._once(self.native.run, self.idle.left)
            self.idle.left -= self._spent
            if ended is not None:
                if not (ended.kind == Exit.HALT and self.has_work()):
                    return ended
            elif (self.idle.left <= 0 or self.idle.told) and self.idle.look():
                self._brief = self._executed + _BRIEF if self.idle.dozes(self._executed) else 0
                return Exit(Exit.IDLE)

    def step(self, count: int = 1) -> Exit:
        while count > 0:
            self._map[B.BASE + B.EXIT_REQUEST + B.LOOK] = 0  # a step looks at interrupts itself
            ended = self._once(self.native.step, 1)
            if ended is not None:
                return ended
            count -= self._spent
        return Exit(Exit.BUDGET)

    def advance(self, count: int) -> tuple[int, Exit]:
        """Runs at least ``count`` instructions and traps, and on to the next place where the budget is looked at, unless
        something else ends it; (how many, why it ended)."""
        done = 0
        while done < count:
            ended = self._once(self.native.run, count - done)
            done += self._spent
            if ended is not None:
                return done, ended
        return done, Exit(Exit.BUDGET)

    def _once(self, function: Callable[[int], None], budget: int) -> Exit | None:
        """Into native code and back; an exit that its caller must know of."""
        self._set_clock()
        with self._gate:
            self._service()
            self._outside = False
        reason = self._enter(function, budget)
        self._codelog.look()
        if reason == B.FLUSH:
            with self._gate:
                self._refresh()
        elif reason == B.HALTED:
            return Exit(Exit.HALT)
        elif reason == B.KICKED:
            self._map[B.BASE + B.EXIT_REQUEST + B.LEAVE] = 0
            return Exit(Exit.KICKED)
        elif reason == B.PANICKED:
            addr = self._words[B.EXC_ADDR].value
            return Exit(Exit.PANIC, f"no instruction can be fetched at {addr:#x}, where the trap handler starts")
        return None

    def _set_clock(self) -> None:
        """The clock, which may have stood meanwhile, for this stay in native code: how far it is behind the host's, or none
        where it isn't made from that, and ON_CLOCK is asked each time."""
        offset = self._port.clock_offset()
        if offset is None:
            self._words[B.CLOCK_GETTIME].value = 0
        else:
            self._words[B.CLOCK_OFFSET].value = offset & (1 << 64) - 1
            self._words[B.CLOCK_GETTIME].value = self.native.clock_gettime

    def _enter(self, function: Callable[[int], None], budget: int) -> int:
        words = self._words
        limit = self._executed + words[B.TRAPS].value + budget
        words[B.LIMIT].value = limit
        words[B.BUDGET].value = budget
        function(self._pointer)
        left = ctypes.c_int64(words[B.BUDGET].value).value
        self._spent = budget - left
        self._executed = limit - left - words[B.TRAPS].value
        self._outside = True
        while self._glimpses:
            self._glimpses.popleft().set()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return words[B.REASON].value

    def _serve_from_outside(self) -> None:
        """On the thread of somebody who stores: a CPU that sleeps would keep its pages, and with them each store into them
        slow, until it wakes."""
        if self._gate.acquire(blocking=False):
            try:
                if self._outside:
                    self._service()
            finally:
                self._gate.release()

    def _service(self) -> None:
        """What others asked for; the vCPU is outside of generated code, and the gate is held."""
        if not self._map[B.BASE + B.EXIT_REQUEST + B.SERVICE]:
            for hook in self._made.values():  # what was asked for is told by that byte, but not what this CPU decoded
                if hook.reached != hook.ram.code.generation:
                    break
            else:
                return
        self._map[B.BASE + B.EXIT_REQUEST + B.SERVICE] = 0
        self.services += 1
        reached = [(hook, hook.ram.code.generation) for hook in self._made.values()]  # before the requests are read
        flush = self._forget_stale()
        for at in self._drops:
            if (page := self.pages.by_phys.get(at)) is not None:
                self.pages.drop(page)
                flush = True
        if self._drops:
            self._flush_code_tlb()
            self._drops.clear()
        if flush:
            self._flush_data_tlb()
        for hook, generation in reached:
            hook.reached = generation

    def _forget_stale(self) -> bool:
        """What the stores that others told of hit is decoded anew; whether somebody else made code."""
        items = [self._stale.popleft() for _ in range(len(self._stale))]
        stores = [item for item in items if item is not None]
        crowded: set[tuple[int, int]] = set()
        if len(stores) > _CROWD:
            touched = Counter((id(ram), offset >> PAGE_BITS) for ram, offset, _ in stores)
            crowded = {key for key, count in touched.items() if count > _CROWD}
            for key in crowded:
                self._drops.update(page.phys for page in self.pages.of_key(key))
        for ram, offset, size in stores:
            if (id(ram), offset >> PAGE_BITS) not in crowded or offset >> PAGE_BITS != offset + size - 1 >> PAGE_BITS:
                self._forget(ram, offset, size)
        return len(stores) < len(items)

    def _refresh(self) -> None:
        """The guest asks for code as it stands. Stores that were seen are in ``_stale`` by now; a page in which one may have
        gone unseen is decoded anew, and grows up once nobody can write it unseen any more."""
        for page in self._young:
            if self.pages.by_phys.get(page.phys) is page:
                self.pages.forget_bytes(page, 0, self.native.shape.page)
                if self.regions is not None:
                    self.regions.recheck(page.ram, page.page)
        self._young = [page for page in self._young if not page.ram.code.settled(page.generation, self._made[id(page.ram)])]
        self._words[B.YOUNG].value = bool(self._young)

    def has_work(self) -> bool:
        return bool(self.native.wake(self._pointer))

    # -- state
    def fields(self) -> Iterable[StateField]:
        return self.layout

    def get(self, name: str, index: int = 0) -> int:
        if name == "pc":
            return self._words[B.PC].value & (1 << self.native.isa.word) - 1
        if name == "irq_lines":
            return self._words[B.IRQ_LINES].value
        if name == "ctx":
            return self._words[B.CTX].value
        return int(self._arrays[name][index])

    def set(self, name: str, value: int, index: int = 0) -> None:
        if name == "pc":
            self._words[B.PC].value = value & (1 << self.native.isa.word) - 1
        elif name == "irq_lines":
            self._words[B.IRQ_LINES].value = value
        elif name == "ctx":
            if not 0 <= value < len(self.native.isa.contexts):
                raise ValueError(f"context {value} of {len(self.native.isa.contexts)}")
            self._words[B.CTX].value = value
        elif index or not self.layout[name].zero:
            self._arrays[name][index] = value & (1 << self.layout[name].width) - 1

    def reset(self, pc: int) -> None:
        for field in self.layout:
            self._arrays[field.name][:] = [field.reset] * field.count
        self.set_reset_values()
        for at in (B.EXC, B.CTX, B.RESERVED_SIZE):
            self._words[at].value = 0
        self._words[B.TRAP_PC].value = (1 << 64) - 1
        self.flush_tlb()
        self.set("pc", pc)

    @property
    def instructions(self) -> int:
        if not self._outside:  # the count is in a register: have it brought out
            seen = threading.Event()
            self._glimpses.append(seen)
            self._request(B.SERVICE)
            if not self._outside:
                seen.wait(_GLIMPSE_S)  # a CPU that waits for its caller's lock can't come: the last count stands
        return self._executed

    @property
    def evictions(self) -> int:
        """How often all decoded code had to go for lack of room."""
        return self.pages.evictions

    @property
    def compiled_instructions(self) -> int:
        """Those of them that compiled regions executed."""
        return self._words[B.REGION_INSNS].value

    @property
    def traps(self) -> int:
        """Traps taken since creation."""
        return self._words[B.TRAPS].value

    # -- translations
    def flush_tlb(self) -> None:
        self._words[B.WINDOWED].value = 0
        self._flush_data_tlb()
        if self.native.shape.modes > 1:  # else addresses of code are physical, and records outlive it
            self._flush_code_tlb()

    def _flush_data_tlb(self) -> None:
        """What may be written past the check is found out anew."""
        shape = self.native.shape
        ctypes.memset(self._pointer + shape.tlb, 0xFF, shape.modes * shape.tlb_size)

    def _flush_code_tlb(self) -> None:
        shape = self.native.shape
        ctypes.memset(self._pointer + shape.code_tlb, 0xFF, shape.heat - shape.code_tlb)  # and the known pages

    def _flush_code(self) -> None:
        self.pages.drop_all()
        self._young.clear()
        self._words[B.YOUNG].value = 0
        self._flush_code_tlb()

    def _forget(self, ram: RamBlock, offset: int, size: int) -> None:
        for page in range(offset >> PAGE_BITS, (offset + size - 1 >> PAGE_BITS) + 1):
            low = max(offset, page << PAGE_BITS)
            high = min(offset + size, (page + 1) << PAGE_BITS)
            for made in self.pages.of_ram(ram, page):
                if self.pages.forget_bytes(made, low & 0xFFF, high - low):
                    made.misses = 0
                    made.hits += 1
                else:
                    made.misses += 1
                if made.misses > _PATIENCE or made.hits > _REWRITES:
                    self._drop([made])

    def _drop(self, pages: Iterable[CodePage]) -> None:
        """They are data by now: they go as soon as the CPU has left them."""
        self._drops.update(page.phys for page in pages)
        self._request(B.SERVICE)

    def _find(self, addr: int, size: int) -> RamRange | None:
        return next((r for r in self._ranges if r.start <= addr and addr + size <= r.start + r.size), None)

    # -- callbacks from generated code; none may raise
    def _bus_fault(self, kind: int, addr: int) -> None:
        self._words[B.EXC].value = kind
        self._words[B.EXC_ADDR].value = addr

    def _broken(self, error: BaseException) -> None:
        """A fault of ours, not the guest's: the thread gets it from ``run``."""
        self._failure = error
        self._request(B.LEAVE)

    def _on_code_miss(self, _: int, addr: int) -> int:
        try:
            shape = self.native.shape
            at = addr & -shape.page
            page = self.pages.by_phys.get(at)
            if page is None:
                found = self.frame(at)
                if found is None:
                    return 0
                if self.pages.full:
                    self._flush_code()
                    self.pages.evictions += 1
                marks = self._lines[id(found.ram)] + (found.page << PAGE_BITS - LINE_BITS)
                page = self.pages.make(found, marks)
                if len(found.ram.code.on_made) > 1:
                    self._young.append(page)
                    self._words[B.YOUNG].value = 1
                self._flush_data_tlb()  # it may be written past the check so far
            return page.base
        except BaseException as error:
            self._broken(error)
            return 0

    def _on_hot(self, _: int, rec: int, pc: int) -> None:
        try:
            shape = self.native.shape
            offset = pc & (shape.page - 1)
            page = self.pages.at_base(rec - (offset << shape.shift))
            if page is not None and self.regions is not None:
                if self._words[B.CAME_TO].value == pc:
                    self._came(self._words[B.CAME_FROM].value, pc)
                self.regions.hot(self, page, offset, pc)
        except BaseException as error:
            self._broken(error)

    def _came(self, source: int, target: int) -> None:
        """A jump to a computed address leads to a hot place."""
        page = self.pages.at_base(self.records_at(source, self.code_mode))
        if page is not None:
            seen = page.jumps.setdefault(source & (self.native.shape.page - 1), [])
            if target - source not in seen and len(seen) < _TARGETS:
                seen.append(target - source)

    def _on_clock(self, _: int) -> int:
        try:
            return self._port.clock_ns()
        except BaseException as error:
            self._broken(error)
            return 0

    def _on_notify(self, _: int, number: int, value: int) -> None:
        try:
            self._port.on_notify(number, value)
        except BaseException as error:
            self._broken(error)

    def _on_ask(self, _: int, number: int, value: int) -> int:
        try:
            return self._port.on_ask(number, value)
        except BaseException as error:
            self._broken(error)
            return 0

    def _on_code_write(self, _: int, addr: int, size: int) -> None:
        try:
            found = self._find(addr, size)
            if found is not None:
                offset = found.offset + addr - found.start
                self._forget(found.ram, offset, size)
                self._fills = self._fills + 1 if addr == self._filled else 0
                self._filled = addr + size
                if self._fills >= _FILL:
                    self._drop(self.pages.of_ram(found.ram, offset >> PAGE_BITS))
                found.ram.code.written(offset, size, self)
        except BaseException as error:
            self._broken(error)

    # -- the rest
    def watch_code(self, tell: Callable[[list[Decoded]], None] | None) -> bool:
        self._codelog.close()
        self._codelog = NoLog() if tell is None else CodeLog(self.native, self.pages, tell, self.look_again)
        return True

    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        return self.native.isa.disassemble(addr, code)

    def close(self) -> None:
        self._codelog.close()
        self.idle.forget()
        self._unwatch()
        if self.regions is not None:
            self.regions.remove(self)
        with self._gate:
            self.pages.close()

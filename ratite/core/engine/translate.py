"""Address translation in native code: the memory map, the TLBs, the ISA's own page walk, and records of code by address."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ratite.core.engine import block as B
from ratite.core.engine.path import ADDEND, FLAGS, LAST, PAGES, START, Path
from ratite.core.engine.window import window_paths
from ratite.core.isa.emitter import EXECUTE, FETCH_FAULT, LOAD_FAULT, STORE_FAULT, WHOLE
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.code import PAGE_BITS
from ratite.core.memory.reserve import LINE_BITS

Maker = Callable[[Isa, B.Shape], Path]
_NONE = -1  # a tag that no page has


def _find(isa: Isa, shape: B.Shape) -> Path:
    """Address of the map's row that holds all of [a, a + n), or 0."""
    e = Path(isa, shape, "find", "a", "n")
    a = e.parameter("a")
    last = a + (e.parameter("n") - 1)
    table = e.read(B.MEMMAP)
    end = table + e.read(B.MEMMAP_COUNT) * B.MAP_ROW
    loop, look, on, none = (e.new_label() for _ in range(4))
    e.goto(loop)
    e.label(loop)
    row = e.v("%row", 64)
    e.put(f"%row = phi i64 [{table.ref}, %entry], [%next, %{on}]")
    e.fork(str(row.ult(end).ref), look, none)
    e.label(look)
    inside = a.uge(e.field(row, START)) & last.ule(e.field(row, LAST)) & a.ule(last)  # it does not wrap around
    e.if_(inside, lambda: e.ret(row))
    e.goto(on)
    e.label(on)
    e.put(f"%next = add i64 %row, {B.MAP_ROW}")
    e.goto(loop)
    e.label(none)
    e.ret(0)
    return e


def _has_code(isa: Isa, shape: B.Shape) -> Path:
    """1 if the page at physical ``p`` of the row holds decoded code, else 0."""
    e = Path(isa, shape, "has_code", "row", "p")
    row, p = e.parameter("row"), e.parameter("p")
    number = (p - (e.field(row, START) & -4096)) >> PAGE_BITS
    mark = e.pointer(e.field(row, PAGES) + number)
    e.ret(e.v(e.let(f"load volatile i8, ptr {mark}"), 8).ne(0).zext(64))
    return e


def _fill(isa: Isa, shape: B.Shape) -> Path:
    """Fills the TLB for the page at ``a``, which is at ``phys`` in the row, as the last translation allows; 1 if the page
    holds decoded code, else 0. It can be written past the check only if it holds no code and is not read-only."""
    e = Path(isa, shape, "fill", "row", "a", "phys")
    row, a, phys = e.parameter("row"), e.parameter("a"), e.parameter("phys")
    code = e.call("has_code", row, phys)
    page = phys & -shape.page

    def fill() -> None:
        entry = e.entry_of(a)
        tag = a & -shape.page
        allowed = e.read(B.MAP_ALLOWED) if isa.mmu_modes else e.const(3, 64)
        shut = code.ne(0) | e.field(row, FLAGS).ne(0) | (allowed & 3).ne(3)  # regions read by an entry for writes too
        readable = e.select((allowed & 1).ne(0), tag, _NONE)
        e.put(f"store i64 {readable.ref}, ptr {entry}")
        e.put(f"store i64 {e.select(shut, e.const(_NONE, 64), tag).ref}, ptr {e.at(entry, 8)}")
        e.put(f"store i64 {(e.field(row, ADDEND) + (phys - a)).ref}, ptr {e.at(entry, 16)}")
        words = e.line_word(row, page) - (tag >> LINE_BITS << 1)
        e.put(f"store i64 {words.ref}, ptr {e.at(entry, 24)}")
        if isa.mmu_modes:
            _note(e, a, e.read(B.MODE_DATA))
            e.if_(e.read(B.MAP_BITS).eq(WHOLE), lambda: e.do("window", row, phys, code))
        else:
            e.do("window", row, phys, code)

    whole = page.uge(e.field(row, START)) & (page + (shape.page - 1)).ule(e.field(row, LAST))
    if isa.mmu_modes:
        whole = whole & e.read(B.MAP_BITS).uge(isa.page_bits)
    e.if_(whole, fill)
    e.ret(code)
    return e


def _note(e: Path, a: V, mode: V) -> None:
    """A TLB of ``mode`` was filled for address ``a``."""
    e.write(B.TLB_USED, e.read(B.TLB_USED) | e.const(1, 64) << mode)
    bits = e.read(B.MAP_BITS)

    def large() -> None:
        size = e.const(1, 64) << (bits & 63)
        low = a & (e.const(0, 64) - size)
        high = low + (size - 1)
        known_low, known_high = e.read(B.LARGE_LOW), e.read(B.LARGE_HIGH)
        e.write(B.LARGE_LOW, e.select(low.ult(known_low), low, known_low))
        e.write(B.LARGE_HIGH, e.select(high.ugt(known_high), high, known_high))

    e.if_(bits.ugt(e.isa.page_bits) & bits.ne(WHOLE), large)


def _known_or_made(e: Path, phys: V, nothing: Callable[[], None]) -> V:
    """Records of the physical page: known, or the host's, which 1 in the variable "made" tells; ends with ``nothing`` where
    there is nothing to fetch."""
    page = phys & -e.shape.page
    index = (phys >> e.isa.page_bits) & (B.CODE_PAGES - 1)
    entry = e.at(e.at("%cpu", e.shape.code_pages), str((index * B.CODE_PAGE).ref))
    e.variable("records", 0)
    e.variable("made", 0)

    def known() -> None:
        e.assign("records", e.v(e.let(f"load i64, ptr {e.at(entry, 8)}"), 64))

    def ask() -> None:
        made = e.host(B.ON_CODE_MISS, phys)
        e.assign("made", 1)
        e.if_(made.eq(0), nothing)
        e.put(f"store i64 {page.ref}, ptr {entry}")
        e.put(f"store i64 {made.ref}, ptr {e.at(entry, 8)}")
        e.assign("records", made)

    e.if_(e.v(e.let(f"load i64, ptr {entry}"), 64).eq(page), known, ask)
    return e.variable_value("records")


def _records(isa: Isa, shape: B.Shape) -> Path:
    """Records of the page at virtual ``pc``, noted in the code TLB; 0 and a fault where nothing can be fetched."""
    e = Path(isa, shape, "records", "pc", how="cold")
    pc = e.parameter("pc")
    phys = pc
    if isa.mmu_modes:
        phys = e.call("translate", pc, EXECUTE, e.read(B.MODE_CODE))
        e.unless_failed(None, 0)
    made = _known_or_made(e, phys, lambda: e.fail(FETCH_FAULT, pc, 0))
    if isa.smallest_page < isa.page_bits:  # the next page may be inside the same one of ours
        e.if_(e.read(B.MAP_BITS).ult(isa.page_bits), lambda: e.ret(made))
    _note_code(e, pc, made, phys)
    e.ret(made)
    return e


def _note_code(e: Path, pc: V, records: V, phys: V) -> None:
    """Fills the code TLB for the page at ``pc``."""
    isa, shape = e.isa, e.shape
    base = e.at("%cpu", shape.code_tlb)
    if isa.mmu_modes:
        base = e.let(f"load ptr, ptr {e.at('%cpu', B.TLB_CODE)}")
        _note(e, pc, e.read(B.MODE_CODE))
    index = (pc >> isa.page_bits) & (B.CODE_TLB_ENTRIES - 1)
    entry = e.at(base, str((index * B.CODE_TLB_ENTRY).ref))
    for at, value in ((0, pc & -shape.page), (8, records), (16, phys & -shape.page)):
        e.put(f"store i64 {value.ref}, ptr {e.at(entry, at)}")


def _expect(isa: Isa, shape: B.Shape) -> Path:
    """A region is to be entered whose page at virtual ``pc`` was at physical ``expected``: 1 if that is in the code TLB now.
    Nothing that the guest can see changes. After a flush the TLB would else learn of a page only when control goes there, and
    where that is a rare way, the region would not be entered again."""
    e = Path(isa, shape, "expect", "pc", "expected", how="cold")
    pc, expected = e.parameter("pc"), e.parameter("expected")

    def no() -> None:
        e.ret(0)

    if isa.mmu_modes:
        e.write(B.PROBING, 1)
        phys = e.call("translate", pc, EXECUTE, e.read(B.MODE_CODE))
        e.write(B.PROBING, 0)
        failed = e.read(B.EXC).ne(0)
        e.write(B.EXC, 0)
        e.if_(failed | phys.ne(expected), no)
        if isa.smallest_page < isa.page_bits:
            e.if_(e.read(B.MAP_BITS).ult(isa.page_bits), no)
    else:
        e.if_(pc.ne(expected), no)
    records = _known_or_made(e, expected, no)
    _note_code(e, pc, records, expected)
    # What was made is compared with memory meanwhile, and the region may be gone.
    e.ret(e.variable_value("made") ^ 1)
    return e


class _Walk(Path):
    """The ISA's page walk."""

    def mapped(self, phys: V, allowed: V | int, bits: V | int) -> None:
        wide = allowed.zext(64) if isinstance(allowed, V) else allowed
        self.write(B.MAP_ALLOWED, wide)
        self.write(B.MAP_BITS, bits.zext(64) if isinstance(bits, V) else bits)
        self.ret(phys)

    def unmapped(self, kind: V | int) -> None:
        self.fail(kind.zext(64) if isinstance(kind, V) else kind, self.parameter("addr"), 0)

    def function(self, name: str, *args: V) -> V:
        return self.call(f"f_{name}", *args)

    def answer(self, value: V) -> None:
        self.ret(value)

    def _row(self, addr: V, size: int, kind: int, writable: bool, otherwise: Callable[[V], V | None], body: Callable[[V], V],
             width: int) -> V:
        """``body`` with the RAM's host address, or ``otherwise``."""
        row = self.call("find", addr, size)
        fits = row.ne(0) & (addr & (size - 1)).eq(0)
        if writable:
            fits = fits & self.read(B.PROBING).eq(0)
        found, ram, other, join = (self.new_label() for _ in range(4))
        self.fork(str(fits.ref), found, other)
        self.label(found)
        open_ = self.field(row, FLAGS).eq(0) if writable else self.const(1, 1)
        self.fork("true" if open_.known else str(open_.ref), ram, other)
        self.label(ram)
        value = body(addr + self.field(row, ADDEND))
        edges = [(str(value.ref), self.here)]
        self.goto(join)
        self.label(other)
        instead = otherwise(self.const(kind))
        if not self.dead:
            assert instead is not None, "otherwise must end the path or give a value"
            edges.append((str(instead.ref), self.here))
            self.goto(join)
        self.label(join)
        return self.phi(width, edges)

    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        return self._row(addr, size, LOAD_FAULT, False, otherwise, lambda host: self.ram_load(host, size).trunc(8 * size),
                         8 * size)

    def phys_swap(self, addr: V, old: V, new: V, otherwise: Callable[[V], V | None]) -> V:
        w = old.width

        def swap(host: V) -> V:
            p = self.pointer(host)
            done = self.let(f"cmpxchg ptr {p}, i{w} {self.swapped(old).ref}, i{w} {self.swapped(new).ref} seq_cst seq_cst")
            return self.v(self.let(f"extractvalue {{ i{w}, i1 }} {done}, 1"), 1)

        return self._row(addr, w // 8, STORE_FAULT, True, otherwise, swap, 1)


def _translate(isa: Isa, shape: B.Shape) -> Path:
    """Physical address of ``addr``; MAP_ALLOWED and MAP_BITS say more. 0 and a fault where the walk refuses."""
    e = _Walk(isa, shape, "translate", "addr", "access", "mode")
    word = isa.word
    isa.routines["translate"](e, *(e.parameter(name).trunc(word) for name in ("addr", "access", "mode")))
    if not e.dead:
        raise AssertionError("the routine 'translate' must end in mapped or unmapped")
    return e


def _function(name: str, isa: Isa, shape: B.Shape) -> Path:
    """A function of the ISA."""
    count, semantics = isa.functions[name]
    e = _Walk(isa, shape, f"f_{name}", *(f"p{k}" for k in range(count)))
    semantics(e, *(e.parameter(f"p{k}") for k in range(count)))
    if not e.dead:
        raise AssertionError(f"the function {name!r} must end in answer")
    return e


def _modes(isa: Isa, shape: B.Shape) -> Path:
    """Takes the TLBs of the modes that the state asks for."""
    e = Path(isa, shape, "modes", result="void")
    data, code = isa.modes(e)
    cpu = e.v(e.let("ptrtoint ptr %cpu to i64"), 64)
    for mode, number, pointer, start, size in (
        (data, B.MODE_DATA, B.TLB_DATA, shape.tlb, shape.tlb_size),
        (code, B.MODE_CODE, B.TLB_CODE, shape.code_tlb, shape.code_tlb_size),
    ):
        wide = mode.zext(64)
        e.write(number, wide)
        e.write(pointer, cpu + start + wide * size)
    e.ret()
    return e


def _flush_all(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "flush_all", result="void", how="cold")

    def wipe(start: int, count: int, step: int, tags: tuple[int, ...]) -> None:
        loop, done, before = e.new_label(), e.new_label(), e.new_label()
        e.goto(before)
        e.label(before)
        base = e.at("%cpu", start)
        e.goto(loop)
        e.label(loop)
        at = f"%{loop}i"
        e.put(f"{at} = phi i64 [0, %{before}], [{at}n, %{loop}]")
        p = e.at(base, at)
        for tag in tags:
            e.put(f"store i64 {_NONE}, ptr {e.at(p, tag)}")
        e.put(f"{at}n = add i64 {at}, {step}")
        e.fork(e.let(f"icmp ult i64 {at}n, {count * step}"), loop, done)
        e.label(done)

    def mode(number: int) -> None:
        wipe(shape.tlb + number * shape.tlb_size, B.TLB_ENTRIES, B.TLB_ENTRY, (0, 8))
        for floor in (B.WINDOW_READ, B.WINDOW_WRITE):
            at = shape.tlb + number * shape.tlb_size + shape.window + floor
            e.put(f"store i64 {_NONE}, ptr {e.at('%cpu', at)}")
        wipe(shape.code_tlb + number * shape.code_tlb_size, B.CODE_TLB_ENTRIES, B.CODE_TLB_ENTRY, (0,))

    used = e.read(B.TLB_USED)
    for number in range(shape.modes):
        e.if_(used.bit(number), partial(mode, number))
    e.write(B.TLB_USED, 0)
    e.write(B.WINDOWED, 0)
    e.write(B.LARGE_LOW, -1)
    e.write(B.LARGE_HIGH, 0)
    e.ret()
    return e


def _flush_page(isa: Isa, shape: B.Shape) -> Path:
    """The page at ``a`` in every mode; everything, if it may be in a mapping larger than a page."""
    e = Path(isa, shape, "flush_page", "a", result="void", how="cold")
    a = e.parameter("a")

    def everything() -> None:
        e.do("flush_all")
        e.ret()

    e.if_(a.uge(e.read(B.LARGE_LOW)) & a.ule(e.read(B.LARGE_HIGH)), everything)
    index = (a >> isa.page_bits) & (B.TLB_ENTRIES - 1)
    code_index = (a >> isa.page_bits) & (B.CODE_TLB_ENTRIES - 1)
    for number in range(shape.modes):
        entry = e.at(e.at("%cpu", shape.tlb + number * shape.tlb_size), str((index * B.TLB_ENTRY).ref))
        e.put(f"store i64 {_NONE}, ptr {entry}")
        e.put(f"store i64 {_NONE}, ptr {e.at(entry, 8)}")
        base = e.at("%cpu", shape.code_tlb + number * shape.code_tlb_size)
        e.put(f"store i64 {_NONE}, ptr {e.at(base, str((code_index * B.CODE_TLB_ENTRY).ref))}")
    e.ret()
    return e


def _clock(isa: Isa, shape: B.Shape) -> Path:
    """Virtual nanoseconds: from the host's monotonic clock where it is made of that, else the host is asked."""
    e = Path(isa, shape, "clock")
    function = e.read(B.CLOCK_GETTIME)
    e.if_(function.eq(0), lambda: e.ret(e.host(B.ON_CLOCK)))
    spec = e.at("%cpu", B.TIMESPEC)
    e.fp_outside()
    e.let(f"call i32 {e.pointer(function)}(i32 1, ptr {spec})")  # CLOCK_MONOTONIC
    e.fp_inside()
    seconds = e.v(e.let(f"load i64, ptr {spec}"), 64)
    nanos = e.v(e.let(f"load i64, ptr {e.at(spec, 8)}"), 64)
    e.ret(seconds * 1_000_000_000 + nanos - e.read(B.CLOCK_OFFSET))
    return e


def _notify(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "notify", "number", "value", result="void", how="cold")
    e.tell(B.ON_NOTIFY, e.parameter("number"), e.parameter("value"))
    e.ret()
    return e


def _ask(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "ask", "number", "value", how="cold")
    e.ret(e.host(B.ON_ASK, e.parameter("number"), e.parameter("value")))
    return e


def _relax(isa: Isa, shape: B.Shape) -> Path:
    """What the guest waits for may need the core that it waits on: where vCPUs are more than cores, the holder of a lock may
    stand in the run queue behind those that spin for it."""
    e = Path(isa, shape, "relax", result="void", how="cold")
    count = e.read(B.RELAXED) + 1
    e.write(B.RELAXED, count)
    e.if_((count & (B.RELAX_EACH - 1)).ne(0), e.ret)
    function = e.read(B.SCHED_YIELD)
    e.fp_outside()
    e.let(f"call i32 {e.pointer(function)}()")
    e.fp_inside()
    e.ret()
    return e


def translation_paths(isa: Isa) -> list[Maker]:
    """What ``isa`` needs of this."""
    made: list[Maker] = [_find, _has_code, *window_paths(), _fill, _records, _expect, _clock, _notify, _ask, _relax]
    if isa.mmu_modes:
        made += [_translate, _modes, _flush_all, _flush_page, *(partial(_function, name) for name in isa.functions)]
    return made

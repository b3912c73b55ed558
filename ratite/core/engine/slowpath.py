"""Slow paths of loads and stores: what happens when the inline TLB does not answer.

Each translates the address, looks it up in the memory map, fills the TLB where a whole page is RAM, and does the access;
anything else goes to the host through the block's callbacks. A failure is left in EXC and EXC_ADDR for the caller to see. A
misaligned access outside of RAM is made in two halves; one that leaves its translated page is made byte by byte after both
pages were found, so that nothing is written where one of them fails.
"""

from __future__ import annotations

from collections.abc import Iterator

from ratite.core.engine import block as B
from ratite.core.engine.fppath import fp_paths
from ratite.core.engine.path import ADDEND, FLAGS, Path
from ratite.core.engine.translate import translation_paths
from ratite.core.isa.emitter import LOAD_FAULT, LOAD_MISALIGNED, READ, STORE_FAULT, STORE_MISALIGNED, WRITE
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.reserve import LINE_BITS

_SIZES = (1, 2, 4, 8)
_FOR_WRITE, _UNTOLD = 256, 512  # added to a size


def _crosses(e: Path, a: V, n: V) -> V:
    return ((a & (e.shape.page - 1)) + n).ugt(e.shape.page)


def _physical(e: Path, a: V, access: int, value: int | None) -> V:
    """The physical address of ``a``; leaves where there is none."""
    if not e.isa.mmu_modes:
        return a
    phys = e.call("translate", a, access, e.read(B.MODE_DATA))
    e.unless_failed(None, value)
    return phys


def _load(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "load", "a", "n", how="cold")
    a, n = e.parameter("a"), e.parameter("n")
    if isa.misaligned == "fault":
        e.if_((a & (n - 1)).ne(0), lambda: e.fail(LOAD_MISALIGNED, a, 0))
    if isa.mmu_modes:
        e.if_(_crosses(e, a, n), lambda: e.ret(e.call("load_across", a, n)))
    phys = _physical(e, a, READ, 0)
    row = e.call("find", phys, n)

    def outside() -> None:
        value = e.call("load_bus", phys, n)
        e.unless_failed(a, 0)
        e.ret(value)

    e.if_(row.eq(0), outside)
    e.call("fill", row, a, phys)
    host = phys + e.field(row, ADDEND)
    e.by_size(n, _SIZES, lambda size: e.ret(e.ram_load(host, size)))
    return e


def _load_phys(isa: Isa, shape: B.Shape) -> Path:
    """A piece of an access, anywhere."""
    e = Path(isa, shape, "load_phys", "p", "n", how="cold")
    p, n = e.parameter("p"), e.parameter("n")
    row = e.call("find", p, n)
    e.if_(row.eq(0), lambda: e.ret(e.call("load_bus", p, n)))
    host = p + e.field(row, ADDEND)
    e.by_size(n, _SIZES, lambda size: e.ret(e.ram_load(host, size)))
    return e


def _load_bus(isa: Isa, shape: B.Shape) -> Path:
    """Not all of it is in RAM."""
    e = Path(isa, shape, "load_bus", "p", "n", how="cold")
    p, n = e.parameter("p"), e.parameter("n")

    def halves() -> None:
        half = n >> 1
        first = e.call("load_phys", p, half)
        e.unless_failed(None, 0)
        second = e.call("load_phys", p + half if isa.mmu_modes else e.masked(p + half), half)
        shift = half << 3
        e.ret((first << shift) | second if isa.big_endian else first | (second << shift))

    e.if_((p & (n - 1)).ne(0), halves)
    e.by_size(n, _SIZES, lambda size: e.ret(_device_load(e, p, size)))
    return e


def _device_load(e: Path, p: V, size: int) -> V:
    """The callback of that size; see ``core.engine.bus``."""
    e.fp_outside()
    function = e.let(f"load ptr, ptr {e.at('%cpu', B.ON_LOAD + 8 * _SIZES.index(size))}")
    value = e.let(f"call i64 {function}(i64 {p.ref})")
    e.fp_inside()
    return e.v(value, 64)


def _device_store(e: Path, p: V, size: int, value: V) -> None:
    e.fp_outside()
    function = e.let(f"load ptr, ptr {e.at('%cpu', B.ON_STORE + 8 * _SIZES.index(size))}")
    e.put(f"call void {function}(i64 {p.ref}, i64 {value.ref})")
    e.fp_inside()


def _both_pages(e: Path, a: V, access: int, value: int | None) -> tuple[V, V, V]:
    """(bytes in the first page, its physical address, the second page's)."""
    inside = (e.const(0, 64) - a) & (e.shape.page - 1)
    first = _physical(e, a, access, value)
    second = _physical(e, e.masked(a + inside), access, value)
    return inside, first, second


def _across(e: Path, a: V, n: V, access: int, body: str) -> None:
    """Byte by byte; ``body``: "load" or "store"."""
    value = 0 if body == "load" else None
    e.variable("k", 0)
    e.variable("acc", 0)
    inside, first, second = _both_pages(e, a, access, value)
    loop, on, done = e.new_label(), e.new_label(), e.new_label()
    e.goto(loop)
    e.label(loop)
    k = e.variable_value("k")
    e.fork(str(k.ult(n).ref), on, done)
    e.label(on)
    here = k.ult(inside)
    p = e.select(here, first + k, second + (k - inside))
    at = e.select(here, a, e.masked(a + inside))
    shift = ((n - 1 - k) if e.isa.big_endian else k) << 3
    if body == "load":
        byte = e.call("load_phys", p, 1)
        e.unless_failed(at, 0)
        e.assign("acc", e.variable_value("acc") | byte << shift)
    else:
        e.do("store_phys", p, 1, e.parameter("v") >> shift)
        e.unless_failed(at, None)
    e.assign("k", k + 1)
    e.goto(loop)
    e.label(done)
    e.ret(e.variable_value("acc") if body == "load" else None)


def _load_across(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "load_across", "a", "n", how="cold")
    _across(e, e.parameter("a"), e.parameter("n"), READ, "load")
    return e


def _store(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "store", "a", "n", "v", result="void", how="cold")
    a, n, value = e.parameter("a"), e.parameter("n"), e.parameter("v")
    if isa.misaligned == "fault":
        e.if_((a & (n - 1)).ne(0), lambda: e.fail(STORE_MISALIGNED, a, None))

    def across() -> None:
        e.do("store_across", a, n, value)
        e.ret()

    if isa.mmu_modes:
        e.if_(_crosses(e, a, n), across)
    phys = _physical(e, a, WRITE, None)
    row = e.call("find", phys, n)

    def outside() -> None:
        e.do("store_bus", phys, n, value)
        e.unless_failed(a, None)
        e.ret()

    e.if_(row.eq(0), outside)
    e.if_(e.field(row, FLAGS).ne(0), outside)
    code = e.call("fill", row, a, phys)
    host = phys + e.field(row, ADDEND)
    e.by_size(n, _SIZES, lambda size: e.ram_store(host, size, value))
    _break_reservations(e, row, phys, n)
    e.if_(code.ne(0), lambda: e.tell_of_code(row, phys, n))
    e.ret()
    return e


def _break_reservations(e: Path, row: V, phys: V, n: V) -> None:
    """Behind a store in RAM; it may touch two lines."""
    e.do("broken", e.line_word(row, phys), e.line_word(row, phys + (n - 1)))


def _broken(isa: Isa, shape: B.Shape) -> Path:
    """Moves the words of reserved lines on; where another store was faster it has been done."""
    e = Path(isa, shape, "broken", "first", "last", result="void", how="cold")
    first, last = e.parameter("first"), e.parameter("last")

    def move(word: V) -> None:
        p = e.pointer(word)
        seen = e.v(e.let(f"load volatile i16, ptr {p}"), 16)
        e.if_((seen & 1).ne(0), lambda: e.let(f"cmpxchg ptr {p}, i16 {seen.ref}, i16 {(seen + 1).ref} seq_cst seq_cst"))

    move(first)
    e.if_(first.ne(last), lambda: move(last))
    e.ret()
    return e


def _broken_over(isa: Isa, shape: B.Shape) -> Path:
    """The same for a store of ``n`` bytes at ``a``, whose first byte is in the line of ``word``."""
    e = Path(isa, shape, "broken_over", "word", "a", "n", result="void", how="cold")
    word, a, n = e.parameter("word"), e.parameter("a"), e.parameter("n")
    e.do("broken", word, word + (((a & (1 << LINE_BITS) - 1) + (n - 1)) >> LINE_BITS << 1))
    e.ret()
    return e


def _store_phys(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "store_phys", "p", "n", "v", result="void", how="cold")
    p, n, value = e.parameter("p"), e.parameter("n"), e.parameter("v")
    row = e.call("find", p, n)

    def outside() -> None:
        e.do("store_bus", p, n, value)
        e.ret()

    e.if_(row.eq(0), outside)
    e.if_(e.field(row, FLAGS).ne(0), outside)
    host = p + e.field(row, ADDEND)
    e.by_size(n, _SIZES, lambda size: e.ram_store(host, size, value))
    _break_reservations(e, row, p, n)
    e.if_(e.call("has_code", row, p).ne(0), lambda: e.tell_of_code(row, p, n))
    e.ret()
    return e


def _store_bus(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "store_bus", "p", "n", "v", result="void", how="cold")
    p, n, value = e.parameter("p"), e.parameter("n"), e.parameter("v")

    def halves() -> None:
        half = n >> 1
        high = value >> (half << 3)
        parts = (high, value) if isa.big_endian else (value, high)
        e.do("store_phys", p, half, parts[0])
        e.unless_failed(None, None)
        e.do("store_phys", p + half if isa.mmu_modes else e.masked(p + half), half, parts[1])
        e.ret()

    e.if_((p & (n - 1)).ne(0), halves)
    e.by_size(n, _SIZES, lambda size: _device_store(e, p, size, value))
    e.ret()
    return e


def _store_across(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "store_across", "a", "n", "v", result="void", how="cold")
    _across(e, e.parameter("a"), e.parameter("n"), WRITE, "store")
    return e


def _ram(isa: Isa, shape: B.Shape) -> Path:
    """Host address of aligned RAM for an atomic access, and its LINE_WORD; ``how``: size, plus _FOR_WRITE, plus _UNTOLD
    where the caller tells of code in the page itself. 0 where it failed."""
    e = Path(isa, shape, "ram", "a", "how")
    a, how = e.parameter("a"), e.parameter("how")
    n, write = how & (_FOR_WRITE - 1), (how & _FOR_WRITE).ne(0)
    e.if_((a & (n - 1)).ne(0), lambda: e.fail(e.select(write, STORE_MISALIGNED, e.const(LOAD_MISALIGNED, 64)), a, 0))
    entry = e.entry_of(a)
    tags = [e.v(e.let(f"load i64, ptr {e.at(entry, at)}"), 64) for at in (0, 8)]
    addend, words = (e.v(e.let(f"load i64, ptr {e.at(entry, at)}"), 64) for at in (16, 24))

    def known() -> None:
        e.write(B.LINE_WORD, words + (a >> LINE_BITS << 1))
        e.ret(a + addend)

    e.if_(e.select(write, tags[1], tags[0]).eq(a & -shape.page), known)
    phys = a
    if isa.mmu_modes:
        phys = e.call("translate", a, e.select(write, e.const(WRITE, 64), READ), e.read(B.MODE_DATA))
        e.unless_failed(None, 0)
    kind = e.select(write, e.const(STORE_FAULT, 64), LOAD_FAULT)
    row = e.call("find", phys, n)
    e.if_(row.eq(0), lambda: e.fail(kind, a, 0))
    e.if_(write & e.field(row, FLAGS).ne(0), lambda: e.fail(kind, a, 0))
    code = e.call("fill", row, a, phys)
    e.write(B.LINE_WORD, e.line_word(row, phys))
    e.if_(code.ne(0) & write & how.ult(_UNTOLD), lambda: e.tell_of_code(row, phys, n))
    e.ret(phys + e.field(row, ADDEND))
    return e


def _atomic(isa: Isa, shape: B.Shape) -> Path:
    """What to add to an address in RAM for a read-modify-write there."""
    e = Path(isa, shape, "atomic", "a", "n", how="cold")
    a, n = e.parameter("a"), e.parameter("n")
    e.ret(e.call("ram", a, n | _FOR_WRITE) - a)
    return e


def _reserve(isa: Isa, shape: B.Shape) -> Path:
    e = Path(isa, shape, "reserve", "a", "n")
    a, n = e.parameter("a"), e.parameter("n")
    host = e.call("ram", a, n)
    e.unless_failed(None, 0)

    # a locked instruction: whoever stores from now on sees the mark, and what was stored before is read
    word = e.let(f"atomicrmw or ptr {e.pointer(e.read(B.LINE_WORD))}, i16 1 seq_cst")
    e.write(B.RESERVED_WORD, (e.v(word, 16) | 1).zext(64))

    def take(size: int) -> None:
        value = e.ram_load(host, size)
        e.write(B.RESERVED_ADDR, a)
        e.write(B.RESERVED_HOST, host)
        e.write(B.RESERVED_VALUE, value)
        e.write(B.RESERVED_SIZE, n)
        e.ret(value)

    e.by_size(n, (4, 8), take)
    return e


def _conditional(isa: Isa, shape: B.Shape) -> Path:
    """1 if it stored. See ``core.memory.reserve``. Of code in the page the host is told afterwards: to tell of a store takes
    reservations of its line away, this one too."""
    e = Path(isa, shape, "conditional", "a", "n", "v")
    a, n, value = e.parameter("a"), e.parameter("n"), e.parameter("v")
    e.if_((a & (n - 1)).ne(0), lambda: e.fail(STORE_MISALIGNED, a, 0))
    size = e.read(B.RESERVED_SIZE)
    e.write(B.RESERVED_SIZE, 0)
    e.if_(size.ne(n) | e.read(B.RESERVED_ADDR).ne(a), lambda: e.ret(0))
    host = e.call("ram", a, n | _FOR_WRITE | _UNTOLD)
    e.unless_failed(None, 0)
    e.if_(host.ne(e.read(B.RESERVED_HOST)), lambda: e.ret(0))
    p = e.pointer(host)
    expected, word = e.read(B.RESERVED_VALUE), e.read(B.RESERVED_WORD).trunc(16)
    line = e.pointer(e.read(B.LINE_WORD))
    moved = e.let(f"cmpxchg ptr {line}, i16 {word.ref}, i16 {(word + 1).ref} seq_cst seq_cst")
    held = e.v(e.let(f"extractvalue {{ i16, i1 }} {moved}, 1"), 1)
    e.if_(held ^ 1, lambda: e.ret(0))

    def swap(size: int) -> None:
        w = 8 * size
        old, new = e.swapped(expected.trunc(w)).ref, e.swapped(value.trunc(w)).ref
        done = e.let(f"cmpxchg ptr {p}, i{w} {old}, i{w} {new} seq_cst seq_cst")
        stored = e.v(e.let(f"extractvalue {{ i{w}, i1 }} {done}, 1"), 1)
        open_ = e.v(e.let(f"load i64, ptr {e.at(e.entry_of(a), 8)}"), 64).eq(a & -shape.page)
        e.if_(stored & (open_ ^ 1), lambda: e.do("stored", a, n))
        e.ret(stored.zext(64))

    e.by_size(n, (4, 8), swap)
    return e


def _stored(isa: Isa, shape: B.Shape) -> Path:
    """A store to RAM at ``a`` was made; the host is told if there is code in its page."""
    e = Path(isa, shape, "stored", "a", "n", result="void", how="cold")
    a, n = e.parameter("a"), e.parameter("n")
    phys = a
    if isa.mmu_modes:
        phys = e.call("translate", a, WRITE, e.read(B.MODE_DATA))
        e.write(B.EXC, 0)  # somebody else may have taken the page away meanwhile
    row = e.call("find", phys, n)
    e.if_(row.eq(0), e.ret)
    e.if_(e.call("has_code", row, phys).ne(0), lambda: e.tell_of_code(row, phys, n))
    e.ret()
    return e


def slow_paths(isa: Isa, shape: B.Shape) -> Iterator[tuple[str, set[str]]]:
    """(LLVM text, the intrinsics that it needs) of each slow path."""
    makers = [_load, _load_phys, _load_bus, _store, _store_phys, _store_bus, _broken, _broken_over, _ram, _atomic, _reserve,
              _conditional, _stored]
    if isa.mmu_modes:
        makers += [_load_across, _store_across]
    for make in (*translation_paths(isa), *makers, *fp_paths(isa)):
        path = make(isa, shape)
        yield path.text(), path.intrinsics

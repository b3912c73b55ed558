"""Slow paths of generated code: what happens when the inline TLB does not answer.

Each looks the address up in the memory map, fills the TLB where a whole page is RAM, and does the access; anything else
goes to the host through the block's callbacks. A failure is left in EXC and EXC_ADDR for the caller to see. A misaligned
access is made in two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ratite.core.engine import block as B
from ratite.core.engine.ir import SLOW
from ratite.core.engine.threaded import DirectEmitter
from ratite.core.isa.emitter import LOAD_FAULT, LOAD_MISALIGNED, STORE_FAULT, STORE_MISALIGNED
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.code import LINE_BITS, PAGE_BITS

# fields of a row of the memory map
_START, _LAST, _ADDEND, _PAGES, _LINES, _FLAGS = 0, 8, 16, 24, 32, 40
_ATOMIC = 256  # added to a load's size: it must be aligned and hit RAM


class _Path(DirectEmitter):
    """Writes one function; its parameters are ``%cpu`` and 64-bit values."""

    def __init__(self, isa: Isa, shape: B.Shape, name: str, *parameters: str, result: str = "i64", how: str = "") -> None:
        super().__init__(isa, shape)
        listed = "".join(f", i64 %{p}" for p in parameters)
        convention = SLOW if name in _CALLED_BY_HANDLERS else ""
        self.out = [f"define internal {convention} {result} @{isa.name}_{name}(ptr %cpu{listed}) noinline {how} {{", "entry:"]

    def text(self) -> str:
        return "\n".join([*self.out, "}"])

    def parameter(self, name: str) -> V:
        return self.v(f"%{name}", 64)

    def ret(self, value: V | int | None = None) -> None:
        """Terminator."""
        ref = value.ref if isinstance(value, V) else value
        self.end("ret void" if value is None else f"ret i64 {ref}")

    def call(self, name: str, *args: V | int) -> V:
        """Another slow path that gives a value."""
        return self.v(self.let(self._call(name, "i64", args)), 64)

    def do(self, name: str, *args: V | int) -> None:
        """Another slow path that gives none."""
        self.put(self._call(name, "void", args))

    def _call(self, name: str, result: str, args: tuple[V | int, ...]) -> str:
        listed = "".join(f", i64 {a.ref if isinstance(a, V) else a}" for a in args)
        convention = SLOW if name in _CALLED_BY_HANDLERS else ""
        return f"call {convention} {result} @{self.isa.name}_{name}(ptr %cpu{listed})"

    def host(self, callback: int, result: str, *args: V) -> str:
        """A callback of the block."""
        function = self.let(f"load ptr, ptr {self.at('%cpu', callback)}")
        return f"call {result} {function}(ptr %cpu" + "".join(f", i64 {a.ref}" for a in args) + ")"

    def field(self, row: V, offset: int) -> V:
        """A word at ``row`` + ``offset``."""
        return self.word_at(row + offset)

    def word_at(self, addr: V) -> V:
        p = self.let(f"inttoptr i64 {addr.ref} to ptr")
        return self.v(self.let(f"load i64, ptr {p}"), 64)

    def fail(self, kind: V | int, addr: V, value: int | None) -> None:
        """Terminator: the access failed."""
        self.write(B.EXC, kind)
        self.write(B.EXC_ADDR, addr)
        self.ret(value)

    def unless_failed(self, addr: V, value: int | None) -> None:
        """Leaves if a call just made has failed; the fault is then that of the whole access at ``addr``."""
        kind = self.read(B.EXC)
        self.if_(kind.ne(0), lambda: self.fail(kind, addr, value))

    def by_size(self, n: V, sizes: tuple[int, ...], body: Callable[[int], None]) -> None:
        """Runs ``body`` for the size that ``n`` has; the last of ``sizes`` is the default."""
        *first, last = sizes
        self.switch(n, {size: partial(body, size) for size in first}, partial(body, last))

    def tell_of_code(self, row: V, a: V, n: V) -> None:
        """A page with code was written: if its line holds any, the host is told, and now and then otherwise. The fence pairs
        with the decoder's: of a store and a mark at the same time, one sees the other."""
        self.fence()
        line = (a - (self.field(row, _START) & -4096)) >> LINE_BITS
        p = self.let(f"inttoptr i64 {(self.field(row, _LINES) + line).ref} to ptr")
        mark = self.v(self.let(f"load volatile i8, ptr {p}"), 8)
        beside = self.read(B.STORES_BESIDE) + 1
        self.write(B.STORES_BESIDE, beside)
        told = mark.ne(0) | (beside & (B.BESIDE_TOLD - 1)).eq(0)
        self.if_(told, lambda: self.put(self.host(B.ON_CODE_WRITE, "void", a, n)))

    def masked(self, addr: V) -> V:
        """An address that wraps as the CPU's do."""
        return addr.trunc(self.word).zext(64)


_CALLED_BY_HANDLERS = frozenset({"load", "store", "atomic", "reserve", "conditional"})


def _find(isa: Isa, shape: B.Shape) -> _Path:
    """Address of the map's row that holds all of [a, a + n), or 0."""
    e = _Path(isa, shape, "find", "a", "n")
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
    inside = a.uge(e.field(row, _START)) & last.ule(e.field(row, _LAST))
    e.if_(inside, lambda: e.ret(row))
    e.goto(on)
    e.label(on)
    e.put(f"%next = add i64 %row, {B.MAP_ROW}")
    e.goto(loop)
    e.label(none)
    e.ret(0)
    return e


def _fill(isa: Isa, shape: B.Shape) -> _Path:
    """Fills the TLB from a row where it has the whole page; 1 if the page holds decoded code, else 0. The page can be
    written past the check only if it holds no code and is not read-only."""
    e = _Path(isa, shape, "fill", "row", "a")
    row, a = e.parameter("row"), e.parameter("a")
    start = e.field(row, _START)
    number = (a - (start & -4096)) >> PAGE_BITS
    mark = e.let(f"inttoptr i64 {(e.field(row, _PAGES) + number).ref} to ptr")
    code = e.v(e.let(f"load volatile i8, ptr {mark}"), 8).ne(0)
    page = a & -shape.page

    def fill() -> None:
        index = (a >> (isa.page_bits - 5)) & ((B.TLB_ENTRIES - 1) * B.TLB_ENTRY)
        entry = e.at(e.at("%cpu", shape.tlb), str(index.ref))
        shut = code | e.field(row, _FLAGS).ne(0)
        e.put(f"store i64 {page.ref}, ptr {entry}")
        e.put(f"store i64 {e.select(shut, e.const(-1, 64), page).ref}, ptr {e.at(entry, 8)}")
        e.put(f"store i64 {e.field(row, _ADDEND).ref}, ptr {e.at(entry, 16)}")

    e.if_(page.uge(start) & (page + (shape.page - 1)).ule(e.field(row, _LAST)), fill)
    e.ret(code.zext(64))
    return e


def _load(isa: Isa, shape: B.Shape) -> _Path:
    """``how``: size, plus ``_ATOMIC``."""
    e = _Path(isa, shape, "load", "a", "how", how="cold")
    a, how = e.parameter("a"), e.parameter("how")
    n, atomic = how & (_ATOMIC - 1), how.uge(_ATOMIC)

    def misaligned() -> None:
        refused = e.const(1, 1) if isa.misaligned == "fault" else atomic
        e.if_(refused, lambda: e.fail(LOAD_MISALIGNED, a, 0))
        half = n >> 1
        first = e.call("load", a, half)
        e.unless_failed(a, 0)
        second = e.call("load", e.masked(a + half), half)
        e.unless_failed(a, 0)
        shift = half << 3
        e.ret((first << shift) | second if isa.big_endian else first | (second << shift))

    def outside() -> None:
        e.if_(atomic, lambda: e.fail(LOAD_FAULT, a, 0))
        e.ret(e.v(e.let(e.host(B.ON_LOAD, "i64", a, n)), 64))

    e.if_((a & (n - 1)).ne(0), misaligned)
    row = e.call("find", a, n)
    e.if_(row.eq(0), outside)
    e.call("fill", row, a)
    p = e.let(f"inttoptr i64 {(a + e.field(row, _ADDEND)).ref} to ptr")

    def ram(size: int) -> None:
        e.ret(e.swapped(e.v(e.let(f"load i{8 * size}, ptr {p}, align 1"), 8 * size)).zext(64))

    e.by_size(n, (1, 2, 4, 8), ram)
    return e


def _store(isa: Isa, shape: B.Shape) -> _Path:
    e = _Path(isa, shape, "store", "a", "n", "v", result="void", how="cold")
    a, n, value = e.parameter("a"), e.parameter("n"), e.parameter("v")

    def misaligned() -> None:
        if isa.misaligned == "fault":
            e.fail(STORE_MISALIGNED, a, None)
            return
        half = n >> 1
        high = value >> (half << 3)
        parts = (high, value) if isa.big_endian else (value, high)
        e.do("store", a, half, parts[0])
        e.unless_failed(a, None)
        e.do("store", e.masked(a + half), half, parts[1])
        e.unless_failed(a, None)
        e.ret()

    def outside() -> None:
        e.put(e.host(B.ON_STORE, "void", a, n, value))
        e.ret()

    e.if_((a & (n - 1)).ne(0), misaligned)
    row = e.call("find", a, n)
    e.if_(row.eq(0), outside)
    e.if_(e.field(row, _FLAGS).ne(0), outside)
    code = e.call("fill", row, a)
    p = e.let(f"inttoptr i64 {(a + e.field(row, _ADDEND)).ref} to ptr")
    e.by_size(n, (1, 2, 4, 8), lambda size: e.put(
        f"store i{8 * size} {e.swapped(value.trunc(8 * size)).ref}, ptr {p}, align 1"))
    e.if_(code.ne(0), lambda: e.tell_of_code(row, a, n))
    e.ret()
    return e


def _atomic(isa: Isa, shape: B.Shape) -> _Path:
    """What to add to an address in RAM for a read-modify-write there."""
    e = _Path(isa, shape, "atomic", "a", "n", how="cold")
    a, n = e.parameter("a"), e.parameter("n")
    e.if_((a & (n - 1)).ne(0), lambda: e.fail(STORE_MISALIGNED, a, 0))
    row = e.call("find", a, n)
    e.if_(row.eq(0), lambda: e.fail(STORE_FAULT, a, 0))
    e.if_(e.field(row, _FLAGS).ne(0), lambda: e.fail(STORE_FAULT, a, 0))
    code = e.call("fill", row, a)
    e.if_(code.ne(0), lambda: e.tell_of_code(row, a, n))
    e.ret(e.field(row, _ADDEND))
    return e


def _reserve(isa: Isa, shape: B.Shape) -> _Path:
    e = _Path(isa, shape, "reserve", "a", "n")
    a, n = e.parameter("a"), e.parameter("n")
    value = e.call("load", a, n | _ATOMIC)
    e.if_(e.read(B.EXC).ne(0), lambda: e.ret(0))
    e.write(B.RESERVED_ADDR, a)
    e.write(B.RESERVED_VALUE, value)
    e.write(B.RESERVED_SIZE, n)
    e.ret(value)
    return e


def _conditional(isa: Isa, shape: B.Shape) -> _Path:
    """Compares and swaps against the value that the reservation saw; that an equal value was written in between goes
    unseen. 1 if it stored."""
    e = _Path(isa, shape, "conditional", "a", "n", "v")
    a, n, value = e.parameter("a"), e.parameter("n"), e.parameter("v")
    e.if_((a & (n - 1)).ne(0), lambda: e.fail(STORE_MISALIGNED, a, 0))
    size = e.read(B.RESERVED_SIZE)
    e.write(B.RESERVED_SIZE, 0)
    e.if_(size.ne(n) | e.read(B.RESERVED_ADDR).ne(a), lambda: e.ret(0))
    addend = e.call("atomic", a, n)
    e.if_(e.read(B.EXC).ne(0), lambda: e.ret(0))
    p = e.let(f"inttoptr i64 {(a + addend).ref} to ptr")
    expected = e.read(B.RESERVED_VALUE)

    def swap(size: int) -> None:
        w = 8 * size
        old, new = e.swapped(expected.trunc(w)).ref, e.swapped(value.trunc(w)).ref
        done = e.let(f"cmpxchg ptr {p}, i{w} {old}, i{w} {new} seq_cst seq_cst")
        e.ret(e.v(e.let(f"extractvalue {{ i{w}, i1 }} {done}, 1"), 1).zext(64))

    e.by_size(n, (4, 8), swap)
    return e


def slow_paths(isa: Isa, shape: B.Shape) -> Iterator[tuple[str, set[str]]]:
    """(LLVM text, the intrinsics that it needs) of each slow path."""
    for make in (_find, _fill, _load, _store, _atomic, _reserve, _conditional):
        path = make(isa, shape)
        yield path.text(), path.intrinsics

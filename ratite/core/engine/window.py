"""Windows: one range of RAM for reads and one for writes in which an address needs no look into the TLB.

They exist where a mode's whole space of addresses maps to itself (see ``Emitter.mapped``). Compiled regions hold them in host
registers. That of reads is the whole row of the memory map; that of writes is a run of pages without decoded code. They lie
behind the mode's TLB and go with it: a page becomes code only after every TLB has lost its write entries.
"""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.engine import block as B
from ratite.core.engine.path import ADDEND, FLAGS, LAST, PAGES, RESERVED, START, Path
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.code import PAGE_BITS
from ratite.core.memory.reserve import LINE_BITS

_PAGE = 1 << PAGE_BITS


def _words(e: Path) -> str:
    """Where the windows of the mode of data accesses are."""
    return e.at(e.tlb_base(), e.shape.window)


def _holds(e: Path, words: str, which: int, a: V) -> V:
    """Width 1: ``a`` is in the window."""
    floor, high = (e.v(e.let(f"load i64, ptr {e.at(words, which + at)}"), 64) for at in (0, 8))
    return (a - high).ugt(floor)


def _set(e: Path, row: V, words: str, which: int, low: V, end: V) -> None:
    """The window is [low, end - WINDOW_LAST), if that is something."""
    high = end - B.WINDOW_LAST & -B.WINDOW_LAST

    def store() -> None:
        for at, value in ((0, low - high - 1), (8, high), (16, e.field(row, ADDEND) + high)):
            e.put(f"store i64 {value.ref}, ptr {e.at(words, which + at)}")
        if which == B.WINDOW_WRITE:
            lines = e.field(row, RESERVED) + ((high - (e.field(row, START) & -_PAGE)) >> LINE_BITS << 1)
            e.put(f"store i64 {lines.ref}, ptr {e.at(words, B.WINDOW_LINES)}")

    e.if_(high.ugt(low) & end.ugt(B.WINDOW_LAST), store)


def _window(isa: Isa, shape: B.Shape) -> Path:
    """The page at ``p`` of the row is used; ``code``: not 0 if it holds decoded code."""
    e = Path(isa, shape, "window", "row", "p", "code", result="void", how="cold")
    row, p, code = e.parameter("row"), e.parameter("p"), e.parameter("code")
    words = _words(e)
    mode = e.read(B.MODE_DATA) if isa.mmu_modes else e.const(0, 64)
    e.write(B.WINDOWED, e.read(B.WINDOWED) | e.const(1, 64) << mode)
    end = e.field(row, LAST) + 1
    known = e.const(-1, 64) - e.v(e.let(f"load i64, ptr {e.at(words, B.WINDOW_READ)}"), 64)
    larger = (end - e.field(row, START)).ugt(known + B.WINDOW_LAST)  # of two RAMs the larger one has it
    e.if_(larger, lambda: _set(e, row, words, B.WINDOW_READ, e.field(row, START), end))
    e.if_(code.ne(0) | e.field(row, FLAGS).ne(0), e.ret)
    e.if_(_holds(e, words, B.WINDOW_WRITE, p), e.ret)
    floor = e.v(e.let(f"load i64, ptr {e.at(words, B.WINDOW_WRITE)}"), 64)
    present = e.const(-1, 64) - floor
    e.if_(present.ugt(B.WINDOW_SMALL), e.ret)
    first = e.field(row, START) & -_PAGE
    marks = e.field(row, PAGES)
    here = (p - first) >> PAGE_BITS
    count = ((end - first - 1) >> PAGE_BITS) + 1
    above = _run(e, "up", here, lambda k: k.ult(count), lambda k: marks + k, 1)
    below = _run(e, "down", here, lambda k: k.ne(0), lambda k: marks + k - 1, -1)
    low, high = first + (below << PAGE_BITS), first + (above << PAGE_BITS)
    low = e.select(low.ult(e.field(row, START)), e.field(row, START), low)
    high = e.select(high.ugt(end), end, high)
    e.if_((high - low).ugt(present), lambda: _set(e, row, words, B.WINDOW_WRITE, low, high))
    e.ret()
    return e


def _run(e: Path, name: str, start: V, inside: Callable[[V], V], mark: Callable[[V], V], step: int) -> V:
    """How far from ``start`` pages go on that hold no code, eight at a time where that is possible."""
    e.variable(name, start)
    for stride, width in ((8, 64), (1, 8)):
        loop, look, on, done = (e.new_label() for _ in range(4))
        e.goto(loop)
        e.label(loop)
        k = e.variable_value(name)
        far = k + (stride - 1) * step
        # the last of the eight is inside too, and did not wrap around
        e.fork(str((inside(k) & inside(far) & (far.ule(k) if step < 0 else far.uge(k))).ref), look, done)
        e.label(look)
        at = mark(k) if step > 0 else mark(k) - (stride - 1)
        e.fork(str(e.v(e.let(f"load i{width}, ptr {e.pointer(at)}, align 1"), width).eq(0).ref), on, done)
        e.label(on)
        e.assign(name, k + stride * step)
        e.goto(loop)
        e.label(done)
    return e.variable_value(name)


def window_paths() -> list[Callable[[Isa, B.Shape], Path]]:
    """The path ``window``."""
    return [_window]

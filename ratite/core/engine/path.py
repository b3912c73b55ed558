"""One function of the slow paths: called from handlers, written with the same emitter as semantics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ratite.core.engine import block as B
from ratite.core.engine.ir import SLOW
from ratite.core.engine.threaded import DirectEmitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.code import LINE_BITS
from ratite.core.memory.reserve import LINE_BITS as RESERVED_BITS

# fields of a row of the memory map
START, LAST, ADDEND, PAGES, LINES, FLAGS, RESERVED = 0, 8, 16, 24, 32, 40, 48

#: functions that handlers call; they spare the caller's registers
_CALLED_BY_HANDLERS = frozenset({
    "load", "store", "atomic", "reserve", "conditional", "modes", "flush_all", "flush_page", "records", "expect", "clock",
    "notify", "ask", "broken", "broken_over", "relax"})


def _convention(name: str) -> str:
    return SLOW if name in _CALLED_BY_HANDLERS or name.startswith("fp_") else ""


class Path(DirectEmitter):
    """Writes one function; its parameters are ``%cpu`` and 64-bit values."""

    def __init__(self, isa: Isa, shape: B.Shape, name: str, *parameters: str, result: str = "i64", how: str = "") -> None:
        super().__init__(isa, shape)
        listed = "".join(f", i64 %{p}" for p in parameters)
        head = f"define internal {_convention(name)} {result} @{isa.name}_{name}(ptr %cpu{listed}) noinline {how} {{"
        self.out = [head, "entry:"]
        self.result = result

    def text(self) -> str:
        if self.uses_fp:
            self.out[0] = self.out[0].removesuffix("{") + "strictfp {"
        return "\n".join([*self.out, "}"])

    def parameter(self, name: str) -> V:
        return self.v(f"%{name}", 64)

    def variable(self, name: str, value: V | int) -> None:
        """A 64-bit variable of the function, made at its start; see ``variable_value`` and ``assign``."""
        self.put(f"%{name} = alloca i64")
        self.assign(name, value)

    def variable_value(self, name: str) -> V:
        return self.v(self.let(f"load i64, ptr %{name}"), 64)

    def assign(self, name: str, value: V | int) -> None:
        self.put(f"store i64 {value.ref if isinstance(value, V) else value}, ptr %{name}")

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
        return f"call {_convention(name)} {result} @{self.isa.name}_{name}(ptr %cpu{listed})"

    def host(self, callback: int, *args: V) -> V:
        """Calls a function of the block that gives 64 bits."""
        self.fp_outside()
        made = self.let(self._callback(callback, "i64", args))
        self.fp_inside()
        return self.v(made, 64)

    def tell(self, callback: int, *args: V) -> None:
        """Calls a function of the block that gives nothing."""
        self.fp_outside()
        self.put(self._callback(callback, "void", args))
        self.fp_inside()

    def _callback(self, callback: int, result: str, args: tuple[V, ...]) -> str:
        function = self.let(f"load ptr, ptr {self.at('%cpu', callback)}")
        return f"call {result} {function}(ptr %cpu" + "".join(f", i64 {a.ref}" for a in args) + ")"

    def pointer(self, addr: V) -> str:
        """A host address as a pointer."""
        return self.let(f"inttoptr i64 {addr.ref} to ptr")

    def field(self, row: V, offset: int) -> V:
        """A word at ``row`` + ``offset``."""
        return self.v(self.let(f"load i64, ptr {self.pointer(row + offset)}"), 64)

    def fail(self, kind: V | int, addr: V, value: int | None) -> None:
        """Terminator: the access failed."""
        self.write(B.EXC, kind)
        self.write(B.EXC_ADDR, addr)
        self.ret(value)

    def unless_failed(self, addr: V | None, value: int | None) -> None:
        """Leaves if a call just made has failed; the fault is then that of the whole access at ``addr`` (None: as told)."""
        kind = self.read(B.EXC)
        self.if_(kind.ne(0), lambda: self.ret(value) if addr is None else self.fail(kind, addr, value))

    def by_size(self, n: V, sizes: tuple[int, ...], body: Callable[[int], None]) -> None:
        """Runs ``body`` for the size that ``n`` has; the last of ``sizes`` is the default."""
        *first, last = sizes
        self.switch(n, {size: partial(body, size) for size in first}, partial(body, last))

    def ram_load(self, host: V, size: int) -> V:
        """``size`` bytes at host address ``host``, in the CPU's byte order, as 64 bits."""
        return self.swapped(self.v(self.let(f"load i{8 * size}, ptr {self.pointer(host)}, align 1"), 8 * size)).zext(64)

    def ram_store(self, host: V, size: int, value: V) -> None:
        """The low ``size`` bytes of ``value`` (64 bits)."""
        self.put(f"store i{8 * size} {self.swapped(value.trunc(8 * size)).ref}, ptr {self.pointer(host)}, align 1")

    def tell_of_code(self, row: V, phys: V, n: V) -> None:
        """A page with code was written: if its line holds any, the host is told, and now and then otherwise. The fence pairs
        with the decoder's: of a store and a mark at the same time, one sees the other."""
        self.fence()
        line = (phys - (self.field(row, START) & -4096)) >> LINE_BITS
        p = self.pointer(self.field(row, LINES) + line)
        mark = self.v(self.let(f"load volatile i8, ptr {p}"), 8)
        beside = self.read(B.STORES_BESIDE) + 1
        self.write(B.STORES_BESIDE, beside)
        told = mark.ne(0) | (beside & (B.BESIDE_TOLD - 1)).eq(0)
        self.if_(told, lambda: self.tell(B.ON_CODE_WRITE, phys, n))

    def line_word(self, row: V, phys: V) -> V:
        """Address of the reservations' word of the line at ``phys`` of the row."""
        return self.field(row, RESERVED) + ((phys - (self.field(row, START) & -4096)) >> RESERVED_BITS << 1)

    def masked(self, addr: V) -> V:
        """An address that wraps as the CPU's do."""
        return addr.trunc(self.word).zext(64)

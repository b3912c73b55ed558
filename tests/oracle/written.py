"""The evaluator written down: the semantics of each instruction as a Python function, made when it first comes up.

``WrittenEvaluator`` is ``Evaluator`` but for speed (some twenty times): the vocabulary of semantics becomes Python text here,
state lies in one block, and what a translation gave is remembered until something changes that the walk looked at: a state
field (which ones is seen while the walk is written down) or a page that holds entries. Accesses that are no plain RAM are
the evaluator's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from ratite.core.accel.base import CpuPort, RamBlock
from ratite.core.accel.interp import EvalVcpu, PortMemory
from ratite.core.isa import softfloat
from ratite.core.isa.emitter import EXECUTE, READ, WRITE, Emitter
from ratite.core.isa.evaluator import Evaluator, _Failed
from ratite.core.isa.fp import FORMATS, FP_OPS, RNE, RUP, FpContext
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import FOLD, UNARY, V, signed

HEAD = 24  # bytes of a block before the state: pc, context, traps
_VIEWS = MappingProxyType({1: "B", 2: "H", 4: "I", 8: "Q"})
_KEPT = 1 << 18  # encodings whose functions are known
_MODES_KEPT = 512  # sets of remembered translations
_PLAIN = MappingProxyType({"and": "&", "or": "|", "xor": "^", "udiv": "//", "urem": "%", "lshr": ">>"})
_WRAPS = MappingProxyType({"add": "+", "sub": "-", "mul": "*", "shl": "<<"})
_PREDICATES = MappingProxyType({"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="})
_ALL64 = (1 << 64) - 1


class Writer(Emitter):
    """Lines of one Python function, which gives the next pc, a translation or an answer. ``owner`` knows the other functions;
    ``read`` and ``written`` are the state fields that came up. Nothing is written where a path has ended (``dead``)."""

    def __init__(self, owner: WrittenEvaluator, ctx: str = "", ilen: int = 0) -> None:
        self.isa, self.word, self.owner = owner.isa, owner.isa.word, owner
        self.ctx, self.ilen = ctx, ilen
        self.lines: list[str] = []
        self.depth, self.count = 1, 0
        self.dead = False
        self.read: set[str] = set()
        self.written: set[str] = set()

    # -- text
    def put(self, text: str) -> None:
        if not self.dead:
            self.lines.append("    " * self.depth + text)

    def let(self, text: str) -> str:
        self.count += 1
        self.put(f"t{self.count} = {text}")
        return f"t{self.count}"

    def v(self, ref: int | str, width: int) -> V:
        return V(self, ref, width)

    def end(self, text: str) -> None:
        self.put(f"return {text}")
        self.dead = True

    def block(self, body: Callable[[], object]) -> bool:
        """A block behind a line with a colon; whether its path ended."""
        if self.dead:
            return True
        self.depth += 1
        before = len(self.lines)
        body()
        dead, self.dead = self.dead, False
        if len(self.lines) == before:
            self.put("pass")
        self.depth -= 1
        return dead

    # -- values
    def emit_binary(self, op: str, a: int | str, b: int | str, width: int) -> V:
        mask, top = (1 << width) - 1, 1 << width - 1
        if op in ("shl", "lshr", "ashr"):
            b = f"({b} if {b} < {width} else too_far({b}))" if isinstance(b, str) else b
            assert isinstance(b, str) or b < width
        if op in _PLAIN:
            return self.v(self.let(f"{a} {_PLAIN[op]} {b}"), width)
        if op in _WRAPS:
            return self.v(self.let(f"{a} {_WRAPS[op]} {b} & {mask}"), width)
        if op == "ashr":
            return self.v(self.let(f"({a} ^ {top}) - {top} >> {b} & {mask}"), width)
        return self.v(self.let(f"{op}({a}, {b}, {width}) & {mask}"), width)

    def emit_compare(self, pred: str, a: int | str, b: int | str, width: int) -> V:
        sign = _PREDICATES[pred if pred in _PREDICATES else pred[1:]]
        if pred[0] == "s":
            top = 1 << width - 1
            return self.v(self.let(f"({a} ^ {top}) {sign} ({b} ^ {top})"), 1)
        return self.v(self.let(f"{a} {sign} {b}"), 1)

    def emit_cast(self, op: str, a: str, source: int, width: int) -> V:
        if op == "zext":
            return self.v(a, width)
        if op == "trunc":
            return self.v(self.let(f"{a} & {(1 << width) - 1}"), width)
        top = 1 << source - 1
        return self.v(self.let(f"({a} ^ {top}) - {top} & {(1 << width) - 1}"), width)

    def emit_unary(self, op: str, a: str, width: int) -> V:
        return self.v(self.let(f"{op}({a}, {width})"), width)

    def emit_select(self, c: str, a: V, b: V) -> V:
        return self.v(self.let(f"{a.ref} if {c} else {b.ref}"), a.width)

    def find(self, count: int, test: Callable[[V], V]) -> V:
        self.count += 1
        k = f"k{self.count}"
        self.put(f"for {k} in range({count}):")

        def body() -> None:
            self.put(f"if {test(self.v(k, 32)).ref}: break")

        self.block(body)
        self.put(f"else: {k} = {count}")
        return self.v(k, 32)

    # -- state
    def pc(self) -> V:
        return self.v("pc", self.word)

    def reg(self, file: str, index: V | int) -> V:
        field = self.isa.layout[file]
        self.read.add(file)
        at = index if isinstance(index, int) else index.ref
        return self.const(0, field.width) if field.zero and at == 0 else self.v(self.let(f"S_{file}[{at}]"), field.width)

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        field = self.isa.layout[file]
        if value.width != field.width:
            raise TypeError(f"{file} takes i{field.width}, not i{value.width}")
        self.written.add(file)
        at = index if isinstance(index, int) else index.ref
        if field.zero and at == 0:
            return
        self.put(f"{'' if isinstance(at, int) or not field.zero else f'if {at}: '}S_{file}[{at}] = {value.ref}")
        if file in self.owner.walks:
            self.put("E.forget()")

    def get(self, name: str) -> V:
        self.read.add(name)
        if name == "irq_lines":
            return self.v(self.let("E.irq_lines"), 64)
        return self.v(self.let(f"S_{name}[0]"), self.isa.layout[name].width)

    def set(self, name: str, value: V | int) -> None:
        width = self.isa.layout[name].width
        v = self.const(value, width) if isinstance(value, int) else value
        if v.width != width:
            raise TypeError(f"{name} takes i{width}, not i{v.width}")
        self.written.add(name)
        forget = "forget" if name in self.owner.walks else "other_mode" if name in self.owner.chooses else ""
        if forget:
            self.put(f"if S_{name}[0] != {v.ref}:")
            self.block(lambda: (self.put(f"S_{name}[0] = {v.ref}"), self.put(f"E.{forget}()")))
        else:
            self.put(f"S_{name}[0] = {v.ref}")

    def instructions(self) -> V:
        return self.v(self.let(f"E.executed & {_ALL64}"), 64)

    # -- memory: helpers give a value, or the kind of fault as a negative number, with its address in E.bad
    def _checked(self, call: str, width: int, otherwise: Callable[[V], V | object | None] | None) -> V:
        t = self.let(call)
        self.put(f"if {t} < 0:")

        def failed() -> None:
            kind = self.v(self.let(f"-{t}"), self.word)
            if otherwise is None:
                self.routine("fault", kind, self.v("E.bad", self.word))
                return
            value = otherwise(kind)
            if isinstance(value, V):
                self.put(f"{t} = {value.ref}")

        self.block(failed)
        return self.v(t, width)

    def load(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        return self._checked(f"load({addr.ref}, {size})", 8 * size, otherwise)

    def store(self, addr: V, value: V, otherwise: Callable[[V], object] | None = None) -> None:
        self._checked(f"store({addr.ref}, {value.ref}, {value.width // 8})", 8, otherwise)

    def load_reserved(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        return self._checked(f"E.reserve_at({addr.ref}, {size})", 8 * size, otherwise)

    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        return self._checked(f"E.conditional_at({addr.ref}, {value.ref}, {value.width})", 1, otherwise)

    def clear_reservation(self) -> None:
        self.put("E.reservation = None")

    def amo(self, op: str, addr: V, value: V) -> V:
        return self._checked(f"E.amo_at({op!r}, {addr.ref}, {value.ref}, {value.width})", value.width, None)

    def fence(self) -> None:
        """As the evaluator's."""

    # -- translation
    def modes_changed(self) -> None:
        """Seen where the fields are set."""

    def flush_tlb(self, addr: V | None = None) -> None:
        """What is remembered never is stale."""

    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        return self._checked(f"E.entry_at({addr.ref}, {size})", 8 * size, otherwise)

    def phys_swap(self, addr: V, old: V, new: V, otherwise: Callable[[V], V | None]) -> V:
        return self._checked(f"E.swap_at({addr.ref}, {old.ref}, {new.ref}, {old.width})", 1, otherwise)

    def mapped(self, phys: V, allowed: V | int, bits: V | int) -> None:
        self.end(str(phys.ref))

    def unmapped(self, kind: V | int) -> None:
        self.end(f"-{kind.ref if isinstance(kind, V) else kind}")

    def function(self, name: str, *args: V) -> V:
        return self.v(self.let(f"F_{name}({', '.join(str(a.ref) for a in args)})"), 64)

    def answer(self, value: V) -> None:
        self.end(str(value.ref))

    # -- floating point
    def _rules(self) -> FpContext:
        assert self.isa.fp is not None, "the ISA declares no floating point"
        return self.isa.fp

    def _mode(self, rounding: V | int | None) -> int | str:
        if rounding is not None:
            return rounding.ref if isinstance(rounding, V) else rounding
        field = self._rules().rounding
        return self.let(f"host_mode(S_{field}[0])") if field else RNE

    def _result(self, call: str, width: int) -> V:
        self.count += 1
        self.put(f"t{self.count}, u = {call}")
        field = self._rules().flags
        if field:
            self.put(f"if u: S_{field}[0] |= u")
        return self.v(f"t{self.count}", width)

    def fp(self, op: str, width: int, *args: V, rounding: V | int | None = None) -> V:
        assert op in FP_OPS and len(args) == FP_OPS[op]
        values = ", ".join(str(a.ref) for a in args)
        return self._result(f"soft.{op}(RULES, {width}, {values}, {self._mode(rounding)})", width)

    def fp_compare(self, predicate: str, width: int, a: V, b: V, signaling: bool) -> V:
        return self._result(f"soft.compare({width}, {predicate!r}, {a.ref}, {b.ref}, {signaling})", 1)

    def fp_convert(self, source: int, target: int, a: V, rounding: V | int | None = None) -> V:
        mode = RNE if source < target else self._mode(rounding)
        return self._result(f"soft.convert(RULES, {source}, {target}, {a.ref}, {mode})", target)

    def fp_to_int(self, width: int, a: V, bits: int, signed: bool, rounding: V | int | None = None) -> V:
        return self._result(f"soft.to_int(RULES, {width}, {a.ref}, {bits}, {signed}, {self._mode(rounding)})", bits)

    def fp_from_int(self, width: int, a: V, signed: bool, rounding: V | int | None = None) -> V:
        value = self.let(f"signed({a.ref}, {a.width})") if signed else a.ref
        mode = RNE if a.width < FORMATS[width].p else self._mode(rounding)
        return self._result(f"soft.from_int(RULES, {width}, {value}, {mode})", width)

    def fp_raise(self, flags: V | int) -> None:
        field = self._rules().flags
        if field:
            self.put(f"S_{field}[0] |= {flags.ref if isinstance(flags, V) else flags}")

    def fp_flags(self) -> V:
        return self.v(self.let(f"S_{self._rules().flags}[0]"), 8)

    def set_fp_flags(self, flags: V | int) -> None:
        self.set(self._rules().flags, flags)

    def fp_rounding_changed(self) -> None:
        """The field is looked at each time."""

    # -- the host's side
    def clock(self) -> V:
        return self.v(self.let(f"E.memory.clock() & {_ALL64}"), 64)

    def notify(self, number: int, value: V) -> None:
        self.put(f"E.memory.notify({number}, {value.ref})")

    def ask(self, number: int, value: V) -> V:
        return self.v(self.let(f"E.memory.ask({number}, {value.ref}) & {_ALL64}"), 64)

    # -- control
    def if_(self, c: V, then: Callable[[], object], other: Callable[[], object] | None = None) -> None:
        if isinstance(c.ref, int):
            if c.ref or other is not None:
                (then if c.ref else other)()  # type: ignore[misc]
            return
        self.put(f"if {c.ref}:")
        dead = self.block(then)
        if other is not None:
            self.put("else:")
            dead = self.block(other) and dead
            self.dead = self.dead or dead

    def switch(self, value: V, cases: Mapping[int, Callable[[], object]], default: Callable[[], object]) -> None:
        if isinstance(value.ref, int):
            cases.get(value.ref, default)()
            return
        dead, word = True, "if"
        for number, case in cases.items():
            self.put(f"{word} {value.ref} == {number}:")
            dead, word = self.block(case) and dead, "elif"
        self.put("else:")
        self.dead = (self.block(default) and dead) or self.dead

    def _at(self, target: V) -> str:
        return f"{target.ref} & {self.owner.pcs}"

    def _behind(self) -> str:
        assert self.ilen, "a routine has no next instruction"
        return f"pc + {self.ilen} & {self.owner.pcs}"

    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        self.if_(c, lambda: self.jump_rel(i, name), self.next)

    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        self.end(self._at(self.pc() + getattr(i, name)))

    def jump(self, target: V, *, poll: bool = False) -> None:
        if poll:
            self.put("E._ask = True")
        self.end(self._at(target))

    def trap_jump(self, target: V) -> None:
        self.put("E.entered()")
        self.end(self._at(target))

    def next_in(self, ctx: str) -> None:
        self.put(f"E.odd, E._next_ctx = True, {ctx!r}")
        self.end(self._behind())

    def next(self) -> None:
        self.end(self._behind())

    def poll(self) -> None:
        self.put("E._ask = True")
        self.end(self._behind())

    def halt(self) -> None:
        self.put("E.odd = E._ask = E._halted = True")
        self.end(self._behind())

    def wait(self, ctx: str) -> None:
        self.put(f"E.odd = E._ask = E._halted = True; E._retired = False; E._next_ctx = {ctx!r}")
        self.end("pc")

    def flush_code(self) -> None:
        self.next()

    def refetch(self) -> None:
        self.poll()

    def routine(self, name: str, *args: V | int) -> None:
        values = [self.const(a) if isinstance(a, int) else a for a in args]
        self.end(f"{self.owner.routine_of(name, self.ctx, len(args))}({', '.join(['pc', *(str(a.ref) for a in values)])})")


class _Refused(Exception):
    """An access failed: kind, address."""

    def __init__(self, kind: int, addr: int) -> None:
        super().__init__(kind, addr)
        self.kind, self.addr = kind, addr


class _Seen:
    """What was found out in one mode: physical pages by page and kind of access; pages of RAM (view, offset) to load and to
    fetch from, and (with whose RAM) to store into."""

    __slots__ = ("code", "loads", "modes", "pages", "stores")

    def __init__(self) -> None:
        self.pages: tuple[dict[int, int], dict[int, int], dict[int, int]] = ({}, {}, {})
        self.loads: dict[int, tuple[memoryview, int]] = {}
        self.code: dict[int, tuple[memoryview, int]] = {}
        self.stores: dict[int, tuple[memoryview, int, RamBlock, int]] = {}
        self.modes: tuple[int, int] | None = None


def _too_far(amount: int) -> int:
    raise ValueError(f"a shift of {amount}")


def _host_mode(mode: int) -> int:
    assert mode <= RUP, "None is for the modes that a host has"
    return mode


class WrittenEvaluator(Evaluator):
    """See the module. ``known``: operands of which each value gets a function of its own, such as the number of a register
    that there are hundreds of. ``block``: HEAD bytes and the state, as native code lays it out."""

    memory: PortMemory

    def __init__(self, isa: Isa, memory: PortMemory, known: Collection[str] = ()) -> None:
        super().__init__(isa, memory)
        self.known = frozenset(known)
        self.block = bytearray(HEAD + isa.layout.size)
        whole = memoryview(self.block)
        self.head = whole[:HEAD].cast("Q")
        self.state = {  # type: ignore[assignment]  # as lists are, but of one size
            f.name: whole[HEAD + f.offset:HEAD + f.offset + f.size * f.count].cast(_VIEWS[f.size]) for f in isa.layout}
        for field in isa.layout:
            for k in range(field.count):
                self.state[field.name][k] = field.reset
        self.pcs = self.mask & -isa.parcel
        self.bad, self.odd = 0, False
        self.longest = max(isa.default_length, *(n for _, _, n in isa.lengths)) if isa.lengths else isa.default_length
        self.shift, self.inside = isa.smallest_page, (1 << isa.smallest_page) - 1
        self.order = "big" if isa.big_endian else "little"
        self.tables: set[int] = set()  # pages with entries that walks read
        self.walks: frozenset[str] = frozenset()  # state that translations depend on
        self.chooses: frozenset[str] = frozenset()  # that modes depend on
        self._swapped = False
        self._seen, self._known_modes = _Seen(), dict[tuple[int, ...], _Seen]()
        self._names: dict[Any, str] = {}
        self._entries: dict[str, dict[bytes, tuple[Callable[..., int], tuple[int, ...]]]] = {c: {} for c in isa.contexts}
        self.space: dict[str, Any] = {
            "E": self, "soft": softfloat, "RULES": isa.fp, "signed": signed, "too_far": _too_far, "host_mode": _host_mode,
            "load": self.load_at, "store": self.store_at, **{f"S_{n}": view for n, view in self.state.items()},
            **UNARY, "sdiv": FOLD["sdiv"], "srem": FOLD["srem"]}
        self._pure = True
        if isa.mmu_modes:
            self._write_walk()
        self._take = self.space[self.routine_of("interrupt", "", 0)]

    # -- functions
    def _define(self, name: str, parameters: list[str], w: Writer) -> Callable[..., Any]:
        text = "\n".join([f"def {name}({', '.join(parameters)}):", *(w.lines or ["    pass"])])
        exec(compile(text, f"<{self.isa.name} {name}>", "exec"), self.space)
        return self.space[name]  # type: ignore[no-any-return]

    def routine_of(self, name: str, ctx: str, count: int, ilen: int = 0) -> str:
        """The name of a routine's function: (pc, arguments). ``ilen``: where it may go on behind the instruction."""
        key = (name, ctx, count, ilen)
        if key not in self._names:
            self._names[key] = called = f"R_{name}_{self.isa.contexts.index(ctx)}_{count}_{ilen}"
            w, names = Writer(self, ctx, ilen), [f"a{k}" for k in range(count)]
            self.isa.routines[name](w, *(V(w, n, self.word) for n in names))
            self._define(called, ["pc", *names], w)
        return self._names[key]

    def _write_walk(self) -> None:
        """The functions of the walk, and what they look at."""
        modes = Writer(self)
        data, fetch = self.isa.modes(modes)
        modes.end(f"{data.ref}, {fetch.ref}")
        self._find_modes = self._define("modes", [], modes)
        read, written = set[str](), set[str]()
        for name, (count, routine) in self.isa.functions.items():
            w, names = Writer(self), [f"a{k}" for k in range(count)]
            routine(w, *(V(w, n, 64) for n in names))
            self._define(f"F_{name}", names, w)
            read, written = read | w.read, written | w.written
        w = Writer(self)
        self.isa.routines["translate"](w, *(V(w, n, self.word) for n in ("addr", "access", "mode")))
        self._walk = self._define("translate", ["addr", "access", "mode"], w)
        self.chooses = frozenset(modes.read)
        self.walks = frozenset(read | w.read) - self.chooses
        self._pure = not (written | w.written)

    def _entry(self, ctx: str, raw: bytes) -> tuple[Callable[..., int], tuple[int, ...]]:
        """The function of an encoding and its arguments behind pc."""
        word, length = self.isa.word_at(raw)
        found = self.isa.decode(word, length, ctx)
        if found is None:
            return self.space[self.routine_of("illegal", ctx, 1, length)], (word & self.mask,)
        insn, values = found
        fixed = tuple((n, values[n]) for n in values if n in self.known)
        free = [n for n in values if n not in self.known]
        key = (id(insn.semantics), ctx, length, fixed, tuple(free))
        if key not in self._names:
            self._names[key] = f"I_{len(self._names)}"
            w = Writer(self, ctx, length)

            def operand(name: str) -> V:
                width = self.word if self.isa.slot(name) == "imm" else 32
                return V(w, values[name] if name in self.known else f"o_{name}", width)

            insn.semantics(w, Operands(operand))
            if not w.dead:
                w.next()
            self._define(self._names[key], ["pc", *(f"o_{n}" for n in free)], w)
        return self.space[self._names[key]], tuple(values[n] for n in free)

    # -- running
    def step(self) -> str:
        pc, ctx = self.pc_value, self.ctx
        if not ctx and (self.irq_lines or self._ask):
            self._ask = bool(self.irq_lines)
            after = self._take(pc)
            if after is not None:
                return self._over(after)
        page = self._seen.code.get(pc >> self.shift)
        at = pc & self.inside
        if page is not None and at + self.longest <= self.inside + 1:
            at += page[1]
            raw = bytes(page[0][at:at + self.longest])
        else:
            try:
                raw = self._fetch()
            except _Refused as failure:
                return self._over(self.space[self.routine_of("fault", ctx, 2)](pc, failure.kind, failure.addr))
            if not raw:
                return self.PANIC
            self._remember_code(pc)
        entries = self._entries[ctx]
        entry = entries.get(raw)
        if entry is None:
            if len(entries) >= _KEPT:
                entries.clear()
            entry = entries[raw] = self._entry(ctx, raw[:self._length(raw)])
        function, arguments = entry
        self.pc_value = function(pc, *arguments)
        if self.odd:
            return self._over(self.pc_value)
        self.executed += 1
        self.trapped = False
        if ctx:
            self.ctx = ""
        return self.RAN

    def _over(self, after: int) -> str:
        """An instruction or a trap that ended in an unusual way."""
        self.pc_value, self.ctx, self._next_ctx, self.odd = after, self._next_ctx, "", False
        if self._retired:
            self.executed += 1
            self.trapped = False
        halted, self._halted, self._retired = self._halted, False, True
        return self.HALTED if halted else self.RAN

    def entered(self) -> None:
        """A trap was taken."""
        self.odd = self.trapped = True
        self._retired = False
        self.traps += 1

    def _length(self, raw: bytes) -> int:
        return self.isa.length_of(int.from_bytes(raw[:self.isa.parcel], self.order))  # type: ignore[arg-type]

    def _fault(self, kind: int, addr: int) -> Any:
        raise _Refused(kind, addr)

    def changed(self) -> None:
        self._ask = True
        self.forget()

    def packed(self) -> bytearray:
        """``block``, with what stands in its head."""
        head = self.head
        head[0], head[1], head[2] = self.pc_value, self.isa.contexts.index(self.ctx) if self.ctx else 0, self.traps
        return self.block

    # -- what is remembered of translations
    def forget(self) -> None:
        """State or memory changed that a walk may have looked at."""
        self._known_modes.clear()
        self._seen = _Seen()

    def other_mode(self) -> None:
        """State changed that the mode depends on."""
        key = tuple(self.state[name][0] for name in self.chooses)
        found = self._known_modes.get(key)
        if found is None:
            if len(self._known_modes) >= _MODES_KEPT:
                self._known_modes.clear()
            found = self._known_modes[key] = _Seen()
        self._seen = found

    def _modes(self) -> tuple[int, int]:
        if not self.isa.mmu_modes:
            return 0, 0
        if self._seen.modes is None:
            self._seen.modes = self._find_modes()
        return self._seen.modes

    def _physical(self, addr: int, access: int) -> int:
        """The physical address, or the kind of fault as a negative number."""
        if not self.isa.mmu_modes:
            return addr
        page = addr >> self.shift
        start = self._seen.pages[access].get(page)
        if start is not None:
            return start + (addr & self.inside)
        self._swapped = not self._pure
        phys: int = self._walk(addr, access, self._modes()[access == EXECUTE])
        if phys >= 0 and not self._swapped:
            self._seen.pages[access][page] = phys - (addr & self.inside)
        return phys

    def _translate(self, addr: int, access: int) -> int:
        phys = self._physical(addr, access)
        if phys < 0:
            raise _Failed(-phys)
        return phys

    def _page(self, addr: int, access: int) -> tuple[int, int, int] | None:
        """(row of memory, offset in it, physical address) of the page at ``addr``, if that is remembered and all RAM."""
        page = addr >> self.shift
        phys = page << self.shift if not self.isa.mmu_modes else self._seen.pages[access].get(page)
        if phys is not None:
            for k, (start, end, _, _) in enumerate(self.memory._rows):
                if start <= phys and phys + self.inside < end:
                    return k, phys - start, phys
        return None

    def _remember_code(self, pc: int) -> None:
        found = self._page(pc, EXECUTE)
        whole = 1 << self.isa.page_bits
        if found is not None:
            start, end, view, _ = self.memory._rows[found[0]]
            low = found[2] & -whole
            if start <= low and low + whole <= end:  # as PortMemory.fetch wants it
                self._seen.code[pc >> self.shift] = view, found[1]

    # -- accesses; see Writer
    def load_at(self, at: int, size: int) -> int:
        low = at & self.inside
        page = self._seen.loads.get(at >> self.shift)
        if page is not None and low + size <= self.inside + 1 and (not at & size - 1 or self.isa.misaligned != "fault"):
            low += page[1]
            return int.from_bytes(page[0][low:low + size], self.order)  # type: ignore[arg-type]
        try:
            value = int(self.load(V(self, at, self.word), size).ref)
        except _Refused as failure:
            self.bad = failure.addr
            return -failure.kind
        found = self._page(at, READ)
        if found is not None:
            self._seen.loads[at >> self.shift] = self.memory._rows[found[0]][2], found[1]
        return value

    def store_at(self, at: int, value: int, size: int) -> int:
        low = at & self.inside
        page = self._seen.stores.get(at >> self.shift)
        if page is not None and low + size <= self.inside + 1 and (not at & size - 1 or self.isa.misaligned != "fault"):
            view, start, ram, offset = page
            view[start + low:start + low + size] = value.to_bytes(size, self.order)  # type: ignore[arg-type]
            ram.code.written(offset + low, size)
            return 0
        try:
            self.store(V(self, at, self.word), V(self, value, 8 * size))
        except _Refused as failure:
            self.bad = failure.addr
            return -failure.kind
        found = self._page(at, WRITE)
        if found is not None and found[2] >> self.shift not in self.tables:
            _, _, view, row = self.memory._rows[found[0]]
            if not row.readonly:
                self._seen.stores[at >> self.shift] = view, found[1], row.ram, found[1] + row.offset
        return 0

    def _write(self, phys: int, size: int, value: int, told: int | None = None) -> None:
        super()._write(phys, size, value, told)
        if phys >> self.shift in self.tables or phys + size - 1 >> self.shift in self.tables:
            self.forget()

    def _done(self, access: Callable[[], V]) -> int:
        try:
            return int(access().ref)
        except _Refused as failure:
            self.bad = failure.addr
            return -failure.kind

    def reserve_at(self, at: int, size: int) -> int:
        return self._done(lambda: self.load_reserved(V(self, at, self.word), size))

    def conditional_at(self, at: int, value: int, width: int) -> int:
        return self._done(lambda: self.store_conditional(V(self, at, self.word), V(self, value, width)))

    def amo_at(self, op: str, at: int, value: int, width: int) -> int:
        return self._done(lambda: self.amo(op, V(self, at, self.word), V(self, value, width)))

    def entry_at(self, at: int, size: int) -> int:
        """Of a page table."""
        if at >> self.shift not in self.tables:
            self.tables.add(at >> self.shift)
            self.forget()
        for start, end, view, _ in self.memory._rows:
            if start <= at and at + size <= end:
                low = at - start
                return int.from_bytes(view[low:low + size], self.order)  # type: ignore[arg-type]
        return self._done(lambda: self.phys_load(V(self, at, 64), size, self._negative))

    def swap_at(self, at: int, old: int, new: int, width: int) -> int:
        self._swapped = True
        return self._done(lambda: self.phys_swap(V(self, at, 64), V(self, old, width), V(self, new, width), self._negative))

    def _negative(self, kind: V) -> V:
        return V(self, -int(kind.ref), self.word)


class WrittenVcpu(EvalVcpu):
    """The evaluator's CPU with it."""

    cpu: WrittenEvaluator

    def __init__(self, isa: Isa, port: CpuPort, bus_error: type[Exception], known: Collection[str] = ()) -> None:
        super().__init__(isa, port, bus_error)
        self.cpu = WrittenEvaluator(isa, self._memory, known)
        self._fresh = bytes(self.cpu.block)

    def reset(self, pc: int) -> None:
        self.cpu.block[:] = self._fresh
        self.set_reset_values()
        self.cpu.ctx, self.cpu.reservation, self.cpu.trapped = "", None, False
        self.set("pc", pc)

    def invalidate(self, ram: RamBlock, offset: int, size: int) -> None:
        """Of entries nothing is remembered that was written from outside."""
        self.cpu.forget()

    def remap(self) -> None:
        super().remap()
        self.cpu.forget()

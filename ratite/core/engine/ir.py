"""Semantics written down as LLVM text: the emitter that the native tiers share. Knows values, state, memory and inner
control flow; how an instruction ends is a tier's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ratite.core.engine import block as B
from ratite.core.engine import irfp
from ratite.core.isa.emitter import AMO, Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V
from ratite.core.memory.reserve import LINE_BITS

#: calling conventions: threaded code keeps everything in registers; slow paths spare the caller's
THREADED = "preserve_nonecc"
SLOW = "preserve_mostcc"

#: RAM accesses and CPU state never overlap: two alias scopes tell LLVM. !10: a branch that nearly always goes left.
METADATA = """
!10 = !{!"branch_weights", i32 2000, i32 1}
!13 = !{!13}
!14 = !{!14, !13}
!15 = !{!15, !13}
!11 = !{!14}
!12 = !{!15}
"""
RAM_SCOPE = ", !alias.scope !11, !noalias !12"
CPU_SCOPE = ", !alias.scope !12, !noalias !11"

_INTRINSIC = MappingProxyType({"clz": "ctlz", "ctz": "cttz", "popcount": "ctpop", "bswap": "bswap"})


class IrEmitter(Emitter):
    """Lines of one LLVM function go to ``out``. ``dead``: the current path has ended."""

    slow = SLOW  # for modules that this one is built on

    def __init__(self, isa: Isa, shape: B.Shape, ctx: str = "", ilen: int = 0) -> None:
        self.isa = isa
        self.word = isa.word
        self.shape = shape
        self.ctx = ctx
        self.ilen = ilen
        self.out: list[str] = []
        self.dead = False
        self.here = "entry"
        self._count = 0
        self.intrinsics: set[str] = set()
        self.floats: dict[str, str] = {}  # bits -> the same as a floating-point value
        self.uses_fp = False  # then the function has the attribute strictfp

    # -- text
    def name(self) -> str:
        self._count += 1
        return f"%t{self._count}"

    def new_label(self) -> str:
        self._count += 1
        return f"L{self._count}"

    def put(self, line: str) -> None:
        if self.dead:  # unreachable code still has to be well formed
            self.label(self.new_label())
        self.out.append(line)

    def let(self, text: str) -> str:
        r = self.name()
        self.put(f"{r} = {text}")
        return r

    def label(self, label: str) -> None:
        if not self.dead and self.out:
            self.out.append(f"br label %{label}")
        self.out.append(f"{label}:")
        self.here = label
        self.dead = False

    def end(self, line: str) -> None:
        self.put(line)
        self.dead = True

    def goto(self, label: str) -> None:
        self.end(f"br label %{label}")

    def fork(self, c: str, yes: str, no: str, likely: bool = False) -> None:
        self.end(f"br i1 {c}, label %{yes}, label %{no}" + (", !prof !10" if likely else ""))

    # -- values
    def v(self, ref: int | str, width: int) -> V:
        return V(self, ref, width)

    def emit_binary(self, op: str, a: int | str, b: int | str, width: int) -> V:
        return self.v(self.let(f"{op} i{width} {a}, {b}"), width)

    def emit_compare(self, pred: str, a: int | str, b: int | str, width: int) -> V:
        return self.v(self.let(f"icmp {pred} i{width} {a}, {b}"), 1)

    def emit_cast(self, op: str, a: str, source: int, width: int) -> V:
        return self.v(self.let(f"{op} i{source} {a} to i{width}"), width)

    def emit_unary(self, op: str, a: str, width: int) -> V:
        name = f"llvm.{_INTRINSIC[op]}.i{width}"
        extra = ", i1 false" if op in ("clz", "ctz") else ""
        self.intrinsics.add(f"declare i{width} @{name}(i{width}{', i1' if extra else ''})")
        return self.v(self.let(f"call i{width} @{name}(i{width} {a}{extra})"), width)

    def emit_select(self, c: str, a: V, b: V) -> V:
        if a.width != b.width:
            raise TypeError(f"select needs one width, not i{a.width} and i{b.width}")
        return self.v(self.let(f"select i1 {c}, i{a.width} {a.ref}, i{a.width} {b.ref}"), a.width)

    def find(self, count: int, test: Callable[[V], V]) -> V:
        before, loop, on, done = self.here, self.new_label(), self.new_label(), self.new_label()
        self.goto(loop)
        self.label(loop)
        k = self.v(self.let(f"phi i32 [0, %{before}], [%{on}k, %{on}]"), 32)
        hit = test(k)
        tested = self.here
        self.fork(str(hit.ref), done, on)
        self.label(on)
        self.put(f"%{on}k = add nuw nsw i32 {k.ref}, 1")
        self.fork(self.let(f"icmp ult i32 %{on}k, {count}"), loop, done)
        self.label(done)
        return self.phi(32, [(str(k.ref), tested), (str(count), on)])

    def at(self, base: str, offset: int | str) -> str:
        """Pointer ``offset`` bytes behind ``base``."""
        if offset == 0:
            return base
        return self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def read(self, offset: int, width: int = 64) -> V:
        """A word of the CPU block."""
        return self.v(self.let(f"load i{width}, ptr {self.at('%cpu', offset)}{CPU_SCOPE}"), width)

    def write(self, offset: int, value: V | int | str, width: int = 64) -> None:
        ref = value.ref if isinstance(value, V) else value
        self.put(f"store i{width} {ref}, ptr {self.at('%cpu', offset)}{CPU_SCOPE}")

    # -- state
    def _slot(self, file: str, index: V | int) -> tuple[str, int]:
        field = self.isa.layout[file]
        ref = index if isinstance(index, int) else index.ref
        if isinstance(ref, int):
            return self.at("%cpu", field.offset + ref * field.size), field.size
        wide = self.let(f"zext i{32} {ref} to i64")
        base = self.at("%cpu", field.offset)
        return self.let(f"getelementptr i{8 * field.size}, ptr {base}, i64 {wide}"), field.size

    def reg(self, file: str, index: V | int) -> V:
        field = self.isa.layout[file]
        known = index if isinstance(index, int) else index.ref
        if field.zero and known == 0:
            return self.const(0, field.width)
        p, size = self._slot(file, index)
        value = self.v(self.let(f"load i{8 * size}, ptr {p}{CPU_SCOPE}"), 8 * size)
        return value.trunc(field.width)

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        field = self.isa.layout[file]
        if value.width != field.width:
            raise TypeError(f"{file} takes i{field.width}, not i{value.width}")
        known = index if isinstance(index, int) else index.ref
        if field.zero and known == 0:
            return
        p, size = self._slot(file, index)
        self.put(f"store i{8 * size} {value.zext(8 * size).ref}, ptr {p}{CPU_SCOPE}")

    def get(self, name: str) -> V:
        if name == "irq_lines":
            return self.v(self.let(f"load volatile i64, ptr {self.at('%cpu', B.IRQ_LINES)}"), 64)
        field = self.isa.layout[name]
        return self.read(field.offset, 8 * field.size).trunc(field.width)

    def set(self, name: str, value: V | int) -> None:
        field = self.isa.layout[name]
        self.write(field.offset, self.fitting(name, value).zext(8 * field.size), 8 * field.size)

    def fitting(self, name: str, value: V | int) -> V:
        """``value`` as field ``name`` takes it. TypeError."""
        width = self.isa.layout[name].width
        v = self.const(value, width) if isinstance(value, int) else value
        if v.width != width:
            raise TypeError(f"{name} takes i{width}, not i{v.width}")
        return v

    # -- memory
    def tlb_base(self) -> str:
        """The TLB of the mode in which data accesses are translated."""
        if not self.isa.mmu_modes:
            return self.at("%cpu", self.shape.tlb)
        return self.let(f"load ptr, ptr {self.at('%cpu', B.TLB_DATA)}{CPU_SCOPE}")

    def entry_of(self, a: V) -> str:
        """The TLB's entry for address ``a`` (64 bits)."""
        index = (a >> (self.isa.page_bits - 5)) & ((B.TLB_ENTRIES - 1) * B.TLB_ENTRY)
        return self.at(self.tlb_base(), str(index.ref))

    def _probe(self, addr: V, size: int, for_write: bool, aligned: int = 0) -> tuple[V, str, V]:
        """(address as i64, TLB entry, hit). An access hits inside a page; where misaligned ones fault, only one that is aligned
        to ``aligned``, its size unless told."""
        aligned = aligned or size
        a = addr.zext(64)
        entry = self.entry_of(a)
        tag = self.v(self.let(f"load i64, ptr {self.at(entry, 8 if for_write else 0)}{CPU_SCOPE}"), 64)
        page = -self.shape.page
        if size == 1:
            return a, entry, tag.eq(a & page)
        if self.isa.misaligned == "fault":
            return a, entry, tag.eq((a if size == aligned else a + (size - 1)) & page | a & (aligned - 1))
        return a, entry, tag.eq((a + (size - 1)) & page)

    def _host(self, entry: str, a: V) -> str:
        addend = self.v(self.let(f"load i64, ptr {self.at(entry, 16)}{CPU_SCOPE}"), 64)
        return self.let(f"inttoptr i64 {(a + addend).ref} to ptr")

    def swapped(self, value: V) -> V:
        """Between the CPU's byte order and the host's."""
        return value.bswap() if self.isa.big_endian and value.width > 8 else value

    def _slow(
        self, call: str, returns: bool, join: str, otherwise: Callable[[V], V | object | None] | None = None,
    ) -> tuple[str, list[tuple[str, str]]]:
        """Calls a slow path. Where it failed, leaves for the fault routine, or, with ``otherwise``, goes on in that and
        from there to ``join``. (result, further edges into ``join``: value, block)."""
        result = ""
        if returns:
            result = self.let(f"call {SLOW} i64 {call}")
        else:
            self.put(f"call {SLOW} void {call}")
        kind = self.read(B.EXC)
        fault, fine = self.new_label(), self.new_label()
        self.fork(str(kind.ne(0).ref), fault, fine)
        self.label(fault)
        edges = []
        if otherwise is None:
            self.leave_for_fault()
        else:
            self.write(B.EXC, 0)
            value = otherwise(kind.trunc(self.word))
            if not self.dead:
                edges.append((str(value.ref) if isinstance(value, V) else "", self.here))
                self.goto(join)
        self.label(fine)
        return result, edges

    @abstractmethod
    def leave_for_fault(self) -> None:
        """Terminator: the fault routine takes over at the current pc."""

    def phi(self, width: int, edges: list[tuple[str, str]]) -> V:
        return self.v(self.let(f"phi i{width} " + ", ".join(f"[{value}, %{block}]" for value, block in edges)), width)

    def load(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        return self._load(addr, size, size, otherwise)

    def _load(self, addr: V, size: int, how: int, otherwise: Callable[[V], V | None] | None) -> V:
        width = 8 * size
        a, entry, hit = self._probe(addr, size, False)
        fast, slow, join = self.new_label(), self.new_label(), self.new_label()
        self.fork(str(hit.ref), fast, slow, likely=True)
        self.label(slow)
        called, edges = self._slow(f"@{self.isa.name}_load(ptr %cpu, i64 {a.ref}, i64 {how})", True, join, otherwise)
        edges.append((str(self.v(called, 64).trunc(width).ref), self.here))
        self.goto(join)
        self.label(fast)
        raw = self.v(self.let(f"load i{width}, ptr {self._host(entry, a)}, align 1{RAM_SCOPE}"), width)
        edges.append((str(self.swapped(raw).ref), self.here))
        self.goto(join)
        self.label(join)
        return self.phi(width, edges)

    def store(self, addr: V, value: V, otherwise: Callable[[V], object] | None = None) -> None:
        width = value.width
        a, entry, hit = self._probe(addr, width // 8, True)
        fast, slow, join = self.new_label(), self.new_label(), self.new_label()
        self.fork(str(hit.ref), fast, slow, likely=True)
        self.label(slow)
        v = value.zext(64)
        call = f"@{self.isa.name}_store(ptr %cpu, i64 {a.ref}, i64 {width // 8}, i64 {v.ref})"
        self._slow(call, False, join, otherwise)
        self.goto(join)
        self.label(fast)
        self.put(f"store i{width} {self.swapped(value).ref}, ptr {self._host(entry, a)}, align 1{RAM_SCOPE}")
        over = (a, width // 8) if self.isa.misaligned == "native" and width > 8 else None
        self.break_reservation(self._line_word(entry, a), join, over)
        self.label(join)

    def _line_word(self, entry: str, a: V) -> str:
        """The reservations' word of the line at ``a``."""
        words = self.let(f"load ptr, ptr {self.at(entry, 24)}{CPU_SCOPE}")
        return self.let(f"getelementptr i16, ptr {words}, i64 {(a >> LINE_BITS).ref}")

    def break_reservation(self, word: str, join: str = "", over: tuple[V, int] | None = None) -> None:
        """Behind a store: if the line of ``word`` is reserved, it no longer is. Goes on at ``join``, where given. ``over``:
        address and size of a store that may reach into the next line; both words are tested at once."""
        if over is None:
            mark = self.v(self.let(f"load volatile i8, ptr {word}"), 8) & 1
        else:
            mark = self.v(self.let(f"load volatile i32, ptr {word}, align 2"), 32) & 0x10001
        on, broken = join or self.new_label(), self.new_label()
        self.fork(str(mark.eq(0).ref), on, broken, likely=True)
        self.label(broken)
        at = self.v(self.let(f"ptrtoint ptr {word} to i64"), 64)
        how = f"broken(ptr %cpu, i64 {at.ref}, i64 {at.ref})"
        if over is not None:
            how = f"broken_over(ptr %cpu, i64 {at.ref}, i64 {over[0].ref}, i64 {over[1]})"
        self.put(f"call {SLOW} void @{self.isa.name}_{how}")
        self.goto(on)
        if not join:
            self.label(on)

    def load_reserved(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        """Through the slow path always: it takes the reservation too, and only where the load succeeds."""
        join = self.new_label()
        call = f"@{self.isa.name}_reserve(ptr %cpu, i64 {addr.zext(64).ref}, i64 {size})"
        called, edges = self._slow(call, True, join, otherwise)
        edges.append((str(self.v(called, 64).trunc(8 * size).ref), self.here))
        self.goto(join)
        self.label(join)
        return self.phi(8 * size, edges)

    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        join = self.new_label()
        call = f"@{self.isa.name}_conditional(ptr %cpu, i64 {addr.zext(64).ref}, i64 {value.width // 8}, " \
               f"i64 {value.zext(64).ref})"
        called, edges = self._slow(call, True, join, otherwise)
        edges.append((str(self.v(called, 64).trunc(1).ref), self.here))
        self.goto(join)
        self.label(join)
        return self.phi(1, edges)

    def clear_reservation(self) -> None:
        self.write(B.RESERVED_SIZE, 0)

    def amo(self, op: str, addr: V, value: V) -> V:
        width = value.width
        if op not in AMO:
            raise ValueError(f"{op!r} is no atomic operation")
        if self.isa.big_endian:
            raise ValueError("atomic read-modify-write is not made for a big-endian ISA")
        a, entry, hit = self._probe(addr, width // 8, True)
        hit = hit & (a & (width // 8 - 1)).eq(0)
        fast, slow, join = self.new_label(), self.new_label(), self.new_label()
        self.fork(str(hit.ref), fast, slow, likely=True)
        self.label(slow)  # gives the addend or fails; the operation itself is the same afterwards
        filled, _ = self._slow(f"@{self.isa.name}_atomic(ptr %cpu, i64 {a.ref}, i64 {width // 8})", True, join)
        found = self.let(f"load ptr, ptr {self.at('%cpu', B.LINE_WORD)}{CPU_SCOPE}")
        slow_end = self.here
        self.goto(join)
        self.label(fast)
        addend = self.let(f"load i64, ptr {self.at(entry, 16)}{CPU_SCOPE}")
        word = self._line_word(entry, a)
        self.goto(join)
        self.label(join)
        both = self.let(f"phi i64 [{filled}, %{slow_end}], [{addend}, %{fast}]")
        line = self.let(f"phi ptr [{found}, %{slow_end}], [{word}, %{fast}]")
        p = self.let(f"inttoptr i64 {(a + self.v(both, 64)).ref} to ptr")
        old = self.v(self.let(f"atomicrmw {op} ptr {p}, i{width} {value.ref} seq_cst, align {width // 8}"), width)
        self.break_reservation(line)
        return old

    def fence(self) -> None:
        self.put("fence seq_cst")

    def relax(self) -> None:
        self.put(f"call {SLOW} void @{self.isa.name}_relax(ptr %cpu)")

    def stale_code(self) -> V:
        """Width 1: whether the host has work before code is fresh: stores into decoded code are told as they happen, so only
        where a request or a young page waits."""
        self.fence()
        request = self.v(self.let(f"load volatile i32, ptr {self.at('%cpu', B.EXIT_REQUEST)}"), 32)
        young = self.v(self.let(f"load volatile i64, ptr {self.at('%cpu', B.YOUNG)}"), 64)
        return request.ne(0) | young.ne(0)

    # -- address translation
    def modes_changed(self) -> None:
        if self.isa.mmu_modes:
            self.put(f"call {SLOW} void @{self.isa.name}_modes(ptr %cpu)")

    def flush_tlb(self, addr: V | None = None) -> None:
        if addr is None:
            self.put(f"call {SLOW} void @{self.isa.name}_flush_all(ptr %cpu)")
        else:
            self.put(f"call {SLOW} void @{self.isa.name}_flush_page(ptr %cpu, i64 {addr.zext(64).ref})")

    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        raise AssertionError("only the routine 'translate' looks into physical memory")

    def phys_swap(self, addr: V, old: V, new: V, otherwise: Callable[[V], V | None]) -> V:
        raise AssertionError("only the routine 'translate' looks into physical memory")

    def mapped(self, phys: V, allowed: V | int, bits: V | int) -> None:
        raise AssertionError("only the routine 'translate' maps")

    def unmapped(self, kind: V | int) -> None:
        raise AssertionError("only the routine 'translate' maps")

    def function(self, name: str, *args: V) -> V:
        raise AssertionError("only the routine 'translate' and functions call functions")

    def answer(self, value: V) -> None:
        raise AssertionError("only a function answers")

    # -- floating point: see irfp, also for what a function made of this must respect
    def fp(self, op: str, width: int, *args: V, rounding: V | int | None = None) -> V:
        return irfp.operation(self, op, width, args, rounding)

    def fp_compare(self, predicate: str, width: int, a: V, b: V, signaling: bool) -> V:
        return irfp.compare(self, predicate, width, a, b, signaling)

    def fp_convert(self, source: int, target: int, a: V, rounding: V | int | None = None) -> V:
        return irfp.convert(self, source, target, a, rounding)

    def fp_to_int(self, width: int, a: V, bits: int, signed: bool, rounding: V | int | None = None) -> V:
        return irfp.to_int(self, width, a, bits, signed, rounding)

    def fp_from_int(self, width: int, a: V, signed: bool, rounding: V | int | None = None) -> V:
        return irfp.from_int(self, width, a, signed, rounding)

    def fp_raise(self, flags: V | int) -> None:
        irfp.raise_flags(self, flags)

    def fp_flags(self) -> V:
        return irfp.flags_now(self)

    def set_fp_flags(self, flags: V | int) -> None:
        irfp.set_flags(self, flags)

    def fp_rounding_changed(self) -> None:
        irfp.rounding_changed(self)

    def fp_enter(self) -> None:
        """Where native code is entered from the host. Nothing, as the three below, where the ISA has no floating point."""
        if self.isa.fp is not None:
            irfp.enter(self)

    def fp_leave(self) -> None:
        """Where it goes back."""
        if self.isa.fp is not None:
            irfp.leave(self)

    def fp_outside(self) -> None:
        """Before a function of the host is called."""
        if self.isa.fp is not None:
            irfp.outside(self)

    def fp_inside(self) -> None:
        """Behind such a call."""
        if self.isa.fp is not None:
            irfp.inside(self)

    # -- the host's side
    def clock(self) -> V:
        return self.v(self.let(f"call {SLOW} i64 @{self.isa.name}_clock(ptr %cpu)"), 64)

    def notify(self, number: int, value: V) -> None:
        self.put(f"call {SLOW} void @{self.isa.name}_notify(ptr %cpu, i64 {number}, i64 {value.zext(64).ref})")

    def ask(self, number: int, value: V) -> V:
        return self.v(self.let(
            f"call {SLOW} i64 @{self.isa.name}_ask(ptr %cpu, i64 {number}, i64 {value.zext(64).ref})"), 64)

    # -- inner control flow
    def if_(self, c: V, then: Callable[[], object], other: Callable[[], object] | None = None) -> None:
        if isinstance(c.ref, int):
            if c.ref:
                then()
            elif other is not None:
                other()
            return
        yes, join = self.new_label(), self.new_label()
        no = self.new_label() if other is not None else join
        self.fork(c.ref, yes, no)
        self.label(yes)
        then()
        reached = not self.dead or other is None
        if not self.dead:
            self.goto(join)
        if other is not None:
            self.label(no)
            other()
            reached = reached or not self.dead
            if not self.dead:
                self.goto(join)
        if reached:
            self.label(join)

    def switch(self, value: V, cases: Mapping[int, Callable[[], object]], default: Callable[[], object]) -> None:
        if isinstance(value.ref, int):
            cases.get(value.ref, default)()
            return
        labels = {k: self.new_label() for k in cases}
        other, join = self.new_label(), self.new_label()
        table = " ".join(f"i{value.width} {k}, label %{lb}" for k, lb in labels.items())
        self.end(f"switch i{value.width} {value.ref}, label %{other} [{table}]")
        reached = False
        for lb, body in [(other, default), *((labels[k], f) for k, f in cases.items())]:
            self.label(lb)
            body()
            if not self.dead:
                reached = True
                self.goto(join)
        if reached:
            self.label(join)

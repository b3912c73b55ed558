"""One region as LLVM text: the emitter to which operands are constants.

A region is a function of tier 0's own convention. Addresses in it are distances from its *base*, the virtual page of its
first entry, so that the code serves every mapping of its pages. Registers live in variables of the function and are written
through to the CPU block, so an exit at any instruction finds the state complete. What a region does not do itself it leaves
to tier 0's functions, by way of the table that the block points to.

Values are followed along straight code: an SSA name may be known to be base + constant (``Relative``) or one of two
such by a condition (``Choice``), which is how calls through auipc, imm prefixes and delayed branches get fixed targets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ratite.core.engine import block as B
from ratite.core.engine.ir import CPU_SCOPE, SLOW, THREADED
from ratite.core.engine.region.access import Key, RegionMemory
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V, signed


class Relative:
    """base + ``off``."""

    __slots__ = ("off",)

    def __init__(self, off: int) -> None:
        self.off = off


class Choice:
    """``yes`` where ``c`` (a name of width 1), else ``no``; each an int or Relative."""

    __slots__ = ("c", "no", "yes")

    def __init__(self, c: str, yes: Relative | int, no: Relative | int) -> None:
        self.c = c
        self.yes = yes
        self.no = no


Shape_ = Relative | Choice | int


class Flow:
    """What the discovery learns of a unit: ``targets`` it goes to by fixed jumps, ``then``: the unit it falls into,
    ``linked``: it left its own address or the one behind it in register ``linked`` (file, index); ``dynamic``: it jumps
    to a computed address."""

    def __init__(self) -> None:
        self.targets: list[Key] = []
        self.then: Key | None = None
        self.linked: tuple[str, int] | None = None
        self.dynamic = False
        self.origin: tuple[str, int] | None = None  # the register that the computed address came from
        self.jumps = False


class RegionEmitter(RegionMemory):
    """Writes the units of one region. ``units``: those that are in it; ``table``: tier 0's functions by name; ``calls``:
    whether a TLB miss is dealt with by a call (else tier 0 executes the instruction); ``lazy``: registers are written to the
    block at exits, not as they change: only what may run in between must not look at them, as slow paths don't; ``window``: RAM
    is reached through the mode's windows, and what is not in them is tier 0's."""

    def __init__(
        self, isa: Isa, shape: B.Shape, table: Mapping[str, int], units: Mapping[Key, object], *, calls: bool,
        lazy: bool = False, window: bool = False,
        returns: Mapping[tuple[str, int], list[int]] | None = None, indirect: Mapping[Key, list[int]] | None = None,
    ) -> None:
        super().__init__(isa, shape, calls=calls, window=window)
        self.table = table
        self.units = units
        self.lazy = lazy
        self.written: set[tuple[str, int]] = set()
        self.returns = returns or {}
        self.indirect = indirect or {}
        self.flow = Flow()
        self.shapes: dict[str, Shape_] = {}
        self.origins: dict[str, tuple[str, int]] = {}
        self.used: set[tuple[str, int]] = set()
        self.edges: dict[str, tuple[str, Key]] = {}  # label -> (kind, target): blocks to be written at the end
        self.leaves: set[str] = set()
        self._depth = 0
        self._said, self._then_known = 0, self.values  # when the instruction said what comes next
        self._call = re.compile(rf"@{re.escape(isa.name)}_(\w+)\(")

    # -- one unit
    def unit(self, key: Key, length: int, semantics: Callable[..., object], argument: object) -> Flow:
        """Writes one instruction; what became of control."""
        self.off, number = key
        self.ctx = self.isa.contexts[number]
        self.ilen = length
        self.flow = Flow()
        self.wrote = self._must_leave = self._may_leave = False
        self._depth = 0
        semantics(self, argument)
        flow = self.flow
        if flow.then is not None:
            self._resume()
        elif not self.dead:
            flow.then = (self.off + length, 0)
        if flow.then is not None and self._must_leave:  # translation changed: the rest may be elsewhere
            self.leave("interp_at", self.relative64(flow.then[0]), self.left())
            flow.then = None
        elif flow.then is not None and self._may_leave:
            on, out = self.new_label(), self.new_label()
            self.fork(str(self._request().eq(0).ref), on, out, likely=True)
            self.label(out)
            self.leave("interp_at", self.relative64(flow.then[0]), self.left())
            self.label(on)
        return flow

    def _resume(self) -> None:
        """On from where the instruction said what comes next, whatever it wrote after that: unreachable, as in tier 0."""
        if len(self.out) > self._said:
            on = self.new_label()
            self.out.insert(self._said, f"br label %{on}")
            self.label(on)
            self.values = self._then_known
        self.dead = False

    def _request(self) -> V:
        """Not 0 where somebody wants the CPU to look up."""
        return self.v(self.let(f"load volatile i32, ptr {self.at('%cpu', B.EXIT_REQUEST)}"), 32)

    def known(self, values: Mapping[str, int]) -> Operands:
        """Operands of a decoded instruction."""
        return Operands(lambda name: self.v(values[name], self.word if self.isa.slot(name) == "imm" else 32))

    # -- text: calls of tier 0's functions go through the table
    def put(self, line: str) -> None:
        found = self._call.search(line)
        if found is not None and found[1] in self.table:
            self._show_private()
            address = self.let(f"load ptr, ptr {self.at('%table', 8 * self.table[found[1]])}")
            line = line.replace(found[0], f"{address}(")
            self.wrote = True
        super().put(line)

    def _show_private(self) -> None:
        """Puts fields that are kept elsewhere where a function that is called next may look at them."""
        for field in self.isa.layout if self.lazy else ():
            if field.private:
                self.used.add((field.name, 0))
                value = self.let(f"load i{8 * field.size}, ptr %v.{field.name}.0")
                super().put(f"store i{8 * field.size} {value}, ptr %g.{field.name}.0{CPU_SCOPE}")

    # -- addresses
    def relative(self, off: int) -> V:
        """base + ``off`` as an address of the CPU's width."""
        value = self.v(self.let(f"add i{self.word} %base{self.word}, {off}"), self.word)
        self.shapes[str(value.ref)] = Relative(off)
        return value

    def relative64(self, off: int) -> V:
        return self.v(self.let(f"add i64 %base64, {off}"), 64)

    def pc(self) -> V:
        return self.relative(self.off)

    def pc64(self) -> V:
        return self.relative64(self.off)

    def next_pc(self) -> V:
        return self.relative(self.off + self.ilen)

    def next_pc64(self) -> V:
        return self.relative64(self.off + self.ilen)

    def _shape(self, ref: int | str) -> Shape_ | None:
        return ref if isinstance(ref, int) else self.shapes.get(ref)

    def _simple(self, op: str, a: Shape_ | None, b: Shape_ | None, width: int) -> Relative | int | None:
        """What an operation on what is known gives."""
        if isinstance(a, int) and isinstance(b, Relative) and op == "add":
            a, b = b, a
        if isinstance(a, Relative) and isinstance(b, int):
            amount = signed(b, width)
            if op in ("add", "sub"):
                return Relative(a.off + (amount if op == "add" else -amount))
            if op == "and" and amount < 0 and -amount & (-amount - 1) == 0 and -amount <= self.shape.page:
                return Relative(a.off & amount)
        return None

    def emit_binary(self, op: str, a: int | str, b: int | str, width: int) -> V:
        value = super().emit_binary(op, a, b, width)
        name = str(value.ref)
        if width == self.word and op in ("add", "sub", "and"):
            sa, sb = self._shape(a), self._shape(b)
            if isinstance(sb, Choice) and not isinstance(sa, Choice) and op == "add":
                sa, sb = sb, sa
            if isinstance(sa, Choice):
                ways = [x if sb == 0 and not isinstance(sb, Relative) else self._simple(op, x, sb, width)
                        for x in (sa.yes, sa.no)]
                if ways[0] is not None and ways[1] is not None:
                    self.shapes[name] = Choice(sa.c, ways[0], ways[1])
            else:
                found = self._simple(op, sa, sb, width)
                if found is not None:
                    self.shapes[name] = found
            if op == "add" and isinstance(b, int) and isinstance(a, str) and value.ref != a:
                before, amount = self.sums.get(a, (self.v(a, width), 0))
                self.sums[name] = before, amount + signed(b, width)
            elif op == "add" and a == 0 and isinstance(b, str):  # a move
                self.sums[name] = self.sums.get(b, (self.v(b, width), 0))
            origin = self.origins.get(str(a)) if isinstance(b, int) else None
            if origin is not None:
                self.origins[name] = origin
        return value

    def emit_select(self, c: str, a: V, b: V) -> V:
        value = super().emit_select(c, a, b)
        sa, sb = self._shape(a.ref), self._shape(b.ref)
        if a.width == self.word and isinstance(sa, (int, Relative)) and isinstance(sb, (int, Relative)):
            self.shapes[str(value.ref)] = Choice(c, sa, sb)
        return value

    # -- state
    def _index(self, index: V | int) -> int:
        ref = index if isinstance(index, int) else index.ref
        if not isinstance(ref, int):
            raise Unsuitable("a register is chosen at run time")
        return ref

    def reg(self, file: str, index: V | int) -> V:
        field, at = self.isa.layout[file], self._index(index)
        if field.zero and at == 0:
            return self.const(0, field.width)
        value = self.values.get((file, at))
        if value is None:
            self.used.add((file, at))
            w = 8 * field.size
            value = self.v(self.let(f"load i{w}, ptr %v.{file}.{at}"), w).trunc(field.width)
            self.values[file, at] = value
            self.origins.setdefault(str(value.ref), (file, at))
        return value

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        field, at = self.isa.layout[file], self._index(index)
        if value.width != field.width:
            raise TypeError(f"{file} takes i{field.width}, not i{value.width}")
        if field.zero and at in (0, field.count):
            return
        self.wrote = True
        self._assign(file, at, value)
        if isinstance(value.ref, str):
            self.origins[value.ref] = (file, at)
            shape = self.shapes.get(value.ref)
            if isinstance(shape, Relative) and shape.off in (self.off, self.off + self.ilen):
                self.flow.linked = (file, at)

    def _assign(self, file: str, at: int, value: V) -> None:
        self.used.add((file, at))
        w = 8 * self.isa.layout[file].size
        wide = value.zext(w)
        self.put(f"store i{w} {wide.ref}, ptr %v.{file}.{at}")
        self.written.add((file, at))
        if not self.lazy:
            self.put(f"store i{w} {wide.ref}, ptr %g.{file}.{at}{CPU_SCOPE}")
        self.values[file, at] = value

    def get(self, name: str) -> V:
        if name == "irq_lines":
            return super().get(name)
        if self.lazy and self.isa.layout[name].private:
            return self.reg(name, 0)
        value = self.values.get((name, -1))
        if value is None:
            field = self.isa.layout[name]
            w = 8 * field.size
            p = self.at("%cpu", field.offset)  # volatile: the host may set it at any time
            value = self.v(self.let(f"load volatile i{w}, ptr {p}{CPU_SCOPE}"), w).trunc(field.width)
            self.values[name, -1] = value
        return value

    def set(self, name: str, value: V | int) -> None:
        self.wrote = True
        new = self.fitting(name, value)
        if self.lazy and self.isa.layout[name].private:
            self._assign(name, 0, new)
        else:
            super().set(name, new)
            self.values[name, -1] = new

    def instructions(self) -> V:
        return self.read(B.LIMIT) - self.v(self.left(0), 64) - self.read(B.TRAPS)

    # -- memory: see RegionMemory
    def _slow(
        self, call: str, returns: bool, join: str, otherwise: Callable[[V], V | object | None] | None = None,
    ) -> tuple[str, list[tuple[str, str]]]:
        before = dict(self.values)
        found = super()._slow(call, returns, join, otherwise)
        self.values = _common([before, self.values])
        return found

    def amo(self, op: str, addr: V, value: V) -> V:
        self._may_leave = True  # what is written may be this very code
        return super().amo(op, addr, value)

    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        self._may_leave = True
        return super().store_conditional(addr, value, otherwise)

    def modes_changed(self) -> None:
        super().modes_changed()
        self._must_leave = True

    def flush_tlb(self, addr: V | None = None) -> None:
        super().flush_tlb(addr)
        self._must_leave = True

    # -- inner control flow: what is known after it is what is known on every way through it
    def if_(self, c: V, then: Callable[[], object], other: Callable[[], object] | None = None) -> None:
        if isinstance(c.ref, int):
            super().if_(c, then, other)
            return
        with _Ways(self) as ways:
            super().if_(c, ways.body(then), ways.body(other) if other is not None else None)
            if other is None:
                ways.ends.append(ways.before)

    def likely(self, c: V, then: Callable[[], object], other: Callable[[], object]) -> None:
        """The other case is tier 0's, unless the instruction has begun or this comes too often."""
        if isinstance(c.ref, int) or self.calls or self.wrote:
            self.if_(c, then, other)
        else:
            self._unless_deopt(c)
            then()

    def switch(self, value: V, cases: Mapping[int, Callable[[], object]], default: Callable[[], object]) -> None:
        if isinstance(value.ref, int):
            super().switch(value, cases, default)
            return
        with _Ways(self) as ways:
            super().switch(value, {k: ways.body(f) for k, f in cases.items()}, ways.body(default))

    # -- leaving
    def left(self, spent: int = 1) -> str:
        budget = self.v(self.let("load i64, ptr %b"), 64)
        return str((budget + -(self.pending + spent)).ref) if self.pending + spent else str(budget.ref)

    def settle(self, spent: int = 1) -> None:
        """The budget as of behind this instruction."""
        self.put(f"store i64 {self.left(spent)}, ptr %b")

    def leave(self, name: str, pc: V, bud: str) -> None:
        """Terminator: on in function ``name`` of tier 0."""
        self.put(f"store i64 {bud}, ptr %b")
        self.put(f"store i64 {pc.ref}, ptr %x")
        self.leaves.add(name)
        self.goto(f"leave.{name}")

    def tail(self, target: str, rec: str, delta: str | int, bud: str) -> None:
        name = target.removeprefix(f"@{self.isa.name}_")
        if rec != "null" or name not in self.table:
            raise Unsuitable(f"it goes on in {target}")
        self.leave(name, self.v(delta, 64), self.left(0) if bud == "%bud" else bud)

    def exit(self, reason: int, pc: V, bud: str, ctx: int = 0) -> None:
        bud = self.left(0) if bud == "%bud" else bud
        self.write(B.PC, pc & ((1 << self.isa.word) - self.isa.parcel))
        self.write(B.BUDGET, bud)
        self.write(B.CTX, ctx)
        self.write(B.REASON, reason)
        self.put(f"store i64 {bud}, ptr %b")
        self.leaves.add("")
        self.goto("leave.")

    # -- control
    def edge(self, key: Key) -> str:
        """The label that leads to unit ``key``; the budget is settled."""
        self.flow.targets.append(key)
        plain = f"{key[0]}.{key[1]}".replace("-", "m")
        if key not in self.units:
            label = f"X{plain}"
            self.edges[label] = ("exit", key)
        elif key[0] <= self.off and key[1] == 0:
            label = f"K{plain}"
            self.edges[label] = ("back", key)
        else:
            label = f"B{plain}"
        return label

    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        if isinstance(c.ref, int):
            if c.ref:
                self.jump_rel(i, name)
            else:
                self.next()
            return
        self.settle()
        distance = int(getattr(i, name).ref)
        taken = self.edge((self.off + signed(distance, self.word), 0))
        self.fork(c.ref, taken, self.edge((self.off + self.ilen, 0)))

    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        self.flow.jumps = True
        self.settle()
        self.goto(self.edge((self.off + signed(int(getattr(i, name).ref), self.word), 0)))

    def jump(self, target: V, *, poll: bool = False) -> None:
        self.flow.jumps = True
        shape = None if poll else self._shape(target.ref)
        if poll:
            self.leave("poll", target.zext(64), self.left())
        elif isinstance(shape, Relative):
            self.settle()
            self.goto(self.edge((shape.off, 0)))
        elif isinstance(shape, Choice) and isinstance(shape.yes, Relative) and isinstance(shape.no, Relative):
            self.settle()
            self.fork(shape.c, self.edge((shape.yes.off, 0)), self.edge((shape.no.off, 0)))
        elif isinstance(shape, int):
            self.leave("interp_at", target.zext(64), self.left())
        else:
            self._computed(target)

    def _computed(self, target: V) -> None:
        """A jump to an address that the region does not know: compared with those that are likely."""
        self.flow.dynamic = True
        origin = self.flow.origin = self.origins.get(str(target.ref))
        likely = self.returns.get(origin) if origin is not None else None
        if likely is None:
            likely = self.indirect.get((self.off, self.number), [])
        likely = [off for off in likely if (off, 0) in self.units]
        wide = target.zext(64)
        if not likely:
            self.leave("interp_at", wide, self.left())
            return
        self.settle()
        base = self.v(f"%base{self.word}", self.word)
        distance = target - base
        other = self.new_label()
        mask = (1 << self.word) - 1
        rows = " ".join(f"i{self.word} {off & mask}, label %{self.edge((off, 0))}" for off in likely)
        self.end(f"switch i{self.word} {distance.ref}, label %{other} [{rows}]")
        self.label(other)
        self.put(f"store i64 {wide.ref}, ptr %x")
        self.leaves.add("interp_at")
        self.goto("leave.interp_at")

    def next(self) -> None:
        self._onward((self.off + self.ilen, 0))

    def next_in(self, ctx: str) -> None:
        self._onward((self.off + self.ilen, self.isa.contexts.index(ctx)))

    def _onward(self, key: Key) -> None:
        if self._depth:
            self.settle()
            self.goto(self.edge(key))
        elif self.flow.then is None and not self.dead:
            self.flow.then = key
            self._said, self._then_known = len(self.out), dict(self.values)
            self.dead = True

    def poll(self) -> None:
        self.leave("poll", self.next_pc64(), self.left())

    def refetch(self) -> None:
        self.poll()

    def halt(self) -> None:
        self.exit(B.HALTED, self.next_pc64(), self.left())

    def flush_code(self) -> None:
        self.if_(self.stale_code(), lambda: self.exit(B.FLUSH, self.next_pc64(), self.left()))
        self.leave("interp_at", self.next_pc64(), self.left())

    # -- blocks written at the end
    def tails(self) -> None:
        """The edges, deopts and exits that units asked for."""
        for label, (kind, key) in self.edges.items():
            self.label(label)
            plain = f"{key[0]}.{key[1]}".replace("-", "m")
            if kind == "back":
                fine = self._request().eq(0) & self.v(self.let("load i64, ptr %b"), 64).sgt(0)
                out = self.new_label()
                self.fork(str(fine.ref), f"B{plain}", out, likely=True)
                self.label(out)
            self._exit_to("interp_at" if key[1] == 0 else f"dispatch_{key[1]}", key[0])
        for label, (key, pending) in self.deopts.items():
            self.label(label)
            self.pending = pending
            self.settle(0)
            self.put("store i64 1, ptr %d")
            self._exit_to(f"dispatch_{key[1]}", key[0])
        for name in sorted(self.leaves):
            self._leave(name)

    def _exit_to(self, name: str, off: int) -> None:
        self.put(f"store i64 {self.relative64(off).ref}, ptr %x")
        self.leaves.add(name)
        self.goto(f"leave.{name}")

    def _leave(self, name: str) -> None:
        self.label(f"leave.{name}")
        if self.lazy:
            for file, at in sorted(self.written):
                w = 8 * self.isa.layout[file].size
                self.put(f"store i{w} {self.let(f'load i{w}, ptr %v.{file}.{at}')}, ptr %g.{file}.{at}{CPU_SCOPE}")
        budget = self.v(self.let("load i64, ptr %b"), 64)
        spent = self.v("%bud0", 64) - budget
        self.write(B.REGION_INSNS, self.read(B.REGION_INSNS) + spent)
        stat = self.at("@stat", str(self.read(B.STRIPE).ref))
        heat = self.v(self.let(f"load i64, ptr {stat}"), 64) + spent
        self.put(f"store i64 {heat.ref}, ptr {stat}")
        if name.startswith("dispatch_"):
            stat = self.at(stat, 8)
            more = self.v(self.let(f"load i64, ptr {stat}"), 64) + self.v(self.let("load i64, ptr %d"), 64)
            self.put(f"store i64 {more.ref}, ptr {stat}")
        if name:
            address = self.let(f"load ptr, ptr {self.at('%table', 8 * self.table[name])}")
            pc = self.let("load i64, ptr %x")
            self.put(f"musttail call {THREADED} void {address}(ptr %cpu, ptr null, i64 {pc}, i64 {budget.ref})")
        self.end("ret void")


class Unsuitable(Exception):
    """An instruction that a region can't have; the text says why."""


class _Ways:
    """Follows what is known along the ways of an ``if_`` or ``switch``."""

    def __init__(self, e: RegionEmitter) -> None:
        self.e = e
        self.before = dict(e.values)
        self.ends: list[dict[tuple[str, int], V]] = []

    def __enter__(self) -> _Ways:
        self.e._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.e._depth -= 1
        if self.ends:
            self.e.values = _common(self.ends)

    def body(self, f: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            self.e.values = dict(self.before)
            f()
            if not self.e.dead:
                self.ends.append(self.e.values)

        return run


def _common(ways: list[dict[tuple[str, int], V]]) -> dict[tuple[str, int], V]:
    first, *others = ways
    return {k: v for k, v in first.items() if all(k in o and o[k].ref == v.ref for o in others)}


__all__ = ["SLOW", "Flow", "Key", "RegionEmitter", "Unsuitable"]

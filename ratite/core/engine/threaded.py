"""Threaded code: how handlers are shaped, and how an instruction ends in them.

A handler gets (block, record, delta, budget) in registers and ends by jumping to the next record's handler; pc follows
from the record's address and the page's ``delta``. A function that knows only pc has the *direct* form:
(block, null, pc, budget).
"""

from __future__ import annotations

from types import MappingProxyType

from ratite.core.engine import block as B
from ratite.core.engine.ir import CPU_SCOPE, THREADED, IrEmitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.value import V

SIGNATURE = "(ptr %cpu, ptr %rec, i64 %delta, i64 %bud)"
SLOTS = MappingProxyType({"a": 12, "b": 13, "c": 14, "d": 15})


def handler_name(isa: Isa, insn: str, length: int, ctx: int, near: str = "") -> str:
    """Symbol of a handler."""
    clean = "".join(ch if ch.isalnum() else "_" for ch in insn)
    return f"@{isa.name}_h_{clean}_{length}_{ctx}{near}"


class DirectEmitter(IrEmitter):
    """A function of the direct form: pc is its third parameter."""

    @property
    def number(self) -> int:
        """Of the context."""
        return self.isa.contexts.index(self.ctx)

    def begin(self, head: str) -> None:
        self.out.append(f"define {head} {{")
        self.out.append("entry:")

    def finish(self) -> str:
        if self.uses_fp:
            self.out[0] = self.out[0].removesuffix("{") + "strictfp {"
        self.out.append("}")
        return "\n".join(self.out)

    def pc64(self) -> V:
        return self.v("%delta", 64)

    def pc(self) -> V:
        return self.pc64().trunc(self.word)

    def left(self, spent: int = 1) -> str:
        """The budget behind this instruction."""
        return str((self.v("%bud", 64) + -spent).ref) if spent else "%bud"

    def instructions(self) -> V:
        return self.read(B.LIMIT) - self.v("%bud", 64) - self.read(B.TRAPS)

    def tail(self, target: str, rec: str, delta: str | int, bud: str) -> None:
        self.put(f"musttail call {THREADED} void {target}(ptr %cpu, ptr {rec}, i64 {delta}, i64 {bud})")
        self.end("ret void")

    def exit(self, reason: int, pc: V, bud: str, ctx: int = 0) -> None:
        """Terminator: back to the host."""
        self.write(B.PC, pc & ((1 << self.isa.word) - self.isa.parcel))
        self.write(B.BUDGET, bud)
        self.write(B.CTX, ctx)
        self.write(B.REASON, reason)
        self.end("ret void")

    def leave_for_fault(self) -> None:
        self.tail(f"@{self.isa.name}_fault_{self.number}", "null", str(self.pc64().ref), "%bud")

    def look(self, rec: str, side: str, delta: str, bud: str) -> None:
        """Control has come to ``rec``: goes on in its region where there is one, else counts. ``side``: its word."""
        seen = self.v(self.let(f"load i64, ptr {side}"), 64)
        count, region = self.new_label(), self.new_label()
        self.fork(str(seen.ult(B.REGION_ADDRESS).ref), count, region)
        self.label(region)
        self.tail(self.let(f"inttoptr i64 {seen.ref} to ptr"), rec, delta, bud)
        self.label(count)
        # at the limit nothing is stored there: a store under way would undo that of the region's address, every time in a tight
        # loop. How hot the place is from then on is counted elsewhere, where places share counters
        most = self.read(B.HOT_AT)
        up, hot, cold, more_heat = (self.new_label() for _ in range(4))
        self.fork(str(seen.eq(most).ref), more_heat, up)
        self.label(more_heat)
        word = self.v(self.let(f"ptrtoint ptr {side} to i64"), 64)
        slot = (word * B.HEAT_FACTOR) >> 65 - B.HEAT.bit_length()
        heat = self.at(self.at("%cpu", self.shape.heat), str((slot << 2).ref))
        arrivals = self.v(self.let(f"load i32, ptr {heat}{CPU_SCOPE}"), 32)
        self.put(f"store i32 {(arrivals + 1).ref}, ptr {heat}{CPU_SCOPE}")
        self.goto(cold)
        self.label(up)
        more = seen + 1
        self.put(f"store i64 {more.ref}, ptr {side}")
        self.fork(str(more.ne(most).ref), cold, hot, likely=True)
        self.label(hot)
        self.tail(f"@{self.isa.name}_hot", rec, delta, bud)
        self.label(cold)

    def no_code(self, pc: V) -> None:
        """Terminator: a fetch failed, EXC and EXC_ADDR say how. Straight behind a trap entry, in the mode in which no other
        handler can help, that is the end."""
        mark, where = self.read(B.TRAP_MARK), self.read(B.TRAP_PC)
        panic, fault = self.new_label(), self.new_label()
        now = self.read(B.LIMIT) - self.v("%bud", 64)
        last = mark.eq(now) & where.eq(pc)
        if self.isa.mmu_modes:
            last = last & self.read(B.MODE_CODE).eq(0)
        self.fork(str(last.ref), panic, fault)
        self.label(panic)
        self.write(B.EXC, 0)
        self.exit(B.PANICKED, pc, "%bud")
        self.label(fault)
        self.tail(f"@{self.isa.name}_fault_{self.number}", "null", str(pc.ref), "%bud")

    def jump(self, target: V, *, poll: bool = False) -> None:
        self.tail(f"@{self.isa.name}_{'poll' if poll else 'interp_at'}", "null", str(target.zext(64).ref), self.left())

    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        self.jump(self.pc() + getattr(i, name))

    def trap_jump(self, target: V) -> None:
        bud = self.left()
        self.write(B.TRAPS, self.read(B.TRAPS) + 1)
        self.write(B.TRAP_MARK, self.read(B.LIMIT) - self.v(bud, 64))
        self.write(B.TRAP_PC, target.zext(64))
        self.tail(f"@{self.isa.name}_interp_at", "null", str(target.zext(64).ref), bud)

    def routine(self, name: str, *args: V | int) -> None:
        for k, arg in enumerate(args):
            value = self.const(arg) if isinstance(arg, int) else arg
            self.write(B.ARGS + 8 * k, value.zext(64))
        self.tail(f"@{self.isa.name}_r_{name}_{self.number}", "null", str(self.pc64().ref), "%bud")

    def wait(self, ctx: str) -> None:
        self.exit(B.HALTED, self.pc64(), self.left(0), self.isa.contexts.index(ctx))

    def argument(self, k: int) -> V:
        return self.read(B.ARGS + 8 * k).trunc(self.word)

    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        raise AssertionError("a routine must not branch to a neighbour")

    def next_in(self, ctx: str) -> None:
        raise AssertionError("a routine has no next instruction")

    def next(self) -> None:
        raise AssertionError("a routine has no next instruction")

    def poll(self) -> None:
        raise AssertionError("a routine has no next instruction")

    def halt(self) -> None:
        raise AssertionError("a routine has no next instruction")

    def flush_code(self) -> None:
        raise AssertionError("a routine has no next instruction")

    def refetch(self) -> None:
        raise AssertionError("a routine has no next instruction")


class HandlerEmitter(DirectEmitter):
    """A handler: operands come from the record. ``near``: "" or, for a pc-relative jump inside its page, "f" (forward) and
    "b" (backward); the record's imm is then the distance in bytes of records."""

    near = ""
    relative = False  # whether the semantics asked for a pc-relative jump

    def begin(self, head: str) -> None:
        super().begin(head)
        self._head = len(self.out)  # lines of the function's start, where operands are loaded

    def operands(self) -> Operands:
        """Each is loaded where the function starts, whichever path reads it first, so that all paths may use it."""

        def load(name: str) -> V:
            rest, dead = self.out[self._head:], self.dead
            del self.out[self._head:]
            self.dead = False
            value = read(name)
            self._head = len(self.out)
            self.out += rest
            self.dead = dead
            return value

        def read(name: str) -> V:
            slot = self.isa.slot(name)
            if slot == "imm":
                value = self.v(self.let(f"load i32, ptr {self.at('%rec', 8)}"), 32)
                return value.sext(max(self.word, 32)).trunc(self.word)
            return self.v(self.let(f"load i8, ptr {self.at('%rec', SLOTS[slot])}"), 8).zext(32)

        return Operands(load)

    def pc64(self) -> V:
        rec = self.v(self.let("ptrtoint ptr %rec to i64"), 64)
        return (rec >> self.shape.shift) + self.v("%delta", 64)

    def next_pc64(self) -> V:
        return (self.pc64() + self.ilen).trunc(self.word).zext(64)

    def go(self, rec: str, delta: str, bud: str) -> None:
        handler = self.let(f"load ptr, ptr {rec}")
        self.tail(handler, rec, delta, bud)

    def next(self) -> None:
        apart = -self.shape.context_offset(self.number)
        rec = self.at("%rec", (self.ilen << self.shape.shift) + apart)
        self.go(rec, str((self.v("%delta", 64) - (apart >> self.shape.shift)).ref) if apart else "%delta", self.left())

    def _near_jump(self) -> None:
        distance = self.let(f"load i32, ptr {self.at('%rec', 8)}")
        rec = self.at("%rec", self.let(f"sext i32 {distance} to i64"))
        bud = self.left()
        if self.near == "b":
            request = self.v(self.let(f"load volatile i32, ptr {self.at('%cpu', B.EXIT_REQUEST)}"), 32)
            leave = request.ne(0) | self.v(bud, 64).sle(0)
            out, on = self.new_label(), self.new_label()
            self.fork(str((leave ^ 1).ref), on, out, likely=True)
            self.label(out)
            at = self.v(self.let(f"ptrtoint ptr {rec} to i64"), 64) >> self.shape.shift
            self.tail(f"@{self.isa.name}_interp_at", "null", str((at + self.v("%delta", 64)).ref), bud)
            self.label(on)
            self.look(rec, self.side_of(rec), "%delta", bud)
        self.go(rec, "%delta", bud)

    def side_of(self, rec: str) -> str:
        """Where record ``rec`` of the normal context has its word in the side array."""
        at = self.v(self.let(f"ptrtoint ptr {rec} to i64"), 64)
        pc = (at >> self.shape.shift) + self.v("%delta", 64)
        half = (pc & (self.shape.page - 1)) << (self.shape.shift - 1)  # records take twice as much
        return self.at(rec, str((self.const(self.shape.records, 64) - half).ref))

    def jump(self, target: V, *, poll: bool = False) -> None:
        if not poll:
            self._came(target)
        if poll or not self.number:
            super().jump(target, poll=poll)
        else:
            self._jump_from_slot(target)

    def _came(self, target: V) -> None:
        """Says where from: whoever hears that the target became hot learns what leads there."""
        self.write(B.CAME_FROM, self.pc64())
        self.write(B.CAME_TO, target.zext(64))

    def _jump_from_slot(self, target: V) -> None:
        """A delayed branch is taken in its slot: inside the page the record is found without a look at the code TLB. Not so
        from the scratch records, which are in no page."""
        shape, bud = self.shape, self.left()
        pc = self.pc64().trunc(self.word)
        here = self.v(self.let("ptrtoint ptr %rec to i64"), 64)
        scratch = here - self.v(self.let("ptrtoint ptr %cpu to i64"), 64)
        request = self.v(self.let(f"load volatile i32, ptr {self.at('%cpu', B.EXIT_REQUEST)}"), 32)
        inside = ((target ^ pc) & -shape.page).eq(0) & scratch.uge(shape.size) & request.eq(0) & self.v(bud, 64).sgt(0)
        out, on = self.new_label(), self.new_label()
        self.fork(str(inside.ref), on, out)
        self.label(out)
        self.tail(f"@{self.isa.name}_interp_at", "null", str(target.zext(64).ref), bud)
        self.label(on)
        apart = -shape.context_offset(self.number)
        offset = (target & (shape.page - self.isa.parcel)).zext(64)
        start = here - ((pc & (shape.page - 1)).zext(64) << shape.shift) + apart
        rec = self.let(f"inttoptr i64 {(start + (offset << shape.shift)).ref} to ptr")
        side = self.let(f"inttoptr i64 {(start + shape.records + (offset << (shape.shift - 1))).ref} to ptr")
        delta = str((self.v("%delta", 64) - (apart >> shape.shift)).ref)
        self.look(rec, side, delta, bud)
        self.go(rec, delta, bud)

    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        self.relative = True
        if self.near:
            self._near_jump()
        else:
            super().jump(self.pc() + getattr(i, name))

    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        if isinstance(c.ref, int):
            if c.ref:
                self.jump_rel(i, name)
            else:
                self.next()
            return
        yes, no = self.new_label(), self.new_label()
        self.fork(c.ref, yes, no)
        self.label(no)
        self.next()
        self.label(yes)
        self.jump_rel(i, name)

    def next_in(self, ctx: str) -> None:
        number = self.isa.contexts.index(ctx)
        apart = self.shape.context_offset(number) - self.shape.context_offset(self.number)
        bud = self.left()
        out, on = self.new_label(), self.new_label()
        self.fork(str(self.v(bud, 64).sgt(0).ref), on, out, likely=True)
        self.label(out)
        self.exit(B.OUT_OF_BUDGET, self.next_pc64(), bud, number)
        self.label(on)
        rec = self.at("%rec", (self.ilen << self.shape.shift) + apart)
        delta = self.v("%delta", 64) - (apart >> self.shape.shift)
        self.go(rec, str(delta.ref), bud)

    def poll(self) -> None:
        self.tail(f"@{self.isa.name}_poll", "null", str(self.next_pc64().ref), self.left())

    def refetch(self) -> None:
        self.poll()

    def halt(self) -> None:
        self.exit(B.HALTED, self.next_pc64(), self.left())

    def flush_code(self) -> None:
        self.if_(self.stale_code(), lambda: self.exit(B.FLUSH, self.next_pc64(), self.left()))
        self.tail(f"@{self.isa.name}_interp_at", "null", str(self.next_pc64().ref), self.left())

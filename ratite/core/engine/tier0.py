"""Tier 0: a threaded interpreter written by LLVM from the ISA's declarations.

Guest code is decoded once into records of 16 bytes (handler, operands), one array per page and execution context; a
handler ends by jumping to the next record's handler. pc is not kept: it follows from the record's address and a
page's ``delta``. Handlers live in registers: (block, record, delta, budget). A handler that knows only pc runs in
*direct* form: (block, null, pc, budget).

    run ──> poll ──> interp_at ──> dispatch ──> decode ──> handler ──> handler ──> …
              ^  interrupts   │ budget, requests            │ jumps
              └───────────────┴────────────────────────────┘

Every taken backward branch and every jump looks at the budget and at the exit request.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import product

from ratite.core.engine import block as B
from ratite.core.engine.decoder import decode_functions
from ratite.core.engine.ir import CPU_SCOPE, METADATA, SLOW, THREADED
from ratite.core.engine.slowpath import slow_paths
from ratite.core.engine.threaded import SIGNATURE, DirectEmitter, HandlerEmitter, handler_name
from ratite.core.isa.emitter import EXECUTE
from ratite.core.isa.isa import Insn, Isa
from ratite.core.isa.value import V


class Tier0:
    """Writes the LLVM module of ``isa``'s interpreter; ``fma`` as for ``Shape``."""

    def __init__(self, isa: Isa, fma: bool | None = None) -> None:
        self.isa = isa
        self.shape = B.Shape(isa, fma)
        self.functions: list[str] = []
        self.declarations: set[str] = set()
        self.near: set[tuple[str, int, int]] = set()  # (insn, length, context) with near variants

    def text(self) -> str:
        """The module. Symbols: run, step, decode_K and edge_K handlers (K: context), each prefixed with the ISA's name."""
        isa = self.isa
        for number, ctx in enumerate(isa.contexts):
            self._handlers(number, ctx)
            self._routines(number, ctx)
            self._dispatch(number, ctx)
        for e in decode_functions(isa, self.shape, self.near):
            self._keep(e)
        self._interp_at()
        self._hot()
        self._poll()
        self._step()
        self._wake()
        self._entry()
        for text, intrinsics in slow_paths(isa, self.shape):
            self.functions.append(text)
            self.declarations |= intrinsics
        return "\n".join([*sorted(self.declarations), *self.functions, self._table(), METADATA])

    def _table(self) -> str:
        """The functions that regions may go on in or call, and their names, as data: a region has no symbols of ours."""
        found = re.findall(rf"^define .*?@{re.escape(self.isa.name)}_(\w+)\(", "\n".join(self.functions), re.MULTILINE)
        kinds = ("h_", "fetch_", "decode_", "place_", "cross_", "edge_", "step_", "run", "step", "wake", "hot")
        names = sorted(name for name in found if not name.startswith(kinds))
        rows = ", ".join(f"ptr @{self.isa.name}_{name}" for name in names)
        text = " ".join(names) + "\\00"
        size = len(text) - 2
        return (f"@{self.isa.name}_table = hidden constant [{len(names)} x ptr] [{rows}]\n"
                f'@{self.isa.name}_names = hidden constant [{size} x i8] c"{text}"')

    def _keep(self, e: DirectEmitter) -> None:
        self.functions.append(e.finish())
        self.declarations |= e.intrinsics

    # -- handlers
    def _handlers(self, number: int, ctx: str) -> None:
        done: set[tuple[str, int]] = set()
        for insn in self.isa.insns:
            key = (insn.like, insn.length)
            if ctx in insn.contexts and key not in done:
                done.add(key)
                relative = self._handler(insn, number, ctx, "")
                if relative and number == 0:
                    self.near.add((*key, number))
                    self._handler(insn, number, ctx, "f")
                    self._handler(insn, number, ctx, "b")
        for length in sorted({self.isa.default_length, *(n for _, _, n in self.isa.lengths)}):
            self._illegal(length, number, ctx)

    def _handler(self, insn: Insn, number: int, ctx: str, near: str) -> bool:
        e = HandlerEmitter(self.isa, self.shape, ctx, insn.length)
        e.near = near
        e.begin(f"internal {THREADED} void {handler_name(self.isa, insn.like, insn.length, number, near)}{SIGNATURE}")
        insn.semantics(e, e.operands())
        if not e.dead:
            if ctx:
                raise AssertionError(f"{insn.name}: in context {ctx!r} an instruction must say how it ends")
            e.next()
        self._keep(e)
        return e.relative

    def _illegal(self, length: int, number: int, ctx: str) -> None:
        e = HandlerEmitter(self.isa, self.shape, ctx, length)
        e.begin(f"internal {THREADED} void {handler_name(self.isa, 'illegal', length, number)}{SIGNATURE}")
        word = e.v(e.let(f"load i32, ptr {e.at('%rec', 8)}"), 32)
        self.isa.routines["illegal"](e, word.zext(self.isa.word))
        self._keep(e)

    # -- routines
    def _routines(self, number: int, ctx: str) -> None:
        for name, semantics in self.isa.routines.items():
            if name in ("interrupt", "wake", "illegal", "modes", "translate"):
                continue
            e = DirectEmitter(self.isa, self.shape, ctx)
            e.begin(f"internal {THREADED} void @{self.isa.name}_r_{name}_{number}{SIGNATURE} noinline")
            count = semantics.__code__.co_argcount - 1
            semantics(e, *(e.argument(k) for k in range(count)))
            self._keep(e)
        e = DirectEmitter(self.isa, self.shape, ctx)
        e.begin(f"internal {THREADED} void @{self.isa.name}_fault_{number}{SIGNATURE} noinline")
        kind, addr = e.read(B.EXC), e.read(B.EXC_ADDR)
        e.write(B.EXC, 0)
        e.routine("fault", kind.trunc(self.isa.word), addr.trunc(self.isa.word))
        self._keep(e)

    # -- getting to a record
    def _lookup(self, e: DirectEmitter, pc: V, single: str = "") -> str:
        """The records of the page at ``pc``, made on demand; leaves for the fault routine where there is nothing, or, where
        the mapping is smaller than the page, for ``single`` (a function)."""
        page = pc & -self.shape.page
        index = (pc >> self.isa.page_bits) & (B.CODE_TLB_ENTRIES - 1)
        base = e.at("%cpu", self.shape.code_tlb)
        if self.isa.mmu_modes:
            base = e.let(f"load ptr, ptr {e.at('%cpu', B.TLB_CODE)}{CPU_SCOPE}")
        entry = e.at(base, str((index * B.CODE_TLB_ENTRY).ref))
        tag = e.v(e.let(f"load i64, ptr {entry}{CPU_SCOPE}"), 64)
        hit, miss, join, none = (e.new_label() for _ in range(4))
        e.fork(str(tag.eq(page).ref), hit, miss, likely=True)
        e.label(miss)
        made = e.let(f"call {SLOW} i64 @{self.isa.name}_records(ptr %cpu, i64 {pc.ref})")
        e.fork(e.let(f"icmp eq i64 {made}, 0"), none, f"{join}m")
        e.label(none)
        e.no_code(pc)
        e.label(f"{join}m")
        if single and self.isa.smallest_page < self.isa.page_bits:
            small, large = e.new_label(), e.new_label()
            e.fork(str(e.read(B.MAP_BITS).ult(self.isa.page_bits).ref), small, large)
            e.label(small)
            e.tail(single, "null", str(pc.ref), "%bud")
            e.label(large)
        end = e.here
        e.goto(join)
        e.label(hit)
        known = e.let(f"load i64, ptr {e.at(entry, 8)}{CPU_SCOPE}")
        e.goto(join)
        e.label(join)
        return e.let(f"phi i64 [{made}, %{end}], [{known}, %{hit}]")

    def masked_pc(self, e: DirectEmitter) -> V:
        return e.v("%delta", 64) & ((1 << self.isa.word) - self.isa.parcel)

    def _dispatch(self, number: int, ctx: str) -> None:
        e = DirectEmitter(self.isa, self.shape, ctx)
        e.begin(f"internal {THREADED} void @{self.isa.name}_dispatch_{number}{SIGNATURE}")
        self._go_to_record(e, number)
        self._keep(e)
        e = HandlerEmitter(self.isa, self.shape, ctx)
        e.begin(f"hidden {THREADED} void @{self.isa.name}_edge_{number}{SIGNATURE}")
        target = "interp_at" if number == 0 else f"dispatch_{number}"
        pc = e.pc64().trunc(self.isa.word).zext(64)
        e.tail(f"@{self.isa.name}_{target}", "null", str(pc.ref), "%bud")
        self._keep(e)

    def _go_to_record(self, e: DirectEmitter, number: int, *, look: bool = False) -> None:
        pc = self.masked_pc(e)
        base = self._lookup(e, pc, f"@{self.isa.name}_single_{number}")
        offset = (pc & (self.shape.page - 1)) << self.shape.shift
        at = e.v(base, 64) + self.shape.context_offset(number) + offset
        delta = pc - (at >> self.shape.shift)
        rec = e.let(f"inttoptr i64 {at.ref} to ptr")
        if look:
            side = e.v(base, 64) + self.shape.records + (offset >> 1)
            e.look(rec, e.let(f"inttoptr i64 {side.ref} to ptr"), str(delta.ref), "%bud")
        handler = e.let(f"load ptr, ptr {rec}")
        e.tail(handler, rec, str(delta.ref), "%bud")

    def _interp_at(self) -> None:
        e = DirectEmitter(self.isa, self.shape)
        e.begin(f"internal {THREADED} void @{self.isa.name}_interp_at{SIGNATURE}")
        request = e.v(e.let(f"load volatile i32, ptr {e.at('%cpu', B.EXIT_REQUEST)}"), 32)
        stop, on = e.new_label(), e.new_label()
        e.fork(str(((request.ne(0) | e.v("%bud", 64).sle(0)) ^ 1).ref), on, stop, likely=True)
        e.label(stop)
        e.tail(f"@{self.isa.name}_poll", "null", "%delta", "%bud")
        e.label(on)
        self._go_to_record(e, 0, look=True)
        self._keep(e)

    def _hot(self) -> None:
        """A place became hot: the host is told, and if it has a region at once, that is gone on in."""
        e = HandlerEmitter(self.isa, self.shape)
        e.begin(f"internal {THREADED} void @{self.isa.name}_hot{SIGNATURE} noinline cold")
        function = e.let(f"load ptr, ptr {e.at('%cpu', B.ON_HOT)}")
        pc = e.pc64()
        e.fp_outside()
        e.put(f"call void {function}(ptr %cpu, ptr %rec, i64 {pc.ref})")
        e.fp_inside()
        side = e.side_of("%rec")
        seen = e.v(e.let(f"load i64, ptr {side}"), 64)
        region, none = e.new_label(), e.new_label()
        e.fork(str(seen.ult(B.REGION_ADDRESS).ref), none, region)
        e.label(region)
        e.tail(e.let(f"inttoptr i64 {seen.ref} to ptr"), "%rec", "%delta", "%bud")
        e.label(none)
        e.go("%rec", "%delta", "%bud")
        self._keep(e)

    def _poll(self) -> None:
        """Requests, budget and interrupts, then on at pc."""
        e = DirectEmitter(self.isa, self.shape)
        e.begin(f"internal {THREADED} void @{self.isa.name}_poll{SIGNATURE} noinline")
        pc = e.pc64()
        for byte, reason in ((B.LEAVE, B.KICKED), (B.SERVICE, B.SERVED)):
            flag = e.v(e.let(f"load volatile i8, ptr {e.at('%cpu', B.EXIT_REQUEST + byte)}"), 8)
            e.if_(flag.ne(0), partial(e.exit, reason, pc, "%bud"))
        e.if_(e.v("%bud", 64).sle(0), partial(e.exit, B.OUT_OF_BUDGET, pc, "%bud"))
        # the exchange is a full fence: lines are read after the request is taken, as their writer set them before it
        e.let(f"atomicrmw xchg ptr {e.at('%cpu', B.EXIT_REQUEST + B.LOOK)}, i8 0 seq_cst")
        self.isa.routines["interrupt"](e)
        if not e.dead:
            e.tail(f"@{self.isa.name}_dispatch_0", "null", "%delta", "%bud")
        self._keep(e)

    def _step(self) -> None:
        """One instruction, decoded into the scratch records: edges behind it end the step. ``single``: the same for code in
        mappings smaller than a page, where the page's records would lead on into what is mapped otherwise or not at all."""
        names = ("step", "single") if self.isa.smallest_page < self.isa.page_bits else ("step",)
        for (number, ctx), name in product(enumerate(self.isa.contexts), names):
            e = DirectEmitter(self.isa, self.shape, ctx)
            e.begin(f"internal {THREADED} void @{self.isa.name}_{name}_{number}{SIGNATURE} noinline")
            if number == 0 and name == "step":
                self.isa.routines["interrupt"](e)
            if not e.dead:
                pc = self.masked_pc(e)
                base = self._lookup(e, pc)
                host = e.let(f"inttoptr i64 {(e.v(base, 64) - B.PAGE_HEADER).ref} to ptr")
                scratch = e.at("%cpu", self.shape.scratch + self.shape.context_offset(number))
                place = str(pc.ref)
                if len(names) > 1:  # the offset in the page is the physical address', then
                    place = e.let(f"call i64 @{self.isa.name}_translate(ptr %cpu, i64 {place}, i64 {EXECUTE}, "
                                  f"i64 {e.read(B.MODE_CODE).ref})")
                e.put(f"call void @{self.isa.name}_fetch_{number}(ptr %cpu, ptr {host}, ptr {scratch}, "
                      f"i64 {place}, i1 false)")
                at = e.v(e.let(f"ptrtoint ptr {scratch} to i64"), 64)
                handler = e.let(f"load ptr, ptr {scratch}")
                e.tail(handler, scratch, str((pc - (at >> self.shape.shift)).ref), "%bud")
            self._keep(e)

    def _wake(self) -> None:
        e = DirectEmitter(self.isa, self.shape)
        e.begin(f"hidden i64 @{self.isa.name}_wake(ptr %cpu)")
        value = self.isa.routines["wake"](e)
        assert isinstance(value, V)
        e.end(f"ret i64 {value.zext(64).ref}")
        self._keep(e)

    def _entry(self) -> None:
        for name, first in (("run", "poll"), ("step", "step_0")):
            e = DirectEmitter(self.isa, self.shape)
            e.begin(f"hidden void @{self.isa.name}_{name}(ptr %cpu)")
            e.modes_changed()  # registers may have been set from outside
            e.fp_enter()
            pc, bud, ctx = e.read(B.PC), e.read(B.BUDGET), e.read(B.CTX)
            for number in range(len(self.isa.contexts)):
                target = first if number == 0 else f"{'dispatch' if name == 'run' else 'step'}_{number}"
                this, other = e.new_label(), e.new_label()
                e.fork(str(ctx.eq(number).ref), this, other)
                e.label(this)
                e.put(f"call {THREADED} void @{self.isa.name}_{target}(ptr %cpu, ptr null, i64 {pc.ref}, i64 {bud.ref})")
                e.fp_leave()
                e.end("ret void")
                e.label(other)
            e.fp_leave()
            e.end("ret void")
            self._keep(e)

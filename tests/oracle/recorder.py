"""Single steps of a native CPU in native code, each with a record of what it left: pc, context, traps and the whole state.

    cpu.record(100) ─> NativeVcpu enters ─> loop: step(block), copy ─> view of 100 records, compared one by one
"""

from __future__ import annotations

import ctypes

from ratite.core.accel.base import Exit
from ratite.core.engine import block as B
from ratite.core.engine.compiler import compile_text
from ratite.core.engine.elf import LoadedObject
from ratite.core.engine.vcpu import NativeVcpu
from tests.oracle.written import HEAD

MOST = 64  # records of a call

# A budget of one for each step, with LIMIT moved along, so that what has been executed can be told from both at any time. It
# ends where the host is wanted: at an exit that is not the budget's, or a request.
_TEXT = """
define i64 @record(ptr %cpu, ptr %step, ptr %out, ptr %copy) {{
entry:
  %limit_at = getelementptr i8, ptr %cpu, i64 {limit}
  %budget_at = getelementptr i8, ptr %cpu, i64 {budget}
  %request_at = getelementptr i8, ptr %cpu, i64 {request}
  %look_at = getelementptr i8, ptr %request_at, i64 {look}
  %reason_at = getelementptr i8, ptr %cpu, i64 {reason}
  %pc_at = getelementptr i8, ptr %cpu, i64 {pc}
  %ctx_at = getelementptr i8, ptr %cpu, i64 {ctx}
  %traps_at = getelementptr i8, ptr %cpu, i64 {traps}
  %limit = load i64, ptr %limit_at
  %budget = load i64, ptr %budget_at
  %start = sub i64 %limit, %budget
  br label %loop
loop:
  %done = phi i64 [0, %entry], [%after, %again]
  store i8 0, ptr %look_at
  %now = add i64 %start, %done
  %next = add i64 %now, 1
  store i64 %next, ptr %limit_at
  store i64 1, ptr %budget_at
  call void %step(ptr %cpu)
  %left = load i64, ptr %budget_at
  %spent = sub i64 1, %left
  %after = add i64 %done, %spent
  %stepped = icmp eq i64 %spent, 1
  br i1 %stepped, label %keep, label %over
keep:
  %at = mul i64 %done, {size}
  %row = getelementptr i8, ptr %out, i64 %at
  %pc = load i64, ptr %pc_at
  store i64 %pc, ptr %row
  %ctx = load i64, ptr %ctx_at
  %row_ctx = getelementptr i8, ptr %row, i64 8
  store i64 %ctx, ptr %row_ctx
  %traps = load i64, ptr %traps_at
  %row_traps = getelementptr i8, ptr %row, i64 16
  store i64 %traps, ptr %row_traps
  %row_state = getelementptr i8, ptr %row, i64 24
  call ptr %copy(ptr %row_state, ptr %cpu, i64 {state})
{spare}
  %reason = load i64, ptr %reason_at
  %budgets = icmp eq i64 %reason, {out_of_budget}
  %request = load i32, ptr %request_at
  %quiet = icmp eq i32 %request, 0
  %more = icmp slt i64 %after, %budget
  %fine = and i1 %budgets, %quiet
  %on = and i1 %fine, %more
  br i1 %on, label %again, label %over
again:
  br label %loop
over:
  store i64 %limit, ptr %limit_at
  %rest = sub i64 %budget, %after
  store i64 %rest, ptr %budget_at
  ret i64 %after
}}
"""


class Recorder:
    """Of ``cpu``; there is one at a time."""

    def __init__(self, cpu: NativeVcpu) -> None:
        self.cpu = cpu
        layout = cpu.isa.layout
        self.size = HEAD + layout.size
        # what is written to an element 0 that reads 0 goes to one behind the others, which means nothing
        spare = [f"  %s{k} = getelementptr i8, ptr %row_state, i64 {f.offset + f.size * f.count}\n"
                 f"  store i{8 * f.size} 0, ptr %s{k}" for k, f in enumerate(layout) if f.zero]
        self._object = LoadedObject(compile_text(_TEXT.format(
            limit=B.LIMIT, budget=B.BUDGET, request=B.EXIT_REQUEST, look=B.LOOK, reason=B.REASON, pc=B.PC, ctx=B.CTX,
            traps=B.TRAPS, size=self.size, state=layout.size, out_of_budget=B.OUT_OF_BUDGET, spare="\n".join(spare))))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_void_p] * 4)(self._object.symbols["record"])
        self._buffer = ctypes.create_string_buffer(self.size * MOST)
        self._out = ctypes.addressof(self._buffer)
        self._step = ctypes.cast(cpu.native.step, ctypes.c_void_p).value or 0
        self._copy = ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value or 0
        self.view = memoryview(self._buffer).cast("B")

    def _enter(self, pointer: int) -> None:
        self._call(pointer, self._step, self._out, self._copy)

    def run(self, count: int) -> tuple[int, str]:
        """Up to ``count`` (at most MOST) instructions and traps: (how many, the kind of exit); their records: ``view``."""
        ended = self.cpu._once(self._enter, min(count, MOST))
        return self.cpu._spent, ended.kind if ended is not None else Exit.BUDGET

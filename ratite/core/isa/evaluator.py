"""The reference executor: semantics evaluated at once, in Python. Slow and plain; the judge of every native tier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from ratite.core.isa import softfloat
from ratite.core.isa.emitter import (
    AMO,
    EXECUTE,
    FETCH_FAULT,
    LOAD_FAULT,
    LOAD_MISALIGNED,
    READ,
    STORE_FAULT,
    STORE_MISALIGNED,
    WRITE,
    Emitter,
)
from ratite.core.isa.fp import FORMATS, FP_OPS, RNE, RUP, FpContext
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.core.isa.value import signed as signed_value

_KEPT = 1 << 14  # decoded instructions an evaluator keeps


class MemoryFault(Exception):
    """An access that nothing answers; raised by an ``EvalMemory``."""


class EvalMemory(Protocol):
    """The evaluator's memory. Addresses are physical; byte order is the CPU's. ``load``, ``store`` and ``fetch`` raise
    MemoryFault. ``reserve`` reserves RAM and gives a token, ``reserved`` tells whether nothing was stored there since, once.
    ``clock``: nanoseconds of the machine's time; ``notify`` and ``ask``: see ``CpuPort``."""

    def load(self, addr: int, size: int) -> int: ...
    def store(self, addr: int, size: int, value: int) -> None: ...
    def fetch(self, addr: int, size: int) -> bytes: ...
    def is_ram(self, addr: int, size: int, for_write: bool) -> bool: ...
    def reserve(self, addr: int) -> int: ...
    def reserved(self, addr: int, token: int) -> bool: ...
    def clock(self) -> int: ...
    def notify(self, number: int, value: int) -> None: ...
    def ask(self, number: int, value: int) -> int: ...


class _Failed(Exception):
    """An access failed; ``kind`` of the fault, ``addr`` where it isn't the access' own."""

    def __init__(self, kind: int, addr: int | None = None) -> None:
        super().__init__(kind, addr)
        self.kind = kind
        self.addr = addr


class _Mapped(Exception):
    """The routine ``translate`` ended: a physical address."""

    def __init__(self, phys: int) -> None:
        super().__init__(phys)
        self.phys = phys


class _Answer(Exception):
    """A function ended."""

    def __init__(self, value: V) -> None:
        super().__init__(value)
        self.value = value


class _End(Exception):
    """The instruction is over (a terminator ran)."""



class Evaluator(Emitter):
    """One CPU of ``isa``. ``step`` executes one instruction or takes one trap. State fields are in ``state`` (lists of ints,
    unsigned); ``pc_value``, ``context``, ``executed`` (instructions), ``traps`` and ``irq_lines`` beside them."""

    #: outcomes of a step
    RAN, HALTED, PANIC = "ran", "halt", "panic"

    def __init__(self, isa: Isa, memory: EvalMemory) -> None:
        self.isa = isa
        self.word = isa.word
        self.memory = memory
        self.mask = (1 << isa.word) - 1
        self.fields: dict[str, StateField] = {f.name: f for f in isa.layout}
        self.state: dict[str, list[int]] = {f.name: [f.reset] * f.count for f in isa.layout}
        self.pc_value = 0
        self.ctx = ""
        self.ilen = 0
        self.executed = 0
        self.traps = 0
        self.irq_lines = 0
        self.reservation: tuple[int, int, int, int, int] | None = None  # virtual, physical address, size, value, token
        self.panic_info: tuple[int, int] = (0, 0)  # kind, address of the fetch that had no way on
        self._prepared: dict[tuple[str, bytes], tuple[Callable[..., object], object]] = {}
        self._ask = True  # interrupts may have become deliverable
        self._next = 0
        self._next_ctx = ""
        self._retired = True
        self._halted = False
        self.trapped = False  # nothing was executed since the last trap entry

    # -- running
    def step(self) -> str:
        """One instruction, trap or interrupt; RAN, HALTED or PANIC."""
        self._halted, self._retired = False, True
        self._next_ctx = ""
        try:
            if not self.ctx and self._interrupted():
                return self.RAN
            raw = self._fetch()
            if not raw:
                return self.PANIC
            prepared = self._prepared.get((self.ctx, raw)) or self._prepare(raw)
            semantics, operand = prepared
            self.ilen = len(raw)
            self._next = (self.pc_value + self.ilen) & self.mask
            semantics(self, operand)
        except _End:
            pass
        return self._finish()

    def _interrupted(self) -> bool:
        """Whether an interrupt was taken. The ISA is not asked while no line is set and nothing polled."""
        if not self.irq_lines and not self._ask:
            return False
        self._ask = bool(self.irq_lines)  # a line that falls may be one's cause, so it is looked at once more
        self._next = self.pc_value
        try:
            self.isa.routines["interrupt"](self)
        except _End:
            self._finish()
            return True
        return False

    def _fetch(self) -> bytes:
        """The instruction's bytes; raises _End when the fetch trapped; none at all is a panic: the handler of a trap can't
        be fetched in mode 0, in which no other handler can help."""
        addr, n = self.pc_value, self.isa.parcel
        try:
            raw = self._parcel(addr)
            length = self.isa.length_of(int.from_bytes(raw, "big" if self.isa.big_endian else "little"))
            while len(raw) < length:
                addr = (self.pc_value + len(raw)) & self.mask
                raw += self._parcel(addr)
            assert len(raw) % n == 0
            return raw
        except _Failed as failure:
            if not self.trapped or self._modes()[1]:
                self._fault(failure.kind, addr)
            self.panic_info = (failure.kind, addr)
            return b""

    def _parcel(self, addr: int) -> bytes:
        try:
            return self.memory.fetch(self._translate(addr, EXECUTE), self.isa.parcel)
        except MemoryFault:
            raise _Failed(FETCH_FAULT) from None

    def _prepare(self, raw: bytes) -> tuple[Callable[..., object], object]:
        """Semantics and what they are called with, kept by the instruction's bytes."""
        word, length = self.isa.word_at(raw)
        found = self.isa.decode(word, length, self.ctx)
        prepared: tuple[Callable[..., object], object]
        if found is None:
            prepared = (self.isa.routines["illegal"], V(self, word, self.word))
        else:
            insn, values = found
            known = {name: V(self, v, self.word if self.isa.slot(name) == "imm" else 32) for name, v in values.items()}
            prepared = (insn.semantics, Operands(known.__getitem__))
        if len(self._prepared) >= _KEPT:
            self._prepared.clear()
        self._prepared[self.ctx, raw] = prepared
        return prepared

    def _finish(self) -> str:
        self.pc_value = self._next & -self.isa.parcel
        self.ctx = self._next_ctx
        if self._retired:
            self.executed += 1
            self.trapped = False
        return self.HALTED if self._halted else self.RAN

    def _end(self) -> NoReturn:
        raise _End  # a new one each time: a kept one would keep every traceback

    def changed(self) -> None:
        """State was set from outside."""
        self._ask = True

    def wakes(self) -> bool:
        """The ISA's wake predicate."""
        value = self.isa.routines["wake"](self)
        assert isinstance(value, V)
        return bool(value.ref)

    # -- V: everything is known here
    def emit_binary(self, op: str, a: int | str, b: int | str, width: int) -> V:
        raise AssertionError("a value is not known to the evaluator")

    def emit_compare(self, pred: str, a: int | str, b: int | str, width: int) -> V:
        raise AssertionError("a value is not known to the evaluator")

    def emit_cast(self, op: str, a: str, source: int, width: int) -> V:
        raise AssertionError("a value is not known to the evaluator")

    def emit_unary(self, op: str, a: str, width: int) -> V:
        raise AssertionError("a value is not known to the evaluator")

    def emit_select(self, c: str, a: V, b: V) -> V:
        raise AssertionError("a value is not known to the evaluator")

    def find(self, count: int, test: Callable[[V], V]) -> V:
        return V(self, next((k for k in range(count) if test(V(self, k, 32)).ref), count), 32)

    # -- state
    def pc(self) -> V:
        return V(self, self.pc_value, self.word)

    def next_pc(self) -> V:
        return V(self, (self.pc_value + self.ilen) & self.mask, self.word)

    def reg(self, file: str, index: V | int) -> V:
        at = index if isinstance(index, int) else int(index.ref)
        return V(self, self.state[file][at], self.fields[file].width)

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        at = index if isinstance(index, int) else int(index.ref)
        field = self.fields[file]
        if value.width != field.width:
            raise TypeError(f"{file} takes i{field.width}, not i{value.width}")
        if at or not field.zero:
            self.state[file][at] = int(value.ref)

    def get(self, name: str) -> V:
        if name == "irq_lines":
            return V(self, self.irq_lines, 64)
        return V(self, self.state[name][0], self.fields[name].width)

    def set(self, name: str, value: V | int) -> None:
        field = self.fields[name]
        if isinstance(value, int):
            value &= (1 << field.width) - 1
        elif value.width != field.width:
            raise TypeError(f"{name} takes i{field.width}, not i{value.width}")
        self.state[name][0] = value if isinstance(value, int) else int(value.ref)

    def instructions(self) -> V:
        return V(self, self.executed & (1 << 64) - 1, 64)

    # -- memory
    def _fault(self, kind: int, addr: int) -> NoReturn:
        self.isa.routines["fault"](self, self.const(kind), self.const(addr))
        raise AssertionError("the routine 'fault' must end in a terminator")

    def _failed(self, failure: _Failed, addr: int, otherwise: Callable[[V], V | None] | None) -> V:
        if otherwise is None:
            self._fault(failure.kind, addr if failure.addr is None else failure.addr)
        value = otherwise(self.const(failure.kind))
        assert value is not None, "otherwise must end the instruction or give the value"
        return value

    def _aligned(self, addr: int, size: int, kind: int, atomic: bool = False) -> None:
        if addr & (size - 1) and (atomic or self.isa.misaligned == "fault"):
            raise _Failed(kind)

    def _in_ram(self, addr: int, size: int, kind: int) -> None:
        if not self.memory.is_ram(addr, size, kind == STORE_FAULT):
            raise _Failed(kind)

    def _modes(self) -> tuple[int, int]:
        """The modes of data accesses and of fetches."""
        if not self.isa.mmu_modes:
            return 0, 0
        data, fetch = self.isa.modes(self)
        return int(data.ref), int(fetch.ref)

    def _translate(self, addr: int, access: int) -> int:
        """The physical address; raises _Failed."""
        if not self.isa.mmu_modes:
            return addr
        return self._walk(addr, access, self._modes()[access == EXECUTE])

    def _walk(self, addr: int, access: int, mode: int) -> int:
        """The physical address in ``mode``; raises _Failed."""
        try:
            self.isa.routines["translate"](self, self.const(addr), self.const(access), self.const(mode))
        except _Mapped as found:
            return found.phys
        raise AssertionError("the routine 'translate' must end in mapped or unmapped")

    def physical(self, addr: int, access: int) -> int | None:
        """The physical address that an access of this kind (READ, WRITE, EXECUTE) would go to; None where it would fail."""
        try:
            return self._translate(addr & self.mask, access)
        except _Failed:
            return None

    def _pieces(self, addr: int, size: int, access: int) -> list[tuple[int, int, int]]:
        """(physical address, bytes, address of a fault) of an access: one piece, or bytes where a translated one leaves its
        page."""
        if not self.isa.mmu_modes:
            return [(addr, size, addr)]
        page = 1 << self.isa.page_bits
        inside = page - addr % page
        first = self._translate(addr, access)
        if size <= inside:
            return [(first, size, addr)]
        second = (addr + inside) & self.mask
        try:
            other = self._translate(second, access)
        except _Failed as failure:
            raise _Failed(failure.kind, second) from None
        return [(first + k, 1, addr) if k < inside else (other + k - inside, 1, second) for k in range(size)]

    def _read(self, phys: int, size: int, kind: int = LOAD_FAULT, told: int | None = None) -> int:
        try:
            return self.memory.load(phys, size)
        except MemoryFault:
            raise _Failed(kind, told) from None

    def _write(self, phys: int, size: int, value: int, told: int | None = None) -> None:
        try:
            self.memory.store(phys, size, value)
        except MemoryFault:
            raise _Failed(STORE_FAULT, told) from None

    def _shifts(self, size: int, pieces: list[tuple[int, int, int]]) -> list[int]:
        """Where each piece stands in the value."""
        if len(pieces) == 1:
            return [0]
        return [8 * (size - 1 - k if self.isa.big_endian else k) for k in range(size)]

    def load(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        at = int(addr.ref)
        try:
            self._aligned(at, size, LOAD_MISALIGNED)
            pieces = self._pieces(at, size, READ)
            shifts = self._shifts(size, pieces)
            value = 0
            for (phys, n, told), shift in zip(pieces, shifts, strict=True):
                value |= self._read(phys, n, LOAD_FAULT, told) << shift
            return V(self, value, 8 * size)
        except _Failed as failure:
            return self._failed(failure, at, otherwise)

    def store(self, addr: V, value: V, otherwise: Callable[[V], object] | None = None) -> None:
        at, size = int(addr.ref), value.width // 8
        try:
            self._aligned(at, size, STORE_MISALIGNED)
            pieces = self._pieces(at, size, WRITE)
            for (phys, n, told), shift in zip(pieces, self._shifts(size, pieces), strict=True):
                self._write(phys, n, int(value.ref) >> shift & (1 << 8 * n) - 1, told)
        except _Failed as failure:
            if otherwise is None:
                self._fault(failure.kind, at if failure.addr is None else failure.addr)
            otherwise(self.const(failure.kind))

    def load_reserved(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        at = int(addr.ref)
        try:
            self._aligned(at, size, LOAD_MISALIGNED, atomic=True)
            phys = self._translate(at, READ)
            self._in_ram(phys, size, LOAD_FAULT)
            token = self.memory.reserve(phys)
            value = self._read(phys, size)
        except _Failed as failure:
            return self._failed(failure, at, otherwise)
        self.reservation = (at, phys, size, value, token)
        return V(self, value, 8 * size)

    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        at, size = int(addr.ref), value.width // 8
        try:
            self._aligned(at, size, STORE_MISALIGNED, atomic=True)
            held, self.reservation = self.reservation, None
            if held is None or (held[0], held[2]) != (at, size):
                return V(self, 0, 1)
            phys = self._translate(at, WRITE)
            self._in_ram(phys, size, STORE_FAULT)
            if phys != held[1] or not self.memory.reserved(phys, held[4]) or self._read(phys, size, STORE_FAULT) != held[3]:
                return V(self, 0, 1)
            self._write(phys, size, int(value.ref))
        except _Failed as failure:
            return self._failed(failure, at, otherwise)
        return V(self, 1, 1)

    def clear_reservation(self) -> None:
        self.reservation = None

    def amo(self, op: str, addr: V, value: V) -> V:
        at, width = int(addr.ref), value.width
        try:
            self._aligned(at, width // 8, STORE_MISALIGNED, atomic=True)
            phys = self._translate(at, WRITE)
            self._in_ram(phys, width // 8, STORE_FAULT)
            old = self._read(phys, width // 8, STORE_FAULT)
            self._write(phys, width // 8, AMO[op](old, int(value.ref), width) & ((1 << width) - 1))
        except _Failed as failure:
            self._fault(failure.kind, at)
        return V(self, old, width)

    # -- address translation: nothing is kept, so nothing goes stale
    def modes_changed(self) -> None:
        """The routine is asked at every access."""

    def flush_tlb(self, addr: V | None = None) -> None:
        """There is none."""

    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        at = int(addr.ref)
        try:
            self._in_ram(at, size, LOAD_FAULT)
            return V(self, self._read(at, size), 8 * size)
        except _Failed as failure:
            return self._failed(failure, at, otherwise)

    def phys_swap(self, addr: V, old: V, new: V, otherwise: Callable[[V], V | None]) -> V:
        at, size = int(addr.ref), old.width // 8
        try:
            self._in_ram(at, size, STORE_FAULT)
            equal = self._read(at, size) == old.ref
            if equal:
                self._write(at, size, int(new.ref))
            return V(self, int(equal), 1)
        except _Failed as failure:
            return self._failed(failure, at, otherwise)

    def mapped(self, phys: V, allowed: V | int, bits: V | int) -> None:
        raise _Mapped(int(phys.ref))

    def unmapped(self, kind: V | int) -> None:
        raise _Failed(kind if isinstance(kind, int) else int(kind.ref))

    def function(self, name: str, *args: V) -> V:
        try:
            self.isa.functions[name][1](self, *args)
        except _Answer as answer:
            return answer.value
        raise AssertionError(f"the function {name!r} must end in answer")

    def answer(self, value: V) -> None:
        raise _Answer(value)

    # -- floating point
    def _fp_context(self) -> FpContext:
        assert self.isa.fp is not None, "the ISA declares no floating point"
        return self.isa.fp

    def _fp_mode(self, rounding: V | int | None) -> int:
        if isinstance(rounding, V):
            return int(rounding.ref)
        if rounding is not None:
            return rounding
        field = self._fp_context().rounding
        mode = self.state[field][0] if field else RNE
        assert mode <= RUP, "None is for the modes that a host has"
        return mode

    def _fp_result(self, result: tuple[int, int], width: int) -> V:
        self.fp_raise(result[1])
        return V(self, result[0], width)

    def fp(self, op: str, width: int, *args: V, rounding: V | int | None = None) -> V:
        function: Callable[..., tuple[int, int]] = getattr(softfloat, op)
        assert op in FP_OPS and len(args) == FP_OPS[op]
        values = [int(a.ref) for a in args]
        return self._fp_result(function(self._fp_context(), width, *values, self._fp_mode(rounding)), width)

    def fp_compare(self, predicate: str, width: int, a: V, b: V, signaling: bool) -> V:
        return self._fp_result(softfloat.compare(width, predicate, int(a.ref), int(b.ref), signaling), 1)

    def fp_convert(self, source: int, target: int, a: V, rounding: V | int | None = None) -> V:
        mode = RNE if source < target else self._fp_mode(rounding)  # exact
        return self._fp_result(softfloat.convert(self._fp_context(), source, target, int(a.ref), mode), target)

    def fp_to_int(self, width: int, a: V, bits: int, signed: bool, rounding: V | int | None = None) -> V:
        result = softfloat.to_int(self._fp_context(), width, int(a.ref), bits, signed, self._fp_mode(rounding))
        return self._fp_result(result, bits)

    def fp_from_int(self, width: int, a: V, signed: bool, rounding: V | int | None = None) -> V:
        value = signed_value(int(a.ref), a.width) if signed else int(a.ref)
        mode = RNE if a.width < FORMATS[width].p else self._fp_mode(rounding)  # exact
        return self._fp_result(softfloat.from_int(self._fp_context(), width, value, mode), width)

    def fp_raise(self, flags: V | int) -> None:
        field = self._fp_context().flags
        if field:
            self.state[field][0] |= flags if isinstance(flags, int) else int(flags.ref)

    def fp_flags(self) -> V:
        return V(self, self.state[self._fp_context().flags][0], 8)

    def set_fp_flags(self, flags: V | int) -> None:
        self.set(self._fp_context().flags, flags)

    def fp_rounding_changed(self) -> None:
        """The field is looked at each time."""

    def clock(self) -> V:
        return V(self, self.memory.clock() & (1 << 64) - 1, 64)

    def notify(self, number: int, value: V) -> None:
        self.memory.notify(number, int(value.ref))

    def ask(self, number: int, value: V) -> V:
        return V(self, self.memory.ask(number, int(value.ref)) & (1 << 64) - 1, 64)

    def fence(self) -> None:
        """One access at a time is in order already."""

    # -- control
    def if_(self, c: V, then: Callable[[], object], other: Callable[[], object] | None = None) -> None:
        if c.ref:
            then()
        elif other is not None:
            other()

    def switch(self, value: V, cases: Mapping[int, Callable[[], object]], default: Callable[[], object]) -> None:
        cases.get(int(value.ref), default)()

    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        if c.ref:
            self.jump_rel(i, name)
        self._end()

    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        self._next = (self.pc_value + int(getattr(i, name).ref)) & self.mask
        self._end()

    def jump(self, target: V, *, poll: bool = False) -> None:
        self._ask |= poll
        self._next = int(target.ref)
        self._end()

    def trap_jump(self, target: V) -> None:
        self._next = int(target.ref)
        self._retired = False
        self.trapped = True
        self.traps += 1
        self._end()

    def next_in(self, ctx: str) -> None:
        self._next_ctx = ctx
        self._end()

    def next(self) -> None:
        self._end()

    def poll(self) -> None:
        self._ask = True
        self._end()

    def halt(self) -> None:
        self._ask = True
        self._halted = True
        self._end()

    def wait(self, ctx: str) -> None:
        self._next, self._next_ctx = self.pc_value, ctx
        self._retired = False
        self.halt()

    def flush_code(self) -> None:
        self._end()

    def refetch(self) -> None:
        self._ask = True
        self._end()

    def routine(self, name: str, *args: V | int) -> None:
        self.isa.routines[name](self, *(self.const(a) if isinstance(a, int) else a for a in args))
        raise AssertionError(f"the routine {name!r} must end in a terminator")

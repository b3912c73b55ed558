"""What an instruction's semantics may do: the vocabulary that every executor of semantics implements.

The evaluator does what it is told at once; the native tiers write code that will. A *terminator* ends the instruction:
nothing may follow it on its path. Semantics are called once per handler by a tier and once per execution by the
evaluator, so they must not branch in Python on a value that isn't ``known``: use ``if_``, ``select`` and ``switch``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ratite.core.isa.value import V, signed

if TYPE_CHECKING:
    from ratite.core.isa.isa import Isa
    from ratite.core.isa.operands import Operands

#: kinds of fault that a memory access or a fetch can meet, as the ISA's ``fault`` routine gets them
LOAD_FAULT, STORE_FAULT, FETCH_FAULT, LOAD_MISALIGNED, STORE_MISALIGNED = 1, 2, 3, 4, 5
#: the same for a page that the translation refuses; a target's own kinds start at 16
LOAD_PAGE, STORE_PAGE, FETCH_PAGE = 6, 7, 8
#: what an address is translated for
READ, WRITE, EXECUTE = 0, 1, 2
#: see Emitter.mapped
WHOLE = 63

#: atomic read-modify-write operations: (old, operand, width) -> new
AMO: Mapping[str, Callable[[int, int, int], int]] = MappingProxyType({
    "xchg": lambda a, b, w: b,
    "add": lambda a, b, w: a + b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "min": lambda a, b, w: a if signed(a, w) < signed(b, w) else b,
    "max": lambda a, b, w: a if signed(a, w) > signed(b, w) else b,
    "umin": lambda a, b, w: min(a, b),
    "umax": lambda a, b, w: max(a, b),
})


class Emitter(ABC):
    """Executes or writes down the semantics of one instruction."""

    isa: Isa
    word: int  # bits of a CPU word
    ilen: int  # bytes of the current instruction
    ctx: str  # execution context of the current instruction ("" is the normal one); known to every executor

    # -- what V hands over; the evaluator never gets here
    @abstractmethod
    def emit_binary(self, op: str, a: int | str, b: int | str, width: int) -> V: ...

    @abstractmethod
    def emit_compare(self, pred: str, a: int | str, b: int | str, width: int) -> V: ...

    @abstractmethod
    def emit_cast(self, op: str, a: str, source: int, width: int) -> V: ...

    @abstractmethod
    def emit_unary(self, op: str, a: str, width: int) -> V: ...

    @abstractmethod
    def emit_select(self, c: str, a: V, b: V) -> V: ...

    # -- values
    def const(self, value: int, width: int | None = None) -> V:
        """A known value, of the word's width unless told."""
        w = width or self.word
        return V(self, value & ((1 << w) - 1), w)

    def select(self, c: V, a: V | int, b: V | int) -> V:
        """``a`` where ``c`` (width 1) is set, else ``b``; at least one of them must be a V."""
        width = a.width if isinstance(a, V) else b.width if isinstance(b, V) else self.word
        va = a if isinstance(a, V) else self.const(a, width)
        vb = b if isinstance(b, V) else self.const(b, width)
        if isinstance(c.ref, int):
            return va if c.ref else vb
        return self.emit_select(c.ref, va, vb)

    @abstractmethod
    def find(self, count: int, test: Callable[[V], V]) -> V:
        """The first k < ``count`` for which ``test(k)`` (k: 32 bits; gives width 1) holds, else ``count``; 32 bits."""

    # -- state
    @abstractmethod
    def pc(self) -> V:
        """Address of the current instruction."""

    def next_pc(self) -> V:
        """Address behind the current instruction."""
        return self.pc() + self.ilen

    @abstractmethod
    def reg(self, file: str, index: V | int) -> V:
        """An element of a state field with a count (a register file)."""

    @abstractmethod
    def set_reg(self, file: str, index: V | int, value: V) -> None: ...

    @abstractmethod
    def get(self, name: str) -> V:
        """A state field; also ``irq_lines`` (64 bits, a bit per input line)."""

    @abstractmethod
    def set(self, name: str, value: V | int) -> None: ...

    @abstractmethod
    def instructions(self) -> V:
        """Instructions executed before this one (64 bits)."""

    # -- memory; the CPU's byte order. An access that fails ends the instruction in the ISA's ``fault`` routine, or, where
    # ``otherwise`` is given, goes on in it with the fault's kind: it ends the instruction or gives the result instead
    @abstractmethod
    def load(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        """``size`` bytes at ``addr`` as a value of 8 * size bits."""

    @abstractmethod
    def store(self, addr: V, value: V, otherwise: Callable[[V], object] | None = None) -> None:
        """Stores ``value`` (8, 16, 32 or 64 bits)."""

    @abstractmethod
    def load_reserved(self, addr: V, size: int, otherwise: Callable[[V], V | None] | None = None) -> V:
        """A load that takes a reservation; 4 or 8 bytes, must be aligned. None is taken where the load fails."""

    @abstractmethod
    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        """Stores if the reservation still holds; width 1: whether it did. The reservation is gone afterwards."""

    @abstractmethod
    def clear_reservation(self) -> None: ...

    @abstractmethod
    def amo(self, op: str, addr: V, value: V) -> V:
        """Atomic read-modify-write of an aligned word (an operation of AMO); the old value."""

    @abstractmethod
    def fence(self) -> None:
        """Orders all earlier memory accesses before all later ones."""

    # -- address translation, for an ISA with ``mmu_modes``
    @abstractmethod
    def modes_changed(self) -> None:
        """Something was set that the routine ``modes`` looks at."""

    @abstractmethod
    def flush_tlb(self, addr: V | None = None) -> None:
        """Forgets this CPU's translations: all, or that of the page at virtual ``addr`` (in every mode)."""

    @abstractmethod
    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        """``size`` bytes of RAM at physical ``addr`` (64 bits), for the routine ``translate``. Where there is no RAM,
        ``otherwise`` (given LOAD_FAULT) ends the path or gives the value."""

    @abstractmethod
    def phys_swap(self, addr: V, old: V, new: V, otherwise: Callable[[V], V | None]) -> V:
        """Compares RAM at physical ``addr`` with ``old`` and stores ``new`` where equal, atomically; width 1: whether."""

    @abstractmethod
    def mapped(self, phys: V, allowed: V | int, bits: V | int) -> None:
        """Terminator of ``translate``: the address is ``phys`` (64 bits); ``allowed``: 1 read, 2 write, 4 execute; ``bits``:
        log2 of the mapping's size, at least the ISA's page; WHOLE: every address of the mode is its own physical one and
        allows the same, until the TLB is flushed."""

    @abstractmethod
    def unmapped(self, kind: V | int) -> None:
        """Terminator of ``translate``: the access fails with this kind of fault."""

    @abstractmethod
    def function(self, name: str, *args: V) -> V:
        """What a function of the ISA answers (64 bits) for ``args`` (64 bits); in ``translate`` and in functions."""

    @abstractmethod
    def answer(self, value: V) -> None:
        """Terminator of a function."""

    # -- floating point, for an ISA with ``fp``; values are bits. ``rounding``: a mode (``fp``), or None for the CPU's own
    # (the field ``FpContext.rounding``), which must be one of RNE, RTZ, RDN and RUP then: the fast way. Exceptions set
    # sticky flags and nothing else
    @abstractmethod
    def fp(self, op: str, width: int, *args: V, rounding: V | int | None = None) -> V:
        """An operation of FP_OPS on values of ``width`` (32, 64) bits."""

    @abstractmethod
    def fp_compare(self, predicate: str, width: int, a: V, b: V, signaling: bool) -> V:
        """``predicate`` of FP_PREDICATES, width 1. A signaling NaN is invalid, a quiet one if ``signaling``."""

    @abstractmethod
    def fp_convert(self, source: int, target: int, a: V, rounding: V | int | None = None) -> V:
        """A value of one width in another."""

    @abstractmethod
    def fp_to_int(self, width: int, a: V, bits: int, signed: bool, rounding: V | int | None = None) -> V:
        """As an integer of ``bits`` (32, 64) bits; out of range is invalid and gives the nearest one."""

    @abstractmethod
    def fp_from_int(self, width: int, a: V, signed: bool, rounding: V | int | None = None) -> V:
        """An integer (32 or 64 bits) as a value of ``width`` bits."""

    @abstractmethod
    def fp_raise(self, flags: V | int) -> None:
        """Sets sticky flags (8 bits)."""

    @abstractmethod
    def fp_flags(self) -> V:
        """The sticky flags (8 bits); the state field alone may not have them all."""

    @abstractmethod
    def set_fp_flags(self, flags: V | int) -> None:
        """Replaces the sticky flags."""

    @abstractmethod
    def fp_rounding_changed(self) -> None:
        """The field ``FpContext.rounding`` was set."""

    # -- the host's side
    @abstractmethod
    def clock(self) -> V:
        """Nanoseconds of the machine's virtual clock (64 bits)."""

    @abstractmethod
    def notify(self, number: int, value: V) -> None:
        """Tells the CPU object (``CpuPort.on_notify``) ``value``, zero-extended to 64 bits: a compare register was set."""

    @abstractmethod
    def ask(self, number: int, value: V) -> V:
        """What the CPU object answers (``CpuPort.on_ask``), 64 bits; ``value`` is zero-extended to 64 bits."""

    def relax(self) -> None:  # noqa: B027 - a hint
        """The guest waits in a loop for what another CPU does: a hint, without effect on any state."""

    # -- control
    @abstractmethod
    def if_(self, c: V, then: Callable[[], object], other: Callable[[], object] | None = None) -> None: ...

    def likely(self, c: V, then: Callable[[], object], other: Callable[[], object]) -> None:
        """``if_`` where ``c`` is nearly always set: compiled code may leave the case of ``other`` to somebody else."""
        self.if_(c, then, other)

    @abstractmethod
    def switch(self, value: V, cases: Mapping[int, Callable[[], object]], default: Callable[[], object]) -> None:
        """Runs the case of ``value``; every path may end the instruction or come back."""

    @abstractmethod
    def branch(self, c: V, i: Operands, name: str = "imm") -> None:
        """Terminator: to pc + operand ``name`` where ``c``, else to the next instruction."""

    @abstractmethod
    def jump_rel(self, i: Operands, name: str = "imm") -> None:
        """Terminator: to pc + operand ``name``."""

    @abstractmethod
    def jump(self, target: V, *, poll: bool = False) -> None:
        """Terminator: to ``target``; ``poll``: interrupts may have become deliverable by this instruction."""

    @abstractmethod
    def trap_jump(self, target: V) -> None:
        """Terminator: enters a trap handler. The instruction does not count as executed. If nothing can be fetched at
        ``target`` the CPU has nothing left to do and the machine panics."""

    @abstractmethod
    def next_in(self, ctx: str) -> None:
        """Terminator: the next instruction runs in context ``ctx`` (a delay slot, behind a prefix); no interrupt is
        taken in between."""

    @abstractmethod
    def next(self) -> None:
        """Terminator: goes on with the next instruction, in the normal context."""

    @abstractmethod
    def poll(self) -> None:
        """Terminator: goes on with the next instruction after a look at interrupts."""

    @abstractmethod
    def halt(self) -> None:
        """Terminator: the CPU sleeps behind this instruction until its wake predicate holds."""

    @abstractmethod
    def wait(self, ctx: str) -> None:
        """Terminator: the CPU sleeps at this instruction, which has not been executed, until its wake predicate holds, and
        then begins it anew in context ``ctx``: in the normal one interrupts are looked at before, in others not."""

    @abstractmethod
    def flush_code(self) -> None:
        """Terminator: goes on with the next instruction, fetched anew, whoever wrote it."""

    @abstractmethod
    def refetch(self) -> None:
        """Terminator: goes on with the next instruction, its address translated anew; interrupts are looked at."""

    @abstractmethod
    def routine(self, name: str, *args: V | int) -> None:
        """Terminator: goes on in a routine of the ISA (a trap entry, say), at most four arguments of the word's width."""

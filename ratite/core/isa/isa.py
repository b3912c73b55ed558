"""An ISA: its state, fields, instructions and routines, declared; decoding, assembling and disassembling, derived.

A target builds one ``Isa`` per configuration (word size, byte order, extensions). Everything else — evaluator, native
tiers — is made from it by code that knows no ISA.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from ratite.core.isa.fp import FpContext
from ratite.core.isa.operands import Operands
from ratite.core.isa.pattern import Field, Pattern
from ratite.core.isa.state import StateField, StateLayout
from ratite.core.isa.value import V, signed

if TYPE_CHECKING:
    from ratite.core.isa.emitter import Emitter

Semantics = Callable[["Emitter", Operands], object]
Routine = Callable[..., object]
Predicate = Callable[[Operands], V]

#: bytes of the largest decode cache (entries); it is emptied when full, so a hostile guest can't grow it
_CACHE_LIMIT = 1 << 16


class Insn:
    """One declared instruction. ``like``: the instruction whose semantics it shares (a compressed form). ``moves``: how
    that one's operands follow from this encoding: operand -> own operand's name or a constant."""

    __slots__ = ("asm", "contexts", "like", "moves", "name", "operands", "pattern", "relative", "semantics", "where")

    def __init__(
        self, name: str, pattern: Pattern, asm: str, semantics: Semantics, *, moves: Mapping[str, str | int],
        where: Predicate | None, contexts: tuple[str, ...], relative: str, like: str, fields: Mapping[str, Field],
    ) -> None:
        self.name = name
        self.pattern = pattern
        self.asm = asm
        self.semantics = semantics
        self.moves = MappingProxyType(dict(moves))
        self.where = where
        self.contexts = contexts
        self.relative = relative
        self.like = like
        self.operands = MappingProxyType({(fields[f].operand or f): f for f in pattern.pieces})

    @property
    def length(self) -> int:
        """Bytes."""
        return self.pattern.bits // 8


class Isa:
    """The description of one instruction set in one configuration.

    name: qualifies native symbols; word: bits; big_endian: of code and data; parcel: bytes instructions are aligned to;
    lengths: ((mask, match, bytes), …) tested on the first parcel, else ``default_length``; contexts: names of execution
    contexts besides the normal one "". ``pc_relative`` operands must have a slot "imm". ``mmu_modes``: ways in which addresses
    are translated; 0: they are physical. ``smallest_page``: log2 of the smallest mapping, where that is less than
    ``page_bits``: what lies in such a one is found anew at each access; a larger one is ``translate``'s affair. ``fp``: the
    rules of floating point, if any.

    ``declare``: declares instructions, routines and functions, when the first of them is asked for: a CPU whose native code is
    at hand starts without. What can't be together is to be refused before. ``polls``: its guests wait by polling memory
    (core/engine/idle.py)."""

    #: log2 of what TLBs, decoded code and its marks (core.memory.code) are kept by, whatever pages the CPU has
    page_bits = 12

    def __init__(
        self, name: str, *, word: int, big_endian: bool, fields: Mapping[str, Field], state: Sequence[StateField],
        parcel: int, default_length: int, lengths: Sequence[tuple[int, int, int]] = (), contexts: Sequence[str] = (),
        misaligned: str = "native", mmu_modes: int = 0,
        smallest_page: int = 0, fp: FpContext | None = None, declare: Callable[[Isa], None] | None = None,
        polls: bool = False,
    ) -> None:
        if misaligned not in ("native", "fault"):
            raise ValueError(f"misaligned must be 'native' or 'fault', not {misaligned!r}")
        self.name = name
        self.word = word
        self.big_endian = big_endian
        self.fields = MappingProxyType(dict(fields))
        self.layout = StateLayout(state)
        self.parcel = parcel
        self.lengths = tuple(lengths)
        self.default_length = default_length
        self.contexts = ("", *contexts)
        self.misaligned = misaligned
        self.mmu_modes = mmu_modes
        self.smallest_page = smallest_page or self.page_bits
        self.fp = fp
        self.polls = polls
        self._declare = declare
        self._declaring = False
        self._lock = threading.RLock()  # of who declares
        self._insns: list[Insn] = []
        self._routines: dict[str, Routine] = {}
        self._functions: dict[str, tuple[int, Routine]] = {}
        self._by_name: dict[str, Insn] = {}
        self._buckets: dict[tuple[str, int], tuple[int, dict[int, list[Insn]]]] = {}
        self._cache: dict[tuple[str, int], tuple[Insn, dict[str, int]] | None] = {}
        self._folder: Emitter | None = None

    # -- what is declared
    @property
    def insns(self) -> list[Insn]:
        """The instructions, in the order of their declarations."""
        self.complete()
        return self._insns

    @property
    def by_name(self) -> dict[str, Insn]:
        """The same by name."""
        self.complete()
        return self._by_name

    @property
    def routines(self) -> dict[str, Routine]:
        """See ``routine``."""
        self.complete()
        return self._routines

    @property
    def functions(self) -> dict[str, tuple[int, Routine]]:
        """(parameters, semantics) by name, see ``function``."""
        self.complete()
        return self._functions

    def complete(self) -> None:
        """Has all declared."""
        if self._declare is None:
            return
        with self._lock:
            if self._declare is not None and not self._declaring:  # else it asks for what it has declared so far
                self._declaring = True
                try:
                    self._declare(self)
                finally:
                    self._declaring = False
                self._declare = None

    # -- declaring
    def insn(
        self, name: str, pattern: str, asm: str = "", *, where: Predicate | None = None,
        contexts: Sequence[str] | None = None, relative: str = "", moves: Mapping[str, int] = MappingProxyType({}),
    ) -> Callable[[Semantics], Semantics]:
        """Declares an instruction; decorates its semantics ``f(e, i)``. ``where``: a further condition on operands for the
        encoding to be this instruction. ``contexts``: where it is legal (all unless told). ``relative``: the operand that
        is a distance from pc, if any. ``moves``: operands that are constant in this encoding, not in an alias'."""

        def declare(semantics: Semantics) -> Semantics:
            self._add(Insn(
                name, Pattern(pattern, self.fields), asm, semantics, moves=moves, where=where,
                contexts=tuple(contexts) if contexts is not None else self.contexts, relative=relative, like=name,
                fields=self.fields))
            return semantics

        return declare

    def alias(
        self, name: str, pattern: str, asm: str, like: str, *, where: Predicate | None = None, **moves: str | int,
    ) -> None:
        """Declares another encoding of instruction ``like``; operands that the encoding lacks come from ``moves``: another
        operand's name or a constant."""
        base = self.by_name[like]
        self._add(Insn(
            name, Pattern(pattern, self.fields), asm, base.semantics, moves=moves, where=where, contexts=base.contexts,
            relative=base.relative, like=base.like, fields=self.fields))

    def routine(self, name: str) -> Callable[[Routine], Routine]:
        """Declares a shared piece of semantics ``f(e, *args)`` that ends in a terminator. Some names have a meaning:
        ``illegal(e, word)`` for an encoding that isn't there, ``fault(e, kind, addr)`` for an access that failed,
        ``interrupt(e)``, which takes a deliverable interrupt or comes back (it may not be asked while no line is set).
        ``wake(e)`` gives a value of width 1: whether a halted CPU should go on.

        With ``mmu_modes``: ``modes(e)`` gives two values, the modes in which data accesses and fetches are translated now;
        ``translate(e, addr, access, mode)`` (words; ``access``: READ, WRITE, EXECUTE) ends in ``mapped`` or ``unmapped``."""

        def declare(f: Routine) -> Routine:
            self.routines[name] = f
            return f

        return declare

    def modes(self, e: Emitter) -> tuple[V, V]:
        """What the routine ``modes`` gives: the modes of data accesses and of fetches."""
        return cast("tuple[V, V]", self.routines["modes"](e))

    def function(self, name: str, parameters: int) -> Callable[[Routine], Routine]:
        """Declares a piece of the page walk ``f(e, *args)``: arguments are 64 bits wide, it ends in ``answer``. Called by
        ``translate`` and by other functions, also by itself."""

        def declare(f: Routine) -> Routine:
            self.functions[name] = parameters, f
            return f

        return declare

    def _add(self, insn: Insn) -> None:
        if insn.name in self.by_name:
            raise ValueError(f"instruction {insn.name!r} is declared twice")
        self.by_name[insn.name] = insn
        self.insns.append(insn)
        self._buckets.clear()
        self._cache.clear()

    # -- decoding
    def length_of(self, parcel: int) -> int:
        """Bytes of the instruction whose first parcel is ``parcel``."""
        for mask, match, length in self.lengths:
            if parcel & mask == match:
                return length
        return self.default_length

    def candidates(self, ctx: str, length: int) -> list[Insn]:
        """Instructions of ``length`` bytes legal in ``ctx``, the most specific encodings first."""
        found = [n for n in self.insns if n.length == length and ctx in n.contexts]
        return sorted(found, key=lambda n: -n.pattern.mask.bit_count() * 2 - (n.where is not None))

    def operand_values(self, insn: Insn, word: V) -> dict[str, V]:
        """The operands that ``insn``'s semantics see, out of the instruction word (a value of its length)."""
        wide = max(self.word, 32)
        values = {}
        for operand, name in insn.operands.items():
            field = self.fields[name]
            value = insn.pattern.extract(name, field, word, 32)
            values[operand] = value if field.slot != "imm" else value.sext(wide).trunc(self.word)
        for operand, source in insn.moves.items():
            values[operand] = values[source] if isinstance(source, str) else word.e.const(
                source, self.word if self.slot(operand) == "imm" else 32)
        return values

    def slot(self, operand: str) -> str:
        """Where a decoded record keeps ``operand``."""
        for name, field in self.fields.items():
            if (field.operand or name) == operand:
                return field.slot
        raise KeyError(operand)

    def decode(self, word: int, length: int, ctx: str = "") -> tuple[Insn, dict[str, int]] | None:
        """The instruction in ``word`` (``length`` bytes) and its operands, or None for an illegal encoding."""
        key = (ctx, word << 8 | length)
        try:
            return self._cache[key]
        except KeyError:
            pass
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        found = self._cache[key] = self._decode(word, length, ctx)
        return found

    def _decode(self, word: int, length: int, ctx: str) -> tuple[Insn, dict[str, int]] | None:
        from ratite.core.isa.folder import folder  # late: the evaluator is built on this module

        bucket = self._buckets.get((ctx, length))
        if bucket is None:
            insns = self.candidates(ctx, length)
            common = (1 << 8 * length) - 1
            for insn in insns:
                common &= insn.pattern.mask
            table: dict[int, list[Insn]] = {}
            for insn in insns:
                table.setdefault(insn.pattern.match & common, []).append(insn)
            bucket = self._buckets[ctx, length] = (common, table)
        if self._folder is None:
            self._folder = folder(self)
        value = V(self._folder, word, 8 * length)
        for insn in bucket[1].get(word & bucket[0], ()):
            if word & insn.pattern.mask == insn.pattern.match:
                values = self.operand_values(insn, value)
                if insn.where is None or insn.where(Operands(values.__getitem__)).ref:
                    return insn, {name: int(v.ref) for name, v in values.items()}
        return None

    # -- text
    def assemble(self, name: str, **operands: int) -> bytes:
        """The encoding of an instruction by its name and fields, in the ISA's byte order, parcel by parcel."""
        insn = self.by_name[name]
        word = insn.pattern.encode(operands, self.fields)
        return self.to_bytes(word, insn.length)

    def to_bytes(self, word: int, length: int) -> bytes:
        """An instruction word as it lies in memory: parcels in ascending order, each in the ISA's byte order."""
        n = self.parcel
        parts = [(word >> 8 * at & (1 << 8 * n) - 1) for at in range(0, length, n)]
        return b"".join(p.to_bytes(n, "big" if self.big_endian else "little") for p in parts)

    def word_at(self, code: bytes, at: int = 0) -> tuple[int, int]:
        """(word, bytes) of the instruction at ``code[at]``; (0, 0) where it is cut off."""
        n, order = self.parcel, "big" if self.big_endian else "little"
        first = code[at:at + n]
        if len(first) < n:
            return 0, 0
        length = self.length_of(int.from_bytes(first, "big" if self.big_endian else "little"))
        raw = code[at:at + length]
        if len(raw) < length:
            return 0, 0
        word = 0
        for k in range(0, length, n):
            word |= int.from_bytes(raw[k:k + n], "big" if order == "big" else "little") << 8 * k
        return word, length

    def disassemble_word(self, word: int, length: int, addr: int, ctx: str = "") -> str:
        """Assembly text of one instruction at ``addr``; an unknown encoding is shown as data."""
        found = self.decode(word, length, ctx)
        if found is None:
            return f".{'half' if length == 2 else 'word'}\t{word:#0{2 + 2 * length}x}"
        insn, values = found
        shown = {name: self._show(insn, name, value, addr) for name, value in values.items()}
        text = insn.asm.format_map(shown)
        return f"{insn.name}\t{text}" if text else insn.name

    def _show(self, insn: Insn, operand: str, value: int, addr: int) -> str:
        name = insn.operands.get(operand, operand)
        field = self.fields.get(name) or next(f for f in self.fields.values() if f.operand == operand)
        if field.file:
            names = self.layout[field.file].names
            return names[value] if value < len(names) else str(value)
        number = signed(value, self.word) if field.slot == "imm" and field.signed else value
        if operand == insn.relative:
            return hex((addr + number) & ((1 << self.word) - 1))
        return field.show(number)

    def disassemble(self, addr: int, code: bytes) -> list[tuple[int, bytes, str]]:
        """(address, encoding, text) of each whole instruction in ``code``, which starts at ``addr``."""
        rows = []
        at = 0
        while at < len(code):
            word, length = self.word_at(code, at)
            if not length:
                break
            rows.append((addr + at, code[at:at + length], self.disassemble_word(word, length, addr + at)))
            at += length
        return rows

"""Whether a CPU goes round for ever: an evaluator on a copy of its state; see ``idle``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ratite.core.engine.idle import Proof, byte_order
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.isa import Isa
from ratite.core.isa.value import V

if TYPE_CHECKING:
    from ratite.core.accel.base import RamRange

_STEPS = 256  # instructions a loop may have
_PAGE = 4096  # bytes that are copied together


class _Unproved(Exception):
    """Something was met that may be different the next time."""


class _Overlay:
    """Memory as the evaluator wants it; stores stay here.  ``first``: bytes as they were, by physical address; ``now``: as
    they would be, for the same addresses.  Pages are copied when first touched: an interrupt that the CPU takes while the
    proof is made writes into the same stack, and half of it would prove nothing."""

    def __init__(self, ranges: Sequence[RamRange], isa: Isa) -> None:
        # What another CPU runs from it may write as well.
        self._ranges = [r for r in ranges if len(r.ram.code.on_made) == 1]
        self._order = byte_order(isa)
        self.first: dict[int, int] = {}
        self.now: dict[int, int] = {}
        self._pages: dict[tuple[int, int], bytes] = {}  # by start of the range and number of the page in it
        self._runs: list[tuple[int, list[int]]] = []  # (host address, addresses) of what `now` has

    def clear(self) -> None:
        self.first.clear()
        self.now.clear()
        self._pages.clear()
        self._runs.clear()

    def _range(self, addr: int, size: int) -> RamRange:
        for r in self._ranges:
            if r.start <= addr and addr + size <= r.start + r.size:
                return r
        raise _Unproved

    def _copy(self, addr: int, size: int) -> None:
        r = self._range(addr, size)
        for at in range(addr, addr + size):
            if at not in self.now:
                number, inside = divmod(at - r.start, _PAGE)
                page = self._pages.get((r.start, number))
                if page is None:
                    start = number * _PAGE
                    page = ctypes.string_at(r.host + start, min(_PAGE, r.size - start))
                    self._pages[r.start, number] = page
                self.first[at] = self.now[at] = page[inside]
        self._runs.clear()

    def fetch(self, addr: int, size: int) -> bytes:
        now = self.now
        try:
            return bytes([now[at] for at in range(addr, addr + size)])
        except KeyError:
            self._copy(addr, size)
        return bytes([now[at] for at in range(addr, addr + size)])

    def load(self, addr: int, size: int) -> int:
        return int.from_bytes(self.fetch(addr, size), self._order)

    def store(self, addr: int, size: int, value: int) -> None:
        if self._range(addr, size).readonly:
            raise _Unproved
        self.fetch(addr, size)
        self.now.update(enumerate(value.to_bytes(size, self._order), addr))

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        return not (self._range(addr, size).readonly and for_write)

    def reserve(self, addr: int) -> int:
        raise _Unproved

    def reserved(self, addr: int, token: int) -> bool:
        raise _Unproved

    def clock(self) -> int:
        raise _Unproved

    def notify(self, number: int, value: int) -> None:
        raise _Unproved

    def ask(self, number: int, value: int) -> int:
        raise _Unproved

    def settle(self) -> None:
        """What is so now counts as what was."""
        self.first.update(self.now)

    @property
    def unchanged(self) -> bool:
        return self.now == self.first

    def pieces(self, memory: Mapping[int, int]) -> list[tuple[int, bytes]]:
        """(host address, bytes) of ``memory``, which has the addresses of ``now``."""
        if not self._runs:
            end = -1
            for addr in sorted(self.now):
                r = self._range(addr, 1)
                host = r.host + addr - r.start
                if host != end:
                    self._runs.append((host, []))
                self._runs[-1][1].append(addr)
                end = host + 1
        return [(host, bytes([memory[at] for at in run])) for host, run in self._runs]


class _Round:
    """One round of the loop from some place on: what it reads before it writes it, and memory as it is there. ``needed``: what
    it reads for sure."""

    __slots__ = ("memory", "read_first", "written")

    def __init__(self, memory: Mapping[int, int], needed: Mapping[tuple[str, int], int]) -> None:
        self.memory = memory
        self.read_first = dict(needed)
        self.written: set[tuple[str, int]] = set()


class Prover(Evaluator):
    """The evaluator; ``prove`` may be called again and again while the view of memory stays."""

    def __init__(self, isa: Isa, ranges: Sequence[RamRange]) -> None:
        self._overlay = _Overlay(ranges, isa)
        super().__init__(isa, self._overlay)
        self._round = _Round({}, {})  # from where the proof began
        self._rounds: dict[tuple[int, int], _Round] = {}  # those that are under way, by where they began
        self._length = 0  # instructions of a round
        self._lines = 0
        self._places: set[int] = set()  # where it comes by
        # Physical pages by (virtual page, access, mode), as long as the registers that said so are what they were.
        self._walked: dict[tuple[int, int, int], int] = {}
        self._needed: dict[tuple[str, int], int] = {}
        self._walking = False
        self._plain = True  # the walk has read no memory
        self._inside = (1 << isa.smallest_page) - 1

    def prove(
        self, pc: int, context: int, arrays: Mapping[str, Any], lines: int,
    ) -> Proof | None:
        """Starts at ``pc``; None if it may do something else than go round."""
        for name, values in self.state.items():
            values[:] = arrays[name]
        self.pc_value, self.ctx, self.irq_lines = pc, self.isa.contexts[context], lines
        self.traps, self.trapped, self.reservation = 0, False, None
        self.changed()
        self._overlay.clear()
        self._forget_walks()
        self._begin(pc, context)
        begun = 0
        try:
            for count in range(_STEPS):
                if self.step() != self.RAN or self.traps:
                    return None
                if self.pc_value == pc and self.ctx == self.isa.contexts[context]:
                    if self._as_before():
                        self._length, self._lines = count + 1 - begun, lines
                        return self._proof(self._round)
                    # The CPU went on after its registers were copied, and memory was as somewhere else in the loop. What it
                    # comes to from there on is as good a place to begin.
                    begun = count + 1
                    self._begin(pc, context)
                self._places.add(self.pc_value)
        except _Unproved:
            pass
        return None

    def _begin(self, pc: int, context: int) -> None:
        self._overlay.settle()
        self._round = _Round(self._overlay.first, self._needed)
        self._rounds = {(pc, context): self._round}
        self._places = {pc}

    def around(self) -> dict[tuple[int, int], Proof]:
        """Behind a proof: the same for all places where the loop comes by once, since the CPU may be looked at anywhere in it.
        Two rounds more: a place's begins in the first and ends in the second."""
        proofs: dict[tuple[int, int], Proof] = {}
        self._rounds = {}
        seen: set[tuple[int, int]] = set()
        for number in range(2):
            for _ in range(self._length):
                self.step()
                place = self.pc_value, self.isa.contexts.index(self.ctx)
                begun = self._rounds.pop(place, None)
                if number:
                    if begun is not None:
                        proofs[place] = self._proof(begun)
                elif place not in seen:
                    seen.add(place)
                    self._rounds[place] = _Round(self._overlay.now.copy(), self._needed)
        return proofs

    def _proof(self, around: _Round) -> Proof:
        registers = [(name, index, value) for (name, index), value in around.read_first.items()]
        return Proof(registers, self._overlay.pieces(around.memory), self._lines, frozenset(self._places))

    def _as_before(self) -> bool:
        first = self._round.read_first
        return self._overlay.unchanged and all(self.state[name][k] == value for (name, k), value in first.items())

    # -- translation, which is most of the work
    def _walk(self, addr: int, access: int, mode: int) -> int:
        key = addr & ~self._inside, access, mode
        page = self._walked.get(key)
        if page is None:
            self._walking = self._plain = True
            try:
                page = super()._walk(addr, access, mode) & ~self._inside
            finally:
                self._walking = False
            if self._plain:
                self._walked[key] = page
        return page | addr & self._inside

    def _forget_walks(self) -> None:
        self._walked.clear()
        self._needed.clear()

    def phys_load(self, addr: V, size: int, otherwise: Callable[[V], V | None]) -> V:
        self._plain = False
        return super().phys_load(addr, size, otherwise)

    # -- what is read and written
    def _reads(self, name: str, index: int) -> None:
        key, value = (name, index), self.state[name][index]
        if self._walking:
            self._needed[key] = value
        for around in self._rounds.values():
            if key not in around.written:
                around.read_first.setdefault(key, value)

    def _writes(self, name: str, index: int) -> None:
        key = name, index
        if self._needed.get(key, value := self.state[name][index]) != value:
            self._forget_walks()
        for around in self._rounds.values():
            around.written.add(key)

    def reg(self, file: str, index: V | int) -> V:
        self._reads(file, index if isinstance(index, int) else int(index.ref))
        return super().reg(file, index)

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        super().set_reg(file, index, value)
        self._writes(file, index if isinstance(index, int) else int(index.ref))

    def get(self, name: str) -> V:
        if name != "irq_lines":
            self._reads(name, 0)
        return super().get(name)

    def set(self, name: str, value: V | int) -> None:
        super().set(name, value)
        self._writes(name, 0)

    # -- what proves nothing
    def instructions(self) -> V:
        raise _Unproved

    def store_conditional(self, addr: V, value: V, otherwise: Callable[[V], V | None] | None = None) -> V:
        raise _Unproved

    def fp_flags(self) -> V:
        raise _Unproved

    def fp_raise(self, flags: V | int) -> NoReturn:
        raise _Unproved

    def _fp_mode(self, rounding: V | int | None) -> NoReturn:
        raise _Unproved

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


class _Unproved(Exception):
    """Something was met that may be different the next time."""


class _Overlay:
    """Memory as the evaluator wants it; stores stay here.  ``first``: bytes as they were, by physical address; ``now``: as
    they would be."""

    def __init__(self, ranges: Sequence[RamRange], isa: Isa) -> None:
        # What another CPU runs from it may write as well.
        self._ranges = [r for r in ranges if len(r.ram.code.on_made) == 1]
        self._order = byte_order(isa)
        self.first: dict[int, int] = {}
        self.now: dict[int, int] = {}

    def clear(self) -> None:
        self.first.clear()
        self.now.clear()

    def _range(self, addr: int, size: int) -> RamRange:
        for r in self._ranges:
            if r.start <= addr and addr + size <= r.start + r.size:
                return r
        raise _Unproved

    def _host(self, addr: int, size: int) -> int:
        r = self._range(addr, size)
        return r.host + addr - r.start

    def fetch(self, addr: int, size: int) -> bytes:
        if addr not in self.now or addr + size - 1 not in self.now:
            for at, byte in enumerate(ctypes.string_at(self._host(addr, size), size), addr):
                self.first.setdefault(at, byte)
                self.now.setdefault(at, byte)
        return bytes(self.now[at] for at in range(addr, addr + size))

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

    @property
    def unchanged(self) -> bool:
        return self.now == self.first

    def pieces(self, now: Mapping[int, int]) -> list[tuple[int, bytes]]:
        """(host address, bytes) of `now`."""
        runs: list[tuple[int, bytearray]] = []
        for addr in sorted(now):
            host = self._host(addr, 1)
            if runs and runs[-1][0] + len(runs[-1][1]) == host:
                runs[-1][1].append(now[addr])
            else:
                runs.append((host, bytearray((now[addr],))))
        return [(host, bytes(data)) for host, data in runs]


class _Round:
    """One round of the loop from some place on: what it reads before it writes it, and memory as it is there."""

    __slots__ = ("memory", "read_first", "written")

    def __init__(self, memory: Mapping[int, int]) -> None:
        self.memory = memory
        self.read_first: dict[tuple[str, int], int] = {}
        self.written: set[tuple[str, int]] = set()


class Prover(Evaluator):
    """The evaluator; ``prove`` may be called again and again while the view of memory stays."""

    def __init__(self, isa: Isa, ranges: Sequence[RamRange]) -> None:
        self._overlay = _Overlay(ranges, isa)
        super().__init__(isa, self._overlay)
        self._round = _Round({})  # from where the proof began
        self._rounds: dict[tuple[int, int], _Round] = {}  # those that are under way, by where they began
        self._length = 0  # instructions of a round
        self._lines = 0
        self._places: set[int] = set()  # where it comes by

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
        self._round = _Round(self._overlay.first)
        self._rounds = {(pc, context): self._round}
        self._places = {pc}
        try:
            for count in range(_STEPS):
                if self.step() != self.RAN or self.traps:
                    return None
                if self.pc_value == pc and self.ctx == self.isa.contexts[context] and self._as_before():
                    self._length, self._lines = count + 1, lines
                    return self._proof(self._round)
                self._places.add(self.pc_value)
        except _Unproved:
            pass
        return None

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
                    self._rounds[place] = _Round(self._overlay.now.copy())
        return proofs

    def _proof(self, around: _Round) -> Proof:
        registers = [(name, index, value) for (name, index), value in around.read_first.items()]
        return Proof(registers, self._overlay.pieces(around.memory), self._lines, frozenset(self._places))

    def _as_before(self) -> bool:
        first = self._round.read_first
        return self._overlay.unchanged and all(self.state[name][k] == value for (name, k), value in first.items())

    # -- what is read and written
    def _reads(self, name: str, index: int) -> None:
        key = name, index
        for around in self._rounds.values():
            if key not in around.written:
                around.read_first.setdefault(key, self.state[name][index])

    def _writes(self, name: str, index: int) -> None:
        for around in self._rounds.values():
            around.written.add((name, index))

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

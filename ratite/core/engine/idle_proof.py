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

    def pieces(self) -> list[tuple[int, bytes]]:
        """(host address, bytes) of all that was touched."""
        runs: list[tuple[int, bytearray]] = []
        for addr in sorted(self.first):
            host = self._host(addr, 1)
            if runs and runs[-1][0] + len(runs[-1][1]) == host:
                runs[-1][1].append(self.first[addr])
            else:
                runs.append((host, bytearray((self.first[addr],))))
        return [(host, bytes(data)) for host, data in runs]


class Prover(Evaluator):
    """The evaluator; ``prove`` may be called again and again while the view of memory stays."""

    def __init__(self, isa: Isa, ranges: Sequence[RamRange]) -> None:
        self._overlay = _Overlay(ranges, isa)
        super().__init__(isa, self._overlay)
        self._read_first: dict[tuple[str, int], int] = {}
        self._written: set[tuple[str, int]] = set()

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
        self._read_first.clear()
        self._written.clear()
        places = {pc}
        try:
            for _ in range(_STEPS):
                if self.step() != self.RAN or self.traps:
                    return None
                if self.pc_value == pc and self.ctx == self.isa.contexts[context] and self._as_before():
                    registers = [(name, index, value) for (name, index), value in self._read_first.items()]
                    return Proof(registers, self._overlay.pieces(), lines, frozenset(places))
                places.add(self.pc_value)
        except _Unproved:
            pass
        return None

    def _as_before(self) -> bool:
        return self._overlay.unchanged and all(self.state[name][k] == value for (name, k), value in self._read_first.items())

    # -- what is read and written
    def _reads(self, name: str, index: int) -> None:
        if (name, index) not in self._written:
            self._read_first.setdefault((name, index), self.state[name][index])

    def reg(self, file: str, index: V | int) -> V:
        self._reads(file, index if isinstance(index, int) else int(index.ref))
        return super().reg(file, index)

    def set_reg(self, file: str, index: V | int, value: V) -> None:
        super().set_reg(file, index, value)
        self._written.add((file, index if isinstance(index, int) else int(index.ref)))

    def get(self, name: str) -> V:
        if name != "irq_lines":
            self._reads(name, 0)
        return super().get(name)

    def set(self, name: str, value: V | int) -> None:
        super().set(name, value)
        self._written.add((name, 0))

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

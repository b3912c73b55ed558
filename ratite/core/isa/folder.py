"""An evaluator without memory, for what is known: decoding."""

from __future__ import annotations

from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.core.isa.isa import Isa


class _NoMemory:
    def load(self, addr: int, size: int) -> int:
        raise MemoryFault

    def store(self, addr: int, size: int, value: int) -> None:
        raise MemoryFault

    def fetch(self, addr: int, size: int) -> bytes:
        raise MemoryFault

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        return False

    def reserve(self, addr: int) -> int:
        return 0

    def reserved(self, addr: int, token: int) -> bool:
        return False

    def clock(self) -> int:
        return 0

    def notify(self, number: int, value: int) -> None:
        """Nobody listens."""

    def ask(self, number: int, value: int) -> int:
        return 0


def folder(isa: Isa) -> Evaluator:
    """An evaluator that serves to compute on known values only (decoding)."""
    return Evaluator(isa, _NoMemory())

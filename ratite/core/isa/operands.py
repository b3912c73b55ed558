"""Operands of one instruction, as semantics see them: attributes by name."""

from __future__ import annotations

from collections.abc import Callable

from ratite.core.isa.value import V


class Operands:
    """``i.rd`` and so on. A register operand is an index (32 bits), an immediate is of the word's width. ``load`` is asked
    once for a name, when semantics first touch it, so unused operands cost nothing."""

    __slots__ = ("_cache", "_load")

    def __init__(self, load: Callable[[str], V]) -> None:
        self._load = load
        self._cache: dict[str, V] = {}

    def __getattr__(self, name: str) -> V:
        value = self._cache.get(name)
        if value is None:
            value = self._cache[name] = self._load(name)
        return value

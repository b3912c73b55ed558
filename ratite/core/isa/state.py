"""A CPU's architectural state, declared as typed fields and laid out for native code.

Fields have a width in bits and a count; each element is stored in the smallest power of two of bytes that holds it, so
that generated code, the evaluator, ``qom-get`` and a saved machine all speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class StateField:
    """One field: ``count`` elements of ``width`` bits. ``zero``: element 0 reads 0 and ignores writes. ``hidden`` fields
    are state (saved, compared) but no register that people look at. ``private``: only instructions and
    routines write it, and nobody else while the CPU runs: compiled code may keep it elsewhere."""

    __slots__ = ("count", "hidden", "name", "names", "offset", "private", "reset", "text", "width", "zero")

    def __init__(
        self, name: str, width: int, count: int = 1, *, text: str = "", zero: bool = False, reset: int = 0,
        hidden: bool = False, private: bool = False, names: Sequence[str] = (),
    ) -> None:
        if private and count != 1:
            raise ValueError(f"{name}: a private field has one element")
        self.name = name
        self.width = width
        self.count = count
        self.text = text
        self.zero = zero
        self.reset = reset
        self.hidden = hidden
        self.private = private
        self.names = tuple(names) or ((name,) if count == 1 else tuple(f"{name}{i}" for i in range(count)))
        self.offset = -1

    @property
    def size(self) -> int:
        """Bytes one element takes."""
        return 1 if self.width <= 8 else 2 if self.width <= 16 else 4 if self.width <= 32 else 8

    @property
    def slots(self) -> int:
        """Elements stored: a field with a zero element has one more, which takes what is written to element 0."""
        return self.count + 1 if self.zero else self.count


class StateLayout:
    """Offsets of the fields, from 0, each aligned to its size; the widest files first come nearest to the pointer."""

    def __init__(self, fields: Sequence[StateField]) -> None:
        self._fields: dict[str, StateField] = {}
        offset = 0
        for field in fields:
            if field.name in self._fields:
                raise ValueError(f"state field {field.name!r} is declared twice")
            offset = -(-offset // field.size) * field.size
            field.offset = offset
            offset += field.size * field.slots
            self._fields[field.name] = field
        self.size = -(-offset // 64) * 64

    def __getitem__(self, name: str) -> StateField:
        return self._fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[StateField]:
        return iter(self._fields.values())

"""Encodings: one text, read in both directions.

A pattern is written as the manuals write it, most significant bit first: ``imm[11:0] rs1 000 rd 0010011``. A token is a
run of literal bits (``x`` is a don't-care), a field of its declared width (``rd``) or named bits of a field, in the order
they stand in the word (``imm[12|10:5]``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ratite.core.isa.value import V


class Field:
    """A named field of encodings. ``file`` names the register file for a register operand, else it is an immediate.

    width: bits where a token names the field alone; base: added to the encoded number (compressed registers);
    signed: an immediate is extended from its highest encoded bit; operand: the semantics' name for it; slot: where a
    decoded record keeps it: "a", "b", "c", "d" (8 bits each) or "imm" (32 bits, sign-extended to the word); show: how an
    immediate is printed (a decimal number unless told)."""

    __slots__ = ("base", "dest", "file", "operand", "show", "signed", "slot", "width")

    def __init__(
        self, slot: str, width: int = 0, *, file: str = "", base: int = 0, dest: bool = False, signed: bool = False,
        operand: str = "", show: Callable[[int], str] = str,
    ) -> None:
        self.show = show
        self.slot = slot
        self.width = width
        self.file = file
        self.base = base
        self.dest = dest
        self.signed = signed
        self.operand = operand


_TOKEN = re.compile(r"([A-Za-z_][A-Za-z0-9_']*)(?:\[([0-9:|]+)\])?")


def _spans(text: str, token: str, fields: Mapping[str, Field]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A token's field and the bits (high, low) of it that stand there."""
    m = _TOKEN.fullmatch(token)
    if not m or m[1] not in fields:
        raise ValueError(f"pattern {text!r}: {token!r} is neither bits nor a declared field")
    spans = []
    for part in (m[2] or f"{fields[m[1]].width - 1}:0").split("|"):
        high, _, low = part.partition(":")
        spans.append((int(high), int(low or high)))
    return m[1], tuple(spans)


class Pattern:
    """A parsed encoding: ``bits`` (16, 32, …), ``mask`` and ``match``, and per field its pieces (high, low, to): the word's
    bits high…low are the field's bits from ``to`` on. Raises ValueError for a text that isn't a whole encoding."""

    __slots__ = ("bits", "mask", "match", "pieces", "text")

    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self.text = text
        self.pieces: dict[str, list[tuple[int, int, int]]] = {}
        runs: list[tuple[str, int, tuple[tuple[int, int], ...]]] = []  # (name or bits, width, [(to_high, to_low)])
        for token in text.split():
            if not token.strip("01x"):
                runs.append((token, len(token), ()))
                continue
            name, spans = _spans(text, token, fields)
            runs.append((name, sum(h - lo + 1 for h, lo in spans), spans))
        self.bits = sum(width for _, width, _ in runs)
        if self.bits not in (16, 32, 48, 64):
            raise ValueError(f"pattern {text!r}: {self.bits} bits are no instruction length")
        self.mask = self.match = 0
        at = self.bits
        for name, width, spans in runs:
            at -= width
            if not spans:
                self.mask |= int(name.replace("0", "1").replace("x", "0"), 2) << at
                self.match |= int(name.replace("x", "0"), 2) << at
                continue
            high = at + width
            for to_high, to_low in spans:
                n = to_high - to_low + 1
                self.pieces.setdefault(name, []).append((high - 1, high - n, to_low))
                high -= n

    def extract(self, name: str, field: Field, word: V, width: int) -> V:
        """The field's value out of ``word`` as a value of ``width`` bits, extended as declared, base added."""
        value: V | None = None
        top = 0
        for high, low, to in self.pieces[name]:
            part = word.bits(high, low)
            part = part.zext(width) if width >= part.width else part.trunc(width)
            value = part << to if value is None else value | (part << to)
            top = max(top, to + high - low + 1)
        assert value is not None
        if field.signed:
            value = value.trunc(top).sext(width)
        return value + field.base if field.base else value

    def encode(self, values: Mapping[str, int], fields: Mapping[str, Field]) -> int:
        """The word that decodes to ``values`` (by field name). Raises ValueError where a value can't be encoded."""
        word = self.match
        for name, pieces in self.pieces.items():
            field = fields[name]
            value = values[name] - field.base
            seen = 0
            top = 0
            for high, low, to in pieces:
                mask = (1 << (high - low + 1)) - 1
                word |= (value >> to & mask) << low
                seen |= mask << to
                top = max(top, to + high - low + 1)
            back = value & seen
            if field.signed and back >> (top - 1) & 1:
                back -= 1 << top
            if back != value:
                raise ValueError(f"{name}={values[name]} does not fit the encoding {self.text!r}")
        return word

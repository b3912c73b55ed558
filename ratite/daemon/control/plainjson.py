"""JSON for an instance's monitor, which takes less than JSON has, and answers what it can't read without saying whom.

So commands are looked at before they are sent, and answers strictly when they come.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ratite.qapi.wire import NESTING_LIMIT, TOKEN_COUNT_LIMIT
from ratite.qapi.wire_out import noncharacter

# An escape of the encoder's: two characters of a pair, one alone, or anything else after a backslash.
_ESCAPE = re.compile(rb"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u([0-9a-f]{4})|.)")
_DOUBTFUL = re.compile(rb"\\u[df]").search
_LONG_NUMBER = re.compile(rb"[:\[,](-?[0-9]{309,})")

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


decode = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite).decode


def encode_command(message: Mapping[str, Any]) -> bytes:
    """One line for a monitor, without its end.  ValueError says what it wouldn't take."""
    try:
        text = _encode(message).encode("ascii")
    except RecursionError:
        raise ValueError("nesting depth limit exceeded") from None
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > NESTING_LIMIT and _too_deep(message):
        raise ValueError("nesting depth limit exceeded")
    # A value, a name, and what stands between them.
    if len(text) > TOKEN_COUNT_LIMIT and 2 * (brackets + text.count(b",") + text.count(b":")) > TOKEN_COUNT_LIMIT:
        raise ValueError("token count limit exceeded")
    # One that no double holds; 1e309 is none of these, since it isn't finite already.
    if any(not math.isfinite(float(digits)) for digits in _LONG_NUMBER.findall(text)):
        raise ValueError("a number is too large")
    if _DOUBTFUL(text):
        _check_characters(text)
    return text


def _check_characters(text: bytes) -> None:
    for found in _ESCAPE.finditer(text):
        high, low, alone = found.groups()
        if high:
            point = 0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)
        elif alone:
            point = int(alone, 16)
        else:
            continue
        if noncharacter(point) or 0xD800 <= point < 0xE000:
            raise ValueError(f"{found[0].decode()} is not a valid Unicode character")


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(NESTING_LIMIT):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)  # type: ignore[attr-defined]
            if isinstance(child, dict | list | tuple)
        ]
        if not level:
            return False
    return True

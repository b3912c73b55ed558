"""The JSON of the QMP wire, without IO: a value in, a line out, as QEMU's monitor writes it."""

from __future__ import annotations

import json
import re

_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_has_double = re.compile(r"(?:^|[\[:,])-?[0-9]+[.e]").search
_double_or_string = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?')
_escape_sequence = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)")


def noncharacter(point: int) -> bool:
    """Whether Unicode keeps the code point free for ever; QMP refuses it in both directions."""
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF


def encode(value: object) -> bytes:
    """One line of the wire: ASCII, `\r\n` at the end, doubles with 17 significant digits.

    A value that JSON can't say (nan, inf) becomes null, half a surrogate pair U+FFFD.  TypeError
    for what is no JSON value at all.
    """
    try:
        text = _dumps(value)
    except ValueError:
        text = _dumps(_finite(value))
    if _has_double(text):
        text = _double_or_string.sub(_fix_double, text)
    if "\\u" in text:
        text = _escape_sequence.sub(_fix_escape, text)
    if "\x7f" in text:
        text = text.replace("\x7f", "\\u007F")
    return text.encode("ascii") + b"\r\n"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _fix_double(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] == '"' or text.lstrip("-").isdigit():
        return text
    return format(float(text), ".17g")


def _fix_escape(match: re.Match[str]) -> str:
    text = match[0]
    if text[1] != "u":
        return text
    point = int(text[2:6], 16)
    if len(text) == 12:
        point = 0x10000 + ((point - 0xD800) << 10) + int(text[8:], 16) - 0xDC00
    elif 0xD800 <= point < 0xE000:
        point = 0xFFFE
    if noncharacter(point):
        return "\\uFFFD"
    return text.upper().replace("U", "u")

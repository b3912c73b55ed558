"""The JSON of the QMP wire, without IO: bytes in, values or errors out (the other way is wire_out.py).

The grammar is what QEMU's monitor was seen to accept (QMP-FACTS.md and probes of QEMU 7.2): a
stream, not lines; single-quoted strings and `\\'`; integers of int64 and uint64, larger ones as
doubles; no raw control characters, leading zeros, NaN, trailing commas, comments.

States of the scanner, which survives a chunk that ends anywhere:

    START --quote--> STRING --quote--> START          a token each time START is reached again
    START --digit or '-'--> NUMBER ----> START        (numbers and keywords end at the next byte)
    START --a..z--> KEYWORD ----------> START
    any --impossible byte--> RECOVER --newline or one of {}[],:--> START

An impossible byte is one error ("stray ..."), drops the object that was begun, and skips what
follows up to the next newline or structural character.  0xFE and 0xFF are impossible everywhere,
so a client resynchronises with 0xFF.  Otherwise an object is parsed when its brackets balance.

An object past a limit is skipped up to where its brackets balance; since those of garbage never do, also up to a
line that by itself begins with a whole command (an object with `execute` or `exec-oob`), which is then given out.

Differences from QEMU, each a fault of QEMU's: a number that no double holds (1e400) is an error, not
`inf`; `0e1` is a number, as JSON has it, not a 0 and a word; an object past a limit gives one error
and is skipped, not a flood of errors, and not silence if there were more brackets than the limit has.
"""

from __future__ import annotations

import json
import re
from types import MappingProxyType

from ratite.qapi.errors import QmpError
from ratite.qapi.wire_out import encode as encode
from ratite.qapi.wire_out import noncharacter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


NESTING_LIMIT = 1024
TOKEN_SIZE_LIMIT = 64 << 20
TOKEN_COUNT_LIMIT = 2 << 20

_INT_MIN, _UINT_MAX = -(1 << 63), (1 << 64) - 1

_START, _STRING, _ESCAPE, _NUMBER, _KEYWORD, _RECOVER = range(6)
_T_STRING, _T_INT, _T_FLOAT, _T_KEYWORD = 1, 2, 3, 4
_OPEN_BRACE, _CLOSE_BRACE, _OPEN_BRACKET, _CLOSE_BRACKET, _COMMA, _COLON = b"{}[],:"
_BACKSLASH = 0x5C

_SPACE = re.compile(rb"[ \t\r\n]*").match
_WORD = re.compile(rb"[a-z]*").match
_SKIP = re.compile(rb"[^\x00-\x08\x0a-\x1f{}\[\],:\xfe\xff]*").match
_PLAIN = MappingProxyType(
    {
        0x22: re.compile(rb'[^"\\\x00-\x1f\xfe\xff]*').match,
        0x27: re.compile(rb"[^'\\\x00-\x1f\xfe\xff]*").match,
    }
)
_KEYWORDS: MappingProxyType[bytes, object] = MappingProxyType({b"true": True, b"false": False, b"null": None})
_ESCAPES = MappingProxyType(
    {0x62: "\b", 0x66: "\f", 0x6E: "\n", 0x72: "\r", 0x74: "\t", 0x2F: "/", 0x5C: "\\", 0x22: '"', 0x27: "'"}
)
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}").match
_DOUBTFUL_ESCAPE = re.compile(rb"\\u[dDfF]").search
_LOW_SURROGATE = re.compile(rb"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match


def _number_states() -> tuple[MappingProxyType[int, int], ...]:
    """The automaton of a number: 0 after '-', 1 after '0', 2 in 1-9..., 3 after '.', 4 in the
    fraction, 5 after 'e', 6 after the exponent's sign, 7 in the exponent; -1 is impossible."""
    digits, nonzero = b"0123456789", b"123456789"
    frac_or_exp = {0x2E: 3, 0x65: 5, 0x45: 5}
    to = dict.fromkeys
    rows: tuple[dict[int, int], ...] = (
        {0x30: 1, **to(nonzero, 2)},
        {**to(digits, -1), **frac_or_exp},
        {**to(digits, 2), **frac_or_exp},
        to(digits, 4),
        {**to(digits, 4), 0x65: 5, 0x45: 5},
        {**to(digits, 7), 0x2B: 6, 0x2D: 6},
        to(digits, 7),
        to(digits, 7),
    )
    return tuple(MappingProxyType(row) for row in rows)


_NUMBER_STATES = _number_states()
_NUMBER_KIND = (0, _T_INT, _T_INT, 0, _T_FLOAT, 0, 0, _T_FLOAT)


def _parse_error(what: str) -> QmpError:
    return QmpError("JSON parse error, " + what)


def _shown(text: bytes) -> str:
    """Input bytes for a message; each sequence that is no character is one U+FFFD, as QEMU counts them."""
    if text.isascii():
        return text.decode("ascii")
    tails = rb"[\xc0-\xdf][T]?|[\xe0-\xef][T]{0,2}|[\xf0-\xf7][T]{0,3}|[\xf8-\xfb][T]{0,4}|[\xfc\xfd][T]{0,5}"
    sequences = re.findall(tails.replace(b"T", rb"\x80-\xbf") + rb"|[\x00-\xff]", text)
    return "".join(_character(sequence) for sequence in sequences)


def _character(sequence: bytes) -> str:
    try:
        char = sequence.decode("utf-8")
    except UnicodeDecodeError:
        return "\ufffd"
    return "\ufffd" if noncharacter(ord(char)) else char


# ---------------------------------------------------------------- fast path


class _NotPlain(ValueError):
    """The quick decoder can't give the verdict; the exact one must."""


def _plain_int(text: str) -> int:
    if len(text) <= 20:
        value = int(text)
        if _INT_MIN <= value <= _UINT_MAX:
            return value
    raise _NotPlain


def _plain_float(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise _NotPlain
    return value


def _plain_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotPlain
    return value


def _plain_constant(text: str) -> object:
    raise _NotPlain


def _may_nest_too_deep(text: str, start: int, stop: int) -> bool:
    return text.count("[", start, stop) + text.count("{", start, stop) > NESTING_LIMIT


_scan_plain: Any = vars(
    json.JSONDecoder(
        object_pairs_hook=_plain_object,
        parse_int=_plain_int,
        parse_float=_plain_float,
        parse_constant=_plain_constant,
    )
)["scan_once"]


# ---------------------------------------------------------------- the stream


class JsonStream:
    """A client's bytes to values and errors, in order.

    `feed(data)` gives a list whose items are JSON values (dict, list, str, int, float, bool, None;
    whether a non-object is welcome is the session's business) and QmpErrors to send.  Never raises
    for any bytes, in any chunks; time is linear in the bytes fed.
    """

    __slots__ = (
        "_braces", "_brackets", "_line_start", "_number", "_out", "_outer", "_quote", "_size", "_skip", "_state", "_text",
        "_tokens", "_trial",
    )  # fmt: skip

    def __init__(self) -> None:
        self._state = _START
        self._text = bytearray()
        self._quote = 0
        self._number = 0
        self._out: list[object] = []
        self._drop()

    def feed(self, data: bytes) -> list[object]:
        """Take the next bytes; the values and errors they complete."""
        out: list[object] = []
        self._out = out
        pos, end = 0, len(data)
        # Surrogates and noncharacters begin with \\ud or \\uf; the quick decoder doesn't mind them.
        plain = data.isascii() and end < TOKEN_COUNT_LIMIT and not _DOUBTFUL_ESCAPE(data)
        text = data.decode("ascii") if plain else ""
        while pos < end:
            if plain and self.idle:
                pos = self._feed_plain(text, pos)
            pos = self._feed_exact(data, pos)
        return out

    @property
    def idle(self) -> bool:
        """Whether nothing is pending: the next byte begins a message."""
        return self._state == _START and not self._tokens and not self._skip

    def _feed_plain(self, text: str, pos: int) -> int:
        """As many whole objects as the quick decoder can vouch for; where it stopped."""
        end = len(text)
        out = self._out
        try:
            while pos < end:
                char = text[pos]
                if char == "{":
                    value, stop = _scan_plain(text, pos)
                    if stop - pos > NESTING_LIMIT and _may_nest_too_deep(text, pos, stop):
                        break
                    out.append(value)
                    pos = stop
                elif char in " \t\r\n":
                    pos += 1
                else:
                    break
        except (ValueError, RecursionError, StopIteration):
            pass
        return pos

    def _feed_exact(self, data: bytes, pos: int) -> int:
        """Scan until a message ends (so that the quick decoder may try again) or the data do."""
        end = len(data)
        done = len(self._out)
        while pos < end and len(self._out) == done:
            state = self._state
            if state == _START:
                pos = self._scan_start(data, pos)
            elif state == _STRING:
                pos = self._scan_string(data, pos)
            elif state == _ESCAPE:
                pos = self._scan_escape(data, pos)
            elif state == _NUMBER:
                pos = self._scan_number(data, pos)
            elif state == _KEYWORD:
                stop = _WORD(data, pos).end()  # type: ignore[union-attr]
                self._keep(data, pos, stop)
                pos = stop
                if pos < end:
                    self._finish(_T_KEYWORD)
            else:
                pos = self._scan_recover(data, pos)
        return pos

    def _scan_start(self, data: bytes, pos: int) -> int:
        start = pos
        pos = _SPACE(data, pos).end()  # type: ignore[union-attr]
        if self._skip and data.find(b"\n", start, pos) >= 0:
            self._end_trial()
            self._line_start = True
        if pos == len(data):
            return pos
        byte = data[pos]
        if byte in b"{}[],:":
            self._token(byte, b"")
        elif byte in b"\"'":
            self._quote = byte
            self._keep(data, pos, pos + 1)
            self._state = _STRING
        elif 0x61 <= byte <= 0x7A:
            self._state = _KEYWORD
            return pos
        elif byte == 0x2D or 0x30 <= byte <= 0x39:
            self._number = 0 if byte == 0x2D else 1 if byte == 0x30 else 2
            self._keep(data, pos, pos + 1)
            self._state = _NUMBER
        else:
            self._stray(data, pos)
        return pos + 1

    def _scan_string(self, data: bytes, pos: int) -> int:
        stop = _PLAIN[self._quote](data, pos).end()  # type: ignore[union-attr]
        if stop == len(data):
            self._keep(data, pos, stop)
            return stop
        byte = data[stop]
        if byte == self._quote:
            self._keep(data, pos, stop + 1)
            self._finish(_T_STRING)
        elif byte == _BACKSLASH:
            self._keep(data, pos, stop + 1)
            if self._state == _STRING:
                self._state = _ESCAPE
        else:
            self._keep(data, pos, stop)
            self._stray(data, stop)
        return stop + 1

    def _scan_escape(self, data: bytes, pos: int) -> int:
        byte = data[pos]
        if byte < 0x20 or byte >= 0xFE:
            self._stray(data, pos)
        else:
            self._keep(data, pos, pos + 1)
            self._state = _STRING
        return pos + 1

    def _scan_number(self, data: bytes, pos: int) -> int:
        start, end, number = pos, len(data), self._number
        while pos < end:
            following = _NUMBER_STATES[number].get(data[pos])
            if following is None or following < 0:
                break
            number = following
            pos += 1
        self._number = number
        self._keep(data, start, pos)
        if pos == end:
            return pos
        kind = _NUMBER_KIND[number]
        if kind and following is None:
            self._finish(kind)
            return pos
        self._stray(data, pos)
        return pos + 1

    def _scan_recover(self, data: bytes, pos: int) -> int:
        pos = _SKIP(data, pos).end()  # type: ignore[union-attr]
        if pos == len(data):
            return pos
        if data[pos] in b"\r\n{}[],:":
            self._state = _START
            return pos
        self._stray(data, pos)
        return pos + 1

    def _keep(self, data: bytes, start: int, stop: int) -> None:
        """Add to the text of the token under way; the size limit holds for unfinished tokens too."""
        if self._skip and not self._trial:
            return
        if self._size + len(self._text) + stop - start > TOKEN_SIZE_LIMIT:
            self._past_limit("token size")
        else:
            self._text += data[start:stop]

    def _finish(self, kind: int) -> None:
        text = bytes(self._text)
        self._text.clear()
        self._state = _START
        self._token(kind, text)

    def _stray(self, data: bytes, pos: int) -> None:
        text = bytes(self._text) + data[pos : pos + 1]
        self._text.clear()
        self._state = _RECOVER
        self._drop()
        self._out.append(_parse_error(f"stray '{_shown(text.partition(bytes(1))[0])}'"))

    def _drop(self) -> None:
        self._tokens: list[tuple[int, bytes]] = []
        self._size = self._braces = self._brackets = 0
        # Skipping: whether the next token is the first of its line; whether the tokens are kept of a line that may be
        # a command, and the brackets that were open before it.
        self._skip = self._line_start = self._trial = False
        self._outer = (0, 0)

    def _past_limit(self, which: str) -> None:
        """Refuse the object under way, and read past its end without keeping it."""
        if self._trial:
            self._end_trial()
            return
        self._forget_tokens()
        self._skip = True
        self._out.append(QmpError(f"JSON {which} limit exceeded"))

    def _forget_tokens(self) -> None:
        self._tokens = []
        self._text.clear()
        self._size = 0

    def _begin_trial(self) -> None:
        """A line begins with a brace while an object is skipped: keep it, it may be a command."""
        self._trial = True
        self._outer = (self._braces, self._brackets)
        self._braces = self._brackets = 0

    def _end_trial(self) -> None:
        """The line was no command: it belongs to what is skipped."""
        if self._trial:
            self._trial = False
            self._braces += self._outer[0]
            self._brackets += self._outer[1]
            self._forget_tokens()

    def _token(self, kind: int, text: bytes) -> None:
        if self._line_start:
            self._line_start = False
            if kind == _OPEN_BRACE:
                self._begin_trial()
        if kind == _OPEN_BRACE:
            self._braces += 1
        elif kind == _CLOSE_BRACE:
            self._braces -= 1
        elif kind == _OPEN_BRACKET:
            self._brackets += 1
        elif kind == _CLOSE_BRACKET:
            self._brackets -= 1
        if not self._skip or self._trial:
            self._tokens.append((kind, text))
            self._size += len(text) or 1
            if self._braces + self._brackets > NESTING_LIMIT:
                self._past_limit("nesting depth")
            elif self._size > TOKEN_SIZE_LIMIT:
                self._past_limit("token size")
            elif len(self._tokens) > TOKEN_COUNT_LIMIT:
                self._past_limit("token count")
        if not self._ended:
            return
        if self._trial:
            command = _command(self._tokens)
            self._end_trial()
            if command is not None:
                self._drop()
                self._out.append(command)
                return
            if not self._ended:
                return
        tokens, skipped = self._tokens, self._skip
        self._drop()
        if not skipped:
            try:
                self._out.append(_parse(tokens))
            except QmpError as error:
                self._out.append(error)

    @property
    def _ended(self) -> bool:
        """Whether the brackets balance, or never will."""
        braces, brackets = self._braces, self._brackets
        return braces < 0 or brackets < 0 or (braces == 0 and brackets == 0)


# ---------------------------------------------------------------- tokens to a value


def _command(tokens: list[tuple[int, bytes]]) -> object | None:
    """The value of one message's tokens if it is a command, else None."""
    try:
        value = _parse(tokens)
    except QmpError:
        return None
    return value if isinstance(value, dict) and ("execute" in value or "exec-oob" in value) else None


def _parse(tokens: list[tuple[int, bytes]]) -> object:
    """The value of one message's tokens.  Raises QmpError at the first token that can't be.

    The brackets balance or end in one too many, so the parser fails before it runs out of tokens.
    Without recursion: 1024 levels are legal and Python's stack is shorter.
    """
    stack: list[_Level] = []
    pos = 0
    while True:
        kind, text = tokens[pos]
        pos += 1
        if kind in (_OPEN_BRACE, _OPEN_BRACKET):
            level = _Level(kind == _OPEN_BRACE)
            if tokens[pos][0] != level.closer:
                stack.append(level)
                continue
            pos += 1
            value = level.value
        else:
            value = _scalar(kind, text)
        while stack and stack[-1].accept(value, tokens[pos][0]):
            pos += 1
            value = stack.pop().value
        if not stack:
            return value
        pos += 1


class _Level:
    """An array or object that is being read."""

    __slots__ = ("awaits_key", "closer", "is_object", "key", "value")

    def __init__(self, is_object: bool) -> None:
        self.is_object = is_object
        self.closer = _CLOSE_BRACE if is_object else _CLOSE_BRACKET
        self.value: Any = {} if is_object else []
        self.awaits_key = is_object
        self.key = ""

    def accept(self, value: object, following: int) -> bool:
        """Take a value that the token kind `following` comes after; whether that one closes."""
        if self.awaits_key:
            if not isinstance(value, str):
                raise _parse_error("key is not a string in object")
            if following != _COLON:
                raise _parse_error("missing : in object pair")
            self.key = value
            self.awaits_key = False
            return False
        if self.is_object:
            if self.key in self.value:
                raise _parse_error("duplicate key")
            self.value[self.key] = value
            self.awaits_key = True
        else:
            self.value.append(value)
        if following not in (_COMMA, self.closer):
            raise _parse_error("expected separator in " + ("dict" if self.is_object else "list"))
        return following == self.closer


def _scalar(kind: int, text: bytes) -> object:
    if kind == _T_STRING:
        body = text[1:-1]
        if body.isascii() and _BACKSLASH not in body:
            return body.decode("ascii")
        return _string(text)
    if kind == _T_INT:
        if len(text) <= 20:
            value = int(text)
            if _INT_MIN <= value <= _UINT_MAX:
                return value
        return _double(text)
    if kind == _T_FLOAT:
        return _double(text)
    if kind == _T_KEYWORD:
        if text in _KEYWORDS:
            return _KEYWORDS[text]
        raise _parse_error(f"invalid keyword '{_shown(text)}'")
    raise _parse_error("expecting value")


def _double(text: bytes) -> float:
    value = float(text)
    if value - value != 0:
        shown = _shown(text) if len(text) <= 40 else _shown(text[:40]) + "..."
        raise _parse_error(f"number {shown} is out of range")
    return value


def _string(token: bytes) -> str:
    """The text of a quoted token that has escapes or bytes past ASCII."""
    parts: list[str] = []
    pos, end = 1, len(token) - 1
    while pos < end:
        stop = token.find(b"\\", pos, end)
        if stop < 0:
            stop = end
        if stop > pos:
            parts.append(_utf8(token[pos:stop]))
        if stop == end:
            break
        char, pos = _escaped(token, stop)
        parts.append(char)
    return "".join(parts)


def _utf8(raw: bytes) -> str:
    """Modified UTF-8: NUL may come as C0 80; surrogates and noncharacters may not come."""
    try:
        text = raw.replace(b"\xc0\x80", bytes(1)).decode("utf-8")
    except UnicodeDecodeError:
        raise _parse_error("invalid UTF-8 sequence in string") from None
    if not raw.isascii() and any(noncharacter(ord(char)) for char in text):
        raise _parse_error("invalid UTF-8 sequence in string")
    return text


def _escaped(token: bytes, pos: int) -> tuple[str, int]:
    """The character that the escape at `pos` stands for, and where the escape ends."""
    byte = token[pos + 1]
    if byte in _ESCAPES:
        return _ESCAPES[byte], pos + 2
    if byte != 0x75:
        raise _parse_error("invalid escape sequence in string")
    digits = _HEX4(token, pos + 2)
    stop = pos + 6
    if digits is None:
        raise _bad_character(token[pos:stop])
    point = int(digits[0], 16)
    if 0xD800 <= point < 0xDC00:
        low = _LOW_SURROGATE(token, stop)
        if low is not None:
            point = 0x10000 + ((point - 0xD800) << 10) + int(low[1], 16) - 0xDC00
            stop = low.end()
    if 0xD800 <= point < 0xE000 or noncharacter(point):
        raise _bad_character(token[pos:stop])
    return chr(point), stop


def _bad_character(text: bytes) -> QmpError:
    return _parse_error(f"{_shown(text)} is not a valid Unicode character")

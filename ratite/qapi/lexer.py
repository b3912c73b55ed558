"""The schema language's lexer: JSON with single quotes, '#' comments, true and false, no numbers.

A token is (kind, value, line, column); kinds are the structural characters themselves, "string",
"bool", "comment" (a '##' line outside of any expression is a documentation comment) and "end".
"""

from __future__ import annotations

from dataclasses import dataclass

from ratite.qapi.source import Place

STRUCTURAL = "{}[]:,"


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    value: str | bool
    line: int
    col: int


class Lexer:
    """Tokens of one file, one at a time."""

    def __init__(self, text: str, place: Place) -> None:
        self._text = text if text.endswith("\n") or not text else text + "\n"
        self._place = place
        self._pos = 0
        self._line = 1
        self._line_start = 0

    def next(self, comments: bool = False) -> Token:
        """The next token; comments only if asked for.  Raises SchemaError."""
        while True:
            self._skip_space()
            if self._pos == len(self._text):
                return self._token("end", "")
            char = self._text[self._pos]
            if char != "#":
                break
            token = self._line_token("comment")
            if comments:
                return token
        if char in STRUCTURAL:
            token = self._token(char, char)
            self._pos += 1
            return token
        if char == "'":
            return self._string()
        for word in ("true", "false"):
            if self._text.startswith(word, self._pos):
                token = self._token("bool", word == "true")
                self._pos += len(word)
                return token
        raise self._stray()

    def _line_token(self, kind: str) -> Token:
        """The text up to the end of the line, which is consumed (its newline is not)."""
        stop = self._text.find("\n", self._pos)
        token = self._token(kind, self._text[self._pos : stop])
        self._pos = stop
        return token

    def next_line(self) -> Token | None:
        """The whole next line (after a comment), without its indentation; None at the end of the file."""
        if self._pos < len(self._text):
            self._newline()
        if self._pos == len(self._text):
            return None
        while self._text[self._pos] in " \t\r":
            self._pos += 1
        return self._line_token("line")

    def _newline(self) -> None:
        self._pos += 1
        self._line += 1
        self._line_start = self._pos

    def _skip_space(self) -> None:
        text = self._text
        while self._pos < len(text) and text[self._pos] in " \t\r\n":
            if text[self._pos] == "\n":
                self._newline()
            else:
                self._pos += 1

    def _column(self, pos: int) -> int:
        col = 0
        for char in self._text[self._line_start : pos]:
            col = (col // 8 + 1) * 8 if char == "\t" else col + 1
        return col + 1

    def _token(self, kind: str, value: str | bool) -> Token:
        return Token(kind, value, self._line, self._column(self._pos))

    def _stray(self) -> Exception:
        stop = self._pos + 1
        while self._text[stop] not in STRUCTURAL + " \t\r\n'":
            stop += 1
        return self._place.at(self._line).error(f"stray '{self._text[self._pos : stop]}'", self._column(self._pos))

    def _string(self) -> Token:
        start = self._pos
        place = self._place.at(self._line)
        chars: list[str] = []
        pos = start + 1
        while self._text[pos] != "'":
            char = self._text[pos]
            if char == "\n":
                raise place.error('missing terminating "\'"', self._column(start))
            if char == "\\":
                pos += 1
                char = self._text[pos]
                if char != "\\":
                    shown = char if char != "\n" else ""
                    raise place.error(f"unknown escape \\{shown}: only \\\\ is one", self._column(pos - 1))
            elif not " " <= char <= "~":
                raise place.error(f"funny character {char!a} in string", self._column(pos))
            chars.append(char)
            pos += 1
        token = self._token("string", "".join(chars))
        self._pos = pos + 1
        return token

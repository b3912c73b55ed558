"""A line editor for the human monitor, without IO: what was typed in, what the terminal shall show out.

    keys ──take()──> LINE, a whole line; TAB, a wish to complete what stands before the cursor; None, all is taken
    the answer to a TAB ──completed()──>

What is sent is what QEMU's monitor sends (seen at its terminal): a changed line is drawn anew from its beginning and the rest
of the row erased.  It knows the editing keys of Emacs, the cursor keys, and a history.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from types import MappingProxyType

HISTORY = 64
LINE_MAX = 4095
# While more keys than these wait, as after a paste, nothing is drawn: a line drawn anew for each key is a lot of text.
BURST = 32

LINE, TAB = "line", "tab"

_LEFT, _RIGHT, _ERASE = "\x1b[D", "\x1b[C", "\x1b[K"
_ESCAPE = re.compile(r"\x1b(?:[\[O]([0-9;]{0,8})([A-Za-z~])|[^\[O])")
_BEGUN = re.compile(r"\x1b(?:[\[O][0-9;]{0,8})?\Z")
# Sequences of cursor keys as the control characters that mean the same.
_KEYS = MappingProxyType(
    {"A": "\x10", "B": "\x0e", "C": "\x06", "D": "\x02", "H": "\x01", "F": "\x05", "1~": "\x01", "3~": "\x04", "4~": "\x05"}
)
_COLUMNS = 80


class Editor:
    """One terminal.  `output` takes what is to be shown."""

    def __init__(self, prompt: str) -> None:
        self.history: list[str] = []
        self._prompt = prompt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed = ""
        self._line = ""
        self._cursor = 0
        # Where the terminal's cursor stands in a line that it shows as it was; None: it shows the line as it is.
        self._stands: int | None = None
        # Where in the history; past its end is the line that is being written, kept meanwhile.
        self._place = 0
        self._kept = ""
        self._shown: list[str] = []

    def show(self, text: str) -> None:
        """Text for the terminal, with plain newlines."""
        self._shown.append(text.replace("\n", "\r\n"))

    def show_prompt(self) -> None:
        """A new line begins."""
        self._shown.append(self._prompt)

    def restart(self) -> None:
        """What is being written is dropped."""
        self._line, self._cursor, self._place, self._kept = "", 0, len(self.history), ""

    def output(self) -> bytes:
        """What is to be sent now."""
        text, self._shown = "".join(self._shown), []
        return text.encode()

    def typed(self, data: bytes) -> None:
        """What came from the keyboard."""
        self._typed += self._decoder.decode(data)

    def take(self) -> tuple[str, str] | None:
        """Act on keys until there is something to do: (LINE, it), (TAB, what stands before the cursor), or None."""
        while self._typed:
            key = self._next_key()
            if key is None:
                break
            if key in "\r\n\t\x0c\x03":
                self._catch_up()
            if key in "\r\n":
                return LINE, self._entered()
            if key == "\t":
                return TAB, self._line[: self._cursor]
            self._act(key)
        self._catch_up()
        return None

    def completed(self, start: int, words: Sequence[str]) -> None:
        """What a TAB asked for: words that may stand from `start` to the cursor."""
        if not words:
            return
        common = words[0] + " " if len(words) == 1 else _common(words)
        if len(words) > 1:
            self.show("\n" + _columns(words))
            self.show_prompt()
        self._line = self._line[:start] + common + self._line[self._cursor :]
        old = 0 if len(words) > 1 else self._cursor
        self._cursor = start + len(common)
        self._draw(old)

    def _next_key(self) -> str | None:
        if self._typed[0] != "\x1b":
            key, self._typed = self._typed[0], self._typed[1:]
            return key
        if _BEGUN.match(self._typed):
            return None
        match = _ESCAPE.match(self._typed)
        end = 1 if match is None else match.end()
        self._typed = self._typed[end:]
        code, letter = (match[1] or "", match[2] or "") if match is not None else ("", "")
        return _KEYS.get(code + letter if letter == "~" else letter, "\0")

    def _entered(self) -> str:
        line = self._line
        self.show("\n")
        if line.strip() and self.history[-1:] != [line]:
            self.history = [*self.history, line][-HISTORY:]
        self.restart()
        return line

    def _act(self, key: str) -> None:
        line, at = self._line, self._cursor
        if key in "\x01\x05\x02\x06":  # ^A ^E ^B ^F
            self._move({"\x01": 0, "\x05": len(line), "\x02": max(at - 1, 0), "\x06": min(at + 1, len(line))}[key])
        elif key in "\x08\x7f" and at:  # backspace
            self._set(line[: at - 1] + line[at:], at - 1)
        elif key == "\x04":  # ^D
            self._set(line[:at] + line[at + 1 :], at)
        elif key == "\x0b":  # ^K
            self._set(line[:at], at)
        elif key == "\x15":  # ^U
            self._set(line[at:], 0)
        elif key == "\x17":  # ^W
            kept = re.sub(r"\S*\s*\Z", "", line[:at])
            self._set(kept + line[at:], len(kept))
        elif key == "\x10":  # ^P
            self._recall(self._place - 1)
        elif key == "\x0e":  # ^N
            self._recall(self._place + 1)
        elif key == "\x0c":  # ^L
            self.show("\x1b[2J\x1b[1;1H")
            self.show_prompt()
            self._draw(0)
        elif key == "\x03":  # ^C
            self.restart()
            self.show("\n")
            self.show_prompt()
        elif key.isprintable() and len(line) < LINE_MAX:
            self._set(line[:at] + key + line[at:], at + 1)

    def _move(self, to: int) -> None:
        if self._postponed(self._cursor):
            self._cursor = to
            return
        self.show((_RIGHT if to > self._cursor else _LEFT) * abs(to - self._cursor))
        self._cursor = to

    def _set(self, line: str, cursor: int) -> None:
        old, self._cursor, self._line = self._cursor, cursor, line
        self._draw(old)

    def _draw(self, old: int) -> None:
        """The line anew; the cursor stands `old` characters behind its beginning."""
        if not self._postponed(old):
            self._show_line(old)

    def _postponed(self, old: int) -> bool:
        """Whether the terminal, whose cursor stands at `old`, is to see the line only when fewer keys wait."""
        if self._stands is None and len(self._typed) > BURST:
            self._stands = old
        return self._stands is not None

    def _catch_up(self) -> None:
        if self._stands is not None:
            self._show_line(self._stands)
            self._stands = None

    def _show_line(self, old: int) -> None:
        self.show(_LEFT * old + self._line + _ERASE + _LEFT * (len(self._line) - self._cursor))

    def _recall(self, place: int) -> None:
        if not 0 <= place <= len(self.history) or place == self._place:
            return
        if self._place == len(self.history):
            self._kept = self._line
        self._place = place
        line = self.history[place] if place < len(self.history) else self._kept
        self._set(line, len(line))


def _common(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    for number, char in enumerate(first):
        if char != last[number]:
            return first[:number]
    return first


def _columns(words: Sequence[str]) -> str:
    width = max(10, max(map(len, words)) + 2)
    each = max(1, _COLUMNS // width)
    rows = [words[start : start + each] for start in range(0, len(words), each)]
    return "".join("".join(f"{word:<{width}}" for word in row) + "\n" for row in rows)

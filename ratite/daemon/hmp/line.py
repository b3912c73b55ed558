"""A line of the human monitor on its way to its command: arguments and expressions.

EXPR = SUM of PRODUCTs of UNARYs; operators + - * / % & | ^ ~ ( ); numbers in C's notation;
$NAME is a register of the chosen CPU
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ratite.daemon.dispatch import Context, Later
from ratite.daemon.personality.syntax import size_of

_TOKEN = re.compile(r"\s*(?:(0[xX][0-9a-fA-F]+|[0-9]+)|\$([A-Za-z_][A-Za-z0-9_.]*)|'(.)'|([-+*/%&|^~()]))")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|[^\s"]\S*')
_MASK = (1 << 64) - 1


class HmpError(Exception):
    """What the monitor prints of a line that it can't execute."""


class Seat:
    """Who sits at a human monitor: the CPU that was chosen, if one was, and what was typed before."""

    def __init__(self, cpu_index: int | None = None, history: Sequence[str] = ()) -> None:
        self.cpu_index = cpu_index
        self.history = history


class Line:
    """A command's arguments; `rest` is the text after its name, `label` the command with its short forms."""

    def __init__(self, ctx: Context, seat: Seat, name: str, label: str, rest: str) -> None:
        self.ctx = ctx
        self.seat = seat
        self.name = name
        self.label = label
        self.rest = rest
        self.args: dict[str, Any] = {}
        # What has to be waited for, aside, before the line is done.
        self.later: Later | None = None

    @property
    def cpu_index(self) -> int | None:
        """The number of the chosen CPU."""
        return self.seat.cpu_index

    def shifted(self, rest: str, topic: str) -> Line:
        """The same line, past the word that chose a topic."""
        return Line(self.ctx, self.seat, f"{self.name} {topic}", topic, rest)

    def fail(self, what: str) -> HmpError:
        """A fault of the arguments, with the hint that QEMU gives."""
        return HmpError(f'{what}\nTry "help {self.name}" for more information')

    def surplus(self) -> HmpError:
        """There is more than the command takes."""
        return self.fail(f"{self.label}: extraneous characters at the end of line")

    def parse(self, spec: str) -> None:
        """Take the arguments apart into `args`.

        `spec` lists them: "-x" is a switch, "NAME:KIND" something that must be there, "NAME:KIND?" something that may; KIND is
        word, file, expr, size (MiB where no unit stands), switch (on or off), or rest (all that follows).  HmpError.
        """
        switches = [each[1] for each in spec.split() if each[0] == "-"]
        rest = self.rest
        for each in spec.split():
            rest = rest.lstrip()
            if each[0] == "-":
                rest = self._switch(rest, switches.pop(0), switches)
                continue
            name, _, kind = each.partition(":")
            if kind.endswith("?"):
                kind = kind[:-1]
                if not rest:
                    continue
            rest = self._argument(rest, name, kind)
        if rest.strip():
            raise self.surplus()

    def _switch(self, rest: str, letter: str, others: list[str]) -> str:
        if not rest.startswith("-") or rest[1:2].isspace():
            return rest
        if rest[1:2] != letter:
            if rest[1:2] not in others:
                raise self.fail(f"{self.label}: unsupported option -{rest[1:2]}")
            return rest
        self.args[letter] = True
        return rest[2:]

    def _argument(self, rest: str, name: str, kind: str) -> str:
        if kind == "expr":
            self.args[name], end = _Expression(self, rest).prefix()
            return rest[end:]
        if kind == "size":
            text = re.match(r"\S*", rest)[0]  # type: ignore[index]  # it matches anything
            size = size_of(text, "m")
            if size is None:
                raise self.fail("invalid size")
            self.args[name] = size
            return rest[len(text) :]
        if kind == "rest" and rest:
            self.args[name] = rest
            return ""
        match = _WORD.match(rest)
        if kind == "switch":
            if match is None or match[0] not in ("on", "off"):
                raise self.fail("Expected 'on' or 'off'")
            self.args[name] = match[0] == "on"
        else:
            if match is None:
                raise self.fail(f"{self.label}: {'filename' if kind == 'file' else 'string'} expected")
            self.args[name] = match[0] if match[1] is None else re.sub(r"\\(.)", _unescaped, match[1])
        return rest[match.end() :]

    def qmp(self, name: str, /, arguments: Mapping[str, Any] | None = None) -> Any:
        """What the QMP command answers: checked and executed as a client's.  QmpError."""
        command = self.ctx.view.find(name)
        if command is None:
            raise HmpError(f"unknown command: '{self.name}'")
        value = self.ctx.daemon.handlers[name].handler(self.ctx, self.ctx.view.check(command, dict(arguments or {})))
        if isinstance(value, Later):
            self.later = value
            return None
        return value

    def evaluate(self, text: str) -> int:
        """An expression's value, as 64 bits."""
        return _Expression(self, text).value()


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r"}.get(match[1], match[1])


class _Expression:
    def __init__(self, line: Line, text: str) -> None:
        self._line = line
        self._text = text
        self._pos = 0
        self._depth = 0

    def prefix(self) -> tuple[int, int]:
        """The value of what begins the text, and where it ends."""
        return self._sum() & _MASK, self._pos

    def value(self) -> int:
        value, end = self.prefix()
        if self._text[end:].strip():
            raise self._line.surplus()
        return value

    def _peek(self) -> str:
        rest = self._text[self._pos :].lstrip()
        return rest[:1]

    def _take(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._pos)
        if match is None:
            rest = self._text[self._pos :].strip()
            raise self._line.fail(f"invalid char '{rest[0]}' in expression" if rest else "unexpected end of expression")
        self._pos = match.end()
        return match

    def _sum(self) -> int:
        result = self._product()
        while self._peek() and self._peek() in "+-&|^":
            operator = self._take()[4]
            right = self._product()
            if operator == "+":
                result += right
            elif operator == "-":
                result -= right
            elif operator == "&":
                result &= right
            elif operator == "|":
                result |= right
            else:
                result ^= right
        return result

    def _product(self) -> int:
        result = self._unary()
        while self._peek() and self._peek() in "*/%":
            operator = self._take()[4]
            right = self._unary()
            if operator == "*":
                result = (result * right) & _MASK
            elif right == 0:
                raise self._line.fail("division by zero")
            else:
                result = result // right if operator == "/" else result % right
        return result

    def _unary(self) -> int:
        number, register, char, operator = self._take().groups()
        if number is not None:
            return _number(number, self._line)
        if register is not None:
            return self._register(register)
        if char is not None:
            return ord(char)
        self._depth += 1
        if self._depth > 64:
            raise self._line.fail("expression nests too deep")
        if operator == "(":
            result = self._sum()
            if self._peek() != ")":
                raise self._line.fail("')' expected")
            self._take()
        elif operator in ("-", "+", "~"):
            result = self._unary()
            result = -result if operator == "-" else ~result if operator == "~" else result
        else:
            raise self._line.fail("unexpected end of expression")
        self._depth -= 1
        return result

    def _register(self, name: str) -> int:
        from ratite.daemon import guest

        value = guest.register(guest.cpu_at(self._line.ctx.machine, self._line.cpu_index), name)
        if value is None:
            raise self._line.fail("unknown register")
        return value


def _number(text: str, line: Line) -> int:
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        raise line.fail("invalid char in expression") from None

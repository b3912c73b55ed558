"""A line of the human monitor on its way to its command: arguments and expressions.

EXPR = SUM of PRODUCTs of UNARYs; operators + - * / % & | ^ ~ ( ); numbers in C's notation;
$NAME is a register of the chosen CPU
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ratite.daemon.dispatch import Context

_TOKEN = re.compile(r"\s*(?:(0[xX][0-9a-fA-F]+|[0-9]+)|\$([A-Za-z_][A-Za-z0-9_.]*)|'(.)'|([-+*/%&|^~()]))")
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

    def words(self, count: int) -> list[str]:
        """So many words, the last one with all that follows."""
        found = self.rest.split(None, count - 1)
        if len(found) != count:
            raise self.fail(f"{self.label}: string expected")
        return found

    def evaluate(self, text: str) -> int:
        """An expression's value, as 64 bits."""
        return _Expression(self, text).value()


class _Expression:
    def __init__(self, line: Line, text: str) -> None:
        self._line = line
        self._text = text
        self._pos = 0
        self._depth = 0

    def value(self) -> int:
        result = self._sum()
        if self._text[self._pos :].strip():
            raise self._line.surplus()
        return result & _MASK

    def _peek(self) -> str:
        rest = self._text[self._pos :].lstrip()
        return rest[:1]

    def _take(self) -> re.Match[str]:
        match = _TOKEN.match(self._text, self._pos)
        if match is None:
            rest = self._text[self._pos :].strip()
            raise self._line.fail("invalid char in expression" if rest else "unexpected end of expression")
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
            if self._take()[4] != ")":
                raise self._line.fail("')' expected")
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

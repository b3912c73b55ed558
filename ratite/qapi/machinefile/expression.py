"""`$(…)` in a machine file: integers, strings, true and false over parameters and the variables of a repetition.

    expression  value if condition else value
    operators   or · and · not · == != < <= > >= · | · & · << >> · + - · * // % · - (sign)
    values      12  0x1f  512M (K, M, G, T: binary)  "text"  'text'  true  false  null  name  (…)
    functions   hex(n)  repeat(text, count, separator)

A text that is `$(…)` whole is its value, of its type; inside a text the value is put in as text.  `$$(` stands for `$(` itself.
Everything is bounded: the text, integers to 128 bits, strings.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.qapi.machinefile.problems import Near

TEXT_MAX = 500
STRING_MAX = 1 << 16
_INT_BITS = 128
_DEPTH_MAX = 30

UNITS: Mapping[str, int] = MappingProxyType({"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40})
_TOKEN = re.compile(
    r"""\s*(?:(?P<int>0x[0-9a-fA-F]+|[0-9]+[KMGT]?)\b|(?P<str>"[^"]*"|'[^']*')|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"""
    r"""|(?P<op>==|!=|<<|>>|<=|>=|//|[-+*%&|<>(),]))"""
)
_OPENING = re.compile(r"\$(\$?)\(")

_INT = (int,)
_LEVELS: tuple[Mapping[str, tuple[Callable[[Any, Any], Any], tuple[type, ...]]], ...] = (
    {"==": (operator.eq, ()), "!=": (operator.ne, ()), "<": (operator.lt, _INT), "<=": (operator.le, _INT),
     ">": (operator.gt, _INT), ">=": (operator.ge, _INT)},
    {"|": (operator.or_, _INT)},
    {"&": (operator.and_, _INT)},
    {"<<": (operator.lshift, _INT), ">>": (operator.rshift, _INT)},
    {"+": (operator.add, (int, str)), "-": (operator.sub, _INT)},
    {"*": (operator.mul, _INT), "//": (operator.floordiv, _INT), "%": (operator.mod, _INT)},
)  # fmt: skip
_WORDS: Mapping[str, Any] = MappingProxyType({"true": True, "false": False, "null": None})
_SYNTAX = ("if", "else", "and", "or", "not")
# What parameters and variables can be called.
NAME = rf"(?!({'|'.join((*_WORDS, *_SYNTAX))})(?!\n)$)[a-z][a-z0-9_]{{0,62}}"


class ExpressionError(Exception):
    """The text says what is wrong; without one it was told elsewhere: a name has no value because of that."""

    def __init__(self, text: str = "", near: Near | None = None) -> None:
        super().__init__(text)
        self.near = near


class _Unknown:
    """The value of a parameter that was given wrongly."""


UNKNOWN = _Unknown()


def size_of(text: str) -> int | None:
    """ "512M" in bytes; None when it is no size."""
    number, unit = text[:-1], text[-1:]
    return int(number) * UNITS[unit] if unit in UNITS and number.isascii() and number.isdigit() and len(number) < 20 else None


def is_expression(value: object) -> bool:
    """Whether the value depends on names."""
    return isinstance(value, str) and any(not match[1] for match in _OPENING.finditer(value))


def escaped(text: str) -> str:
    """The text as a machine file has to write it."""
    return text.replace("$(", "$$(")


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The text with every expression replaced by its value; ExpressionError."""
    made: list[str] = []
    at = size = 0
    while (match := _OPENING.search(text, at)) is not None:
        made.append(text[at : match.start()])
        if match[1]:
            made.append("$(")
            at = match.end()
            continue
        parser = _Parser(text, match.end(), names)
        value = parser.whole()
        at = parser.at
        if match.start() == 0 and at == len(text):
            return value
        made.append(as_text(value))
        size += len(made[-1])
        if size > STRING_MAX:
            break
    made.append(text[at:])
    return _bounded("".join(made))


def as_text(value: Any) -> str:
    """A value inside a text; ExpressionError for one that has no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | str):
        return str(value)
    raise ExpressionError("a value inside a text must be a string or an integer")


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > STRING_MAX:
        raise ExpressionError(f"a text can have at most {STRING_MAX} letters")
    if isinstance(value, int) and value.bit_length() > _INT_BITS:
        raise ExpressionError(f"an integer can have at most {_INT_BITS} bits")
    return value


class _Parser:
    """Reads and computes one expression, from behind "$(" to behind its ")"."""

    def __init__(self, text: str, at: int, names: Mapping[str, Any]) -> None:
        self._text = text
        self._names = names
        self._start = at
        self._depth = 0
        self.at = at
        self._kind = self._token = ""
        self._next()

    def whole(self) -> Any:
        value = self._choice()
        if self._token != ")" or self._kind != "op":
            raise self._error("')' must follow")
        return value

    def _next(self) -> None:
        if self.at - self._start > TEXT_MAX:
            raise ExpressionError(f"an expression can have at most {TEXT_MAX} letters")
        match = _TOKEN.match(self._text, self.at)
        if match is None:
            self._kind, self._token = "", self._text[self.at :].strip()[:10]
            return
        self._kind, self._token = str(match.lastgroup), match[str(match.lastgroup)]
        self.at = match.end()

    def _error(self, what: str) -> ExpressionError:
        at = f"at '{self._token}'" if self._token else "at the end"
        return ExpressionError(f"the expression '$({self._text[self._start : self._start + 60]}': {what} {at}")

    def _take(self, *tokens: str) -> str:
        if self._token in tokens and self._kind in ("op", "name"):
            token = self._token
            self._next()
            return token
        return ""

    def _choice(self) -> Any:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise ExpressionError(f"an expression can be nested {_DEPTH_MAX} deep")
        value = self._either()
        if self._take("if"):
            chosen = self._bool(self._either())
            if not self._take("else"):
                raise self._error("'else' must follow")
            other = self._choice()
            value = value if chosen else other
        self._depth -= 1
        return value

    def _either(self) -> Any:
        value = self._both()
        while self._take("or"):
            value = self._bool(value) | self._bool(self._both())
        return value

    def _both(self) -> Any:
        value = self._not()
        while self._take("and"):
            value = self._bool(value) & self._bool(self._not())
        return value

    def _not(self) -> Any:
        turned = False
        value_of: Callable[[Any], Any] = lambda value: value  # noqa: E731
        while self._take("not"):
            turned, value_of = not turned, self._bool
        value = value_of(self._binary(0))
        return not value if turned else value

    def _binary(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self._sign()
        value = self._binary(level + 1)
        while token := self._take(*_LEVELS[level]):
            right = self._binary(level + 1)
            function, types = _LEVELS[level][token]
            self._operands(token, types, value, right)
            value = _bounded(function(value, right))
        return value

    def _operands(self, token: str, types: tuple[type, ...], left: Any, right: Any) -> None:
        if types and not (type(left) is type(right) and type(left) in types):
            names = " or two ".join("integers" if each is int else "strings" for each in types)
            raise ExpressionError(f"'{token}' takes two {names}")
        if token in ("<<", ">>") and not 0 <= right <= _INT_BITS:
            raise ExpressionError(f"'{token}' shifts by 0 to {_INT_BITS} bits, not {right}")
        if token in ("//", "%") and right == 0:
            raise ExpressionError(f"'{token}' by 0")

    def _sign(self) -> Any:
        negative = False
        signs = 0
        while self._take("-"):
            negative, signs = not negative, signs + 1
        value = self._value()
        if signs:
            self._operands("-", _INT, value, 0)
        return -value if negative else value

    def _value(self) -> Any:
        kind, token = self._kind, self._token
        if kind == "op" and token == "(":
            self._next()
            value = self._choice()
            if not self._take(")"):
                raise self._error("')' must follow")
            return value
        if kind not in ("int", "str", "name") or token in _SYNTAX:
            raise self._error("a value must stand")
        self._next()
        if kind == "int":
            size = size_of(token)
            return _bounded(size if size is not None else int(token, 16 if token.startswith("0x") else 10))
        if kind == "str":
            return token[1:-1]
        if self._take("("):
            return self._call(token)
        if token in _WORDS:
            return _WORDS[token]
        if token not in self._names:
            from ratite.qapi.machinefile.problems import Near, shortened

            rule = f"there is no parameter or variable '{shortened(token)}'"
            raise ExpressionError(rule, Near(token, self._names, "there are"))
        if self._names[token] is UNKNOWN:
            raise ExpressionError
        return self._names[token]

    def _call(self, name: str) -> Any:
        arguments = []
        if not self._take(")"):
            arguments.append(self._choice())
            while self._take(","):
                arguments.append(self._choice())
            if not self._take(")"):
                raise self._error("')' must follow")
        kinds = tuple(type(each) for each in arguments)
        if name == "hex" and kinds == (int,):
            return f"{arguments[0]:x}"
        if name == "repeat" and kinds == (str, int, str):
            text, count, separator = arguments
            if not 0 <= count * (len(text) + len(separator)) <= STRING_MAX or count < 0:
                raise ExpressionError(f"repeat() makes at most {STRING_MAX} letters")
            return separator.join([text] * count)
        raise ExpressionError("the functions are hex(integer) and repeat(text, count, separator)")

    @staticmethod
    def _bool(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ExpressionError("'and', 'or', 'not' and 'if' take true or false")
        return value

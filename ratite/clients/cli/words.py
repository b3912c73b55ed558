"""A command as people type it, `device_add driver=ns16550 id=uart0 regshift=2`, to its name and arguments.

    LINE     := COMMAND (KEY=VALUE)* | JSON object
    KEY      := member or member.member…; an object's members may be given one by one: backend.type=null
    VALUE    := JSON for an object or array ({…}, […]), "JSON string", 'text as it is', or plain text

Plain text is read as the member's type says: an int in decimal, 0x…, 0b… or with K, M, G, T behind it; a bool as on, off, true,
false; an array of plain values with commas between. What the schema doesn't know is JSON if it can be, else a string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ratite.clients.cli.kit import nearest
from ratite.clients.cli.vocabulary import Vocabulary

_SUFFIXES = (("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40))
_BOOLS = (("on", True), ("true", True), ("yes", True), ("off", False), ("false", False), ("no", False))
_NUMBER = re.compile(r"(-?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*))([KMGT]?)(?:i?B)?\Z")


class LineError(Exception):
    """A line can't be understood; the text says what and where."""


class Request(NamedTuple):
    """A command to execute."""

    command: str
    arguments: dict[str, Any]
    oob: bool = False


def split(line: str) -> list[str]:
    """The words of a line; quotes and brackets hold blanks together, and stay. LineError."""
    found: list[str] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        end = _word_end(line, at)
        found.append(line[at:end])
        at = end
    return found


def _word_end(line: str, at: int) -> int:
    depth, start = 0, at
    while at < len(line):
        char = line[at]
        if char in "\"'" and (depth or line[at - 1 : at] in ("=", "") or at == start):
            at = _quote_end(line, at)
            continue
        if char in "{[" and (depth or at == start or line[at - 1] == "="):
            depth += 1
        elif char in "}]" and depth:
            depth -= 1
        elif char.isspace() and not depth:
            break
        at += 1
    if depth:
        raise LineError(f"the bracket at column {start + 1} must be closed: {line[start:]}")
    return at


def _quote_end(line: str, at: int) -> int:
    quote, start = line[at], at
    at += 1
    while at < len(line) and line[at] != quote:
        at += 2 if line[at] == "\\" and quote == '"' else 1
    if at >= len(line):
        raise LineError(f"the quote at column {start + 1} must be closed: {line[start:]}")
    return at + 1


def parse_line(line: str, vocabulary: Vocabulary) -> Request:
    """What a line asks for. LineError."""
    if line.lstrip().startswith("{"):
        return _raw(line)
    words = split(line)
    if not words:
        raise LineError("a command is missing")
    return parse_words(words, vocabulary)


def _raw(line: str) -> Request:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"no JSON: {error}") from None
    name = message.get("execute", message.get("exec-oob"))
    arguments = message.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise LineError('a JSON command must be {"execute": NAME, "arguments": {…}}')
    return Request(name, arguments, "exec-oob" in message)


def parse_words(words: Sequence[str], vocabulary: Vocabulary) -> Request:
    """The same of words that a shell has already split. LineError."""
    name, *rest = words
    type = vocabulary.arguments(name)
    if type is None:
        raise LineError(f"there is no command {name!r}{nearest(name, vocabulary.commands)}")
    given: list[tuple[str, str]] = []
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise LineError(f"an argument must be KEY=VALUE, not {word!r}")
        given.append((key, value))
    flat = {key: unquoted(value) for key, value in given}
    arguments: dict[str, Any] = {}
    for key, value in given:
        _put(arguments, key, _value(key, value, type_of(key, type, flat, vocabulary), vocabulary))
    return Request(name, arguments)


def _put(arguments: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        arguments = arguments.setdefault(part, {})
        if not isinstance(arguments, dict):
            raise LineError(f"{key} is given, and {part} as a whole too")
    if last in arguments:
        raise LineError(f"{key} is given twice")
    arguments[last] = value


def below(prefix: str, flat: Mapping[str, str]) -> dict[str, str]:
    """The arguments below `prefix` ("backend."), with their names there."""
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}


def type_of(key: str, type: str, flat: Mapping[str, str], vocabulary: Vocabulary) -> str | None:
    """The type of the member that `key` names, of objects of `type`; None where the schema knows none."""
    prefix = ""
    found: str | None = type
    for part in key.split("."):
        if found is None or vocabulary.kind(found) != "object":
            return None
        found = next((member.type for member in vocabulary.members(found, below(prefix, flat)) if member.name == part), None)
        prefix += f"{part}."
    return found


def unquoted(value: str) -> str:
    """A value's text without the quotes around it."""
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1]
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def _value(key: str, text: str, type: str | None, vocabulary: Vocabulary) -> Any:
    kind = "any" if type is None else vocabulary.kind(type)
    if text[:1] in ("'", '"'):
        return unquoted(text)
    if text[:1] in ("{", "[") and kind not in ("string", "enum"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LineError(f"{key} is no JSON: {error}") from None
    if kind in ("string", "enum"):
        return text
    if kind == "array" and type is not None:
        return [_value(key, part, vocabulary.element(type), vocabulary) for part in text.split(",")] if text else []
    if kind == "object":
        raise LineError(f"{key} must be an object: {key}={{…}}, or its members as {key}.MEMBER=VALUE")
    return _scalar(key, text, kind)


def _scalar(key: str, text: str, kind: str) -> Any:
    if kind == "int" or kind not in ("boolean", "number", "null"):
        number = integer(text)
        if number is not None:
            return number
        if kind == "int":
            raise LineError(f"{key} must be a whole number (10, 0x10, 16M), not {text!r}")
    if kind == "boolean":
        for word, value in _BOOLS:
            if text == word:
                return value
        raise LineError(f"{key} must be on or off, not {text!r}")
    try:
        value = json.loads(text)
    except ValueError:
        if kind == "number":
            raise LineError(f"{key} must be a number, not {text!r}") from None
        return text
    return value


def line_of(command: str, arguments: Mapping[str, Any]) -> str:
    """A line that `parse_line` reads as this command; qmp-shell too, where no text looks like a number or holds blanks."""
    return " ".join([command, *(f"{key}={_text_of(value)}" for key, value in arguments.items())])


def _text_of(value: Any) -> str:
    if isinstance(value, str) and value and not value.isspace() and not set(value) & set(" \t\r\n\"'") and value[0] not in "{[":
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def integer(text: str) -> int | None:
    """ "10", "0x10", "16M" (binary) as a number; None for anything else."""
    match = _NUMBER.match(text)
    if match is None:
        return None
    try:
        number = int(match[1], 0) if not match[1].lstrip("-0").isdigit() else int(match[1])
    except ValueError:
        return None
    return number << next(shift for suffix, shift in _SUFFIXES if suffix == match[2])

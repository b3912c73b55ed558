"""How values of options are written: `first,key=value,flag,key=with,,comma`, or JSON; and texts as the values that they mean.

Two readers, as there are two kinds of option:

    pairs(text)    a list of key and value as they stand; a bare word is a switch (`wait`, `nowait`), which is deprecated
    nested(text)   dotted keys become objects and lists (`a.b.0=x`); a bare word only as the implied first key

Both take the first word as the value of an implied key where the option has one.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

from ratite.qapi.errors import QmpError

# No number that is taken has more digits.
_DIGITS = 20
_NUMBER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_DEPTH = 100
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)(\.[0-9]+)?([bBkKmMgGtTpPeE]?)")
_SHIFTS = MappingProxyType({"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60})
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
YES, NO = ("on", "yes", "true", "y"), ("off", "no", "false", "n")
SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
)


class CommandLineError(Exception):
    """The command line can't be obeyed; the text is what a person reads, behind the program's name."""


def split(text: str) -> list[str]:
    """The items between single commas; `,,` is a comma."""
    items, item, at = [], "", 0
    while at < len(text):
        if text[at] != ",":
            item += text[at]
        elif text[at + 1 : at + 2] == ",":
            item += ","
            at += 1
        else:
            items.append(item)
            item = ""
        at += 1
    items.append(item)
    return items


def pairs(text: str, implied: str = "") -> list[tuple[str, str]]:
    """Key and value of each item; "wait" is ("wait", "on"), "nowait" ("wait", "off")."""
    found = []
    for number, item in enumerate(split(text)):
        key, equals, value = item.partition("=")
        if equals:
            found.append((key, value))
        elif number == 0 and implied:
            found.append((implied, item))
        elif not item:
            continue
        elif item.startswith("no") and len(item) > 2:
            found.append((item[2:], "off"))
        else:
            found.append((item, "on"))
    return found


def nested(text: str, implied: str = "", lists: Container[str] = ()) -> dict[str, Any]:
    """An object of texts, objects and lists; keys of `lists` may come again and again.  CommandLineError."""
    made: dict[str, Any] = {}
    for number, item in enumerate(split(text)):
        key, equals, value = item.partition("=")
        if not equals:
            if number or not implied:
                if not item:
                    continue
                raise CommandLineError(f"Expected '=' after parameter '{item}'")
            key, value = implied, item
        if not _KEY.fullmatch(key):
            raise CommandLineError(f"Invalid parameter '{key}'")
        if key in lists:
            key = f"{key}.{len(made.get(key, ()))}"
        _put(made, key, value)
    listed: dict[str, Any] = _with_lists(made, "")
    return listed


def _put(into: dict[str, Any], key: str, value: str) -> None:
    *path, last = key.split(".")
    if len(path) > _DEPTH:
        raise CommandLineError(f"Parameter '{key[:40]}...' is nested too deep")
    done = ""
    for name in path:
        done += name
        into = into.setdefault(name, {})
        if not isinstance(into, dict):
            raise CommandLineError(f"Parameters '{done}.*' used inconsistently")
        done += "."
    if isinstance(into.get(last), dict):
        raise CommandLineError(f"Parameters '{key}.*' used inconsistently")
    into[last] = value


def _with_lists(made: dict[str, Any], path: str) -> Any:
    """Objects whose keys are all numbers are lists."""
    below = {
        key: _with_lists(value, f"{path}{key}.") if isinstance(value, dict) else value for key, value in made.items()
    }
    if not path or not all(key.isdecimal() for key in below):
        return below
    for number in range(len(below)):
        if str(number) not in below:
            raise CommandLineError(f"Parameter '{path}{number}' missing")
    return [below[str(number)] for number in range(len(below))]


def is_json(text: str) -> bool:
    """Whether an option's value is JSON."""
    return text.startswith("{")


def json_value(text: str) -> Any:
    """The value of an option in JSON.  CommandLineError in the wire's words."""
    from ratite.qapi.wire import JsonStream

    stream = JsonStream()
    found = [*stream.feed(text.encode()), *stream.feed(b"\n")]
    if not found:
        # It isn't complete; what is wrong with it besides comes first.
        found = [each for each in stream.feed(b"}") if isinstance(each, QmpError)]
    for value in found:
        if isinstance(value, QmpError):
            raise CommandLineError(value.desc)
    if len(found) != 1:
        raise CommandLineError("JSON parse error, expecting value")
    return found[0]


# -- texts as values


def as_bool(key: str, text: str) -> bool:
    """on/off and their other spellings."""
    if text in YES:
        return True
    if text in NO:
        return False
    raise CommandLineError(f"Parameter '{key}' expects 'on' or 'off'")


def as_number(key: str, text: str) -> int:
    """A number of a closed group of parameters: decimal, or with 0x."""
    value = number_of(text)
    if value is None or not 0 <= value < 1 << 64:
        raise CommandLineError(f"Parameter '{key}' expects a number")
    return value


def number_of(text: str) -> int | None:
    """A decimal number, or with 0x; None for what is none, or has more digits than any that is taken."""
    if len(text) > _DIGITS + 1 or not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text, 0)
    except ValueError:  # 010
        return None


def size_of(text: str, unit: str = "") -> int | None:
    """Bytes of "512M", "1.5g", "0x1000"; `unit` is the suffix of one without; None when it is no size."""
    match = _SIZE.fullmatch(text)
    if match is None or len(match[1]) > _DIGITS or (match[2] and match[1][:2] in ("0x", "0X")):
        return None
    shift = _SHIFTS[(match[3] or unit).lower()]
    whole = int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10) << shift
    value = whole + int(float("0" + match[2]) * (1 << shift)) if match[2] else whole
    return value if value < 1 << 64 else None


def as_size(key: str, text: str, unit: str = "") -> int:
    """A size in bytes."""
    value = size_of(text, unit)
    if value is None and _SIZE.fullmatch(text.removeprefix("-")):
        raise CommandLineError(f"Value '{text}' is out of range for parameter '{key}'")
    if value is None:
        raise CommandLineError(f"Parameter '{key}' expects a non-negative number below 2^64\n{SIZE_HINT}")
    return value


def checked(given: list[tuple[str, str]], known: Mapping[str, str]) -> dict[str, str]:
    """The last value of each key; CommandLineError for one that the group `known` hasn't.  Each group has an `id`."""
    for key, _ in given:
        if key not in known and key != "id":
            raise CommandLineError(f"Invalid parameter '{key}'")
    return {key: value for key, value in given if key != "id"}

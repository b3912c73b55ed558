"""YAML text into plain data, with the place of every value and key.

What is taken is JSON's data in YAML's clothes: mappings with text keys, lists, strings, integers (also 0x… and 0o…), numbers,
true, false and null, as YAML 1.2's core schema reads them ("on" and "no" are strings).  Refused: anchors and aliases, tags,
several documents, a key that comes twice.  Size, depth and the number of values are bounded, and checked while reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ratite.qapi.machinefile.problems import Path, Place, Problems

TEXT_MAX = 1 << 20
DEPTH_MAX = 32
VALUES_MAX = 50_000
_DIGITS_MAX = 40

# Not in YAML 1.2's c-printable; and what no text of QMP can hold, even escaped.
_UNREADABLE = r"[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # takes 3 ms to compile: only for who reads YAML
_UNTOLD = re.compile(r"[\0\ud800-\udfff]")

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("", "~", "null", "Null", "NULL")),
        **dict.fromkeys(("true", "True", "TRUE"), True),
        **dict.fromkeys(("false", "False", "FALSE"), False),
    }
)


class Document(NamedTuple):
    """A document as read; `marks` give line and column of each value, `keys` those of each key, by path."""

    name: str
    data: Any
    marks: Mapping[Path, tuple[int, int]]
    keys: Mapping[Path, tuple[int, int]]

    def place(self, path: Path, key: bool = False) -> Place:
        """Where the value (or its key) stands, or the nearest thing that holds it."""
        table = self.keys if key else self.marks
        while path and path not in table:
            path, table = path[:-1], self.marks
        return Place(self.name, *table.get(path, (1, 1)))


def is_tellable(value: Any) -> bool:
    """Whether QMP can hold the texts of a value."""
    if isinstance(value, str):
        return _UNTOLD.search(value) is None
    if isinstance(value, dict):
        return all(is_tellable(name) and is_tellable(each) for name, each in value.items())
    return not isinstance(value, list) or all(map(is_tellable, value))


def integer_of(text: str) -> int | None:
    """A text as the integer that it is in a file; None where it is none."""
    if len(text) > _DIGITS_MAX or _INT.fullmatch(text) is None:
        return None
    return int(text, 16 if text[:2] == "0x" else 8) if text[:2] in ("0x", "0o") else int(text)


def read_document(name: str, text: str, problems: Problems) -> Document | None:
    """The document, or None when it can't be read at all; what is wrong goes to `problems`."""
    if len(text) > TEXT_MAX:
        problems.add(Place(name), (), f"the file must have at most {TEXT_MAX} letters", len(text))
        return None
    if (bad := re.search(_UNREADABLE, text)) is not None:
        line, column = text.count("\n", 0, bad.start()) + 1, bad.start() - text.rfind("\n", 0, bad.start())
        problems.add(Place(name, line, column), (), "a character can't stand in YAML", bad[0])
        return None
    import yaml

    reader = _Reader(name, problems)
    try:
        return reader.read(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        problems.add(place, (), f"it isn't YAML: {what}")
    except yaml.YAMLError as error:
        problems.add(Place(name), (), f"it isn't YAML: {' '.join(str(error).split())}")
    return None


class _Stop(Exception):
    """The rest can't be read."""


class _Reader:
    def __init__(self, name: str, problems: Problems) -> None:
        self._name = name
        self._problems = problems
        self._marks: dict[Path, tuple[int, int]] = {}
        self._keys: dict[Path, tuple[int, int]] = {}
        self._count = 0

    def read(self, events: Any) -> Document:
        """The one document of a stream of events."""
        self._events = events
        event = next(events)
        while type(event).__name__ in ("StreamStartEvent", "DocumentStartEvent"):
            event = next(events)
        if type(event).__name__ == "StreamEndEvent":
            self._refuse(event, (), "the file is empty: a machine file starts with 'ratite: 1'")
        data = self._value(event, ())
        next(events)
        if type(after := next(events)).__name__ != "StreamEndEvent":
            self._refuse(after, (), "a machine file is one document: '---' can't start another")
        return Document(self._name, data, self._marks, self._keys)

    def _value(self, event: Any, path: Path) -> Any:
        kind = type(event).__name__
        self._marks[path] = event.start_mark.line + 1, event.start_mark.column + 1
        self._count += 1
        if self._count > VALUES_MAX:
            self._refuse(event, path, f"the file must hold at most {VALUES_MAX} values")
        if kind == "AliasEvent":
            self._refuse(event, path, "aliases (*name) aren't taken; parameters and parts say things once")
        if event.anchor:
            self._refuse(event, path, "anchors (&name) aren't taken; parameters and parts say things once")
        if event.tag:
            self._refuse(event, path, f"tags aren't taken ({event.tag[:80]})")
        if kind == "ScalarEvent":
            return self._scalar(event, path)
        if len(path) >= DEPTH_MAX:
            self._refuse(event, path, f"values can be nested {DEPTH_MAX} deep")
        return self._mapping(path) if kind == "MappingStartEvent" else self._list(path)

    def _list(self, path: Path) -> list[Any]:
        made: list[Any] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            made.append(self._value(event, (*path, len(made))))
        return made

    def _mapping(self, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            place = event.start_mark.line + 1, event.start_mark.column + 1
            if type(event).__name__ != "ScalarEvent" or event.anchor or event.tag:
                self._refuse(event, path, "a key must be a plain text")
            key = event.value
            self._check_text(event, key, path)
            inner = (*path, key)
            value = self._value(next(self._events), (*path, f"\0{len(made)}") if key in made else inner)
            if key in made:
                line, column = self._keys[inner]
                self._problems.add(Place(self._name, *place), inner, f"the key is there already, at {line}:{column}")
            else:
                made[key] = value
                self._keys[inner] = place
        return made

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if not self._check_text(event, text, path):
            return ""
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        number = _INT.fullmatch(text) or _FLOAT.fullmatch(text)
        if number is None:
            return text
        if len(text) > _DIGITS_MAX:
            self._problems.add(self._place(event), path, f"a number has at most {_DIGITS_MAX} letters", text)
            return 0
        integer = integer_of(text)
        return float(text) if integer is None else integer

    def _check_text(self, event: Any, text: str, path: Path) -> bool:
        bad = _UNTOLD.search(text)
        if bad is not None:
            what = "a NUL character" if bad[0] == "\0" else "half of a surrogate pair"
            self._problems.add(self._place(event), path, f"{what} can't stand in a text")
        return bad is None

    def _place(self, event: Any) -> Place:
        return Place(self._name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, event: Any, path: Path, rule: str) -> None:
        self._problems.add(self._place(event), path, rule)
        raise _Stop

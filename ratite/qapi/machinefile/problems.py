"""What is wrong with a machine file: `Problem`, and the error that carries all of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ratite.qapi.errors import GenericError

Path = tuple[str | int, ...]

_SHOWN = 80  # letters of a value in a message


class Place(NamedTuple):
    """Where something stands: lines and columns count from 1; line 0: nowhere in the file (a parameter that was given)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """One fault: `where` inside the document ("devices.uart0.regshift"), the rule that is broken, the value as JSON or ""."""

    file: str
    line: int
    column: int
    where: str
    rule: str
    value: str

    def __str__(self) -> str:
        place = Place(self.file, self.line, self.column)
        where = f"{self.where}: " if self.where else ""
        return f"{place}: {where}{self.rule}{f', not {self.value}' if self.value else ''}"


class MachineFileError(GenericError):
    """A machine file that can't be used; `problems` are all that were found, by file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects; the same fault in ten turns of a repetition is one."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}
        self._places: set[Place] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Place, path: Path, rule: str, value: Any = ..., hint: str = "") -> None:
        """`value` is left out where the rule says everything; `hint` follows it."""
        shown = "" if value is ... else f"{as_json(value)}{hint}"
        where = ".".join(str(part) for part in path)
        self._found.setdefault(Problem(*place, where, rule if value is not ... else rule + hint, shown))
        self._places.add(place)

    def silence(self, place: Place) -> None:
        """What is wrong there follows from something that was told."""
        self._places.add(place)

    def at(self, place: Place) -> bool:
        """Whether something is wrong just there already."""
        return place in self._places

    def check(self) -> None:
        """MachineFileError if there are any."""
        if self._found:
            raise MachineFileError(self._found)


def as_json(value: Any) -> str:
    """A value for a message, short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean 'x'?)", or "" when nothing is near."""
    found = difflib.get_close_matches(name[:_SHOWN], list(names), 1, 0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""

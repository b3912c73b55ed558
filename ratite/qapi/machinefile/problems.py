"""What is wrong with a machine file: `Problem`, and the error that carries all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from ratite.qapi.errors import GenericError

Path = tuple[str | int, ...]

PROBLEMS_MAX = 1000
_SHOWN = 80  # letters of a value, and of a key, in a message
_LISTED = 30  # names that a message lists
# Names that are compared for a hint: of one fault, and of all together.
_COMPARED, _COMPARED_ALL = 2_000, 60_000


class Place(NamedTuple):
    """Where something stands: lines and columns count from 1; line 0: nowhere in the file (a parameter that was given)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Near(NamedTuple):
    """For a hint: a name, those that it may have been meant to be; and the words before them where none is near ("": none)."""

    name: str
    names: Iterable[str]
    otherwise: str = ""


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
        self._compared = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Place, path: Path, rule: str, value: Any = ..., near: Near | None = None) -> None:
        """`value` is left out where the rule says everything; the name that is nearest follows it.

        MachineFileError with what there is once that is PROBLEMS_MAX: a hostile file shall not fill memory.
        """
        hint = self._hint(near) if near is not None else ""
        shown = "" if value is ... else f"{as_json(value)}{hint}"
        where = ".".join(shortened(str(part)) for part in path)
        rule = printable(rule if value is not ... else rule + hint)
        self._found.setdefault(Problem(*place, where, rule, shown))
        self._places.add(place)
        if len(self._found) >= PROBLEMS_MAX:
            last = Problem(place.file, 0, 0, "", f"there is more that is wrong; {PROBLEMS_MAX} faults are told at once", "")
            raise MachineFileError([*self._found, last])

    def _hint(self, near: Near) -> str:
        """`nearest`, while there haven't been too many to compare."""
        names = list(islice(near.names, _COMPARED))
        self._compared += len(names)
        found = nearest(near.name, names) if self._compared <= _COMPARED_ALL else ""
        return found or (f" ({near.otherwise}: {listed(names)})" if near.otherwise else "")

    def silence(self, place: Place) -> None:
        """What is wrong there follows from something that was told."""
        self._places.add(place)

    def at(self, place: Place) -> bool:
        """Whether something is wrong just there already; what stands in no file is never just there."""
        return place.line > 0 and place in self._places

    def check(self) -> None:
        """MachineFileError if there are any."""
        if self._found:
            raise MachineFileError(self._found)


def as_json(value: Any) -> str:
    """A value for a message, short."""
    return shortened(json.dumps(value, ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """The text, what a terminal would obey in it spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def listed(names: Iterable[str]) -> str:
    """Names for a message, the first of them if they are many; "none"."""
    shown = [shortened(name) for name in islice(names, _LISTED + 1)]
    return ", ".join(shown[:_LISTED] + ["…"] * (len(shown) > _LISTED)) or "none"


def shortened(text: str) -> str:
    """The beginning of a name or value, as a message may have it."""
    return printable(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean 'x'?)", or "" when nothing is near."""
    import difflib  # only who made a mistake needs it

    found = difflib.get_close_matches(name[:_SHOWN], list(names), 1, 0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""

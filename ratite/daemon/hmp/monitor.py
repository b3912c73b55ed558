"""The human monitor's command line: executing one, completing one.

Everything runs on the machine's owner thread, or on the loop while there is no machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ratite.daemon.dispatch import INITIALIZED, Context
from ratite.daemon.hmp.line import HmpError, Line, Seat
from ratite.daemon.hmp.table import COMMANDS
from ratite.qapi.errors import GenericError, QmpError

# What looks at or changes a machine that must be realized.
_LATE = frozenset({"cont", "stop", "system_powerdown", "system_reset", "x", "xp"})


def seat_for(ctx: Context, cpu_index: int | None) -> Seat:
    """The seat of one line that comes by QMP.

    GenericError for a CPU that isn't there; number 0 always is, since qmp-shell -H sends it with each line.
    """
    if cpu_index and not (ctx.daemon.has_machine and cpu_index in ctx.machine.cpus()):
        raise GenericError("Parameter 'cpu-index' expects a CPU number")
    return Seat(cpu_index)


def execute(ctx: Context, text: str, seat: Seat) -> str:
    """What a line prints, with `\\r\\n`.  What is wrong with the line is printed, it is no QMP error."""
    if seat.cpu_index is not None and not (ctx.daemon.has_machine and seat.cpu_index in ctx.machine.cpus()):
        seat.cpu_index = None
    text = text.strip()
    if not text:
        return ""
    name, rest = _split(text)
    item = COMMANDS.get(name)
    try:
        if item is None:
            raise HmpError(f"unknown command: '{name}'")
        if item.names[0] in _LATE and ctx.machine.phase not in INITIALIZED:
            raise HmpError(f"Error: the command '{name}' needs a realized machine; phase is {ctx.machine.phase}")
        printed = item.execute(Line(ctx, seat, name, item.label, rest))
    except HmpError as error:
        printed = f"{error}\n"
    except QmpError as error:
        printed = f"Error: {error.desc}\n"
    return printed.replace("\n", "\r\n")


def _split(text: str) -> tuple[str, str]:
    """The command's name and the rest; a format may stick to the name ("x/4xw")."""
    end = 0
    while end < len(text) and not text[end].isspace() and text[end] != "/":
        end += 1
    return text[:end], text[end:].strip()


def complete(ctx: Context, text: str) -> tuple[int, list[str]]:
    """What may stand in the place of the last word of a line that is being written: where it begins, and the words."""
    *before, last = re.split(r"\s+", text.lstrip())
    start = len(text) - len(last)
    if not before:
        return start, _beginning(last, COMMANDS)
    item = COMMANDS.get(before[0])
    place = len(before) - 1
    if item is None or place >= len(item.words_for):
        return start, []
    return start, _beginning(last, item.words_for[place](ctx))


def _beginning(text: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(text))

"""The human monitor's command line: executing one, completing one.

Everything runs on the machine's owner thread, or on the loop while there is no machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from ratite.daemon.dispatch import INITIALIZED, Context, Later
from ratite.daemon.hmp.line import HmpError, Line, Seat
from ratite.daemon.hmp.table import commands
from ratite.daemon.personality.syntax import CommandLineError
from ratite.qapi.errors import GenericError, QmpError


def seat_for(ctx: Context, cpu_index: int | None) -> Seat:
    """The seat of one line that comes by QMP.

    GenericError for a CPU that isn't there; number 0 always is, since qmp-shell -H sends it with each line.
    """
    if cpu_index and not (ctx.daemon.has_machine and cpu_index in ctx.machine.cpus()):
        raise GenericError("Parameter 'cpu-index' expects a CPU number")
    return Seat(cpu_index)


def execute(ctx: Context, text: str, seat: Seat) -> str | Later:
    """What a line prints, with `\\r\\n`, or that Later.  What is wrong with the line is printed, it is no QMP error."""
    if seat.cpu_index is not None and not (ctx.daemon.has_machine and seat.cpu_index in ctx.machine.cpus()):
        seat.cpu_index = None
    text = text.strip()
    if not text:
        return ""
    name, rest = _split(text)
    item = commands(ctx.view).get(name)
    try:
        if item is None:
            raise HmpError(f"unknown command: '{name}'")
        if item.late and ctx.machine.phase not in INITIALIZED:
            raise HmpError(f"Error: the command '{name}' needs a realized machine; phase is {ctx.machine.phase}")
        line = Line(ctx, seat, name, item.label, rest)
        printed = item.execute(line)
        if line.later is not None:
            return Later(partial(_afterwards, line.later, printed))
    except (HmpError, CommandLineError) as error:
        printed = f"{'' if isinstance(error, HmpError) else 'Error: '}{error}\n"
    except QmpError as error:
        printed = f"Error: {error.desc}\n"
    return printed.replace("\n", "\r\n")


def _afterwards(later: Later, printed: str) -> str:
    try:
        later.wait()
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
    there = commands(ctx.view)
    if not before:
        return start, _beginning(last, there)
    item = there.get(before[0])
    place = len(before) - 1
    if item is None or place >= len(item.words_for):
        return start, []
    return start, _beginning(last, item.words_for[place](ctx))


def _beginning(text: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(text))

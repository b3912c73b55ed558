"""What all verbs share: exit statuses, errors that are one clear line, JSON or a table on stdout, and options of many verbs.

rich and prompt_toolkit are imported by the functions that need them: `ratite ps` starts without.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import click

# Exit statuses, of every verb; docs/cli.md has the table.
OK = 0
FAILED = 1  # what was asked for was understood, and failed
USAGE = 2  # the command line, a file or a name in it is wrong
FAIL_TEXT = 3  # run: the console printed --fail-text
TIMEOUT = 4  # --timeout has passed
NO_TEXT = 5  # run: the machine ended, and --expect-text never came
GUEST_FAILED = 6  # run: the guest ended with a code of its own, or panicked
INTERRUPTED = 130

F = TypeVar("F")


class Failure(click.ClickException):
    """What was asked for failed: a line for stderr and the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status

    def show(self, file: Any = None) -> None:
        """The message on stderr, as every error of this command looks."""
        complain(self.message)


class Mistake(Failure):
    """The user's: a wrong name, file or value."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


def complain(message: str) -> None:
    """An error on stderr, or several, one a line; `ratite:` is red on a terminal."""
    for line in message.splitlines():
        click.echo(f"{paint('ratite:', sys.stderr, fg='red', bold=True)} {line}", err=True)


def coloured(stream: Any) -> bool:
    """Whether colours belong there: a terminal, unless NO_COLOR (https://no-color.org) or TERM=dumb says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, stream: Any = None, **style: Any) -> str:
    """`text` in a style of click's, where the stream shows one."""
    return click.style(text, **style) if coloured(stream or sys.stdout) else text


def nearest(word: str, words: Iterable[str]) -> str:
    """What follows an error about a word that is none of `words`: the nearest of them; "" when none is near."""
    found = difflib.get_close_matches(word, list(words), 3)
    return f"; did you mean {' or '.join(found)}?" if found else ""


class Seconds(click.FloatRange):
    """A time in an option: a number that clocks and sockets take."""

    name = "number of seconds"

    def __init__(self, least: float = 0.0, least_open: bool = False) -> None:
        super().__init__(least, 1e8, min_open=least_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; BadParameter."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no time", param, ctx)
        return found


def whole_streams() -> None:
    """Standard streams that were closed are those of /dev/null, lest a file or socket take their place; and what a stream's
    encoding hasn't got is written as an escape."""
    for fd, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        try:
            os.fstat(fd)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115  # as long as the process
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def end_in_good_order() -> None:
    """From now on SIGTERM and SIGHUP end this program as an exception does: terminals get their modes back, what was started is
    ended. One that is ignored (nohup) stays so."""
    for number in signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _told_to_end)


def _told_to_end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that stdout can have: letters are escaped where it isn't UTF-8."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=not unicode)


def show_json(value: Any) -> None:
    """`value` on stdout, for a program to read."""
    click.echo(json_text(value, 2))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Rows below a heading on stdout, columns as wide as they must be; those in `right` end at the right."""
    for line in table_lines(columns, rows, right):
        click.echo(line)


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> list[str]:
    """The lines that `show_table` prints."""
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    lines = []
    for row in cells:
        made = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(made).rstrip())
    lines[0] = paint(lines[0], bold=True)
    return lines


def json_option(function: F) -> F:
    """--json, for every verb that prints."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
    return decorate(function)  # type: ignore[type-var]


def size_text(count: float) -> str:
    """Bytes for people: "512 B", "3.4 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def rate_text(count: float) -> str:
    """A number for people, in thousands and millions: "12.3 M"."""
    for unit in ("", " k", " M", " G"):
        if abs(count) < 1000:
            return f"{count:.0f}{unit}" if not unit else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f} T"


def complete_machine(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """For a shell: the machines that run."""
    from ratite.clients.cli import places

    return [machine.name for machine in [*places.local(), *places.remote()] if machine.name.startswith(incomplete)]


def machine_argument(function: F) -> F:
    """MACHINE, for every verb that talks to one."""
    decorate = click.argument("machine", required=False, shell_complete=complete_machine)
    return decorate(function)  # type: ignore[type-var]


def qmp_option(function: F) -> F:
    """--qmp, for every verb that talks to one machine."""
    decorate = click.option(
        "--qmp", metavar="ADDR", help="Talk to the QMP socket at ADDR (unix:PATH, tcp:HOST:PORT or a path)."
    )
    return decorate(function)  # type: ignore[type-var]

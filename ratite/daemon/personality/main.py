"""`qemu-system-TARGET`: the entry of shims, and of `ratited -target TARGET …`."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratite.daemon.personality.commandline import Given


def main(target: str, version: str = "", argv: Sequence[str] | None = None) -> int:
    """Stand in for QEMU's program for `target`; the exit status.  `version`: the ratite that wrote the shim."""
    # What a start makes stays: looking for garbage in it is an eighth of the time to the first reply.
    gc.disable()
    from ratite.daemon.personality.commandline import read
    from ratite.daemon.personality.syntax import CommandLineError

    program = os.path.basename(sys.argv[0])
    given: list[Given] = []

    def tell(text: str) -> None:
        print(told(program, given, text), file=sys.stderr)

    try:
        given += read(sys.argv[1:] if argv is None else argv)
        chosen = [one for one in given if one.option.key == "target"]
        return _run(program, chosen[-1].value if chosen else target, version, given, tell)
    except CommandLineError as error:
        tell(str(error))
        return 1


def _run(program: str, target: str, version: str, given: list[Given], tell: Callable[[str], None]) -> int:
    from ratite import __version__
    from ratite.daemon.personality.line import Line
    from ratite.daemon.personality.start import Start
    from ratite.daemon.personality.translate import translate

    line = Line(Start(program, target), given)
    if any(_asks(one) for one in given):
        from ratite.daemon.personality.help import help_of

        text = help_of(line)
        if text is not None:
            print(text, end="")
            return 0
    start = translate(line)
    if version and version != __version__:
        from ratite.daemon.personality.shims import renewal

        start.stale = renewal(os.path.dirname(sys.argv[0]))
    for warning in start.warnings:
        tell(warning)
    from ratite.daemon.personality.launch import Launch

    return Launch(start, tell).run()


def _asks(given: Given) -> bool:
    return given.option.key in ("help", "version") or given.value.endswith(("help", "?"))


def told(program: str, given: Sequence[Given], text: str) -> str:
    """A message as it is printed: with what -msg asks for before it; each further one begins with the program as well."""
    before = ""
    if any(one.option.key == "msg" and "timestamp=on" in one.value for one in given):
        from datetime import UTC, datetime

        before = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ")
    if any(one.option.key == "msg" and "guest-name=on" in one.value for one in given):
        names = [one.value.partition(",")[0].removeprefix("guest=") for one in given if one.option.key == "name"]
        before += "".join(f"{name} " for name in names[-1:])
    lines = []
    for number, line in enumerate(text.split("\n")):
        # A place in a file; a message of its own; what explains the one before.
        if line.startswith("@"):
            lines.append(f"{before}{program}:{line[1:]}")
        elif number == 0 or line.startswith("-"):
            lines.append(f"{before}{program}: {line}")
        else:
            lines.append(line)
    return "\n".join(lines)

"""`qemu-system-TARGET`: the entry of shims, and of `ratited -target TARGET …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ratite.daemon.personality.commandline import Given, read
from ratite.daemon.personality.syntax import CommandLineError

if TYPE_CHECKING:
    from ratite.daemon.personality.start import Start


def main(target: str, version: str = "", argv: Sequence[str] | None = None) -> int:
    """Stand in for QEMU's program for `target`; the exit status.  `version`: the ratite that wrote the shim."""
    program = os.path.basename(sys.argv[0])
    words = sys.argv[1:] if argv is None else argv

    def tell(text: str) -> None:
        lines = text.split("\n")
        print(f"{program}: {lines[0]}", *(_prefixed(program, line) for line in lines[1:]), sep="\n", file=sys.stderr)

    try:
        given = read(words)
        chosen = [one for one in given if one.option.key == "target"]
        target = chosen[-1].value if chosen else target
        return _run(program, target, version, given, tell)
    except CommandLineError as error:
        tell(str(error))
        return 1


def started(program: str, target: str, given: Sequence[Given]) -> Start:
    """What a command line comes to.  CommandLineError."""
    from ratite.daemon.personality.translate import translate

    return translate(program, target, given)


def _prefixed(program: str, line: str) -> str:
    # A second message begins with an option again; what explains the first doesn't.
    return f"{program}: {line}" if line.startswith("-") else line


def _run(program: str, target: str, version: str, given: list[Given], tell: Callable[[str], None]) -> int:
    from ratite import __version__
    from ratite.daemon.personality.launch import Launch

    start = started(program, target, given)
    if version and version != __version__:
        from ratite.daemon.personality.shims import renewal

        start.stale = renewal(os.path.dirname(sys.argv[0]))
    return Launch(start, tell).run()

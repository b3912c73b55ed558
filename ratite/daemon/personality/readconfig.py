"""-readconfig: options in a file of groups.

    [device "disk0"]
      driver = "virtio-blk-pci"

A group is an option, what stands behind it is its id, each line a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.options import OPTIONS
from ratite.daemon.personality.syntax import CommandLineError

_GROUP = re.compile(r'\[([A-Za-z0-9_-]+)(?: "([^"]*)")?\]')
_KEY = re.compile(r'([A-Za-z0-9_.-]+)\s*=\s*"([^"]*)"')


def read_config(path: str) -> Iterator[Given]:
    """The options in the file.  CommandLineError with file and line."""
    by_group = {option.group: option for option in OPTIONS if option.group} | {
        option.key: option for option in OPTIONS if option.metavar
    }
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise CommandLineError(f"Could not open '{path}': {error.strerror}") from None
    option, items, place = None, [], ""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if (group := _GROUP.fullmatch(text)) is not None:
            if option is not None:
                yield Given(option, place, ",".join(items))
            option, place = by_group.get(group[1]), f"@{path}:{number}"
            if option is None:
                raise CommandLineError(f"There is no option group '{group[1]}'")
            items = [f"id={_escaped(group[2])}"] if group[2] else []
        elif (key := _KEY.fullmatch(text)) is None:
            raise CommandLineError(f"line {number}: parse error")
        elif option is None:
            raise CommandLineError(f"line {number}: no group defined")
        else:
            items.append(f"{key[1]}={_escaped(key[2])}")
    if option is not None:
        yield Given(option, place, ",".join(items))


def _escaped(text: str) -> str:
    return text.replace(",", ",,")

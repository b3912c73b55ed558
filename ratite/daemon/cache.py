"""`ratite cache`: what is kept of compiled code, and clearing it.

    ratite cache stat      where it is, how many files, how many bytes
    ratite cache list      every file: bytes, last use, name
    ratite cache clear     removes all of it
    ratite cache trim N    removes the longest unused until N MiB are left
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ratite.core.engine.cache import ObjectCache


def cache(arguments: Sequence[str], place: ObjectCache) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="ratite cache", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("stat", "list", "clear", "trim"))
    parser.add_argument("mib", nargs="?", type=int, help="for trim: MiB to keep")
    given = parser.parse_args(arguments)
    rows = place.files()
    if given.what == "trim":
        if given.mib is None or given.mib < 0:
            parser.error("trim needs a number of MiB, 0 or more")
        print(f"{place.trim(given.mib << 20)} files removed")
    elif given.what == "clear":
        print(f"{place.trim(0)} files removed")
    elif given.what == "list":
        for when, size, path in rows:
            used = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
            print(f"{size:>10} {used} {Path(path).relative_to(place.user)}")
    else:
        regions = [row for row in rows if Path(row[2]).parent.name.startswith("regions-")]
        print(f"{place.user}: {len(rows)} files, {sum(size for _, size, _ in rows) >> 10} KiB")
        print(f"regions of hot code: {len(regions)} files, {sum(size for _, size, _ in regions) >> 10} KiB")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `ratite`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] != "cache":
        print("usage: ratite cache {stat,list,clear,trim}", file=sys.stderr)
        return 2
    return cache(given[1:], ObjectCache())


if __name__ == "__main__":
    sys.exit(cache(sys.argv[1:], ObjectCache()))

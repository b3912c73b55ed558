"""`ratite cache`: what is kept of compiled code, clearing it, and making it ahead.

    ratite cache stat      where it is, how many files, how many bytes
    ratite cache list      every file: bytes, last use, name
    ratite cache clear     removes all of it
    ratite cache trim N    removes the longest unused until N MiB are left
    ratite cache warm [CPU[,PROP=VALUE]...]...
                           compiles the interpreter of these CPU types (default: of all), so that no machine waits for it
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratite.core.engine.cache import ObjectCache

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry


def cache(arguments: Sequence[str], place: ObjectCache) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="ratite cache", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("stat", "list", "clear", "trim", "warm"))
    parser.add_argument("more", nargs="*", metavar="N | CPU[,PROP=VALUE]...", help="for trim: MiB to keep; for warm: CPU types")
    given = parser.parse_args(arguments)
    if given.what == "warm":
        return warm(given.more)
    rows = place.files()
    if given.what == "trim":
        if len(given.more) != 1 or not given.more[0].isdecimal():
            parser.error("trim needs a number of MiB, 0 or more")
        print(f"{place.trim(int(given.more[0]) << 20)} files removed")
    elif given.more:
        parser.error(f"{given.what} takes nothing more, not {given.more[0]!r}")
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


def warm(models: Sequence[str]) -> int:
    """Compiles what a first machine with each of `models`, as `device_add` of the human monitor takes them, would wait for;
    the exit status, 1 if one of them failed."""
    from ratite.core.objects.registry import TypeRegistry
    from ratite.daemon.log import Log
    from ratite.daemon.settings import read_settings
    from ratite.qapi.errors import QmpError

    Log().prepare()  # the compiler's start and end are told there
    registry = TypeRegistry()
    failed = False
    for model in models or [row.name for row in registry.types(abstract=False) if row.kind == "cpu"]:
        driver, properties = read_settings(model, registry)
        row = registry.find(driver)
        targets = () if row is None or row.kind != "cpu" or row.abstract else row.data["targets"]
        if not targets:
            print(f"{driver} is no CPU type", file=sys.stderr)
            failed = True
        for target in targets:
            started = time.monotonic()
            try:
                _realize_one(registry, target, driver, properties)
            except QmpError as error:
                print(f"{model} for {target}: {error.desc}", file=sys.stderr)
                failed = True
            else:
                print(f"{model} for {target}: ready after {time.monotonic() - started:.1f} s", flush=True)
    return int(failed)


def _realize_one(registry: TypeRegistry, target: str, driver: str, properties: Mapping[str, Any]) -> None:
    """A machine with nothing but that CPU, as far as realizing goes.  QmpError."""
    from ratite.core.machine import Machine

    machine = Machine(registry, autostart=False, inline=True)
    try:
        machine.create_object("address-space", "view")
        machine.create_object("cpu-cluster", "cluster", {"target": target, "address-space": "view", "accel": "jit"})
        machine.device_add(driver, "cpu", {"cluster": "cluster", **properties})
        machine.exit_preconfig()
    finally:
        machine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `ratite`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] != "cache":
        print("usage: ratite cache {stat,list,clear,trim,warm}", file=sys.stderr)
        return 2
    return cache(given[1:], ObjectCache())


if __name__ == "__main__":
    sys.exit(cache(sys.argv[1:], ObjectCache()))

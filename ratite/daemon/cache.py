"""`ratite cache`: what is kept of compiled code, clearing it, and making it ahead.

    ratite cache stat      where it is, how many files, how many bytes
    ratite cache list      every file: bytes, last use, name
    ratite cache clear     removes all of it
    ratite cache trim N    removes the longest unused until N MiB are left
    ratite cache warm [CPU[,PROP=VALUE]...]...
                           compiles the interpreter of these CPU types (default: of all), so that no machine waits for it;
                           with --system (root) for every user of this host
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratite.core.engine.cache import SYSTEM, ObjectCache

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry


def cache(arguments: Sequence[str], place: ObjectCache) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="ratite cache", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("stat", "list", "clear", "trim", "warm"))
    parser.add_argument("more", nargs="*", metavar="N | CPU[,PROP=VALUE]...", help="for trim: MiB to keep; for warm: CPU types")
    parser.add_argument("--json", action="store_true", help="print JSON; for warm a line when one starts and when it is ready")
    parser.add_argument("--system", action="store_true", help=f"for warm: into {SYSTEM}")
    given = parser.parse_intermixed_args(arguments)
    if given.system and (reason := for_everybody(given.what)):
        parser.error(reason)
    if given.what == "warm":
        return warm(given.more, given.json)
    if given.what == "trim":
        if len(given.more) != 1 or not given.more[0].isdecimal():
            parser.error("trim needs a number of MiB, 0 or more")
    elif given.more:
        parser.error(f"{given.what} takes nothing more, not {given.more[0]!r}")
    if given.what in ("clear", "trim"):
        removed = place.trim(int(given.more[0]) << 20 if given.more else 0)
        print(_json({"removed": removed}) if given.json else f"{removed} files removed")
    elif given.what == "list":
        _list(place, given.json)
    else:
        _stat(place, given.json)
    return 0


def for_everybody(what: str) -> str:
    """From now on this process keeps code in the system's place; else why not."""
    if what != "warm":
        return f"{what} takes no --system"
    if not hasattr(os, "geteuid") or os.geteuid():
        return f"{SYSTEM} is root's to fill"
    os.environ["XDG_CACHE_HOME"] = os.path.dirname(SYSTEM)
    return ""


def _list(place: ObjectCache, as_json: bool) -> None:
    rows = [(size, when, str(Path(path).relative_to(place.user))) for when, size, path in place.files()]
    if as_json:
        print(_json([{"name": name, "bytes": size, "used": when} for size, when, name in rows]))
        return
    for size, when, name in rows:
        print(f"{size:>10} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(when))} {name}")


def _stat(place: ObjectCache, as_json: bool) -> None:
    rows = place.files()
    regions = [size for _, size, path in rows if Path(path).parent.name.startswith("regions-")]
    total = sum(size for _, size, _ in rows)
    if as_json:
        kept = {"files": len(regions), "bytes": sum(regions)}
        print(_json({"path": place.user, "usable": place.usable(), "files": len(rows), "bytes": total, "regions": kept}))
        return
    if not place.usable():
        print(f"{place.user or 'no folder'}: not used, for it must be a folder of yours, no link, that nobody else may write")
        return
    print(f"{place.user}: {len(rows)} files, {total >> 10} KiB")
    print(f"regions of hot code: {len(regions)} files, {sum(regions) >> 10} KiB")


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def warm(models: Sequence[str], as_json: bool = False) -> int:
    """Compiles what a first machine with each of `models`, as `device_add` of the human monitor takes them, would wait for;
    the exit status, 1 if one of them failed. With `as_json` a line {"state": "started", …} or {"state": "ready" or "failed", …}
    as each comes to it, and no log."""
    from ratite.core.objects.registry import TypeRegistry
    from ratite.daemon.log import Log
    from ratite.daemon.settings import read_settings
    from ratite.qapi.errors import QmpError

    log = Log("error" if as_json else "warning")
    log.take_core()  # the compiler's start and end are told there
    registry = TypeRegistry()
    failed = False
    todo: list[tuple[str, str, str, dict[str, Any]]] = []
    for model in models or [row.name for row in registry.types(abstract=False) if row.kind == "cpu"]:
        driver, properties = read_settings(model, registry)
        row = registry.find(driver)
        if row is None or row.kind != "cpu" or row.abstract:
            print(f"{driver} is no CPU type", file=sys.stderr)
            failed = True
        else:
            todo += [(model, target, driver, properties) for target in row.data["targets"]]
    for number, (model, target, driver, properties) in enumerate(todo, 1):
        about = {"cpu": model, "target": target, "number": number, "count": len(todo)}
        if as_json:
            print(_json({"state": "started", **about}), flush=True)
        started, state = time.monotonic(), "ready"
        try:
            _realize_one(registry, target, driver, properties)
        except QmpError as error:
            print(f"{model} for {target}: {error.desc}", file=sys.stderr)
            failed, state = True, "failed"
        seconds = time.monotonic() - started
        if as_json:
            print(_json({"state": state, **about, "seconds": round(seconds, 3)}), flush=True)
        elif state == "ready":
            print(f"{model} for {target}: ready after {seconds:.1f} s", flush=True)
    log.close()
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


if __name__ == "__main__":
    sys.exit(cache(sys.argv[1:], ObjectCache()))

"""Imports go down the floors, never up and never across targets | hw; what each floor may not know at all."""

from __future__ import annotations

import re

from house_sources import PACKAGE, Source, imports, none, sources, strings

FLOORS = {"schema": 0, "machines": 0, "qapi": 1, "core": 2, "targets": 3, "hw": 3, "daemon": 4, "clients": 5, "bench": 6}

# Groups of entry points, named like rooms.
GROUPS = ("ratite.targets", "ratite.devices", "ratite.accelerators", "ratite.objects", "ratite.machines")

# Files of core whose business is a JSON file: the type manifest's writer and reader.
JSON_READERS = ("ratite/core/objects/manifest.py", "ratite/core/objects/registry.py")


def room_of(module: str) -> str:
    """The room that a dotted name is in; "" for none of ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "ratite" and len(parts) > 1 and parts[1] in FLOORS else ""


def goes_down(source: Source, module: str) -> bool:
    """Whether `source` may know `module`."""
    here, there = source.room, room_of(module)
    if not here or not there or here == there:
        return True
    return here in FLOORS and FLOORS[here] > FLOORS[there]


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= FLOORS.keys(), "a room without a floor; ARCHITECTURE.md names them all"


def test_imports_go_down() -> None:
    offenders = [
        f"{source.path}:{line}: {source.room} must not import {module}"
        for source in sources()
        for module, line in imports(source)
        if not goes_down(source, module)
    ]
    none(offenders)


def test_module_names_in_strings_go_down() -> None:
    """A late import is an import: "ratite.hw.char.ns16550:Ns16550" in core would be one upward."""
    dotted = re.compile(r"ratite(\.\w+)+(:\w+)?")
    offenders = [
        f"{source.path}:{line}: {source.room} must not name {text}"
        for source in sources()
        for text, line in strings(source)
        if dotted.fullmatch(text) and text not in GROUPS and not goes_down(source, text.partition(":")[0])
    ]
    none(offenders)


def test_clients_speak_the_protocol_only() -> None:
    offenders = [
        f"{source.path}:{line}: a client must not import {module}"
        for source in sources()
        for module, line in imports(source)
        if FLOORS.get(source.room, 0) >= 5 and module.startswith("ratite.") and FLOORS.get(room_of(module), 5) in (2, 3, 4)
    ]
    none(offenders)


def test_core_knows_no_event_loop_and_no_json() -> None:
    offenders = [
        f"{source.path}:{line}: imports {module}"
        for source in sources()
        for module, line in imports(source)
        if source.room in ("core", "hw", "targets")
        and module.split(".")[0] in ("asyncio", "json", "aiohttp")
        and not (module == "json" and source.path in JSON_READERS)
    ]
    none(offenders)


def test_hw_knows_no_accelerator() -> None:
    offenders = [
        f"{source.path}:{line}: imports {module}"
        for source in sources()
        for module, line in imports(source)
        if source.room == "hw" and module.startswith(("ratite.core.accel", "ratite.core.engine"))
    ]
    none(offenders)


def test_a_target_knows_an_accelerator_only_in_the_file_named_after_it() -> None:
    offenders = []
    for source in sources():
        if source.room != "targets":
            continue
        for module, line in imports(source):
            accel = module.removeprefix("ratite.core.accel.")
            if accel != module and accel not in ("base", source.name.rpartition(".")[2]):
                offenders.append(f"{source.path}:{line}: imports {module}")
    none(offenders)

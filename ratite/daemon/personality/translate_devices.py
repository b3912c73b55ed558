"""Options for devices and objects: -object, -device, -global."""

from __future__ import annotations

from typing import Any

from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.line import Line, in_order
from ratite.daemon.personality.machines import Board, set_defaults
from ratite.daemon.personality.settings import values
from ratite.daemon.personality.start import Step
from ratite.daemon.personality.syntax import CommandLineError, as_bool, as_number, is_json, json_value, pairs
from ratite.daemon.personality.values import properties, typed

LOADER = "loader"


def translate_objects(line: Line) -> None:
    """-object.  CommandLineError."""
    for given in line.of("object"):
        with given.named():
            value, is_json = line.object_of(given)
            arguments = value if is_json else typed(line.schema, "ObjectOptions", value)
            line.start.steps.append(Step("object-add", arguments, given.written))


def translate_devices(line: Line, board: Board | None) -> None:
    """-device, each after those that it names.  CommandLineError."""
    loaders = []
    for given in line.of("device"):
        with given.named():
            arguments = _device(line, given)
            if arguments["driver"] == LOADER:
                loaders.append((given, arguments))
            else:
                line.start.devices.append(Step("device_add", arguments, given.written))
    buses = {} if line.machine is None else line.machine.get("buses", {})
    for step in line.start.devices:
        if step.arguments.get("bus") in buses:
            step.arguments["bus"] = buses[step.arguments["bus"]]
    ids = [step.arguments["id"] for step in line.start.devices if "id" in step.arguments]
    for step in line.start.devices:
        if ids.count(step.arguments.get("id")) > 1:
            raise CommandLineError(f"{step.written}: Duplicate ID '{step.arguments['id']}' for device")
    line.start.devices[:] = in_order(line.start.devices)
    for given, arguments in loaders:
        with given.named():
            _load(board, arguments)


def _device(line: Line, given: Given) -> dict[str, Any]:
    if is_json(given.value):
        found = json_value(given.value)
        if not isinstance(found, dict) or not isinstance(found.get("driver"), str):
            raise CommandLineError("Parameter 'driver' is missing")
        return found
    texts = dict(pairs(given.value, given.option.implied))
    if "driver" not in texts:
        raise CommandLineError("Parameter 'driver' is missing")
    if texts["driver"] == LOADER:
        return dict(texts)
    row = line.registry.find(texts["driver"])
    return dict(texts) if row is None else properties(row.properties, texts)


def _load(board: Board | None, given: dict[str, Any]) -> None:
    """A program into memory: the business of a CPU here, which then starts in it."""
    number = as_number("cpu-num", str(given.get("cpu-num", 0)))
    cpus = [] if board is None else board.cpus()
    if number >= len(cpus):
        raise CommandLineError(f"Specified boot CPU#{number} is nonexistent")
    wrong = given.keys() - {"driver", "id", "file", "addr", "cpu-num", "force-raw"}
    if wrong:
        raise CommandLineError(f"Property 'loader.{min(wrong)}' not found")
    if "file" not in given:
        raise CommandLineError("please include valid arguments")
    raw = given.get("force-raw", False)
    raw = as_bool("force-raw", raw) if isinstance(raw, str) else raw
    into = cpus[number].arguments
    if raw or "addr" in given:
        into |= {"image-raw": given["file"], "image-addr": as_number("addr", str(given.get("addr", 0)))}
    else:
        into["image"] = given["file"]


def apply_globals(line: Line, board: Board | None) -> None:
    """-global: other defaults, for what options make and for the board.  CommandLineError."""
    for given in line.of("global"):
        with given.named():
            driver, prop, value = _global(given)
            if line.registry.find(driver) is None:
                line.start.warnings.append(f"warning: global {driver}.{prop} has invalid class name")
                continue
            steps = [*line.start.steps, *line.start.devices, *([] if board is None else board.steps)]
            for step in steps:
                set_defaults(line.registry, step, driver, {prop: value})


def _global(given: Given) -> tuple[str, str, str]:
    head, equals, value = given.value.partition("=")
    driver, dot, prop = head.rpartition(".")
    if equals and dot and "," not in head:
        return driver, prop, value
    found = values(given)
    for key in ("driver", "property", "value"):
        if key not in found:
            raise CommandLineError(f"Parameter '{key}' is missing")
    return found["driver"], found["property"], found["value"]

"""`python -m ratite.daemon.personality.as_file WORD…`: the machine file of a QEMU command line (`ratite translate`).

The first word is a program's name, which says the target.  What is no part of a machine (monitors, settings of the process)
stands in comments at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ratite.daemon.personality.commandline import Given, read
from ratite.daemon.personality.line import Line
from ratite.daemon.personality.main import told
from ratite.daemon.personality.shims import PREFIX, target_of
from ratite.daemon.personality.start import Start, Step
from ratite.daemon.personality.syntax import CommandLineError
from ratite.daemon.personality.translate import translate
from ratite.qapi.machinefile.declarations import Declarations
from ratite.qapi.machinefile.dump import dump_document, render

# Options that leave no trace in a machine file, though they do something.
_OUTSIDE = (
    "S", "action", "add-fd", "daemonize", "D", "mon", "monitor", "msg", "name", "no-reboot", "no-shutdown", "pidfile",
    "preconfig", "qmp", "qmp-pretty", "run-with", "uuid", "watchdog-action",
)  # fmt: skip
_SECTIONS = MappingProxyType({"blockdev-add": ("blockdevs", "node-name"), "netdev_add": ("netdevs", "id")})


def main(words: Sequence[str]) -> int:
    """Print it; the exit status."""
    program, *rest = words
    given: list[Given] = []
    try:
        given += read(rest)
        chosen = [one.value for one in given if one.option.key == "target"] or [target_of(program)]
        line = Line(Start(program, chosen[-1]), given)
        if chosen[-1] not in line.registry.targets():
            targets = ", ".join(PREFIX + name for name in line.registry.targets())
            raise CommandLineError(f"the first word must be a program in QEMU's place: {targets}")
        print(text_of(line), end="")
    except CommandLineError as error:
        print(told(program, given, str(error)), file=sys.stderr)
        return 1
    return 0


def text_of(line: Line) -> str:
    """The file's text.  CommandLineError."""
    start = translate(line)
    if start.nodes:
        raise CommandLineError(f"{start.nodes[0].written}: machine files know no NUMA nodes")
    rows = {row.name: row.data for row in line.registry.types()}
    state = _state(line, start)
    document = dump_document(state, Declarations(rows, line.registry.targets(), line.schema))
    head = {"ratite": document.pop("ratite"), "description": f"from a command line of {start.program}"}
    outside = [one.written for one in line.given if one.option.key in _OUTSIDE]
    notes = ["", "# not part of a machine:", *(f"#   {written}" for written in outside), ""] if outside else []
    return render({**head, **document}) + "\n".join(notes)


def _state(line: Line, start: Start) -> dict[str, Any]:
    """What dump_document takes."""
    sections = ("chardevs", "blockdevs", "netdevs", "objects", "devices")
    state: dict[str, Any] = {"machine": {}, "wires": [], "maps": [], **{name: {} for name in sections}}
    anonymous = 0
    # A monitor's chardev serves nothing in the machine.
    monitors = {step.arguments["chardev"] for step in start.monitors}
    for step in (*start.steps, *start.board, *_with_buses(line, start)):
        arguments = dict(step.arguments)
        if step.command == "chardev-add":
            if arguments["id"] not in monitors or arguments["backend"]["type"] == "mux":
                state["chardevs"][arguments["id"]] = arguments["backend"]
        elif step.command in _SECTIONS:
            section, key = _SECTIONS[step.command]
            state[section][arguments[key]] = arguments
        elif step.command in ("object-add", "device_add"):
            section, tag = ("objects", "qom-type") if step.command == "object-add" else ("devices", "driver")
            if "id" not in arguments:
                arguments["id"] = f"device{anonymous}"
                anonymous += 1
            name = arguments.pop("id")
            state[section][name] = {"type": arguments.pop(tag), **arguments}
        elif step.command == "map-region":
            state["maps"].append({"priority": 0, **arguments})
        elif step.command == "wire-irq":
            state["wires"].append(arguments)
        elif step.command == "machine-create":
            state["machine"] = arguments
    return state


def _with_buses(line: Line, start: Start) -> list[Step]:
    """The devices, each with the bus that it would take, by ID/NAME."""
    kind = line.machine
    plugs: Mapping[str, Sequence[str]] = {} if kind is None else kind.get("plugs", {})
    ids = {step.arguments["id"] for step in start.devices if "id" in step.arguments}
    named = {path.rpartition("/")[2]: path for paths in plugs.values() for path in paths}
    taken = {named.get(step.arguments.get("bus", ""), "") for step in start.devices}
    made = []
    for step in start.devices:
        arguments, row = dict(step.arguments), line.registry.find(step.arguments["driver"])
        bus = arguments.get("bus")
        if bus in named:
            arguments["bus"] = named[bus]
        elif bus in ids:
            arguments["bus"] = f"{bus}/{bus}"
        elif bus is None and row is not None and plugs.get(row.data["bus"]):
            paths = plugs[row.data["bus"]]
            # Of several a device takes one for itself; one alone is shared.
            arguments["bus"] = paths[0] if len(paths) == 1 else next((path for path in paths if path not in taken), paths[-1])
            taken.add(arguments["bus"])
        made.append(Step(step.command, arguments, step.written))
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

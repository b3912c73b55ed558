"""Commands of the human monitor that change something; each is the QMP command that does it, with its arguments as a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ratite.daemon.hmp.line import HmpError
from ratite.daemon.personality import chardevs
from ratite.daemon.personality.options import LOG_CODE, LOG_ITEMS
from ratite.daemon.personality.syntax import CommandLineError, nested, pairs
from ratite.daemon.personality.values import properties, typed
from ratite.daemon.properties import object_properties
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratite.daemon.hmp.line import Line


def plain(command: str, *arguments: str) -> Callable[[Line], str]:
    """A command that is just a QMP command; `arguments` are its, by the names that the line's have."""

    def run(line: Line) -> str:
        line.qmp(command, {name: line.args[name] for name in arguments if name in line.args})
        return ""

    return run


def quit_daemon(line: Line) -> str:
    """quit"""
    daemon = line.ctx.daemon
    daemon.bridge.call_on_loop(daemon.shutdown, "host-qmp-quit")
    return ""


def cpu(line: Line) -> str:
    """cpu INDEX: the one whose registers and view of memory are meant from now on, at this terminal"""
    index = line.args["index"]
    if not line.ctx.daemon.has_machine or index not in line.ctx.machine.cpus():
        raise HmpError("invalid CPU index")
    line.seat.cpu_index = index
    return ""


def log(line: Line) -> str:
    """log ITEM[,ITEM]...: into the daemon's log, of every CPU that there is; what isn't code is in it anyway"""
    items = line.args["items"].split(",")
    if not set(items) <= {"none", *LOG_ITEMS}:
        rows = {"none": "remove all logs", **LOG_ITEMS}
        return "Log items (comma separated):\n" + "".join(f"{name:<15} {text}\n" for name, text in rows.items())
    for each in line.ctx.machine.cpus().values() if line.ctx.daemon.has_machine else ():
        each.set_property("log-code", LOG_CODE in items)
    return ""


def logfile(line: Line) -> str:
    """logfile FILENAME: where the daemon's log goes from now on"""
    try:
        line.ctx.daemon.move_log(line.args["filename"])
    except GenericError as error:
        raise HmpError(error.desc) from None
    return ""


def block_job(command: str) -> Callable[[Line], str]:
    """A command for a job on a disk."""

    def run(line: Line) -> str:
        more = {"force": "f" in line.args} if command == "block-job-cancel" else {}
        more |= {"speed": line.args["speed"]} if command == "block-job-set-speed" else {}
        line.qmp(command, {"device": line.args["device"], **more})
        return ""

    return run


# ---------------------------------------------------------------- devices and objects


def device_add(line: Line) -> str:
    """device_add DRIVER[,id=ID][,PROP=VALUE]..."""
    given = dict(pairs(line.args.get("options", ""), "driver"))
    if not given.get("driver"):
        raise GenericError("Parameter 'driver' is missing")
    _execute(line, "device_add", _typed(line, given["driver"], given))
    return ""


def object_add(line: Line) -> str:
    """object_add [qom-type=]TYPE,id=ID[,PROP=VALUE]..."""
    given = nested(line.args["options"], "qom-type")
    if line.ctx.ratite:
        for name in ("qom-type", "id"):
            if name not in given:
                raise GenericError(f"Parameter '{name}' is missing")
        _execute(line, "object-add", _typed(line, given["qom-type"], given))
    else:
        line.qmp("object-add", typed(line.ctx.view.schema, "ObjectOptions", given))
    return ""


def netdev_add(line: Line) -> str:
    """netdev_add TYPE,id=ID[,OPTION=VALUE]..."""
    line.qmp("netdev_add", typed(line.ctx.view.schema, "Netdev", nested(line.args.get("options", ""), "type")))
    return ""


def _typed(line: Line, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    row = line.ctx.daemon.registry.find(kind)
    return properties(() if row is None else row.properties, given)


def _execute(line: Line, command: str, arguments: dict[str, Any]) -> None:
    """What takes any properties, which the types check themselves."""
    line.ctx.daemon.handlers[command].handler(line.ctx, arguments)


# ---------------------------------------------------------------- chardevs


def chardev_add(line: Line) -> str:
    """chardev-add KIND,id=ID[,OPTION=VALUE]..."""
    name, backend = _chardev(line.args["options"])
    line.qmp("chardev-add", {"id": name, "backend": backend})
    return ""


def chardev_change(line: Line) -> str:
    """chardev-change ID KIND[,OPTION=VALUE]..."""
    _name, backend = _chardev(f"{line.args['options']},id={line.args['id']}")
    line.qmp("chardev-change", {"id": line.args["id"], "backend": backend})
    return ""


def _chardev(options: str) -> tuple[str, dict[str, Any]]:
    name, backend, mux = chardevs.from_group(options, str)
    if mux:
        raise CommandLineError("chardev: mux=on: make a chardev of kind mux instead")
    return name, backend


def ringbuf_read(line: Line) -> str:
    """ringbuf_read DEVICE SIZE: what is no printable character as \\\\uXXXX"""
    data = line.qmp("ringbuf-read", {"device": line.args["device"], "size": line.args["size"]})
    shown = "".join(
        "\\\\" if char == "\\" else char if char in "\n\t" or (ord(char) >= 32 and ord(char) != 127) else f"\\u{ord(char):04X}"
        for char in data
    )
    return f"{shown}\n"


# ---------------------------------------------------------------- QOM


def qom_list(line: Line) -> str:
    """qom-list [PATH]"""
    path = line.args.get("path")
    if path is None:
        return "/\n"
    if not line.ctx.daemon.has_machine:
        return "".join(f"{row['name']} ({row['type']})\n" for row in line.qmp("qom-list", {"path": path}))
    rows = object_properties(line.ctx.machine.resolve(path), line.ctx.ratite)
    return "".join(f"{row['name']} ({row['type']})\n" for row in rows)


def qom_get(line: Line) -> str:
    """qom-get PATH PROPERTY"""
    value = line.qmp("qom-get", {"path": line.args["path"], "property": line.args["property"]})
    return json.dumps(value, indent=4) + "\n"


def qom_set(line: Line) -> str:
    """qom-set [-j] PATH PROPERTY VALUE: JSON if it is, or must be (-j), else text"""
    text = line.args["value"]
    try:
        value: object = json.loads(text)
    except ValueError:
        if "j" in line.args:
            raise HmpError("Error: JSON parse error, expecting value") from None
        value = text
    line.qmp("qom-set", {"path": line.args["path"], "property": line.args["property"], "value": value})
    return ""


# ---------------------------------------------------------------- files


def memsave(line: Line) -> str:
    """memsave ADDR SIZE FILE: by the virtual addresses of the chosen CPU"""
    chosen = {} if line.cpu_index is None else {"cpu-index": line.cpu_index}
    line.qmp("memsave", {"val": line.args["addr"], "size": line.args["size"], "filename": line.args["file"], **chosen})
    return ""


def pmemsave(line: Line) -> str:
    """pmemsave ADDR SIZE FILE: by physical addresses"""
    line.qmp("pmemsave", {"val": line.args["addr"], "size": line.args["size"], "filename": line.args["file"]})
    return ""


def dumpdtb(line: Line) -> str:
    """dumpdtb FILE"""
    line.qmp("dumpdtb", {"filename": line.args["filename"]})
    return f"DTB dumped to '{line.args['filename']}'\n"


def dump_guest_memory(line: Line) -> str:
    """dump-guest-memory [-p] [-d] FILE [BEGIN LENGTH]"""
    given = {name: value for name, value in line.args.items() if name in ("begin", "length")}
    given |= {"paging": "p" in line.args, "detach": "d" in line.args, "protocol": f"file:{line.args['filename']}"}
    line.qmp("dump-guest-memory", given)
    return ""

"""The human monitor's command line: finding a command, `help`, `info`.

`help` and `info` print a command a line, "NAME ARGUMENTS -- TEXT", as qmp-shell -H reads them.
Everything runs on the machine's owner thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ratite.daemon.dispatch import INITIALIZED, Context
from ratite.daemon.hmp import control, info, memory, pci
from ratite.daemon.hmp.line import HmpError, Line
from ratite.qapi.errors import GenericError, QmpError


class Item(NamedTuple):
    """A command, or a topic of `info`: its name and short forms, and how many words it takes (None: it looks itself)."""

    names: tuple[str, ...]
    words: int | None
    arguments: str
    text: str
    run: Callable[[Line], str]

    @property
    def label(self) -> str:
        """All names: "stop|s"."""
        return "|".join(self.names)

    def execute(self, line: Line) -> str:
        """Run it, unless there is more on the line than it takes."""
        if self.words is not None and len(line.rest.split()) > self.words:
            raise line.surplus()
        return self.run(line)


def _help(line: Line) -> str:
    return _listing(line, line.rest.split())


def _info(line: Line) -> str:
    words = line.rest.split(None, 1)
    if not words:
        return _listing(line, ["info"])
    topic = INFO.get(words[0])
    if topic is None:
        raise HmpError(f"unknown command: 'info {words[0]}'")
    return topic.execute(line.shifted(words[1] if len(words) > 1 else "", words[0]))


def _listing(line: Line, words: list[str]) -> str:
    if words[:1] == ["info"]:
        shown = [(f"info {name}", item) for name, item in INFO.items() if len(words) == 1 or name == words[1]]
    else:
        shown = [(item.label, item) for item in ITEMS if not words or words[0] in item.names]
    return "".join(f"{name} {item.arguments} -- {item.text}\n" for name, item in shown)


ITEMS: tuple[Item, ...] = (
    Item(("cont", "c"), 0, "", "resume emulation", control.cont),
    Item(("device_add",), None, "driver[,prop=value][,...]", "add device, like device_add of QMP", control.device_add),
    Item(("device_del",), 1, "device", "remove device", control.device_del),
    Item(("help", "?"), None, "[cmd]", "show the help", _help),
    Item(("info",), None, "[subcommand]", "show various information about the system state", _info),
    Item(("object_del",), 1, "id", "destroy an object", control.object_del),
    Item(("print", "p"), None, "/fmt expr", "print expression value (use $reg for CPU register access)", memory.print_value),
    Item(("qom-get",), 2, "path property", "print a property's value", control.qom_get),
    Item(("qom-list",), 1, "[path]", "list the properties of an object", control.qom_list),
    Item(("qom-set",), None, "path property value", "set a property; the value is JSON", control.qom_set),
    Item(("quit", "q"), 0, "", "quit the emulator", control.quit_daemon),
    Item(("stop", "s"), 0, "", "stop emulation", control.stop),
    Item(("system_reset",), 0, "", "reset the system", control.system_reset),
    Item(("x",), None, "/fmt addr", "virtual memory dump starting at 'addr'", memory.dump_virtual),
    Item(("xp",), None, "/fmt addr", "physical memory dump starting at 'addr'", memory.dump_physical),
)

_TOPICS: tuple[Item, ...] = (
    Item(("accelerators",), 0, "", "show the accelerators", info.accelerators),
    Item(("chardev",), 0, "", "show the character devices", info.chardev),
    Item(("cpus",), 0, "", "show infos for each CPU", info.cpus),
    Item(("jit",), 0, "", "show compiled guest code", info.jit),
    Item(("mtree",), None, "[-f]", "show memory tree (-f: dump flat view for address spaces)", info.mtree),
    Item(("name",), 0, "", "show the current VM name", info.name),
    Item(("pci",), 0, "", "show PCI info", pci.pci),
    Item(("phase",), 0, "", "show how far the machine has come", info.phase),
    Item(("qom-tree",), 1, "[path]", "show QOM composition tree", info.qom_tree),
    Item(("qtree",), 0, "", "show device tree", info.qtree),
    Item(("registers",), None, "[-a|vcpu]", "show the cpu registers (-a: show register info for all cpus)", info.registers),
    Item(("status",), 0, "", "show the current VM status (running|paused)", info.status),
    Item(("targets",), 0, "", "show the targets", info.targets),
    Item(("uuid",), 0, "", "show the current VM UUID", info.uuid),
    Item(("version",), 0, "", "show the version", info.version),
)

COMMANDS: Mapping[str, Item] = MappingProxyType({name: item for item in ITEMS for name in item.names})
INFO: Mapping[str, Item] = MappingProxyType({item.names[0]: item for item in _TOPICS})

# What looks at or changes a machine that must be realized.
_LATE = frozenset({"cont", "stop", "system_reset", "x", "xp"})


def execute(ctx: Context, text: str, cpu_index: int | None = None) -> str:
    """What a line prints, with `\\r\\n`.  What is wrong with the line is printed, it is no QMP error.

    GenericError for a CPU that isn't there; number 0 always is, since qmp-shell -H sends it with each line.
    """
    cpus = ctx.machine.cpus() if ctx.daemon.has_machine else {}
    if cpu_index not in cpus:
        if cpu_index:
            raise GenericError("Parameter 'cpu-index' expects a CPU number")
        cpu_index = None
    text = text.strip()
    if not text:
        return ""
    name, rest = _split(text)
    item = COMMANDS.get(name)
    try:
        if item is None:
            raise HmpError(f"unknown command: '{name}'")
        if item.names[0] in _LATE and ctx.machine.phase not in INITIALIZED:
            raise HmpError(f"Error: the command '{name}' needs a realized machine; phase is {ctx.machine.phase}")
        printed = item.execute(Line(ctx, name, item.label, rest, cpu_index))
    except HmpError as error:
        printed = f"{error}\n"
    except QmpError as error:
        printed = f"Error: {error.desc}\n"
    return printed.replace("\n", "\r\n")


def _split(text: str) -> tuple[str, str]:
    """The command's name and the rest; a format may stick to the name ("x/4xw")."""
    end = 0
    while end < len(text) and not text[end].isspace() and text[end] != "/":
        end += 1
    return text[:end], text[end:].strip()

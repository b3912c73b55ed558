"""The commands of the human monitor, and the topics of `info`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ratite.daemon.dispatch import Context
from ratite.daemon.hmp import control, info, memory, pci
from ratite.daemon.hmp.line import HmpError, Line


class Item(NamedTuple):
    """A command, or a topic of `info`: its name and short forms, and how many words it takes (None: it looks itself)."""

    names: tuple[str, ...]
    words: int | None
    arguments: str
    text: str
    run: Callable[[Line], str]
    # What may stand for each argument, for the TAB key.
    words_for: tuple[Callable[[Context], Iterable[str]], ...] = ()

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


def _devices(ctx: Context) -> Iterable[str]:
    return ctx.machine.tree.peripheral.children if ctx.daemon.has_machine else ()


def _objects(ctx: Context) -> Iterable[str]:
    return ctx.machine.tree.objects.children if ctx.daemon.has_machine else ()


def _drivers(ctx: Context) -> Iterable[str]:
    return [row.name for row in ctx.daemon.registry.types(abstract=False) if row.kind in ("device", "cpu")]


def _commands(ctx: Context) -> Iterable[str]:
    return COMMANDS


def _topics(ctx: Context) -> Iterable[str]:
    return INFO


ITEMS: tuple[Item, ...] = (
    Item(("cont", "c"), 0, "", "resume emulation", control.cont),
    Item(("device_add",), None, "driver[,prop=value][,...]", "add device", control.device_add, (_drivers,)),
    Item(("device_del",), 1, "device", "remove device", control.device_del, (_devices,)),
    Item(("help", "?"), None, "[cmd]", "show the help", _help, (_commands,)),
    Item(("info",), None, "[subcommand]", "show various information about the system state", _info, (_topics,)),
    Item(("object_del",), 1, "id", "destroy an object", control.object_del, (_objects,)),
    Item(("print", "p"), None, "/fmt expr", "print expression value (use $reg for CPU register access)", memory.print_value),
    Item(("qom-get",), 2, "path property", "print a property's value", control.qom_get),
    Item(("qom-list",), 1, "[path]", "list the properties of an object", control.qom_list),
    Item(("qom-set",), None, "path property value", "set a property; the value is JSON", control.qom_set),
    Item(("quit", "q"), 0, "", "quit the emulator", control.quit_daemon),
    Item(("stop", "s"), 0, "", "stop emulation", control.stop),
    Item(("system_powerdown",), 0, "", "press the machine's power buttons", control.system_powerdown),
    Item(("system_reset",), 0, "", "reset the system", control.system_reset),
    Item(("x",), None, "/fmt addr", "virtual memory dump starting at 'addr'", memory.dump_virtual),
    Item(("xp",), None, "/fmt addr", "physical memory dump starting at 'addr'", memory.dump_physical),
)

_TOPICS: tuple[Item, ...] = (
    Item(("accelerators",), 0, "", "show the accelerators", info.accelerators),
    Item(("chardev",), 0, "", "show the character devices", info.chardev),
    Item(("cpus",), 0, "", "show infos for each CPU", info.cpus),
    Item(("history",), 0, "", "show the command line history", info.history),
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

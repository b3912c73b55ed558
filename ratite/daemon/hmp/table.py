"""The commands of the human monitor, and the topics of `info`.

Who adds one: a row here, its function in the module of its kind.  A row says what it takes as `Line.parse` has it; without
that (None) its function reads the line itself.  A row that `needs` a QMP command is there only in views that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ratite.daemon.dispatch import Context
from ratite.daemon.hmp import backends, control, info, memory, pci, trees
from ratite.daemon.hmp.line import HmpError, Line
from ratite.daemon.views import View


class Item(NamedTuple):
    """A command, or a topic of `info`: its name and short forms, what it takes, and what `help` prints."""

    names: tuple[str, ...]
    spec: str | None
    arguments: str
    text: str
    run: Callable[[Line], str]
    # What may stand for each argument, for the TAB key.
    words_for: tuple[Callable[[Context], Iterable[str]], ...] = ()
    needs: str = ""
    # Whether it looks at or changes a machine that must be realized.
    late: bool = False

    @property
    def label(self) -> str:
        """All names: "stop|s"."""
        return "|".join(self.names)

    def execute(self, line: Line) -> str:
        """Run it."""
        if self.spec is not None:
            line.parse(self.spec)
        return self.run(line)


def _help(line: Line) -> str:
    words = line.rest.split()
    view = line.ctx.view
    if words[:1] == ["info"]:
        shown = [item for item in _there(TOPICS, view) if len(words) == 1 or words[1] in item.names]
    else:
        shown = [item for item in _there(ITEMS, view) if not words or words[0] in item.names]
    if words and not shown:
        raise HmpError(f"unknown command: '{' '.join(words[:2])}'")
    before = "info " if words[:1] == ["info"] else ""
    return "".join(f"{before}{item.label} {item.arguments} -- {item.text}\n" for item in shown)


def _info(line: Line) -> str:
    words = line.rest.split(None, 1)
    if not words:
        line.rest = "info"
        return _help(line)
    topic = topics(line.ctx.view).get(words[0])
    if topic is None:
        raise HmpError(f"unknown command: 'info {words[0]}'")
    return topic.execute(line.shifted(words[1] if len(words) > 1 else "", words[0]))


def _there(items: Iterable[Item], view: View) -> list[Item]:
    return [item for item in items if not item.needs or view.find(item.needs)]


def commands(view: View) -> Mapping[str, Item]:
    """The commands of a view by name and short form."""
    return {name: item for item in _there(ITEMS, view) for name in item.names}


def topics(view: View) -> Mapping[str, Item]:
    """The topics of `info`."""
    return {name: item for item in _there(TOPICS, view) for name in item.names}


# ---------------------------------------------------------------- what the TAB key offers


def _devices(ctx: Context) -> Iterable[str]:
    return ctx.machine.tree.peripheral.children if ctx.daemon.has_machine else ()


def _objects(ctx: Context) -> Iterable[str]:
    return ctx.machine.tree.objects.children if ctx.daemon.has_machine else ()


def _chardevs(ctx: Context) -> Iterable[str]:
    return ctx.daemon.chardevs.children if ctx.daemon.has_chardevs else ()


def _netdevs(ctx: Context) -> Iterable[str]:
    return ctx.machine.netdevs.children if ctx.daemon.has_machine else ()


def _drivers(ctx: Context) -> Iterable[str]:
    return [row.name for row in ctx.daemon.registry.types(abstract=False) if row.kind in ("device", "cpu")]


def _types(ctx: Context) -> Iterable[str]:
    return [row.name for row in ctx.daemon.registry.types(abstract=False) if row.kind == "object"]


def _commands(ctx: Context) -> Iterable[str]:
    return commands(ctx.view)


def _topics(ctx: Context) -> Iterable[str]:
    return topics(ctx.view)


def _switch(ctx: Context) -> Iterable[str]:
    return ("on", "off")


_PROPS = "[,prop=value][,...]"
_REST = "options:rest"
_RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_SAVE = "addr:expr size:expr file:file"

ITEMS: tuple[Item, ...] = (
    Item(
        ("balloon",), "value:size", "target", "ask the guest to have this much memory (in MB)",
        control.plain("balloon", "value"), needs="balloon", late=True,
    ),
    Item(
        ("block_job_cancel",), "-f device:word", "[-f] device", "stop a job of a block device (-f: at once)",
        control.block_job("block-job-cancel"), needs="block-job-cancel",
    ),
    Item(
        ("block_job_complete",), "device:word", "device", "end a job of a block device that is ready",
        control.block_job("block-job-complete"), needs="block-job-complete",
    ),
    Item(
        ("block_job_pause",), "device:word", "device", "pause a job of a block device",
        control.block_job("block-job-pause"), needs="block-job-pause",
    ),
    Item(
        ("block_job_resume",), "device:word", "device", "let a job of a block device go on",
        control.block_job("block-job-resume"), needs="block-job-resume",
    ),
    Item(
        ("block_job_set_speed",), "device:word speed:size", "device speed", "limit a job of a block device to bytes a second",
        control.block_job("block-job-set-speed"), needs="block-job-set-speed",
    ),
    Item(
        ("block_resize",), "device:word size:size", "device size", "resize a block image",
        control.plain("block_resize", "device", "size"), needs="block_resize",
    ),
    Item(
        ("block_set_io_throttle",), f"device:word {' '.join(f'{name}:expr' for name in _RATES)}", f"device {' '.join(_RATES)}",
        "change I/O throttle limits for a block drive", control.plain("block_set_io_throttle", "device", *_RATES),
        needs="block_set_io_throttle",
    ),
    Item(("chardev-add",), _REST, "args", "add chardev", control.chardev_add),
    Item(("chardev-change",), "id:word options:rest", "id args", "change chardev", control.chardev_change, (_chardevs,)),
    Item(("chardev-remove",), "id:word", "id", "remove chardev", control.plain("chardev-remove", "id"), (_chardevs,)),
    Item(
        ("chardev-send-break",), "id:word", "id", "send a break on chardev",
        control.plain("chardev-send-break", "id"), (_chardevs,),
    ),
    Item(("cont", "c"), "", "", "resume emulation", control.plain("cont"), late=True),
    Item(("cpu",), "index:expr", "index", "set the default CPU", control.cpu),
    Item(("device_add",), "options:rest?", f"driver{_PROPS}", "add device", control.device_add, (_drivers,)),
    Item(("device_del",), "id:word", "device", "remove device", control.plain("device_del", "id"), (_devices,)),
    Item(
        ("dump-guest-memory",), "-p -d filename:file begin:expr? length:expr?", "[-p] [-d] filename [begin length]",
        "dump guest memory into file 'filename' (-p: with the guest's paging; -d: don't wait)", control.dump_guest_memory,
        needs="dump-guest-memory", late=True,
    ),
    Item(
        ("dumpdtb",), "filename:file", "filename", "write the device tree that guests see to 'filename'",
        control.dumpdtb, late=True,
    ),
    Item(("exit_preconfig",), "", "", "leave the preconfig state", control.plain("x-exit-preconfig")),
    Item(
        ("gva2gpa",), "addr:expr", "addr", "print the physical address that a virtual address leads to",
        memory.gva2gpa, late=True,
    ),
    Item(("help", "?"), None, "[cmd]", "show the help", _help, (_commands,)),
    Item(("info",), None, "[subcommand]", "show various information about the system state", _info, (_topics,)),
    Item(("log",), "items:word", "item1[,...]", "activate logging of the specified items (log help: which)", control.log),
    Item(("logfile",), "filename:file", "filename", "output logs to 'filename'", control.logfile),
    Item(
        ("memsave",), _SAVE, "addr size file", "save virtual memory from 'addr' on to disk, 'size' bytes",
        control.memsave, late=True,
    ),
    Item(("netdev_add",), "options:rest?", f"type,id=str{_PROPS}", "add host network device", control.netdev_add),
    Item(("netdev_del",), "id:word", "id", "remove host network device", control.plain("netdev_del", "id"), (_netdevs,)),
    Item(("nmi",), "", "", "inject an NMI", control.plain("inject-nmi"), needs="inject-nmi", late=True),
    Item(("object_add",), _REST, f"[qom-type=]type,id=str{_PROPS}", "create QOM object", control.object_add, (_types,)),
    Item(("object_del",), "id:word", "id", "destroy QOM object", control.plain("object-del", "id"), (_objects,)),
    Item(
        ("pmemsave",), _SAVE, "addr size file", "save physical memory from 'addr' on to disk, 'size' bytes",
        control.pmemsave, late=True,
    ),
    Item(("print", "p"), None, "/fmt expr", "print expression value (use $reg for CPU register access)", memory.print_value),
    Item(("qom-get",), "path:word property:word", "path property", "print QOM property", control.qom_get),
    Item(("qom-list",), "path:word?", "path", "list QOM properties", control.qom_list),
    Item(
        ("qom-set",), "-j path:word property:word value:rest", "[-j] path property value",
        "set QOM property; -j: the value is JSON",
        control.qom_set,
    ),
    Item(("quit", "q"), "", "", "quit the emulator", control.quit_daemon),
    Item(
        ("ringbuf_read",), "device:word size:expr", "device size", "read from a ring buffer chardev",
        control.ringbuf_read, (_chardevs,),
    ),
    Item(
        ("ringbuf_write",), "device:word data:rest", "device data", "write to a ring buffer chardev",
        control.plain("ringbuf-write", "device", "data"), (_chardevs,),
    ),
    Item(
        ("set_link",), "name:word up:switch", "name on|off", "change the link status of a network adapter",
        control.plain("set_link", "name", "up"), (_devices, _switch), needs="set_link",
    ),
    Item(("stop", "s"), "", "", "stop emulation", control.plain("stop"), late=True),
    Item(("sum",), "addr:expr size:expr", "addr size", "compute the checksum of a memory region", memory.checksum, late=True),
    Item(
        ("system_powerdown",), "", "", "send system power down event", control.plain("system_powerdown"),
        needs="system_powerdown", late=True,
    ),
    Item(("system_reset",), "", "", "reset the system", control.plain("system_reset"), late=True),
    Item(
        ("system_wakeup",), "", "", "wake the guest up from suspend", control.plain("system_wakeup"),
        needs="system_wakeup", late=True,
    ),
    Item(
        ("watchdog_action",), "action:word", "action", "change watchdog action",
        control.plain("watchdog-set-action", "action"), needs="watchdog-set-action",
    ),
    Item(("x",), None, "/fmt addr", "virtual memory dump starting at 'addr'", memory.dump_virtual, late=True),
    Item(("xp",), None, "/fmt addr", "physical memory dump starting at 'addr'", memory.dump_physical, late=True),
)

TOPICS: tuple[Item, ...] = (
    Item(("accelerators",), "", "", "show the accelerators", info.accelerators, needs="query-accelerators"),
    Item(("balloon",), "", "", "show how much memory the guest has, in MB", backends.balloon, needs="query-balloon"),
    Item(
        ("block",), "-n -v device:word?", "[-n] [-v] [device]", "show one or all block devices (-n: named nodes; -v: details)",
        backends.block,
    ),
    Item(("block-jobs",), "", "", "show what jobs of block devices do", backends.block_jobs, needs="query-block-jobs"),
    Item(("blockstats",), "", "", "show block device statistics", backends.blockstats),
    Item(("chardev",), "", "", "show the character devices", backends.chardev),
    Item(("cpus",), "", "", "show infos for each CPU", info.cpus),
    Item(("dump",), "", "", "show how far the last dump is", backends.dump, needs="query-dump"),
    Item(("history",), "", "", "show the command line history", info.history),
    Item(
        ("hotpluggable-cpus",), "", "", "show which CPUs there can be", backends.hotpluggable_cpus,
        needs="query-hotpluggable-cpus",
    ),
    Item(("irq",), "", "", "show the interrupt lines", backends.report("x-query-irq"), needs="x-query-irq"),
    Item(("jit",), "", "", "show compiled guest code", info.jit),
    Item(("kvm",), "", "", "show KVM information", backends.kvm),
    Item(("memory_size_summary",), "", "", "show how much memory there is, in bytes", backends.memory_size_summary),
    Item(("iothreads",), "", "", "show iothreads", backends.iothreads, needs="query-iothreads"),
    Item(("memdev",), "", "", "show memory backends", backends.memdev, needs="query-memdev"),
    Item(("mtree",), "-f", "[-f]", "show memory tree (-f: dump flat view for address spaces)", trees.mtree),
    Item(("name",), "", "", "show the current VM name", info.name),
    Item(("network",), "", "", "show the network state", backends.network),
    Item(("numa",), "", "", "show NUMA nodes", backends.report("x-query-numa"), needs="x-query-numa"),
    Item(("pci",), "", "", "show PCI info", pci.pci),
    Item(("phase",), "", "", "show how far the machine has come", info.phase, needs="query-machine-phase"),
    Item(
        ("pic",), "", "", "show the state of the interrupt controllers", backends.report("x-query-interrupt-controllers"),
        needs="x-query-interrupt-controllers",
    ),
    Item(("qom-tree",), "path:word?", "[path]", "show QOM composition tree", trees.qom_tree),
    Item(("qtree",), "-b", "[-b]", "show device tree (-b: brief, omit properties)", trees.qtree),
    Item(
        ("ramblock",), "", "", "show the memory that guests have",
        backends.report("x-query-ramblock"), needs="x-query-ramblock",
    ),
    Item(
        ("registers",), "-a vcpu:expr?", "[-a|vcpu]", "show the cpu registers (-a: of all cpus; vcpu: of this one)",
        info.registers,
    ),
    Item(("roms",), "", "", "show what is loaded at each reset", backends.report("x-query-roms"), needs="x-query-roms"),
    Item(("snapshots",), "", "", "show the currently saved VM snapshots", backends.snapshots),
    Item(("status",), "", "", "show the current VM status (running|paused)", info.status),
    Item(("targets",), "", "", "show the targets", info.targets, needs="query-targets"),
    Item(("uuid",), "", "", "show the current VM UUID", info.uuid),
    Item(("version",), "", "", "show the version", info.version),
    Item(("virtio",), "", "", "list the virtio devices", backends.virtio),
)

"""The options of the QEMU personality: one table, from which the parser, -help, query-command-line-options and the docs come.

What isn't here doesn't exist: an option is accepted only if something is done with it, or if what it turns off isn't there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Option(NamedTuple):
    """One option.  `names` without a dash, the first is its key; `metavar` is empty for a switch.

    `group`: its name in query-command-line-options, "" where it isn't shown.  `parameters`: name and type (string, boolean,
    number, size) of what may be in its value, where that is a fixed list; `implied`: the key of a first bare word.
    """

    names: tuple[str, ...]
    metavar: str
    section: str
    text: str
    group: str = ""
    implied: str = ""
    parameters: Mapping[str, str] = _NOTHING

    @property
    def key(self) -> str:
        """What the translator calls it."""
        return self.names[0]


def _group(**types: str) -> Mapping[str, str]:
    return MappingProxyType({name.replace("__", ".").replace("_", "-"): kind for name, kind in types.items()})


_S, _B, _N, _Z = "string", "boolean", "number", "size"

MACHINE, BOOT, DEVICES, HOST, MONITOR, RUN = (
    "Machine", "What the guest starts", "Devices and objects", "What of the host devices use", "Monitors", "The process",
)  # fmt: skip

_CHARDEV = MappingProxyType({
    "backend": _S, "path": _S, "host": _S, "port": _S, "localaddr": _S, "localport": _S, "fd": _S,
    "ipv4": _B, "ipv6": _B, "server": _B, "wait": _B,
    "nodelay": _B, "delay": _B, "telnet": _B, "reconnect": _N, "reconnect-ms": _N, "mux": _B, "signal": _B, "size": _Z,
    "append": _B, "input-path": _S, "logfile": _S, "logappend": _B,
})  # fmt: skip
_DRIVE = _group(
    node_name=_S, driver=_S, format=_S, file=_S, read_only=_B, id=_S, media=_S, index=_N, cache__direct=_B, cache__no_flush=_B,
    discard=_S, aio=_S, snapshot=_B, **{"if": _S},
)  # fmt: skip

OPTIONS: tuple[Option, ...] = (
    Option(("machine", "M"), "[type=]NAME[,KEY=VALUE…]", MACHINE,
           "the type of machine and its properties; 'help' lists the types, 'NAME,help' its properties", "machine", "type"),
    Option(("cpu",), "MODEL[,PROPERTY=VALUE…]", MACHINE, "the CPUs' model and their properties; 'help' lists the models"),
    Option(("accel",), "[accel=]NAME[,PROPERTY=VALUE…]", MACHINE,
           "what executes guest code; given several times, the first that is usable; 'help' lists them", "accel", "accel"),
    Option(("smp",), "[cpus=]N[,maxcpus=N][,sockets=N][,clusters=N][,cores=N][,threads=N]", MACHINE,
           "how many CPUs, and how they are arranged", "smp-opts", "cpus",
           _group(cpus=_N, drawers=_N, books=_N, sockets=_N, dies=_N, clusters=_N, modules=_N, cores=_N, threads=_N,
                  maxcpus=_N)),
    Option(("numa",), "node[,nodeid=N][,cpus=FIRST[-LAST]][,memdev=ID] or dist,src=N,dst=N,val=N or cpu,node-id=N,core-id=N",
           MACHINE, "NUMA nodes: their CPUs and memory, and how far they are from each other", "numa", "type"),
    Option(("m",), "[size=]MEGABYTES", MACHINE, "RAM; a suffix K, M, G or T is obeyed", "memory", "size", _group(size=_Z)),
    Option(("overcommit",), "[mem-lock=off]", MACHINE, "memory isn't locked here: 'off' only", "overcommit", "",
           _group(mem_lock=_S, cpu_pm=_B)),
    Option(("name",), "[guest=]TEXT", MACHINE, "the machine's name (query-name)", "name", "guest",
           _group(guest=_S, debug_threads=_B)),
    Option(("uuid",), "UUID", MACHINE, "the machine's UUID (query-uuid)"),
    Option(("rtc",), "[base=utc][,clock=host]", MACHINE, "real-time clocks show the host's time in UTC: these only",
           "rtc", "", _group(base=_S, clock=_S)),
    Option(("nodefaults",), "", MACHINE, "no devices and monitors but those that are asked for"),
    Option(("kernel",), "FILE", BOOT, "a kernel, started by the firmware where there is one"),
    Option(("initrd",), "FILE", BOOT, "the kernel's initial file system"),
    Option(("append",), "TEXT", BOOT, "the kernel's command line"),
    Option(("dtb",), "FILE", BOOT, "a device tree, instead of the one that is made of the machine"),
    Option(("bios",), "FILE", BOOT, "firmware; 'none' for none, 'default' for the machine's own"),
    Option(("L",), "FOLDER", BOOT, "where firmware is looked for, too"),
    Option(("boot",), "[order=]DRIVES[,strict=on|off]", BOOT, "letters of drives, which no firmware here asks for, nor QEMU's",
           "boot-opts", "order", _group(order=_S, strict=_B)),
    Option(("device",), "DRIVER[,PROPERTY=VALUE…]", DEVICES,
           "a device, as device_add; also in JSON; 'help' lists the types, 'DRIVER,help' its properties", "device", "driver"),
    Option(("object",), "TYPE[,PROPERTY=VALUE…]", DEVICES,
           "an object, as object-add; also in JSON; 'help' lists the types, 'TYPE,help' a type's properties", "object",
           "qom-type"),
    Option(("global",), "DRIVER.PROPERTY=VALUE", DEVICES, "another default of a type's property", "global", "",
           _group(driver=_S, property=_S, value=_S)),
    Option(("g",), "WIDTHxHEIGHT[xDEPTH]", DEVICES, "refused: there are no displays"),
    Option(("vga",), "none", DEVICES, "there are no displays: 'none' only"),
    Option(("display",), "none", DEVICES, "there are no displays: 'none' only"),
    Option(("nographic",), "", DEVICES, "the first serial line and the monitor at standard input and output"),
    Option(("audiodev",), "none,id=ID", DEVICES, "there is no sound: 'none' only"),
    Option(("chardev",), "KIND,id=ID[,KEY=VALUE…]", HOST, "a character backend, as chardev-add; 'help' lists the kinds",
           "chardev", "backend", _CHARDEV),
    Option(("serial",), "DEVICE", HOST, "where the machine's next serial line goes: stdio, mon:stdio, pty, file:PATH, null, "
           "unix:PATH, tcp:HOST:PORT, chardev:ID, none"),
    Option(("parallel",), "none", HOST, "there are no parallel ports: 'none' only"),
    Option(("blockdev",), "[driver=]DRIVER,node-name=NAME[,KEY=VALUE…]", HOST, "a block node, as blockdev-add; also in JSON",
           "", "driver"),
    Option(("drive",), "file=FILE,if=none|virtio,id=ID[,format=raw]", HOST, "a disk image, and for 'virtio' its device",
           "drive", "", _DRIVE),
    *(Option((f"hd{letter}",), "FILE", HOST, f"a disk image, as -drive if=virtio,index={number},file=FILE")
      for number, letter in enumerate("abcd")),
    Option(("netdev",), "KIND,id=ID[,KEY=VALUE…]", HOST, "a network backend, as netdev_add; or in JSON; 'help' lists the kinds",
           "netdev", "type"),
    Option(("nic",), "none", HOST, "no network card by default: 'none' only", "nic"),
    Option(("net",), "none", HOST, "as -nic none", "net"),
    Option(("add-fd",), "fd=N,set=N[,opaque=TEXT]", HOST, "an inherited descriptor into a set, as add-fd", "add-fd", "",
           _group(fd=_N, set=_N, opaque=_S)),
    Option(("qmp",), "DEVICE", MONITOR, "a QMP monitor at a device, as -serial has them"),
    Option(("qmp-pretty",), "DEVICE", MONITOR, "the same, its answers with line breaks"),
    Option(("monitor",), "DEVICE", MONITOR, "the human monitor at a device, or 'none'"),
    Option(("mon",), "[chardev=]ID[,mode=readline|control][,pretty=on|off]", MONITOR, "a monitor at a chardev", "mon",
           "chardev", _group(mode=_S, chardev=_S, pretty=_B)),
    Option(("S",), "", RUN, "don't run the guest before `cont`"),
    Option(("preconfig",), "", RUN, "wait before the machine is made, until x-exit-preconfig"),
    Option(("action",), "EVENT=ACTION[,…]", RUN, "what becomes of reboot, shutdown, panic and watchdogs", "action", "",
           _group(reboot=_S, shutdown=_S, panic=_S, watchdog=_S)),
    Option(("compat",), "deprecated-input=accept|reject[,…]", RUN, "refuse or hide what is deprecated or unstable", "",
           "", _group(deprecated_input=_S, deprecated_output=_S, unstable_input=_S, unstable_output=_S)),
    Option(("watchdog-action",), "ACTION", RUN, "as -action watchdog=ACTION"),
    Option(("no-reboot",), "", RUN, "a guest's reset ends the program"),
    Option(("no-shutdown",), "", RUN, "a guest's power-off stops the machine instead of ending the program"),
    Option(("daemonize",), "", RUN, "go into the background as soon as everything is ready"),
    Option(("pidfile",), "FILE", RUN, "write the process's number there"),
    Option(("readconfig",), "FILE", RUN, "read more options from a file"),
    Option(("no-user-config",), "", RUN, "there is no configuration of the user's: nothing changes"),
    Option(("sandbox",), "off", RUN, "there is no sandbox: 'off' only"),
    Option(("msg",), "[timestamp=on|off][,guest-name=on|off]", RUN, "what error messages begin with", "msg", "",
           _group(timestamp=_B, guest_name=_B)),
    Option(("run-with",), "[user=NAME]", RUN, "become another user once everything is open", "run-with", "",
           _group(user=_S)),
    Option(("d",), "ITEM[,…]", RUN, "what the log tells of guests; 'help' lists the items"),
    Option(("D",), "FILE", RUN, "the log goes there, not to standard error"),
    Option(("target",), "TARGET", RUN, "stand in for this target, whatever the program's name (ratite's own option)"),
    Option(("version",), "", RUN, "print the version"),
    Option(("help", "h"), "", RUN, "print this text"),
)

# What -d may name.  All but the instructions is in the log anyway, once for each place in a guest or device.
LOG_CODE = "in_asm"
LOG_ITEMS: Mapping[str, str] = MappingProxyType({
    "guest_errors": "accesses of guests that nothing answers",
    "invalid_mem": "the same",
    LOG_CODE: "instructions, when a CPU first decodes them",
    "unimp": "registers of devices that aren't modelled",
})  # fmt: skip

BY_NAME: Mapping[str, Option] = MappingProxyType({name: option for option in OPTIONS for name in option.names})


def nearest(name: str, names: Iterable[str]) -> str:
    """", did you mean …?" for a name that isn't there, "" where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1, 0.6)
    return near[0] if near else ""


def usage(program: str) -> str:
    """What -help prints."""
    lines = [f"usage: {program} [options] [disk image]", ""]
    section = ""
    for option in OPTIONS:
        if option.section != section:
            section = option.section
            lines += ["", f"{section}:"] if lines[-1] else [f"{section}:"]
        left = " or ".join(f"-{name}" for name in option.names) + (f" {option.metavar}" if option.metavar else "")
        lines += [f"{left:<15} {option.text}"] if len(left) < 16 else [left, f"{'':<15} {option.text}"]
    return "\n".join(lines) + "\n"

"""Options for what devices use of the host (chardevs, serial lines, disks, networks), and for monitors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ratite.daemon.personality import chardevs
from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.line import Line
from ratite.daemon.personality.settings import values
from ratite.daemon.personality.start import Step
from ratite.daemon.personality.syntax import CommandLineError, as_bool, as_number, checked, pairs
from ratite.daemon.personality.values import list_members, typed

# Options that are an image's name; "": no option.
_IMAGES = ("", "hda", "hdb", "hdc", "hdd")
_DISK_DRIVERS = ("raw", "file")


def translate_chardevs(line: Line) -> None:
    """-chardev and -add-fd.  CommandLineError."""
    for given in line.of("chardev"):
        with given.named():
            name, backend, mux = chardevs.from_group(given.value, line.name_fd)
            if line.chardev(name) is not None:
                raise CommandLineError(f"Duplicate ID '{name}' for chardev")
            add_chardev(line, name, backend, given.written, mux)
    for given in line.of("add-fd"):
        with given.named():
            _add_fd(line, given)


def add_chardev(line: Line, name: str, backend: dict[str, Any], written: str, mux: bool = False) -> None:
    """The commands for a chardev; one that several may use is a mux before it."""
    if mux:
        line.start.steps.append(Step("chardev-add", {"id": f"{name}-base", "backend": backend}, written))
        backend = {"type": "mux", "data": {"chardev": f"{name}-base"}}
    line.start.steps.append(Step("chardev-add", {"id": name, "backend": backend}, written))


def short(line: Line, given: Given, name: str) -> str:
    """The id of the chardev that a short form names, or makes as `name`.  CommandLineError."""
    text = given.value
    if text.startswith("chardev:"):
        return text.removeprefix("chardev:")
    shared = text.startswith("mon:")
    if shared and text.removeprefix("mon:").startswith("chardev:"):
        raise CommandLineError("mon: isn't used together with chardev:")
    backend = chardevs.from_short(text.removeprefix("mon:"), line.name_fd)
    if backend is None:
        raise CommandLineError(f"'{text}' is not a valid char driver")
    add_chardev(line, name, backend, given.written, shared)
    if shared:
        add_monitor(line, name, "readline", False, given.written)
    return name


# -- serial lines


def translate_serials(line: Line) -> list[str]:
    """-serial and what there is without it: the chardev of each serial line, "" for none.  CommandLineError."""
    found = []
    for number, given in enumerate(line.of("serial")):
        if given.value == "none":
            found.append("")
            continue
        with given.named():
            try:
                name = short(line, given, f"serial{number}")
                if line.chardev(name) is None:
                    raise CommandLineError("")
            except CommandLineError as error:
                reason = f"{error}\n{given.written}: " if str(error) else ""
                text = f"could not connect serial device to character backend '{given.value}'"
                raise CommandLineError(f"{reason}{text}") from None
            found.append(name)
    if found or line.has("nodefaults"):
        return found
    if line.has("nographic"):
        if line.start.background:
            raise CommandLineError("-nographic cannot be used with -daemonize")
        # One terminal for both, unless the monitor is somewhere else.
        both = not line.has("monitor")
        add_chardev(line, "serial0", {"type": "stdio", "data": {}}, "-nographic", both)
        if both:
            add_monitor(line, "serial0", "readline", False, "-nographic")
    else:
        add_chardev(line, "serial0", {"type": "null", "data": {}}, "")
    return ["serial0"]


# -- monitors


def add_monitor(line: Line, chardev: str, mode: str, pretty: bool, written: str) -> None:
    """A monitor, which is served when everything is there."""
    line.start.monitors.append(Step("monitor-add", {"chardev": chardev, "mode": mode, "pretty": pretty}, written))


def translate_monitors(line: Line) -> None:
    """-mon, -qmp, -qmp-pretty, -monitor.  CommandLineError."""
    number = 0
    for given in line.of("mon", "qmp", "qmp-pretty", "monitor"):
        if given.option.key == "mon":
            with given.named():
                _mon(line, given)
        elif given.value != "none":
            mode = "readline" if given.option.key == "monitor" else "control"
            try:
                name = short(line, given, f"compat_monitor{number}")
            except CommandLineError as error:
                raise given.error(f"{error}\n{given.written}: parse error: {given.value}") from None
            number += not given.value.startswith("chardev:")
            add_monitor(line, name, mode, given.option.key == "qmp-pretty", given.written)


def _mon(line: Line, given: Given) -> None:
    found = values(given)
    if "chardev" not in found:
        raise CommandLineError("Parameter 'chardev' is missing")
    name, mode = found["chardev"], found.get("mode", "readline")
    if mode not in ("readline", "control"):
        raise CommandLineError(f"Parameter 'mode' does not accept value '{mode}'")
    if line.chardev(name) is None:
        raise CommandLineError(f'chardev "{name}" not found')
    add_monitor(line, name, mode, as_bool("pretty", found.get("pretty", "off")), given.written)


# -- disks and networks


def translate_blockdevs(line: Line) -> None:
    """-blockdev and -drive.  CommandLineError."""
    for given in line.of("blockdev"):
        with given.named():
            value, is_json = line.object_of(given)
            arguments = value if is_json else typed(line.schema, "BlockdevOptions", value)
            line.start.steps.append(Step("blockdev-add", arguments, given.written))
    for given in line.of("drive", *_IMAGES):
        with given.named():
            _drive(line, given)


def _drive(line: Line, given: Given) -> None:
    name = dict(pairs(given.value)).get("id", "")
    found = {"file": given.value, "if": "virtio"} if given.option.key in _IMAGES else _drive_values(given)
    interface = found.get("if", "virtio" if line.machine is not None and line.machine.get("disk") else "none")
    number = list(line.start.drives.values()).count(interface)
    if interface not in ("none", "virtio"):
        raise CommandLineError(f"machine type does not support if={interface},bus=0,unit={number}")
    if "file" not in found:
        raise CommandLineError("Must specify either driver or file")
    driver = found.get("format", found.get("driver", "raw"))
    if driver not in _DISK_DRIVERS:
        raise CommandLineError(f"Unknown driver '{driver}'")
    if found.get("media", "disk") != "disk":
        raise CommandLineError(f"'{found['media']}' invalid media")
    name = name or found.get("node-name", f"{interface}{number}")
    data: dict[str, Any] = {"driver": "raw", "node-name": name, "file": {"driver": "file", "filename": found["file"]}}
    if "read-only" in found:
        data["read-only"] = as_bool("read-only", found["read-only"])
    if "discard" in found:
        data["discard"] = found["discard"]
    cache = {key: as_bool(f"cache.{key}", found[f"cache.{key}"]) for key in ("direct", "no-flush") if f"cache.{key}" in found}
    if cache:
        data["cache"] = cache
    line.start.steps.append(Step("blockdev-add", data, given.written))
    line.start.drives[name] = interface
    if interface == "virtio":
        device = line.machine.get("disk") if line.machine is not None else None
        if not device:
            raise CommandLineError(f"machine type does not support if={interface},bus=0,unit={number}")
        line.start.devices.append(Step("device_add", {"driver": device, "drive": name}, given.written))


# -drive's words for what a node's `cache` says; the others ask for a disk that waits for the host at each write.
_CACHES: Mapping[str, tuple[str, str]] = MappingProxyType({
    "writeback": ("off", "off"), "none": ("on", "off"), "off": ("on", "off"), "unsafe": ("off", "on"),
})  # fmt: skip


def _drive_values(given: Given) -> dict[str, str]:
    found: list[tuple[str, str]] = []
    for key, value in pairs(given.value):
        if key == "cache":
            if value not in _CACHES:
                raise CommandLineError(f"cache: must be one of {', '.join(_CACHES)}: there is nothing else here")
            found += zip(("cache.direct", "cache.no-flush"), _CACHES[value], strict=True)
        else:
            found.append(("read-only" if key == "readonly" else key, value))
    made = checked(found, given.option.parameters)
    if made.get("aio", "threads") != "threads":
        raise CommandLineError("aio: must be 'threads': there is nothing else here")
    if as_bool("snapshot", made.get("snapshot", "off")):
        raise CommandLineError("snapshot: must be 'off': there is nothing else here")
    return made


def translate_networks(line: Line) -> None:
    """-netdev, -nic, -net.  CommandLineError."""
    for given in line.of("netdev"):
        with given.named():
            value, is_json = line.object_of(given, list_members(line.schema, "Netdev"))
            arguments = value if is_json else typed(line.schema, "Netdev", value)
            _name_descriptors(line, arguments)
            line.start.steps.append(Step("netdev_add", arguments, given.written))
    for number, given in enumerate(line.of("nic", "net")):
        with given.named():
            _nic(line, given, number)


def _name_descriptors(line: Line, arguments: Mapping[str, Any]) -> None:
    """Inherited descriptors that a network backend names by their numbers.  CommandLineError."""
    if isinstance(number := arguments.get("fd"), str):
        line.name_fd(number)
    for end in "addr", "local":
        address = arguments.get(end)
        if isinstance(address, dict) and address.get("type") == "fd" and isinstance(address.get("str"), str):
            line.name_fd(address["str"])


def _nic(line: Line, given: Given, number: int) -> None:
    if given.value == "none":
        return
    if given.option.key == "net":
        raise CommandLineError("must be 'none'; -nic makes a card with its backend")
    found = dict(pairs(given.value, "type"))
    model = found.pop("model", line.machine.get("network") if line.machine is not None else None)
    mac = found.pop("mac", None)
    name = found.setdefault("id", f"nic{number}")
    if not model:
        raise CommandLineError("this machine has no network card by default; say which by 'model='")
    line.start.steps.append(Step("netdev_add", typed(line.schema, "Netdev", found), given.written))
    card = {"driver": model, "netdev": name, **({"mac": mac} if mac else {})}
    line.start.devices.append(Step("device_add", card, given.written))


def _add_fd(line: Line, given: Given) -> None:
    found = checked(pairs(given.value), given.option.parameters)
    fd = as_number("fd", found.get("fd", ""))
    if fd <= 2:
        raise CommandLineError("fd cannot be used for standard I/O streams")
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        raise CommandLineError("fd is not valid or already in use") from None
    line.start.fdsets.append((fd, as_number("set", found.get("set", "")), found.get("opaque")))

"""Character backends on the command line: -chardev's groups and the short forms of -serial, -qmp and -monitor.

Both become the arguments of chardev-add.  Descriptors that were inherited are numbers here and names there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ratite.daemon.personality.options import BY_NAME
from ratite.daemon.personality.syntax import CommandLineError, as_bool, as_number, as_size, checked, pairs

Json = dict[str, Any]
# An inherited descriptor's number -> the name by which chardev-add finds it.
NameFd = Callable[[str], str]

_TYPES = BY_NAME["chardev"].parameters
_COMMON = ("logfile", "logappend")
# What chardev-add calls what an option calls otherwise, by kind.
_KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "null": {},
    "pty": {"path": "path"},
    "stdio": {"signal": "signal"},
    "ringbuf": {"size": "size"},
    "file": {"path": "out", "input-path": "in", "append": "append"},
    "socket": {name: name for name in ("server", "wait", "nodelay", "telnet", "reconnect", "reconnect-ms")},
})  # fmt: skip
_ADDRESS = ("path", "host", "port", "fd", "ipv4", "ipv6", "delay")


def from_group(text: str, name_fd: NameFd) -> tuple[str, Json, bool]:
    """-chardev's value: (id, chardev-add's backend, whether several may use it).  CommandLineError."""
    given = pairs(text, "backend")
    kind = dict(given).get("backend", "")
    values = checked([(key, value) for key, value in given if key not in ("backend", "id")], _TYPES)
    name = dict(given).get("id", "")
    if not kind:
        raise CommandLineError('chardev: "backend" parameter not specified'.replace('"', "'"))
    if kind not in _KINDS:
        raise CommandLineError(f"'{kind}' is not a valid char driver name")
    if not name:
        raise CommandLineError("chardev: no id specified")
    mux = as_bool("mux", values.pop("mux", "off"))
    return name, backend_of(kind, values, name_fd), mux


def backend_of(kind: str, values: Mapping[str, str], name_fd: NameFd) -> Json:
    """chardev-add's backend of an option's keys and texts."""
    renamed = _KINDS[kind]
    data: Json = {}
    for key, value in values.items():
        if key in _COMMON:
            data[key] = _typed(key, value)
        elif key in renamed:
            data[renamed[key]] = _typed(key, value)
        elif kind != "socket" or key not in _ADDRESS:
            raise CommandLineError(f"chardev: {kind}: Invalid parameter '{key}'")
    if kind == "file" and "out" not in data:
        raise CommandLineError("chardev: file: no filename given")
    if kind == "socket":
        data["addr"] = _address(values, name_fd)
        # A command line connects where a client that says nothing listens.
        data.setdefault("server", False)
        if "delay" in values:
            data.setdefault("nodelay", not as_bool("delay", values["delay"]))
        if data["server"]:
            data.setdefault("wait", True)
    return {"type": kind, "data": data}


def _address(values: Mapping[str, str], name_fd: NameFd) -> Json:
    given = [key for key in ("path", "fd", "host") if key in values]
    if len(given) > 1:
        raise CommandLineError("None or one of 'path', 'fd' or 'host' option required.")
    if "path" in values:
        return {"type": "unix", "data": {"path": values["path"]}}
    if "fd" in values:
        return {"type": "fd", "data": {"str": name_fd(values["fd"])}}
    if "port" not in values:
        raise CommandLineError("chardev: socket: no port given" if "host" in values else "chardev: socket: no host given")
    data: Json = {"host": values.get("host", ""), "port": values["port"]}
    data.update({key: _typed(key, values[key]) for key in ("ipv4", "ipv6") if key in values})
    return {"type": "inet", "data": data}


def _typed(key: str, text: str) -> Any:
    kind = _TYPES[key]
    if kind == "boolean":
        return as_bool(key, text)
    if kind == "number":
        return as_number(key, text)
    return as_size(key, text) if kind == "size" else text


def from_short(text: str, name_fd: NameFd) -> Json | None:
    """-serial's and -qmp's value as chardev-add's backend; None: it isn't one.  CommandLineError."""
    kind, colon, rest = text.partition(":")
    if text in ("null", "pty", "stdio"):
        return backend_of(text, {}, name_fd)
    if text == "ringbuf":
        return backend_of("ringbuf", {}, name_fd)
    if not colon:
        return None
    if kind == "file":
        return backend_of("file", {"path": rest}, name_fd)
    if kind in ("unix", "tcp", "telnet", "fd"):
        return _short_socket(kind, rest, name_fd)
    return None


def _short_socket(kind: str, rest: str, name_fd: NameFd) -> Json:
    (_, place), *more = pairs(rest, "place")
    values = checked(more, _TYPES)
    if kind == "unix":
        values["path"] = place
    elif kind == "fd":
        values["fd"] = place
    else:
        host, colon, port = place.rpartition(":")
        if not colon:
            raise CommandLineError(f"error parsing address '{place}'")
        values |= {"host": host.strip("[]"), "port": port}
        if kind == "telnet":
            values["telnet"] = "on"
    return backend_of("socket", values, name_fd)

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
KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "null": {},
    "pty": {"path": "path"},
    "stdio": {"signal": "signal"},
    "ringbuf": {"size": "size"},
    "file": {"path": "out", "input-path": "in", "append": "append"},
    "pipe": {"path": "device"},
    "serial": {"path": "device"},
    "udp": {},
    "socket": {name: name for name in ("server", "wait", "nodelay", "telnet", "reconnect", "reconnect-ms")},
})  # fmt: skip
_ADDRESS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "socket": ("path", "host", "port", "fd", "ipv4", "ipv6", "delay"),
    "udp": ("host", "port", "localaddr", "localport", "ipv4", "ipv6"),
})  # fmt: skip


def from_group(text: str, name_fd: NameFd) -> tuple[str, Json, bool]:
    """-chardev's value: (id, chardev-add's backend, whether several may use it).  CommandLineError."""
    given = pairs(text, "backend")
    kind = dict(given).get("backend", "")
    values = checked([(key, value) for key, value in given if key not in ("backend", "id")], _TYPES)
    name = dict(given).get("id", "")
    if not kind:
        raise CommandLineError('chardev: "backend" parameter not specified'.replace('"', "'"))
    if kind not in KINDS:
        raise CommandLineError(f"'{kind}' is not a valid char driver name")
    if not name:
        raise CommandLineError("chardev: no id specified")
    mux = as_bool("mux", values.pop("mux", "off"))
    return name, backend_of(kind, values, name_fd), mux


def backend_of(kind: str, values: Mapping[str, str], name_fd: NameFd) -> Json:
    """chardev-add's backend of an option's keys and texts."""
    renamed = KINDS[kind]
    data: Json = {}
    for key, value in values.items():
        if key in _COMMON:
            data[key] = _typed(key, value)
        elif key in renamed:
            data[renamed[key]] = _typed(key, value)
        elif key not in _ADDRESS.get(kind, ()):
            raise CommandLineError(f"chardev: {kind}: Invalid parameter '{key}'")
    if kind == "file" and "out" not in data:
        raise CommandLineError("chardev: file: no filename given")
    if kind in ("pipe", "serial") and "device" not in data:
        raise CommandLineError(f"chardev: {kind}: no {'device path' if kind == 'pipe' else 'serial/tty device'} given")
    if kind == "udp":
        data |= _udp(values)
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
    return _inet(values.get("host", ""), values["port"], values)


def _udp(values: Mapping[str, str]) -> Json:
    if not values.get("port"):
        raise CommandLineError("chardev: udp: remote port not specified")
    data: Json = {"remote": _inet(values.get("host") or "localhost", values["port"], values)}
    if "localaddr" in values or "localport" in values:
        data["local"] = _inet(values.get("localaddr", ""), values.get("localport") or "0", {})
    return data


def _inet(host: str, port: str, values: Mapping[str, str]) -> Json:
    more = {key: _typed(key, values[key]) for key in ("ipv4", "ipv6") if key in values}
    return {"type": "inet", "data": {"host": host, "port": port, **more}}


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
    if text.startswith("/dev/"):
        return backend_of("serial", {"path": text}, name_fd)
    if not colon:
        return None
    if kind in ("file", "pipe"):
        return backend_of(kind, {"path": rest}, name_fd)
    if kind == "udp":
        remote, _, local = rest.partition("@")
        values = dict(zip(("host", "port"), _host_port(remote), strict=True))
        if local:
            values |= dict(zip(("localaddr", "localport"), _host_port(local), strict=True))
        return backend_of("udp", values, name_fd)
    if kind in ("unix", "tcp", "telnet", "fd"):
        return _short_socket(kind, rest, name_fd)
    return None


def _host_port(text: str) -> tuple[str, str]:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise CommandLineError(f"error parsing address '{text}'")
    return host.strip("[]"), port


def _short_socket(kind: str, rest: str, name_fd: NameFd) -> Json:
    (_, place), *more = pairs(rest, "place")
    values = checked(more, _TYPES)
    if kind == "unix":
        values["path"] = place
    elif kind == "fd":
        values["fd"] = place
    else:
        values |= dict(zip(("host", "port"), _host_port(place), strict=True))
        if kind == "telnet":
            values["telnet"] = "on"
    return backend_of("socket", values, name_fd)

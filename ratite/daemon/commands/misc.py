"""Names, file descriptors, the human monitor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, Later, command
from ratite.qapi.errors import DeviceNotActive, GenericError, QmpError

# Protocols of displays, which there are none of.
_DISPLAYS = MappingProxyType({"spice": "SPICE", "@dbus-display": "D-Bus display"})

NO_UUID = "00000000-0000-0000-0000-000000000000"


@command("query-iothreads", side=OWNER, alone=True)
def query_iothreads(ctx: Context, arguments: dict[str, Any]) -> object:
    """The threads that were made for disks."""
    members: Iterable[Any] = ctx.machine.tree.members() if ctx.daemon.has_machine else ()
    names = ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")
    return [
        {"id": obj.id, "thread-id": obj.thread_id, **{name: obj.get_property(name) for name in names}}
        for obj in members if obj.is_a("iothread")
    ]  # fmt: skip


@command("query-name")
def query_name(ctx: Context, arguments: dict[str, Any]) -> object:
    """The name given at the start."""
    name = ctx.daemon.options.name
    return {} if name is None else {"name": name}


@command("query-uuid")
def query_uuid(ctx: Context, arguments: dict[str, Any]) -> object:
    """The UUID given at the start."""
    return {"UUID": ctx.daemon.options.uuid or NO_UUID}


@command("getfd")
def getfd(ctx: Context, arguments: dict[str, Any]) -> None:
    """Name the descriptor that came with the command."""
    name = arguments["fdname"]
    fd = ctx.session.take_fd()
    if not name or name[0].isdigit():
        os.close(fd)
        raise GenericError("Parameter 'fdname' expects a name not starting with a digit")
    old = ctx.session.named_fds.pop(name, None)
    if old is not None:
        os.close(old)
    ctx.session.named_fds[name] = fd


@command("closefd")
def closefd(ctx: Context, arguments: dict[str, Any]) -> None:
    """Close a named descriptor."""
    fd = ctx.session.named_fds.pop(arguments["fdname"], None)
    if fd is None:
        raise GenericError(f"File descriptor named '{arguments['fdname']}' not found")
    os.close(fd)


@command("monitor-add")
def monitor_add(ctx: Context, arguments: dict[str, Any]) -> Later | None:
    """One more monitor; at a chardev it is there when the answer comes."""
    daemon, pretty = ctx.daemon, arguments.get("pretty", False)
    mode = arguments.get("mode", "control")
    if ("fdname" in arguments) == ("chardev" in arguments):
        raise GenericError("monitor-add needs one of 'fdname' and 'chardev'")
    if mode == "readline" and "chardev" not in arguments:
        raise GenericError("Parameter 'mode' must be control for a socket given by 'fdname'; a chardev can be readline")
    if mode == "readline" and pretty:
        raise GenericError("'pretty' is not compatible with HMP monitors")
    if "fdname" in arguments:
        daemon.add_monitor(socket_of(ctx.session.take_named_fd(arguments["fdname"])), pretty)
        return None
    chardev = daemon.chardevs.find(arguments["chardev"])
    if mode == "readline":
        from ratite.daemon.hmp.terminal import serve_terminal

        there = serve_terminal(daemon, chardev)
    else:
        from ratite.daemon.qmp.chardev import serve_control

        there = serve_control(daemon, chardev, pretty)

    def arrived() -> None:
        there.wait()

    return Later(arrived)


def socket_of(fd: int) -> socket.socket:
    """The connected stream socket behind a descriptor, which is ours; else GenericError, and it is closed."""
    refusal = GenericError("the file descriptor must be a connected stream socket")
    try:
        made = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise refusal from None
    with suppress(OSError):
        made.getpeername()
        if made.type == socket.SOCK_STREAM:
            return made
    made.close()
    raise refusal


@command("add-fd")
def add_fd(ctx: Context, arguments: dict[str, Any]) -> object:
    """Put the descriptor that came with the command into a set."""
    fd = ctx.session.take_fd()
    return ctx.daemon.fdsets.add(fd, arguments.get("fdset-id"), arguments.get("opaque"))


@command("remove-fd")
def remove_fd(ctx: Context, arguments: dict[str, Any]) -> None:
    """Close descriptors of a set."""
    ctx.daemon.fdsets.remove(arguments["fdset-id"], arguments.get("fd"))


@command("add_client", side=OWNER, alone=True)
def add_client(ctx: Context, arguments: dict[str, Any]) -> None:
    """Give a connection to a chardev."""
    fd = ctx.session.take_named_fd(arguments["fdname"])
    protocol = arguments["protocol"]
    try:
        display = _DISPLAYS.get(protocol)
        if display is not None:
            raise DeviceNotActive(f"{display} is not in use")
        if not ctx.daemon.has_chardevs or protocol not in ctx.daemon.chardevs.children:
            raise GenericError(f"protocol '{protocol}' is invalid")
        if arguments.get("tls"):
            raise GenericError(f"Chardev '{protocol}' can't do TLS")
        if not ctx.daemon.chardevs.add_client(protocol, fd):
            raise GenericError("Could not add client")
    except QmpError:
        os.close(fd)
        raise


@command("query-fdsets")
def query_fdsets(ctx: Context, arguments: dict[str, Any]) -> object:
    """All sets."""
    return ctx.daemon.fdsets.describe()


@command("human-monitor-command", side=OWNER, alone=True)
def human_monitor_command(ctx: Context, arguments: dict[str, Any]) -> object:
    """Execute a line of the human monitor."""
    from ratite.daemon.hmp.monitor import execute, seat_for

    return execute(ctx, arguments["command-line"], seat_for(ctx, arguments.get("cpu-index")))

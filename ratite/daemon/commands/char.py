"""Character backends."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, Later, command, refuse_nul
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.chardev import Chardev


# Kinds that QEMU hasn't.
OWN_KINDS = ("console",)


@command("query-chardev", side=OWNER, alone=True)
def query_chardev(ctx: Context, arguments: dict[str, Any]) -> object:
    """All of them."""
    return ctx.daemon.chardevs.list() if ctx.daemon.has_chardevs else []


@command("query-chardev-backends")
def query_chardev_backends(ctx: Context, arguments: dict[str, Any]) -> object:
    """The kinds that chardev-add can make."""
    kinds = ctx.view.tables.qapi_type("ChardevBackendKind")["members"]
    return [{"name": kind["name"]} for kind in kinds if ctx.ratite or kind["name"] not in OWN_KINDS]


@command("chardev-add", side=OWNER, alone=True)
def chardev_add(ctx: Context, arguments: dict[str, Any]) -> object:
    """Make one."""
    name = arguments["id"]
    chardevs = ctx.daemon.chardevs
    if name in chardevs.children:
        raise GenericError(f"Chardev with id '{name}' already exists")
    answer = _made(ctx, arguments, chardevs.add)
    chardev = chardevs.find(name)
    return Later(partial(_first_peer, chardev, answer)) if getattr(chardev, "waits", False) else answer


def _first_peer(chardev: Chardev, answer: dict[str, str]) -> dict[str, str]:
    chardev.wait_connected()
    if chardev.parent is None:
        raise GenericError(f"Chardev '{chardev.id}' was removed before anybody connected")
    return answer


@command("chardev-change", side=OWNER, alone=True)
def chardev_change(ctx: Context, arguments: dict[str, Any]) -> object:
    """Put another one in the place of one."""
    chardevs = ctx.daemon.chardevs
    chardevs.check_change(arguments["id"], arguments["backend"]["type"])
    return _made(ctx, arguments, chardevs.change)


def _made(ctx: Context, arguments: dict[str, Any], make: Callable[..., dict[str, str]]) -> dict[str, str]:
    """What `make` answers to the arguments; descriptors that it didn't keep are closed."""
    name, backend = arguments["id"], arguments["backend"]
    refuse_nul(backend)
    session = ctx.session
    taken: list[int] = []

    def fd_of(name: str) -> int:
        # Only what this session gave itself by getfd: a number would take the descriptors of others.
        fd = session.take_named_fd(name)
        taken.append(fd)
        return fd

    try:
        return make(name, backend["type"], backend.get("data", {}), fd_of)
    except GenericError as error:
        for fd in taken:
            with suppress(OSError):
                os.close(fd)
        raise GenericError(f"Failed to add chardev '{name}': {error.desc}") from None


@command("chardev-remove", side=OWNER, alone=True)
def chardev_remove(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove one that no device uses."""
    if ctx.daemon.has_machine:
        ctx.machine.chardev_remove(arguments["id"])
    else:
        ctx.daemon.chardevs.remove(arguments["id"])


@command("chardev-attach", side=OWNER, alone=True)
def chardev_attach(ctx: Context, arguments: dict[str, Any]) -> None:
    """Attach a peer to a console."""
    fd = ctx.session.take_named_fd(arguments["fdname"])
    try:
        ctx.daemon.chardevs.attach_peer(arguments["id"], fd)
    except GenericError:
        os.close(fd)
        raise


@command("chardev-send-break", side=OWNER, alone=True)
def chardev_send_break(ctx: Context, arguments: dict[str, Any]) -> None:
    """Send a break to the device."""
    ctx.daemon.chardevs.send_break(arguments["id"])


@command("ringbuf-write", side=OWNER, alone=True)
def ringbuf_write(ctx: Context, arguments: dict[str, Any]) -> None:
    """Put bytes into a ring buffer."""
    ctx.daemon.chardevs.ringbuf_write(arguments["device"], b"")
    data = arguments["data"].encode()
    if arguments.get("format") == "base64":
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise GenericError("Base64 data contains invalid characters") from None
    ctx.daemon.chardevs.ringbuf_write(arguments["device"], data)


@command("ringbuf-read", side=OWNER, alone=True)
def ringbuf_read(ctx: Context, arguments: dict[str, Any]) -> object:
    """Take bytes out of a ring buffer."""
    data = ctx.daemon.chardevs.ringbuf_read(arguments["device"], arguments["size"])
    if arguments.get("format") == "base64":
        return base64.b64encode(data).decode("ascii")
    return data.decode("utf-8", "replace")

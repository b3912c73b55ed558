"""Dumps of guest memory."""

from __future__ import annotations

import os
import sys
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, Later, command, refuse_nul
from ratite.qapi.errors import GenericError, QmpError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@command("dump-guest-memory", side=OWNER, early=False)
def dump_guest_memory(ctx: Context, arguments: dict[str, Any]) -> object:
    """Write a core file."""
    for one, other in (("begin", "length"), ("length", "begin")):
        if one in arguments and other not in arguments:
            raise GenericError(f"Parameter '{other}' is missing")
    for name in ("begin", "length"):
        if arguments.get(name, 0) < 0:
            raise GenericError(f"Parameter '{name}' expects a non-negative value")
    if arguments.get("length") == 0:
        raise GenericError("parameter 'length' expects a non-zero size")
    if arguments["paging"]:
        raise GenericError("Parameter 'paging' must be false: addresses of core files are physical ones")
    dumper = ctx.machine.dumper
    dumper.check()
    fd = _target(ctx, arguments["protocol"])
    try:
        dumper.start(fd, arguments.get("begin"), arguments.get("length", 0))
    except QmpError:
        os.close(fd)
        raise
    return None if arguments.get("detach") else Later(dumper.wait)


@command("query-dump")
def query_dump(ctx: Context, arguments: dict[str, Any]) -> object:
    """How far it is."""
    if not ctx.daemon.has_machine:
        return {"status": "none", "completed": 0, "total": 0}
    return ctx.daemon.machine.dumper.info()


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(ctx: Context, arguments: dict[str, Any]) -> object:
    """What it can be."""
    return {"formats": ["elf"]}


def _target(ctx: Context, protocol: str) -> int:
    """A descriptor to write to that doesn't block; GenericError in QEMU's words."""
    kind, _, name = protocol.partition(":")
    refuse_nul({"protocol": protocol})
    if kind == "fd":
        fd = ctx.session.take_named_fd(name)
        if sys.platform != "win32":
            os.set_blocking(fd, False)
        return fd
    if kind != "file" or ":" not in protocol:
        raise GenericError("parameter 'protocol' must start with 'file:' or 'fd:'")
    try:
        return ctx.machine.files.open(name, _FLAGS, 0o600)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenericError(f"Could not create '{name}': {reason}") from None

"""Network backends."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.qapi.errors import GenericError


@command("netdev_add", side=OWNER)
def netdev_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make one."""
    refuse_nul(arguments)
    options = dict(arguments)
    id, kind = options.pop("id"), options.pop("type")
    if id in ctx.machine.netdevs.children:
        raise GenericError(f"Duplicate ID '{id}'")
    taken: list[int] = []
    # Only what this session gave itself by getfd: a number would take the descriptors of others.
    if kind in ("socket", "tap") and "fd" in options:
        options["fd"] = str(_take(ctx, options["fd"], taken))
    elif kind == "stream" and options["addr"]["type"] == "fd":
        options["addr"] = {"type": "fd", "str": str(_take(ctx, options["addr"]["str"], taken))}
    try:
        ctx.machine.netdev_add(id, kind, options)
    except GenericError:
        for fd in taken:
            with suppress(OSError):
                os.close(fd)
        raise


def _take(ctx: Context, name: str, taken: list[int]) -> int:
    fd = ctx.session.take_named_fd(name)
    taken.append(fd)
    return fd


@command("netdev_del", side=OWNER)
def netdev_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove one that no device uses."""
    ctx.machine.netdev_del(arguments["id"])

"""Disks for others: the NBD server and its exports."""

from __future__ import annotations

import os
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.qapi.errors import GenericError


@command("nbd-server-start", side=OWNER)
def nbd_server_start(ctx: Context, arguments: dict[str, Any]) -> None:
    """Listen."""
    refuse_nul(arguments)
    address = arguments["addr"]
    if address["type"] != "fd":
        ctx.machine.exports.start(arguments)
        return
    name = address["data"]["str"]
    fd = ctx.session.take_named_fd(name)
    try:
        ctx.machine.exports.start({**arguments, "addr": {"type": "fd", "data": {"str": str(fd), "name": name}}})
    except GenericError:
        os.close(fd)
        raise


@command("nbd-server-stop", side=OWNER)
def nbd_server_stop(ctx: Context, arguments: dict[str, Any]) -> None:
    """Send everybody away."""
    ctx.machine.exports.stop()


@command("block-export-add", side=OWNER)
def block_export_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Show a node."""
    refuse_nul(arguments)
    ctx.machine.exports.add(arguments)


@command("block-export-del", side=OWNER)
def block_export_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Show it no more."""
    ctx.machine.exports.remove(arguments["id"], arguments.get("mode") == "hard")


@command("query-block-exports", side=OWNER, alone=True)
def query_block_exports(ctx: Context, arguments: dict[str, Any]) -> object:
    """All of them."""
    return ctx.machine.exports.rows() if ctx.daemon.has_machine and ctx.machine.has_exports else []

"""Block nodes and disks."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul


@command("blockdev-add", side=OWNER)
def blockdev_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make a node."""
    refuse_nul(arguments)
    ctx.machine.blockdev_add(arguments)


@command("blockdev-del", side=OWNER)
def blockdev_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove a node that nobody uses."""
    ctx.machine.blockdev_del(arguments["node-name"])


@command("query-named-block-nodes", side=OWNER, alone=True)
def query_named_block_nodes(ctx: Context, arguments: dict[str, Any]) -> object:
    """All nodes."""
    if not ctx.daemon.has_machine:
        return []
    return [node.info() for node in ctx.machine.blocks.nodes()]


@command("query-block", side=OWNER, alone=True)
def query_block(ctx: Context, arguments: dict[str, Any]) -> object:
    """All disks."""
    if not ctx.daemon.has_machine:
        return []
    return [
        {
            "device": "", "qdev": obj.path, "type": "unknown", "removable": False, "locked": False, "inserted": node.info(),
            "io-status": getattr(obj, "io_status", "ok"),
        }
        for obj, node in _disks(ctx)
    ]  # fmt: skip


@command("query-blockstats", side=OWNER, alone=True)
def query_blockstats(ctx: Context, arguments: dict[str, Any]) -> object:
    """What disks or nodes did."""
    if not ctx.daemon.has_machine:
        return []
    if arguments.get("query-nodes"):
        return [node.stats() for node in reversed(ctx.machine.blocks.nodes())]
    return [
        {**node.stats(), "device": "", "qdev": obj.path, "stats": obj.account.stats(node.wr_highest_offset)}
        for obj, node in _disks(ctx)
    ]


def _disks(ctx: Context) -> list[tuple[Any, Any]]:
    """(device, node) of every disk."""
    found = []
    for obj in ctx.machine.tree.members():
        node = getattr(obj, "drive", None)
        if node is not None and node.is_a("block-node"):
            found.append((obj, node))
    return found

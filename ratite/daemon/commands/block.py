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
    found = []
    for obj in ctx.machine.tree.members():
        node = getattr(obj, "drive", None)
        if node is not None and node.is_a("block-node"):
            found.append(
                {
                    "device": "", "qdev": obj.path, "type": "unknown", "removable": False, "locked": False,
                    "inserted": node.info(), "io-status": getattr(obj, "io_status", "ok"),
                }
            )  # fmt: skip
    return found

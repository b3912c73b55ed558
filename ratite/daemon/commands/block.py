"""Block nodes and disks."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.qapi.errors import DeviceNotFound, GenericError

BACKEND = "/virtio-backend"


@command("blockdev-add", side=OWNER)
def blockdev_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make a node."""
    refuse_nul(arguments)
    ctx.machine.blockdev_add(arguments)


@command("blockdev-del", side=OWNER)
def blockdev_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove a node that nobody uses."""
    ctx.machine.blockdev_del(arguments["node-name"])


@command("blockdev-reopen", side=OWNER)
def blockdev_reopen(ctx: Context, arguments: dict[str, Any]) -> None:
    """Give nodes other options."""
    for options in arguments["options"]:
        refuse_nul(options)
    ctx.machine.blocks.reopen(arguments["options"])


@command("block_resize", side=OWNER)
def block_resize(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make an image longer or shorter."""
    device, name = arguments.get("device", ""), arguments.get("node-name")
    drive = ctx.machine.blocks.find_drive(device)
    if drive is not None:
        name = drive.id
    elif name is None:
        raise GenericError(f"Cannot find device='{device}' nor node-name=''")
    ctx.machine.blocks.resize(name, arguments["size"])


@command("block-set-write-threshold", side=OWNER)
def block_set_write_threshold(ctx: Context, arguments: dict[str, Any]) -> None:
    """Tell of writes that reach far."""
    ctx.machine.blocks.set_write_threshold(arguments["node-name"], arguments["write-threshold"])


@command("block_set_io_throttle", side=OWNER)
def block_set_io_throttle(ctx: Context, arguments: dict[str, Any]) -> None:
    """Limit a disk's I/O."""
    from ratite.core.backends.block.throttle import Limits

    if ("device" in arguments) is ("id" in arguments):
        raise GenericError("Need exactly one of 'device' and 'id'")
    disk = _disk(ctx, arguments["id"]) if "id" in arguments else _disk_of_drive(ctx, arguments["device"])
    ctx.machine.blocks.limit(disk, arguments.get("group"), Limits(arguments))


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
        {"device": node.drive, "type": "unknown", "removable": True, "locked": False, "inserted": node.info()}
        if obj is None else {
            "device": node.drive, "qdev": _path(ctx, obj), "type": "unknown", "removable": False, "locked": False,
            "inserted": {**node.info(), **_limits(obj)}, "io-status": getattr(obj, "io_status", "ok"),
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
        {**node.stats(), "device": node.drive} if obj is None else
        {**node.stats(), "device": node.drive, "qdev": _path(ctx, obj), "stats": obj.account.stats(node.wr_highest_offset)}
        for obj, node in _disks(ctx)
    ]


def _limits(obj: Any) -> dict[str, Any]:
    group = getattr(obj, "throttle", None)
    return {} if group is None else {**group.limits.info(), "group": group.name}


def _path(ctx: Context, obj: Any) -> str:
    """A disk's path, as QEMU shows it its id.  There one on PCI is two objects, and clients know the inner one, by its path."""
    path: str = obj.path
    if ctx.ratite:
        return path
    return f"{path}{BACKEND}" if obj.is_a("virtio-pci") else path.removeprefix("/machine/peripheral/")


def _disk(ctx: Context, name: str) -> Any:
    """The disk with this id or path; GenericError."""
    found = ctx.machine.resolve(name.removesuffix(BACKEND))
    if not hasattr(found, "throttle"):
        raise GenericError("Device does not have a block device backend")
    return found


def _disk_of_drive(ctx: Context, name: str) -> Any:
    """The disk that a `-drive` of this name is; DeviceNotFound."""
    for obj, node in _disks(ctx):
        if obj is not None and name and node.drive == name:
            return obj
    raise DeviceNotFound(f"Device '{name}' not found")


def _disks(ctx: Context) -> list[tuple[Any, Any]]:
    """(device, node) of every disk; first those of `-drive` in their order, where the device is None for one that has none."""
    drives: dict[Any, Any] = {node: None for node in reversed(ctx.machine.blocks.nodes()) if node.drive}
    found: list[tuple[Any, Any]] = []
    for obj in ctx.machine.tree.members():
        node = getattr(obj, "drive", None)
        if node is not None and node.is_a("block-node"):
            if node in drives:
                drives[node] = obj
            else:
                found.append((obj, node))
    return [(obj, node) for node, obj in drives.items()] + found

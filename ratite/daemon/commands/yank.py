"""Connections that hang.  On the loop: neither the machine nor its threads are waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import Context, command
from ratite.qapi.errors import DeviceNotFound

if TYPE_CHECKING:
    from ratite.core.backends.socket import SocketChardev


@command("yank")
def yank(ctx: Context, arguments: dict[str, Any]) -> None:
    """End connections."""
    found = _sockets(ctx)
    wanted = arguments["instances"]
    for each in wanted:
        if each["type"] != "chardev" or each["id"] not in found:
            raise DeviceNotFound("Instance not found")
    for each in wanted:
        found[each["id"]].yank()


@command("query-yank")
def query_yank(ctx: Context, arguments: dict[str, Any]) -> object:
    """What has connections."""
    return [{"type": "chardev", "id": id} for id in _sockets(ctx)]


def _sockets(ctx: Context) -> dict[str, SocketChardev]:
    """The chardevs with sockets.  The owner may add and remove some meanwhile."""
    if not ctx.daemon.has_chardevs:
        return {}
    return {id: chardev for id, chardev in list(ctx.daemon.chardevs.children.items()) if chardev.is_a("chardev-socket")}  # type: ignore[misc]  # what the type says

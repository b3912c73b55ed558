"""Network backends."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.qapi.errors import DeviceNotFound, GenericError


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
        # The name is for refusals.
        options |= {"fd": str(_take(ctx, options["fd"], taken)), "fd-name": options["fd"]}
    elif kind == "stream" and options["addr"]["type"] == "fd":
        options["addr"] = _passed(ctx, options["addr"]["str"], taken)
    elif kind == "dgram" and options.get("local", {}).get("type") == "fd" and "remote" not in options:
        options["local"] = _passed(ctx, options["local"]["str"], taken)
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


def _passed(ctx: Context, name: str, taken: list[int]) -> dict[str, str]:
    """The address of a passed descriptor, with its number and its name."""
    return {"type": "fd", "str": str(_take(ctx, name, taken)), "name": name}


@command("netdev_del", side=OWNER)
def netdev_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove one that no device uses."""
    ctx.machine.netdev_del(arguments["id"])


@command("set_link", side=OWNER, early=False)
def set_link(ctx: Context, arguments: dict[str, Any]) -> None:
    """Pull a cable, or put it in."""
    name, up = arguments["name"], arguments["up"]
    card = _cards(ctx).get(name)
    netdev = ctx.machine.netdevs.children.get(name)
    if card is None and netdev is None:
        raise DeviceNotFound(f"Device '{name}' not found")
    if card is not None:
        card.set_link(up)
        return
    backend: Any = netdev
    backend.link_up = up
    if backend.frontend is not None:
        backend.frontend.set_link(up)


@command("query-rx-filter", side=OWNER, without=list)
def query_rx_filter(ctx: Context, arguments: dict[str, Any]) -> object:
    """What network devices let through."""
    cards = _cards(ctx)
    name = arguments.get("name")
    if name is None:
        return [card.rx_filter() for card in cards.values()]
    if name in cards:
        return [cards[name].rx_filter()]
    if name in ctx.machine.netdevs.children:
        raise GenericError(f"net client({name}) isn't a NIC")
    raise GenericError(f"invalid net client name: {name}")


def _cards(ctx: Context) -> dict[str, Any]:
    """The network devices by id."""
    return {obj.id: obj for obj in ctx.machine.tree.members() if hasattr(obj, "rx_filter")}

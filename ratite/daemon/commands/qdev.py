"""Devices: their properties, device_add and device_del."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command, refuse_nul
from ratite.daemon.properties import property_info
from ratite.daemon.typelist import find_type
from ratite.qapi.errors import DeviceNotFound, GenericError


@command("device-list-properties")
def device_list_properties(ctx: Context, arguments: dict[str, Any]) -> object:
    """The properties of a device type that a client may set."""
    name = arguments["typename"]
    shown = find_type(ctx, name)
    if shown is None:
        raise DeviceNotFound(f"Device '{name}' not found")
    if not shown.pluggable:
        raise GenericError("Parameter 'typename' expects a non-abstract device type")
    return [
        property_info(prop, "device", ctx.ratite)
        for prop in shown.properties
        if ctx.ratite or prop["kind"] in ("config", "tunable")
    ]


@command("device_add", "device-add", side=OWNER, assembles=True)
def device_add(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make a device."""
    properties = dict(arguments)
    refuse_nul(properties)
    driver = properties.pop("driver")
    name = properties.pop("id", None)
    if name is None and ctx.ratite:
        raise GenericError("Parameter 'id' is missing")
    ctx.machine.device_add(driver, name, properties, any_bus=not ctx.ratite)


@command("device_del", "device-del", side=OWNER, assembles=True)
def device_del(ctx: Context, arguments: dict[str, Any]) -> None:
    """Remove a device."""
    ctx.machine.device_del(arguments["id"])

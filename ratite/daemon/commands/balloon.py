"""Memory balloons."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import DeviceNotActive, GenericError


@command("balloon", side=OWNER, early=False)
def balloon(ctx: Context, arguments: dict[str, Any]) -> None:
    """Ask the guest for memory."""
    device = _balloon(ctx)
    if arguments["value"] <= 0:
        raise GenericError("Parameter 'value' expects a size")
    device.balloon_to(arguments["value"])


@command("query-balloon", side=OWNER, alone=True)
def query_balloon(ctx: Context, arguments: dict[str, Any]) -> object:
    """How much it has."""
    return {"actual": _balloon(ctx).balloon_actual}


def _balloon(ctx: Context) -> Any:
    for obj in ctx.machine.tree.members() if ctx.daemon.has_machine else ():
        if hasattr(obj, "balloon_to") and obj.phase == "realized":
            return obj
    raise DeviceNotActive("No balloon device has been activated")

"""This monitor's view."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command
from ratite.daemon.views import QEMU, RATITE


def _describe(ctx: Context) -> dict[str, Any]:
    session = ctx.session
    view = session.view
    info: dict[str, Any] = {
        "generation": session.generation,
        "personality": view.personality,
        "targets": list(view.targets),
        "facts": sorted(view.facts),
    }
    if session.pinned is not None:
        info["pinned"] = session.pinned
    return info


@command("query-view")
def query_view(ctx: Context, arguments: dict[str, Any]) -> object:
    """Describe it."""
    return _describe(ctx)


@command("view-select")
def view_select(ctx: Context, arguments: dict[str, Any]) -> object:
    """Pin it to a target, or let it follow the machine again."""
    daemon, session = ctx.daemon, ctx.session
    target = arguments.get("target")
    personality = arguments.get("personality", RATITE)
    if target is not None:
        daemon.registry.target(target)
        targets: tuple[str, ...] = (target,)
    else:
        alone = () if daemon.primary_target is None else (daemon.primary_target,)
        targets = alone if personality == QEMU else daemon.targets
    session.pinned = target
    daemon.select_view(session, daemon.views.get(personality, targets, arguments.get("unconditional", False)))
    return _describe(ctx)

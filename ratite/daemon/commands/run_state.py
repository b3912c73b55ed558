"""The machine's run state."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command


@command("query-status")
def query_status(ctx: Context, arguments: dict[str, Any]) -> object:
    """The run state as last published; never waits for the machine."""
    running, status = ctx.daemon.status
    return {"running": running, "status": status}


@command("stop", side=OWNER, early=False)
def stop(ctx: Context, arguments: dict[str, Any]) -> None:
    """Stop the machine."""
    ctx.machine.stop()


@command("cont", side=OWNER, early=False)
def cont(ctx: Context, arguments: dict[str, Any]) -> None:
    """Let it run."""
    ctx.machine.cont()


@command("system_reset", side=OWNER, early=False)
def system_reset(ctx: Context, arguments: dict[str, Any]) -> None:
    """Reset it."""
    ctx.machine.reset()


@command("x-exit-preconfig", side=OWNER)
def x_exit_preconfig(ctx: Context, arguments: dict[str, Any]) -> None:
    """Wire and realize everything, all or nothing, and start unless told otherwise."""
    ctx.machine.exit_preconfig()

"""The machine's run state."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import GenericError


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


@command("set-action", side=OWNER, alone=True)
def set_action(ctx: Context, arguments: dict[str, Any]) -> None:
    """Choose what reboots, power-offs, panics and watchdogs do; without a machine, for the one to come."""
    if ctx.daemon.has_machine:
        ctx.machine.actions.set(arguments)
    else:
        ctx.daemon.actions.update(arguments)


@command("watchdog-set-action", side=OWNER, alone=True)
def watchdog_set_action(ctx: Context, arguments: dict[str, Any]) -> None:
    """Choose what a watchdog does."""
    set_action(ctx, {"watchdog": arguments["action"]})


@command("system_wakeup", early=False)
def system_wakeup(ctx: Context, arguments: dict[str, Any]) -> None:
    """No machine sleeps."""
    raise GenericError("wake-up from suspend is not supported by this guest")


@command("inject-nmi", side=OWNER, early=False, alone=True)
def inject_nmi(ctx: Context, arguments: dict[str, Any]) -> None:
    """A non-maskable interrupt for every CPU that has a line for one."""
    if not ctx.daemon.has_machine:
        raise GenericError("machine does not provide NMIs")
    ctx.machine.inject_nmi()


@command("system_powerdown", side=OWNER, early=False, alone=True)
def system_powerdown(ctx: Context, arguments: dict[str, Any]) -> None:
    """Press its power buttons."""
    if ctx.daemon.has_machine:
        ctx.machine.powerdown()
    else:
        ctx.daemon.emit("POWERDOWN")


@command("x-exit-preconfig", side=OWNER)
def x_exit_preconfig(ctx: Context, arguments: dict[str, Any]) -> None:
    """Wire and realize everything, all or nothing, and start unless told otherwise."""
    ctx.machine.exit_preconfig()

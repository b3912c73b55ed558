"""The session itself, and introspection."""

from __future__ import annotations

from typing import Any

from ratite.daemon.daemon import raw_schema, version
from ratite.daemon.dispatch import Context, command
from ratite.qapi.errors import CommandNotFound


@command("qmp_capabilities")
def qmp_capabilities(ctx: Context, arguments: dict[str, Any]) -> None:
    """The session does the negotiation itself and lets nothing of it come here."""
    raise CommandNotFound("Capabilities negotiation is already complete, command ignored")


@command("query-version")
def query_version(ctx: Context, arguments: dict[str, Any]) -> object:
    """Which program this is."""
    return version()


@command("query-commands")
def query_commands(ctx: Context, arguments: dict[str, Any]) -> object:
    """The commands of the monitor's view."""
    return [{"name": name} for name in ctx.view.commands]


@command("query-qmp-schema")
def query_qmp_schema(ctx: Context, arguments: dict[str, Any]) -> object:
    """Everything of the monitor's view."""
    return raw_schema(ctx.view)


@command("quit")
def quit_daemon(ctx: Context, arguments: dict[str, Any]) -> None:
    """End the daemon; the event goes out before the reply."""
    ctx.daemon.shutdown("host-qmp-quit")

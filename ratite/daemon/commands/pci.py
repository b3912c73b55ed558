"""PCI buses."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command


@command("query-pci", side=OWNER, early=False)
def query_pci(ctx: Context, arguments: dict[str, Any]) -> object:
    """All root buses with what is on them."""
    hosts = [obj for obj in ctx.machine.tree.members() if obj.is_a("pci-host-bridge")]
    return [bus for host in hosts for bus in host.describe_buses()]  # type: ignore[attr-defined]  # the interface's

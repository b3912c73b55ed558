"""PCI buses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command

if TYPE_CHECKING:
    from ratite.core.machine import Machine


@command("query-pci", side=OWNER, without=list)
def query_pci(ctx: Context, arguments: dict[str, Any]) -> object:
    """All root buses with what is on them."""
    return root_buses(ctx.machine)


def root_buses(machine: Machine) -> list[dict[str, Any]]:
    """The answer of query-pci."""
    hosts = [obj for obj in machine.tree.members() if obj.is_a("pci-host-bridge")]
    return [bus for host in hosts for bus in host.describe_buses()]  # type: ignore[attr-defined]  # the interface's

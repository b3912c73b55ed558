"""The machine's phases, and how its parts are put together."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command


def _unwired() -> dict[str, Any]:
    return {"wires": [], "maps": []}


@command("query-machine-phase")
def query_machine_phase(ctx: Context, arguments: dict[str, Any]) -> object:
    """How far the machine has come, as last published."""
    return {"phase": ctx.daemon.phase}


@command("machine-create")
def machine_create(ctx: Context, arguments: dict[str, Any]) -> None:
    """Make an empty machine."""
    ctx.daemon.create_machine(arguments.get("primary-target"))


@command("wire-irq", side=OWNER)
def wire_irq(ctx: Context, arguments: dict[str, Any]) -> None:
    """Connect an output line to an input line."""
    ctx.machine.wire_irq(arguments["from"], arguments["output"], arguments["to"], arguments["input"])


@command("map-region", side=OWNER)
def map_region(ctx: Context, arguments: dict[str, Any]) -> None:
    """Map a region into an address space."""
    ctx.machine.map_region(arguments["space"], arguments["region"], arguments["offset"], arguments.get("priority", 0))


@command("unwire-irq", side=OWNER)
def unwire_irq(ctx: Context, arguments: dict[str, Any]) -> None:
    """Take out the wire that ends in an input line."""
    wire = ctx.machine.assembly.wire_into(arguments["to"], arguments["input"])
    ctx.machine.unwire_irq(*wire)


@command("unmap-region", side=OWNER)
def unmap_region(ctx: Context, arguments: dict[str, Any]) -> None:
    """Take a region out of an address space."""
    ctx.machine.unmap_region(arguments["space"], arguments["region"], arguments["offset"])


@command("query-wiring", side=OWNER, without=_unwired)
def query_wiring(ctx: Context, arguments: dict[str, Any]) -> object:
    """All wires and maps."""
    return ctx.machine.assembly.describe()


@command("machine-wire", side=OWNER)
def machine_wire(ctx: Context, arguments: dict[str, Any]) -> None:
    """Check all links, lines and maps together, and connect them."""
    ctx.machine.wire()

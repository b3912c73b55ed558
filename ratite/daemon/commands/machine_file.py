"""The machine as a machine file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command

if TYPE_CHECKING:
    from ratite.core.machine import Machine
    from ratite.core.objects.obj import Obj


@command("machine-dump", side=OWNER)
def machine_dump(ctx: Context, arguments: dict[str, Any]) -> object:
    """The machine as it is assembled, every default written out."""
    from ratite.daemon.views import load_schema
    from ratite.qapi.machinefile.declarations import Declarations
    from ratite.qapi.machinefile.dump import dump_document

    registry = ctx.daemon.registry
    types = {row.name: row.data for row in registry.types()}
    declarations = Declarations(types, registry.targets(), load_schema())
    return {"document": dump_document(_state(ctx.machine), declarations)}


def _state(machine: Machine) -> dict[str, Any]:
    """What `dump_document` wants to know."""
    tree = machine.tree
    primary = tree.node.get_property("primary-target")
    return {
        "machine": {"primary-target": primary} if primary else {},
        # A monitor's chardev is the client's business, and no part of the machine.
        "chardevs": {id: child.options for id, child in machine.chardevs.children.items() if child.host_end is None},  # type: ignore[attr-defined]
        "blockdevs": {node.id: node.options for node in machine.blocks.nodes() if node.options},
        "netdevs": {id: child.options for id, child in machine.netdevs.children.items()},  # type: ignore[attr-defined]
        "objects": {obj.id: _properties(obj) for obj in tree.objects.children.values()},
        "devices": {
            obj.id: _properties(obj) for place in (tree.unattached, tree.peripheral) for obj in place.children.values()
        },
        **machine.assembly.describe(),
    }


def _properties(obj: Obj) -> dict[str, Any]:
    settable = (prop for prop in obj.PROPERTIES.values() if prop.kind in ("config", "tunable"))
    values = {prop.name: obj.given_as(prop) for prop in settable}
    return {"type": obj.TYPE, **{name: value for name, value in values.items() if value is not None}}

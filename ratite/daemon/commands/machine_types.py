"""Types of machines, and what the one that there is can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.qapi.machinefile.types import MachineType


@command("query-machines")
def query_machines(ctx: Context, arguments: dict[str, Any]) -> object:
    """Those of the view's targets; where several have one of a name, as the first has it."""
    found: dict[str, dict[str, Any]] = {}
    for target in ctx.view.targets:
        for kind in ctx.daemon.machine_types(target):
            found.setdefault(kind.name, _info(target, kind, arguments.get("compat-props", False)))
    return list(found.values())


def _info(target: str, kind: MachineType, compat: bool) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": kind.name,
        "cpu-max": kind.get("max-cpus", 1),
        "hotpluggable-cpus": False,
        "numa-mem-supported": False,
        "deprecated": target in kind.get("deprecated-of", ()),
        "acpi": False,
    }
    if target in kind.get("default-of", ()):
        info["is-default"] = True
    if target in kind.get("cpu-types", {}):
        info["default-cpu-type"] = kind.get("cpu-types")[target]
    if kind.get("ram-id"):
        info["default-ram-id"] = kind.get("ram-id")
    if compat:
        info["compat-props"] = []
    return info


@command("query-current-machine", side=OWNER, early=False)
def query_current_machine(ctx: Context, arguments: dict[str, Any]) -> object:
    """No machine can be suspended, so none be woken."""
    return {"wakeup-suspend-support": False}


@command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(ctx: Context, arguments: dict[str, Any]) -> object:
    """No type of machine lists places for CPUs; where one can be plugged its cluster says."""
    raise GenericError("machine does not support hot-plugging CPUs")

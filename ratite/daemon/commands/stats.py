"""Statistics.  KVM's are none yet; those of ratite's own accelerators are for its own views."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu

PROVIDER = "ratite"
# As query-jit calls them, and as a vCPU does; one that only interprets has fewer.
_ATTRIBUTES = MappingProxyType({
    "instructions": "instructions", "compiled-instructions": "compiled_instructions", "exits": "services", "traps": "traps",
})  # fmt: skip
COUNTERS = tuple(_ATTRIBUTES)


@command("query-stats", side=OWNER, without=list)
def query_stats(ctx: Context, arguments: dict[str, Any]) -> object:
    """What is counted of the machine or its CPUs."""
    names = _wanted(ctx, arguments.get("providers"))
    if arguments["target"] != "vcpu" or not names:
        return []
    paths = arguments.get("vcpus")
    return [
        {"provider": PROVIDER, "qom-path": cpu.path, "stats": _counters(cpu, names)}
        for cpu in ctx.machine.cpus().values()
        if cpu.vcpu is not None and (paths is None or cpu.path in paths)
    ]


@command("query-stats-schemas")
def query_stats_schemas(ctx: Context, arguments: dict[str, Any]) -> object:
    """What can be counted."""
    if not ctx.ratite or arguments.get("provider", PROVIDER) != PROVIDER:
        return []
    stats = [{"name": name, "type": "cumulative", "exponent": 0} for name in COUNTERS]
    return [{"provider": PROVIDER, "target": "vcpu", "stats": stats}]


def _wanted(ctx: Context, providers: list[dict[str, Any]] | None) -> frozenset[str]:
    """Names of our counters that were asked for."""
    if not ctx.ratite:
        return frozenset()
    if providers is None:
        return frozenset(COUNTERS)
    return frozenset(name for each in providers if each["provider"] == PROVIDER for name in each.get("names", COUNTERS))


def _counters(cpu: Cpu, names: frozenset[str]) -> list[dict[str, Any]]:
    values = {name: getattr(cpu.vcpu, attribute, None) for name, attribute in _ATTRIBUTES.items() if name in names}
    return [{"name": name, "value": value} for name, value in values.items() if value is not None]

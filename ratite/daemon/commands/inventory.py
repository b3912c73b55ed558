"""What there is: targets, types, modules.  Nothing is imported to answer."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command


@command("query-targets")
def query_targets(ctx: Context, arguments: dict[str, Any]) -> object:
    """All targets."""
    registry = ctx.daemon.registry
    present, primary = ctx.daemon.targets, ctx.daemon.primary_target
    cpus = [row for row in registry.types(abstract=False) if row.kind == "cpu"]
    answer = []
    for name, row in registry.targets().items():
        reason = row.get("reason")
        info: dict[str, Any] = {
            "name": name,
            "word-size": row["word-size"],
            "byte-order": "big" if row["big-endian"] else "little",
            "cpu-types": [cpu.name for cpu in cpus if name in cpu.data["targets"]],
            "usable": not reason,
            "present": name in present,
            "primary": name == primary,
        }
        if row.get("default-cpu"):
            info["default-cpu"] = row["default-cpu"]
        if reason:
            info["reason"] = reason
        answer.append(info)
    return answer


@command("query-device-types")
def query_device_types(ctx: Context, arguments: dict[str, Any]) -> object:
    """What can be made, what can be added to this machine now, and for all else why not."""
    phase = ctx.daemon.phase
    answer = []
    for row in ctx.daemon.registry.types(abstract=False):
        if not row.kind:
            continue
        info = _device_type(ctx, row.name, phase)
        if "kind" in arguments and info["kind"] != arguments["kind"]:
            continue
        if "bus" in arguments and info.get("bus") != arguments["bus"]:
            continue
        if "target" in arguments and arguments["target"] not in info.get("targets", [arguments["target"]]):
            continue
        if "available" in arguments and info["available"] != arguments["available"]:
            continue
        answer.append(info)
    return answer


def _device_type(ctx: Context, name: str, phase: str) -> dict[str, Any]:
    row = ctx.daemon.registry.describe(name)
    data = row.data
    reason = row.reason
    if not reason and phase == "none":
        reason = "there is no machine yet; machine-create makes one"
    if not reason and phase in ("ready", "running", "paused") and not data.get("hotplug", True):
        reason = "it can't be added to a machine that is realized"
    info: dict[str, Any] = {
        "name": name,
        "kind": row.kind,
        "description": data["text"],
        "available": not reason,
        "inputs": _lines(data.get("inputs", {})),
        "outputs": _lines(data.get("outputs", {})),
        "regions": list(data.get("regions", ())),
    }
    if data.get("bus"):
        info["bus"] = data["bus"]
    if data["targets"]:
        info["targets"] = list(data["targets"])
    if reason:
        info["reason"] = reason
    return info


def _lines(groups: dict[str, Any]) -> list[dict[str, Any]]:
    # A count that a property decides is shown as 0.
    return [{"name": name, "count": count if isinstance(count, int) else 0} for name, count in groups.items()]


@command("query-modules")
def query_modules(ctx: Context, arguments: dict[str, Any]) -> object:
    """All modules that bring something."""
    answer = []
    for row in ctx.daemon.registry.modules():
        info = dict(row)
        if not info.get("reason"):
            info.pop("reason", None)
        answer.append(info)
    return answer

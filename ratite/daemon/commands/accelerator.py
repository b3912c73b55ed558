"""Accelerators."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import Context, command


@command("query-kvm")
def query_kvm(ctx: Context, arguments: dict[str, Any]) -> object:
    """Whether KVM is there and used.  Not yet."""
    return {"enabled": False, "present": "kvm" in ctx.daemon.registry.accelerators()}


@command("query-accelerators")
def query_accelerators(ctx: Context, arguments: dict[str, Any]) -> object:
    """All accelerators, best first, also those that can't be used."""
    answer = []
    default = True
    for row in ctx.daemon.registry.accelerators().values():
        reason = row.get("reason")
        info: dict[str, Any] = {"name": row["name"], "usable": not reason, "default": default and not reason}
        if reason:
            info["reason"] = reason
        else:
            default = False
        if row.get("text"):
            info["description"] = row["text"]
        answer.append(info)
    return answer

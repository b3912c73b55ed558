"""Accelerators."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command


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


def _no_text() -> dict[str, Any]:
    return {"human-readable-text": jit_text([])}


@command("query-jit", side=OWNER, without=list)
def query_jit(ctx: Context, arguments: dict[str, Any]) -> object:
    """Compiled code, cluster by cluster."""
    return jit_reports(ctx)


@command("x-query-jit", side=OWNER, without=_no_text)
def x_query_jit(ctx: Context, arguments: dict[str, Any]) -> object:
    """The same for people."""
    return {"human-readable-text": jit_text(jit_reports(ctx))}


def jit_reports(ctx: Context) -> list[dict[str, Any]]:
    """See JitInfo."""
    pinned = ctx.session.pinned
    clusters = {cpu.cluster.path: cpu.cluster for cpu in ctx.machine.cpus().values() if pinned in (None, cpu.cluster.target)}
    reports = []
    for path, cluster in clusters.items():
        report = cluster.accelerator.compiled() if cluster.accelerator is not None else None
        if report is not None:
            cpus = [{"qom-path": cpu.path, "instructions": cpu.vcpu.instructions,
                     "compiled-instructions": cpu.vcpu.compiled_instructions, "exits": cpu.vcpu.services,
                     "traps": cpu.vcpu.traps} for cpu in cluster.cpus if cpu.vcpu is not None]
            reports.append({"cluster": path, **report, "cpus": cpus})
    return reports


def jit_text(reports: list[dict[str, Any]]) -> str:
    """``reports`` in lines."""
    lines = []
    for report in reports:
        lines.append(f"{report['cluster']}: up to {report['code-size'] >> 10} KiB of code, {report['waiting']} places waiting")
        for tier in report["tiers"]:
            lines.append(
                f"  tier {tier['tier']}: {tier['regions']} regions, {tier['bytes'] >> 10} KiB, "
                f"{tier['instructions']} instructions executed")
            lines.append(
                f"    {tier['compiled']} compiled from {tier['source-instructions']} instructions in "
                f"{tier['compile-time'] // 1_000_000} ms, {tier['cached']} from the cache, {tier['failures']} failures")
            lines.append(
                f"    {tier['deopts']} deopts, {tier['invalidations']} invalidations, {tier['evictions']} evictions")
        for cpu in report["cpus"]:
            share = 100 * cpu["compiled-instructions"] // max(1, cpu["instructions"])
            lines.append(f"  {cpu['qom-path']}: {cpu['instructions']} instructions, {share} % compiled")
    return "".join(f"{line}\n" for line in lines) or "no cluster compiles\n"

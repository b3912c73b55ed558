"""The machine's CPUs, targets and memory."""

from __future__ import annotations

from typing import Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import GenericError


@command("query-target")
def query_target(ctx: Context, arguments: dict[str, Any]) -> object:
    """The target that this monitor is pinned to, else the machine's primary one."""
    target = ctx.session.pinned or ctx.daemon.primary_target
    if target is None:
        raise GenericError("There is no target yet; query-targets lists those that exist")
    return {"arch": target}


@command("query-cpus-fast", side=OWNER, early=False)
def query_cpus_fast(ctx: Context, arguments: dict[str, Any]) -> object:
    """All CPUs, each with its own target."""
    pinned = ctx.session.pinned
    return [
        {
            "cpu-index": index,
            "qom-path": cpu.path,
            "thread-id": cpu.thread_id,
            "props": {"core-id": index},
            "target": cpu.cluster.target,
        }
        for index, cpu in ctx.machine.cpus().items()
        if pinned in (None, cpu.cluster.target)
    ]


@command("query-cpu-definitions")
def query_cpu_definitions(ctx: Context, arguments: dict[str, Any]) -> object:
    """The CPU models of a target."""
    registry = ctx.daemon.registry
    target = arguments.get("target") or ctx.session.pinned or ctx.daemon.primary_target
    if target not in ctx.view.targets and "target" not in arguments:
        target = ctx.view.targets[0]
    if target not in ctx.view.targets:
        raise GenericError(f"Parameter 'target' must be a target of this view ({', '.join(ctx.view.targets)}), not '{target}'")
    alone = ctx.daemon.views.get(ctx.view.personality, (target,))
    if alone.find("query-cpu-definitions") is None:
        have = [
            name
            for name in ctx.view.targets
            if ctx.daemon.views.get(ctx.view.personality, (name,)).find("query-cpu-definitions")
        ]
        raise GenericError(f"Target '{target}' has no query-cpu-definitions; {', '.join(have)} do")
    return [
        {
            "name": row.name.removesuffix(f"-{row.data['parent']}"),
            "typename": row.name,
            "static": False,
            "deprecated": False,
        }
        for row in registry.types(abstract=False)
        if row.kind == "cpu" and target in row.data["targets"]
    ]


@command("query-memory-size-summary", side=OWNER)
def query_memory_size_summary(ctx: Context, arguments: dict[str, Any]) -> object:
    """How much memory there is."""
    backends = [obj for obj in ctx.machine.tree.members() if obj.is_a("memory-backend")]
    return {"base-memory": sum(backend.get_property("size") for backend in backends)}


@command("memsave", side=OWNER, early=False)
def memsave(ctx: Context, arguments: dict[str, Any]) -> None:
    """Write guest memory to a file, by a CPU's virtual addresses."""
    from ratite.daemon import guest

    cpu = guest.cpu_at(ctx.machine, arguments.get("cpu-index"))
    guest.save(guest.virtual_space(cpu), arguments["val"], arguments["size"], arguments["filename"])


@command("pmemsave", side=OWNER, early=False)
def pmemsave(ctx: Context, arguments: dict[str, Any]) -> None:
    """Write guest memory to a file, by physical addresses."""
    from ratite.daemon import guest

    space = guest.first_space(ctx.machine, arguments.get("space"))
    guest.save(space, arguments["val"], arguments["size"], arguments["filename"])

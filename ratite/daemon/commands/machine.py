"""The machine's CPUs, targets and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRow


@command("query-target")
def query_target(ctx: Context, arguments: dict[str, Any]) -> object:
    """The target that this monitor is pinned to, else the machine's primary one."""
    target = ctx.session.pinned or ctx.daemon.primary_target
    if target is None:
        raise GenericError("There is no target yet; query-targets lists those that exist")
    return {"arch": target}


@command("query-cpus-fast", side=OWNER, without=list)
def query_cpus_fast(ctx: Context, arguments: dict[str, Any]) -> object:
    """All CPUs that are wired, each with its own target; until they are realized no thread runs them."""
    pinned = ctx.session.pinned
    return [
        {
            "cpu-index": index,
            "qom-path": cpu.path,
            "thread-id": cpu.thread_id,
            "props": {"core-id": index, **({} if (node := ctx.machine.numa.node_of_cpu(cpu)) is None else {"node-id": node})},
            "target": cpu.cluster.target,
        }
        for index, cpu in ctx.machine.cpus().items()
        if pinned in (None, cpu.cluster.target)
    ]


@command("query-cpu-definitions")
def query_cpu_definitions(ctx: Context, arguments: dict[str, Any]) -> object:
    """The CPU models of a target."""
    return [
        {"name": name, "typename": row.name, "static": row.data.get("static", False), "deprecated": False}
        for name, row in _models(ctx, arguments, "query-cpu-definitions").items()
    ]


@command("query-cpu-model-expansion")
def query_cpu_model_expansion(ctx: Context, arguments: dict[str, Any]) -> object:
    """A CPU model's features, as they are with the given properties."""
    from ratite.core.cpu.base import Cpu

    model = arguments["model"]
    target = _target(ctx, arguments)
    row = _models(ctx, arguments, "query-cpu-model-expansion").get(model["name"])
    if row is None:
        raise GenericError(f"The CPU type '{model['name']}' is not a CPU model of target '{target}'")
    if arguments["type"] != "full":
        raise GenericError("The requested expansion type is not supported")
    given = model.get("props", {})
    if not isinstance(given, dict):
        raise GenericError("Invalid parameter type for 'model.props', expected: object")
    for name, value in given.items():
        if not isinstance(value, bool) and any(prop["name"] == name and prop["type"] == "bool" for prop in row.properties):
            raise GenericError(f"Invalid parameter type for 'model.props.{name}', expected: boolean")
    cls = ctx.daemon.registry.load(row.name)
    assert issubclass(cls, Cpu), "a row of kind cpu"
    word_size = ctx.daemon.registry.target(target)["word-size"]
    return {"model": {"name": model["name"], "props": cls.expand_model(given, word_size)}}


def _target(ctx: Context, arguments: dict[str, Any]) -> str:
    """The target that is meant; GenericError for one that this view hasn't."""
    if "target" in arguments:
        target = arguments["target"]
    else:
        target = ctx.session.pinned or ctx.daemon.primary_target
        if target not in ctx.view.targets:
            target = ctx.view.targets[0]
    if target not in ctx.view.targets:
        raise GenericError(f"Parameter 'target' must be a target of this view ({', '.join(ctx.view.targets)}), not '{target}'")
    assert isinstance(target, str), "one of the view's"
    return target


def _models(ctx: Context, arguments: dict[str, Any], name: str) -> dict[str, TypeRow]:
    """The CPU models of the target that is meant; GenericError where the command `name` is not for it."""
    target, views = _target(ctx, arguments), ctx.daemon.views
    if views.get(ctx.view.personality, (target,)).find(name) is None:
        have = [other for other in ctx.view.targets if views.get(ctx.view.personality, (other,)).find(name)]
        raise GenericError(f"Target '{target}' has no {name}; {', '.join(have)} do")
    return {
        row.name.removesuffix(f"-{row.data['parent']}"): row
        for row in ctx.daemon.registry.types(abstract=False)
        if row.kind == "cpu" and target in row.data["targets"]
    }


def _no_memory() -> dict[str, Any]:
    return {"base-memory": 0}


@command("query-memory-size-summary", side=OWNER, without=_no_memory)
def query_memory_size_summary(ctx: Context, arguments: dict[str, Any]) -> object:
    """How much memory there is."""
    backends = [obj for obj in ctx.machine.tree.members() if obj.is_a("memory-backend")]
    return {"base-memory": sum(backend.get_property("size") for backend in backends)}


@command("query-memory-devices")
def query_memory_devices(ctx: Context, arguments: dict[str, Any]) -> object:
    """There are no devices that are memory: RAM is mapped into an address space."""
    return []


@command("set-numa-node", side=OWNER)
def set_numa_node(ctx: Context, arguments: dict[str, Any]) -> None:
    """A node, a distance, or a CPU's node."""
    numa, given = ctx.machine.numa, dict(arguments)
    kind = given.pop("type")
    if kind == "node":
        numa.add_node(given.get("nodeid"), given.get("memdev", ""), given.get("cpus", ()))
    elif kind == "dist":
        numa.set_distance(given["src"], given["dst"], given["val"])
    elif "node-id" not in given:
        raise GenericError("Missing mandatory node-id property")
    else:
        numa.set_cpu(given.pop("node-id"), given)


@command("query-memdev", side=OWNER, alone=True)
def query_memdev(ctx: Context, arguments: dict[str, Any]) -> object:
    """The memory backends."""
    members = ctx.machine.tree.members() if ctx.daemon.has_machine else ()
    names = ("size", "merge", "dump", "prealloc", "share", "reserve", "host-nodes", "policy")
    return [
        {"id": obj.id, **{name: obj.get_property(name) for name in names}} for obj in members if obj.is_a("memory-backend")
    ]


@command("memsave", side=OWNER, early=False)
def memsave(ctx: Context, arguments: dict[str, Any]) -> None:
    """Write guest memory to a file, by a CPU's virtual addresses."""
    from ratite.daemon import guest

    cpu = guest.cpu_at(ctx.machine, arguments.get("cpu-index"))
    guest.save(guest.virtual_memory(cpu), arguments["val"], arguments["size"], arguments["filename"], ctx.machine.files)


@command("pmemsave", side=OWNER, early=False)
def pmemsave(ctx: Context, arguments: dict[str, Any]) -> None:
    """Write guest memory to a file, by physical addresses."""
    from ratite.daemon import guest

    space = guest.first_space(ctx.machine, arguments.get("space"))
    guest.save(space, arguments["val"], arguments["size"], arguments["filename"], ctx.machine.files)


@command("dumpdtb", side=OWNER, early=False)
def dumpdtb(ctx: Context, arguments: dict[str, Any]) -> None:
    """Write a guest's device tree to a file."""
    from ratite.core.fdt.tree import blob_of, group_of
    from ratite.daemon.guest import write_file

    name, cpus = arguments.get("cpu"), list(ctx.machine.cpus().values())
    found = [ctx.machine.resolve(name)] if name else [cpu for cpu in cpus if cpu.boot is not None]
    if not found and cpus and len(group_of(cpus[0])) == len(cpus):
        found = cpus  # nothing boots, but there is one guest alone
    if not found:
        raise GenericError("This machine doesn't have a FDT")
    if found[0].KIND != "cpu":
        raise GenericError(f"'{found[0].path}' is no CPU")
    write_file(arguments["filename"], blob_of(found[0]), "FDT", ctx.machine.files)  # type: ignore[arg-type]  # what KIND "cpu" means

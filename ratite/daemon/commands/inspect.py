"""Looking into a machine: its objects, what is at which address, memory, registers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command
from ratite.qapi.errors import GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.cpu.base import Cpu
    from ratite.core.memory.space import Space
    from ratite.core.objects.obj import Obj
    from ratite.core.objects.props import Prop

MEMORY_MAX = 1 << 16

# The first type that an object is of decides; then KIND does.
_KINDS = MappingProxyType({
    "cpu-cluster": "cluster",
    "cpu": "cpu",
    "address-space": "address-space",
    "memory-backend": "memory",
    "bus": "bus",
})  # fmt: skip
# Where objects stand that are no devices.
_PLACES = MappingProxyType({"chardevs": "chardev", "blockdevs": "blockdev", "netdevs": "netdev"})


def _nothing() -> dict[str, Any]:
    return {"objects": [], "wires": [], "maps": []}


@command("query-topology", side=OWNER, without=_nothing)
def query_topology(ctx: Context, arguments: dict[str, Any]) -> object:
    """Objects, wires and maps."""
    tree = ctx.machine.tree
    objects = list(tree.members())
    for place in _PLACES:
        objects += [obj for container in [tree.root.children[place]] for obj in container.children.values()]
    rows = sorted((_described(obj) for obj in objects), key=lambda row: str(row["path"]))
    return {"objects": rows, **ctx.machine.assembly.describe()}


def _described(obj: Obj) -> dict[str, Any]:
    links = [
        {"property": prop.name, "to": _path_of(obj, prop, value)}
        for prop in obj.PROPERTIES.values()
        if prop.link and (value := obj.get_property(prop.name))
    ]
    row: dict[str, Any] = {"path": obj.path, "type": obj.TYPE, "kind": _kind(obj), "links": links}
    if obj.parent is not None and obj.parent.KIND:
        row["part-of"] = obj.parent.path
    if row["kind"] == "cluster":
        row["target"] = obj.get_property("target")
        if accelerator := obj.get_property("accelerator-name"):
            row["accelerator"] = accelerator
    elif row["kind"] == "memory":
        row["size"] = obj.get_property("size")
    return row


def _path_of(obj: Obj, prop: Prop, text: str) -> str:
    """The path of what a link means, also before it is wired; the text where that isn't there."""
    if text.startswith("/"):
        return text
    try:
        return obj.link_target(prop, text).path
    except QmpError:
        return text


def _kind(obj: Obj) -> str:
    for name, kind in _KINDS.items():
        if obj.is_a(name):
            return kind
    if obj.KIND == "device":
        return "device"
    return _PLACES.get(obj.parent.id, "other") if obj.parent is not None else "other"


@command("query-memory-map", side=OWNER, without=list)
def query_memory_map(ctx: Context, arguments: dict[str, Any]) -> object:
    """What is seen at which address."""
    machine = ctx.machine
    if "space" in arguments:
        spaces = [machine.resolve_link(arguments["space"], "address-space")]
    else:
        spaces = [obj for obj in machine.tree.members() if obj.is_a("address-space")]
    return [{"space": space.path, "ranges": _ranges(ctx, space)} for space in spaces]


def _ranges(ctx: Context, space: Any) -> list[dict[str, Any]]:
    from ratite.core.memory.mtree import flat_rows

    # What a client has mapped; a region of a region (a BAR in a host bridge's window) belongs to the innermost of these.
    placed = sorted(
        ((size, address, owner.path) for owner, (_name, address, size) in ctx.machine.assembly.mapped_into(space)),
    )
    rows = []
    for flat in flat_rows(space):
        first, last = int(flat["start"]), int(flat["end"])
        row: dict[str, Any] = {
            "first": first,
            "last": last,
            "kind": flat["kind"] if flat["kind"] in ("ram", "rom") else "device",
            "region": flat["name"],
            "offset": flat["offset"],
        }
        owner = next((path for size, address, path in placed if address <= first and last < address + size), None)
        if owner is not None:
            row["owner"] = owner
        rows.append(row)
    return rows


@command("query-memory", side=OWNER)
def query_memory(ctx: Context, arguments: dict[str, Any]) -> object:
    """RAM and ROM, by physical addresses."""
    from ratite.daemon import guest

    address, size = arguments["address"], arguments["size"]
    if size > MEMORY_MAX:
        raise GenericError(f"Parameter 'size' must be at most {MEMORY_MAX}, not {size}")
    space = guest.first_space(ctx.machine, arguments.get("space"))
    return [{"address": at, "data": b64encode(data).decode()} for at, data in _pieces(space, address, address + size)]


def _pieces(space: Space, address: int, end: int) -> list[tuple[int, bytes]]:
    pieces = []
    for found in space.view:
        first, stop = max(address, found.start), min(end, found.end)
        if first < stop and found.region.IS_RAM:
            pieces.append((first, space.read(first, stop - first)))
    return pieces


@command("memory-write", side=OWNER, early=False)
def memory_write(ctx: Context, arguments: dict[str, Any]) -> object:
    """Bytes into RAM and ROM, all of them or none."""
    from ratite.daemon import guest

    address = arguments["address"]
    try:
        data = b64decode(arguments["data"], validate=True)
    except ValueError as error:
        raise GenericError(f"Parameter 'data' must be base64: {error}") from None
    if len(data) > MEMORY_MAX:
        raise GenericError(f"Parameter 'data' must hold at most {MEMORY_MAX} bytes, not {len(data)}")
    space = guest.first_space(ctx.machine, arguments.get("space"))
    at, end = address, address + len(data)
    while at < end:
        found = space.view.find(at)
        if found is None or not found.region.IS_RAM:
            raise GenericError(f"there is {'no memory' if found is None else 'a device'} at {at:#x}; nothing was written")
        at = found.end
    space.write(address, data)
    return {}


@command("query-registers", side=OWNER)
def query_registers(ctx: Context, arguments: dict[str, Any]) -> object:
    """All registers of a CPU."""
    found = ctx.machine.resolve(arguments["cpu"])
    if found.KIND != "cpu":
        raise GenericError(f"'{found.path}' is no CPU")
    cpu: Cpu = found  # type: ignore[assignment]  # what KIND "cpu" means
    if cpu.vcpu is None:
        raise GenericError(f"'{cpu.path}' is not realized")
    with ctx.machine.quiesced():
        rows = [
            _register(name, field.name, field.width, cpu.vcpu.get(field.name, index))
            for field in cpu.vcpu.fields()
            if not field.hidden
            for index, name in enumerate(field.names)
        ]
        if all(row["name"] != cpu.PC for row in rows):
            rows.append(_register(cpu.PC, cpu.PC, cpu.cluster.bits, cpu.pc()))
    return sorted(rows, key=lambda row: row["name"] != cpu.PC)


def _register(name: str, group: str, bits: int, value: int) -> dict[str, Any]:
    return {"name": name, "group": group, "bits": bits, "value": f"{value:0{(bits + 3) // 4}x}"}

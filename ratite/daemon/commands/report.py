"""What is loaded, which memory guests have, how lines and interrupt controllers stand: texts for people (x-query-*)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import OWNER, Context, command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratite.core.machine import Machine
    from ratite.core.memory.ram import RamRegion


def _text(lines: Iterator[str]) -> dict[str, str]:
    return {"human-readable-text": "".join(f"{line}\n" for line in lines)}


@command("x-query-roms", side=OWNER, alone=True)
def x_query_roms(ctx: Context, arguments: dict[str, Any]) -> object:
    """What is loaded, by address."""
    return _text(rom_lines(ctx.machine) if ctx.daemon.has_machine else iter(()))


@command("x-query-ramblock", side=OWNER, alone=True)
def x_query_ramblock(ctx: Context, arguments: dict[str, Any]) -> object:
    """RAM and ROM, the largest first."""
    return _text(ram_lines(ctx.machine if ctx.daemon.has_machine else None))


@command("x-query-irq", side=OWNER, alone=True)
def x_query_irq(ctx: Context, arguments: dict[str, Any]) -> object:
    """The irq wires."""
    return _text(irq_lines(ctx.machine) if ctx.daemon.has_machine else iter(()))


@command("x-query-interrupt-controllers", side=OWNER, alone=True)
def x_query_interrupt_controllers(ctx: Context, arguments: dict[str, Any]) -> object:
    """The interrupt controllers."""
    return _text(controller_lines(ctx.machine) if ctx.daemon.has_machine else iter(()))


@command("x-query-numa", side=OWNER, alone=True)
def x_query_numa(ctx: Context, arguments: dict[str, Any]) -> object:
    """The NUMA nodes."""
    return _text(numa_lines(ctx.machine.numa.rows() if ctx.daemon.has_machine else []))


def numa_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How many nodes there are, and of each its CPUs and its memory."""
    yield f"{len(rows)} nodes"
    for row in rows:
        node = f"node {row['node']}"
        yield " ".join([f"{node} cpus:", *map(str, row["cpus"])])
        yield f"{node} size: {row['size'] >> 20} MB"
        yield f"{node} plugged: 0 MB"


def rom_lines(machine: Machine) -> Iterator[str]:
    """A line a piece of a program, kernel, ramdisk or device tree; what several CPUs share comes once."""
    found: dict[tuple[str, int], str] = {}
    for cpu in machine.cpus().values():
        space = cpu.cluster.space
        images, boot = cpu.loaded()
        pieces = [(image.path, segment.paddr, segment.memsz) for image in images for segment in image.segments]
        if boot is not None:
            pieces += [(path or what, start, end - start) for what, path, start, end in boot.pieces()]
        for name, start, size in pieces:
            at = space.view.find(start)
            kind = "none" if at is None else "rom" if at.readonly else "ram"
            found.setdefault((space.path, start), f'addr={start:016x} size={size:#08x} mem={kind} name="{name}"')
    for _, line in sorted(found.items()):
        yield line


def ram_lines(machine: Machine | None) -> Iterator[str]:
    """A line a piece of host memory that guests have; offsets count through them."""
    yield f"{'Block Name':>24} {'PSize':>8}  {'Offset':>18} {'Used':>18} {'Total':>18} {'HVA':>18} {'RO':>3}"
    offset = 0
    for name, region in sorted(_ram_of(machine), key=lambda row: (-row[1].size, row[0])):
        size = f"{region.size:#018x}"
        access = "ro" if region.readonly else "rw"
        yield f"{name:>24} {'4 KiB':>8}  {offset:#018x} {size} {size} {region.address:#018x} {access:>3}"
        offset += region.size


def _ram_of(machine: Machine | None) -> list[tuple[str, RamRegion]]:
    found: list[tuple[str, RamRegion]] = []
    for obj in machine.tree.members() if machine is not None else ():
        if obj.is_a("memory-backend"):
            region = getattr(obj, "ram", None)
            if region is not None:
                by_path = obj.get_property("x-use-canonical-path-for-ramblock-id")
                found.append((obj.path if by_path else obj.id, region))
        for name, region in getattr(obj, "regions", {}).items():
            if region.IS_RAM:
                found.append((f"{obj.id}.{name}", region))
    return found


def irq_lines(machine: Machine) -> Iterator[str]:
    """A line a wire, with its level."""
    for obj in machine.tree.members():
        if obj.KIND in ("device", "cpu"):
            for end in obj.all_outputs():  # type: ignore[attr-defined]  # a Device's
                if end.peer is not None:
                    yield f"{end.spelling} -> {end.peer.spelling}: {end.level}"


def controller_lines(machine: Machine) -> Iterator[str]:
    """The state of each device that says how its inputs are written in a device tree."""
    with machine.quiesced():
        for obj in machine.tree.members():
            if obj.KIND != "device" or not any(obj.fdt_interrupt(end) for end in obj.all_inputs()):  # type: ignore[attr-defined]  # a Device's
                continue
            yield f"{obj.path} ({obj.TYPE})"
            for prop in obj.properties():
                if prop.kind == "state":
                    yield f"  {prop.name}: {_value(obj.get_property(prop.name))}"


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return " ".join(_value(each) for each in value)
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

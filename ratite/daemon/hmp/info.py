"""The topics of `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.daemon import version as version_info
from ratite.daemon.hmp.line import HmpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratite.core.accel.base import Vcpu
    from ratite.core.cpu.base import Cpu
    from ratite.core.isa.state import StateField
    from ratite.core.objects.obj import Obj
    from ratite.daemon.hmp.line import Line

# Registers a line, by their width in hexadecimal digits.
_LINE_WIDTH = 108


def version(line: Line) -> str:
    """info version"""
    info = version_info()
    qemu = info["qemu"]
    return f"{qemu['major']}.{qemu['minor']}.{qemu['micro']} ({info['package']})\n"


def status(line: Line) -> str:
    """info status"""
    running, state = line.ctx.daemon.status
    if running:
        return "VM status: running\n"
    return "VM status: paused\n" if state == "paused" else f"VM status: paused ({state})\n"


def phase(line: Line) -> str:
    """info phase"""
    return f"machine phase: {line.ctx.daemon.phase}\n"


def name(line: Line) -> str:
    """info name"""
    given = line.ctx.daemon.options.name
    return f"{given}\n" if given else ""


def uuid(line: Line) -> str:
    """info uuid"""
    return f"{line.ctx.daemon.options.uuid or '00000000-0000-0000-0000-000000000000'}\n"


def targets(line: Line) -> str:
    """info targets"""
    rows = line.ctx.daemon.registry.targets().values()
    return "".join(
        f"{row['name']}: {row['word-size']} bits, {'big' if row['big-endian'] else 'little'} endian"
        f"{', unavailable: ' + row['reason'] if row.get('reason') else ''}\n"
        for row in rows
    )


def accelerators(line: Line) -> str:
    """info accelerators"""
    rows = line.ctx.daemon.registry.accelerators().values()
    return "".join(f"{row['name']}: {row.get('reason') or 'usable'}\n" for row in rows)


def history(line: Line) -> str:
    """info history: what was typed at this monitor."""
    return "".join(f"{number}: '{text}'\n" for number, text in enumerate(line.seat.history))


def jit(line: Line) -> str:
    """info jit"""
    from ratite.daemon.commands.accelerator import jit_reports, jit_text

    return jit_text(jit_reports(line.ctx)) if line.ctx.daemon.has_machine else jit_text([])


def chardev(line: Line) -> str:
    """info chardev"""
    if not line.ctx.daemon.has_machine:
        return ""
    return "".join(f"{row['label']}: filename={row['filename']}\n" for row in line.ctx.machine.chardevs.list())


def cpus(line: Line) -> str:
    """info cpus"""
    if not line.ctx.daemon.has_machine:
        return ""
    cpus = line.ctx.machine.cpus()
    chosen = min(cpus, default=0) if line.cpu_index is None else line.cpu_index
    return "".join(
        f"{'*' if index == chosen else ' '} CPU #{index}: thread_id={cpu.thread_id} {cpu.path} ({cpu.TYPE})\n"
        for index, cpu in cpus.items()
    )


# ---------------------------------------------------------------- trees


def qom_tree(line: Line) -> str:
    """info qom-tree [PATH]"""
    if not line.ctx.daemon.has_machine:
        return ""
    root = line.ctx.machine.resolve(line.rest or "/machine")
    lines = [f"{root.path} ({root.TYPE})"]
    lines += [f"{'  ' * depth}/{obj.id} ({obj.TYPE})" for depth, obj in _below(root, 1)]
    return "\n".join(lines) + "\n"


def _below(obj: Obj, depth: int) -> Iterator[tuple[int, Obj]]:
    for _name, child in sorted(obj.children.items()):
        yield depth, child
        yield from _below(child, depth + 1)


def qtree(line: Line) -> str:
    """info qtree: every device by path, with its configuration and lines.  No bus is the root of all."""
    if not line.ctx.daemon.has_machine:
        return ""
    lines: list[str] = ["bus: main-system-bus", "  type System"]
    for obj in line.ctx.machine.tree.members():
        if obj.KIND not in ("device", "cpu"):
            continue
        lines.append(f'  dev: {obj.TYPE}, id "{obj.id}"')
        lines += [f'    gpio-in "{name}" {count}' for name, count in obj.INPUTS.items()]
        lines += [f'    gpio-out "{name}" {count}' for name, count in obj.OUTPUTS.items()]
        lines += [
            f"    {prop.name} = {_shown(obj.get_property(prop.name))}"
            for prop in obj.properties()
            if prop.kind in ("config", "tunable")
        ]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} ({value:#x})"
    return f'"{value}"'


def mtree(line: Line) -> str:
    """info mtree [-f]"""
    option, *more = line.rest.split() or [""]
    if option.startswith("-") and option != "-f":
        raise line.fail(f"mtree: unsupported option {option}")
    if more or option not in ("", "-f"):
        raise line.surplus()
    if not line.ctx.daemon.has_machine:
        return ""
    from ratite.core.memory.mtree import flat_rows, tree_rows

    text = ""
    spaces = [obj for obj in line.ctx.machine.tree.members() if obj.is_a("address-space")]
    for number, space in enumerate(spaces):
        shown: Any = space
        if line.rest:
            text += f'FlatView #{number}\n AS "{space.id}", root: {shown.root.name}\n'
            rows = [f"  {_range(row)} (prio 0, {_kind(row)}): {row['name']}{_at(row)}" for row in flat_rows(shown)]
        else:
            text += f"address-space: {space.id}\n"
            rows = [
                f"{'  ' * (int(row['depth']) + 1)}{_range(row)} (prio {row['priority']}, {_kind(row)}): {_named(row)}"
                for row in tree_rows(shown)
            ]
        text += "\n".join(rows) + ("\n\n" if rows else "\n")
    return text


def _range(row: dict[str, Any]) -> str:
    return f"{row['start']:016x}-{row['end']:016x}"


def _kind(row: dict[str, Any]) -> str:
    return row["kind"] if row["kind"] in ("ram", "rom") else "i/o"


def _at(row: dict[str, Any]) -> str:
    return f" @{row['offset']:016x}" if row["offset"] else ""


def _named(row: dict[str, Any]) -> str:
    text = str(row["name"])
    if "target" in row:
        size = row["end"] - row["start"]
        text = f"alias {text} @{row['target']} {row['offset']:016x}-{row['offset'] + size:016x}"
    return text if row["enabled"] else f"{text} [disabled]"


# ---------------------------------------------------------------- registers


def registers(line: Line) -> str:
    """info registers [-a|VCPU]: every register of one CPU, or of all."""
    if not line.ctx.daemon.has_machine or not line.ctx.machine.cpus():
        raise HmpError("No CPU available")
    machine = line.ctx.machine
    chosen = machine.cpus()
    if line.rest != "-a":
        default = min(chosen) if line.cpu_index is None else line.cpu_index
        index = line.evaluate(line.rest) if line.rest else default
        if index not in chosen:
            raise HmpError(f"CPU#{index} not available")
        chosen = {index: chosen[index]}
    with machine.quiesced():
        return "".join(f"\nCPU#{index}\n{_registers(cpu)}" for index, cpu in chosen.items())


def _registers(cpu: Cpu) -> str:
    if cpu.vcpu is None:
        return " (not realized)\n"
    text, width = "", 0
    if all(name != cpu.PC for _field, name, _index in _shown_registers(cpu.vcpu)):
        text = f" {cpu.PC:<8} {cpu.pc():0{cpu.cluster.bits // 4}x}\n"
    for field, name, index in _shown_registers(cpu.vcpu):
        cell = f" {name:<8} {cpu.vcpu.get(field.name, index):0{2 * field.size}x}"
        if width and width + len(cell) > _LINE_WIDTH:
            text, width = text + "\n", 0
        text += cell
        width += len(cell)
    return text + "\n"


def _shown_registers(vcpu: Vcpu) -> Iterator[tuple[StateField, str, int]]:
    for field in vcpu.fields():
        if not field.hidden:
            for index, name in enumerate(field.names):
                yield field, name, index

"""The topics of `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.daemon.daemon import version as version_info
from ratite.daemon.hmp.line import HmpError

if TYPE_CHECKING:
    from ratite.core.accel.base import Vcpu
    from ratite.core.cpu.base import Cpu
    from ratite.core.isa.state import StateField
    from ratite.daemon.hmp.line import Line


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


# ---------------------------------------------------------------- registers


def registers(line: Line) -> str:
    """info registers [-a|VCPU]: every register of one CPU, or of all."""
    if not line.ctx.daemon.has_machine or not line.ctx.machine.cpus():
        raise HmpError("No CPU available")
    machine = line.ctx.machine
    chosen = machine.cpus()
    if "a" not in line.args:
        index = line.args.get("vcpu", min(chosen) if line.cpu_index is None else line.cpu_index)
        if index not in chosen:
            raise HmpError(f"CPU#{index} not available")
        chosen = {index: chosen[index]}
    with machine.quiesced():
        return "".join(f"\nCPU#{index}\n{_registers(cpu)}" for index, cpu in chosen.items())


def _registers(cpu: Cpu) -> str:
    """The pc, what there is one of a line each, then the files of registers, four a line."""
    vcpu = cpu.vcpu
    if vcpu is None:
        return " (not realized)\n"
    lines = [f" {cpu.PC:<8} {cpu.pc():0{cpu.cluster.bits // 4}x}"]
    shown = [field for field in vcpu.fields() if not field.hidden and field.names]
    lines += [_cell(vcpu, field, 0) for field in shown if len(field.names) == 1 and field.names[0] != cpu.PC]
    for field in shown:
        cells = [_cell(vcpu, field, index) for index in range(len(field.names))] if len(field.names) > 1 else []
        lines += ["".join(cells[start : start + 4]) for start in range(0, len(cells), 4)]
    return "\n".join(lines) + "\n"


def _cell(vcpu: Vcpu, field: StateField, index: int) -> str:
    number, name = f"{field.name}{index}", field.names[index]
    shown = name if len(field.names) == 1 or name in (number, number.upper()) else f"{number}/{name}"
    return f" {shown:<8} {vcpu.get(field.name, index):0{2 * field.size}x}"

"""`info pci`: what query-pci tells, as QEMU's monitor prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.commands.pci import root_buses

if TYPE_CHECKING:
    from ratite.daemon.hmp.line import Line

_ADDRESS = (1 << 64) - 1


def pci(line: Line) -> str:
    """info pci"""
    return text(root_buses(line.ctx.machine)) if line.ctx.daemon.has_machine else ""


def text(buses: list[dict[str, Any]]) -> str:
    """The answer of query-pci as lines."""
    lines = [line for bus in buses for info in bus["devices"] for line in _device(info)]
    return "".join(f"{line}\n" for line in lines) or "PCI devices not supported\n"


def _device(info: dict[str, Any]) -> list[str]:
    ids, number = info["id"], info["class_info"]["class"]
    kind = info["class_info"].get("desc") or f"Class {number:04}"
    lines = [
        f"  Bus {info['bus']:2}, device {info['slot']:3}, function {info['function']}:",
        f"    {kind}: PCI device {ids['vendor']:04x}:{ids['device']:04x}",
    ]
    if "subsystem" in ids:
        lines.append(f"      PCI subsystem {ids['subsystem-vendor']:04x}:{ids['subsystem']:04x}")
    if info["irq_pin"]:
        lines.append(f"      IRQ {info['irq']}, pin {'ABCD'[info['irq_pin'] - 1]}")
    bridge = info.get("pci_bridge")
    if bridge is not None:
        lines += _bridge(bridge["bus"])
    lines += [_region(region) for region in info["regions"]]
    lines.append(f'      id "{info["qdev_id"]}"')
    for below in bridge.get("devices", ()) if bridge is not None else ():
        lines += _device(below)
    return lines


def _bridge(bus: dict[str, Any]) -> list[str]:
    io, memory, prefetch = bus["io_range"], bus["memory_range"], bus["prefetchable_range"]
    return [
        f"      BUS {bus['number']}.",
        f"      secondary bus {bus['secondary']}.",
        f"      subordinate bus {bus['subordinate']}.",
        f"      IO range [{io['base']:#06x}, {io['limit']:#06x}]",
        f"      memory range [{memory['base']:#010x}, {memory['limit']:#010x}]",
        f"      prefetchable memory range [{prefetch['base']:#010x}, {prefetch['limit']:#010x}]",
    ]


def _region(region: dict[str, Any]) -> str:
    first = region["address"] & _ADDRESS
    last = first + region["size"] - 1 & _ADDRESS
    if region["type"] == "io":
        return f"      BAR{region['bar']}: I/O at {first:#06x} [{last:#06x}]."
    bits = 64 if region["mem_type_64"] else 32
    return f"      BAR{region['bar']}: {bits} bit{' prefetchable' * region['prefetch']} memory at {first:#010x} [{last:#010x}]."

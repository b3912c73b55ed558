"""query-pci: what is on a host bridge's buses, in QEMU's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.hw.pci.regs import (
    CLASS,
    DEVICE,
    INT_LINE,
    IO_BASE,
    IO_LIMIT,
    MEMORY_BASE,
    MEMORY_LIMIT,
    PREF_BASE,
    PREF_BASE_HIGH,
    PREF_LIMIT,
    PREF_LIMIT_HIGH,
    PRIMARY,
    VENDOR,
)

if TYPE_CHECKING:
    from ratite.hw.pci.bus import PcieBus
    from ratite.hw.pci.function import PciFunction

# Class and subclass → what QEMU calls it.
CLASSES: Mapping[int, str] = MappingProxyType(
    {
        0x0100: "SCSI controller", 0x0200: "Ethernet controller", 0x0300: "VGA controller", 0x0600: "Host bridge",
        0x0601: "ISA bridge", 0x0604: "PCI bridge", 0x0780: "Communication controller", 0x0C03: "USB controller",
    }
)  # fmt: skip


def describe_bus(bus: PcieBus, number: int) -> list[dict[str, Any]]:
    """The functions of a bus, by address."""
    return [_function(bus.functions[devfn], number) for devfn in sorted(bus.functions)]


def _function(function: PciFunction, number: int) -> dict[str, Any]:
    config = function.conf
    kind = config.get(CLASS + 1, 2)
    ids = {"vendor": config.get(VENDOR, 2), "device": config.get(DEVICE, 2)}
    if not function.HEADER:
        ids.update({"subsystem-vendor": function.PCI_SUBSYSTEM[0], "subsystem": function.PCI_SUBSYSTEM[1]})
    info: dict[str, Any] = {
        "bus": number,
        "slot": function.devfn >> 3,
        "function": function.devfn & 7,
        "class_info": {"class": kind, **({"desc": CLASSES[kind]} if kind in CLASSES else {})},
        "id": ids,
        "irq_pin": function.PIN,
        # The part that the host bridge itself is has no id of a client's.
        "qdev_id": function.id if function.KIND else "",
        "regions": _regions(function),
    }
    if function.PIN:
        info["irq"] = config.get(INT_LINE, 1)
    if function.secondary_bus is not None:
        info["pci_bridge"] = _bridge(function, function.secondary_bus)
    return info


def _regions(function: PciFunction) -> list[dict[str, Any]]:
    regions = []
    for bar in function.bars:
        row = {
            "bar": bar.index,
            "type": "io" if bar.io else "memory",
            "size": bar.region.size,
            "address": bar.address(function.conf) if function.decodes(bar.io) else -1,
        }
        if not bar.io:
            row.update({"prefetch": bar.prefetch, "mem_type_64": bar.wide})
        regions.append(row)
    return regions


def _bridge(function: PciFunction, child: PcieBus) -> dict[str, Any]:
    get = function.conf.get
    secondary, subordinate = function.bus_numbers()
    info: dict[str, Any] = {
        "bus": {
            "number": get(PRIMARY, 1),
            "secondary": secondary,
            "subordinate": subordinate,
            "io_range": {"base": (get(IO_BASE, 1) & 0xF0) << 8, "limit": (get(IO_LIMIT, 1) & 0xF0) << 8 | 0xFFF},
            "memory_range": {
                "base": (get(MEMORY_BASE, 2) & 0xFFF0) << 16,
                "limit": (get(MEMORY_LIMIT, 2) & 0xFFF0) << 16 | 0xFFFFF,
            },
            "prefetchable_range": {
                "base": (get(PREF_BASE, 2) & 0xFFF0) << 16 | get(PREF_BASE_HIGH, 4) << 32,
                "limit": (get(PREF_LIMIT, 2) & 0xFFF0) << 16 | 0xFFFFF | get(PREF_LIMIT_HIGH, 4) << 32,
            },
        }
    }
    if secondary:
        info["devices"] = describe_bus(child, secondary)
    return info

"""A MicroBlaze in a device tree, after Xilinx's binding `xlnx,microblaze`: the core's parameters under their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.fdt import DeviceTree
from ratite.targets.microblaze.config import DEFAULTS

if TYPE_CHECKING:
    from ratite.targets.microblaze.cpu import MicroblazeCpu

#: Properties of the CPU type that the binding calls otherwise or doesn't have.
CLOCK = 100_000_000  # Hz, where nothing tells it
_OTHER = frozenset({"big", "version", "base-vectors"})


def describe(cpu: MicroblazeCpu, tree: DeviceTree) -> None:
    """The CPU's node; without caches, since none are modelled."""
    node = tree.cpus_node.child(f"cpu@{cpu.cpu_index:x}")
    node["device_type"] = "cpu"
    node["reg"] = cpu.cpu_index
    node["compatible"] = (f"xlnx,microblaze-{cpu.version}", "xlnx,microblaze")
    node["model"] = f"microblaze,{cpu.version}"
    node["clock-frequency"] = node["timebase-frequency"] = _clock(tree)
    node["xlnx,endianness"] = int(not cpu.cluster.big_endian)
    node["xlnx,base-vectors"] = cpu.base_vectors
    node["xlnx,data-size"] = 32
    for name in ("use-interrupt", "use-ext-brk", "use-ext-nm-brk"):
        node[f"xlnx,{name}"] = 1
    for name in ("use-icache", "use-dcache"):
        node[f"xlnx,{name}"] = 0
    for name in DEFAULTS:
        if name not in _OTHER:
            value = getattr(cpu, name.replace("-", "_"))
            if isinstance(value, int):
                node[f"xlnx,{name}"] = int(value)
    tree.register(cpu, node)


def _clock(tree: DeviceTree) -> int:
    """Hz of the first timer that the guest sees: system and timers have one clock."""
    for device in tree.devices:
        if device.find_prop("clock-frequency") is not None:
            return int(device.get_property("clock-frequency"))
    return CLOCK

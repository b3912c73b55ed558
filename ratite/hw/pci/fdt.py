"""A host bridge in a device tree, after the binding `host-generic-pci` (pci-host-ecam-generic) and IEEE 1275's PCI binding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.core.fdt import DeviceTree, Node
from ratite.qapi.fdt import cells

if TYPE_CHECKING:
    from ratite.hw.pci.host import GpexPcihost

_IO, _MEMORY, _MEMORY64 = 0x01000000, 0x02000000, 0x03000000
_SLOTS = 4


def describe(host: GpexPcihost, tree: DeviceTree) -> None:
    """The host's node with the windows that the guest sees."""
    seen = {window.name: window for window in tree.windows(host)}
    if "ecam" not in seen:
        return
    node = tree.node(host, "pci", ("pci-host-ecam-generic",), windows=("ecam",))
    for name in "interrupt-parent", "interrupts", "interrupts-extended":
        node[name] = False
    node["device_type"] = "pci"
    node["#address-cells"], node["#size-cells"], node["#interrupt-cells"] = 3, 2, 1
    node["bus-range"] = [0, (host.ecam_size >> 20) - 1]
    bridges = [device for device in tree.devices if device.is_a("pci-host-bridge")]
    node["linux,pci-domain"] = bridges.index(host)
    node["dma-coherent"] = True
    ranges: list[int] = []
    for name, kind, base in ("pio", _IO, 0), ("mmio", _MEMORY, host.mmio_base), ("mmio64", _MEMORY64, host.mmio64_base):
        window = seen.get(name)
        # What a guest with 32-bit addresses can't reach isn't there for it.
        if window is not None and window.address + window.size <= 1 << 32 * tree.address_cells:
            at = cells(window.address, tree.address_cells)
            ranges += [kind, *cells(base, 2), *at, *cells(window.size, 2)]
    node["ranges"] = ranges
    _map_interrupts(host, tree, node)


def _map_interrupts(host: GpexPcihost, tree: DeviceTree, node: Node) -> None:
    """Pin P of slot S comes out of intx[(P + S) % 4]: slots repeat after four."""
    rows: list[int] = []
    for slot in range(_SLOTS):
        for pin in range(4):
            for owner, specifier in tree.targets(host.out("intx", (pin + slot) % 4)):
                # An interrupt parent with #address-cells 0: the specifier follows its phandle.
                rows += [slot << 11, 0, 0, pin + 1, tree.phandle(owner), *specifier]
    if rows:
        node["interrupt-map-mask"] = [(_SLOTS - 1) << 11, 0, 0, 7]
        node["interrupt-map"] = rows

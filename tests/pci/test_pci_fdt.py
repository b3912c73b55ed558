"""The host bridge in a device tree."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from pci_kit import ECAM, MMIO, MMIO64, PIO, Pci, Sink

from ratite.core.fdt import DeviceTree, Node


def soc_of(pci: Pci, bits: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Node]:
    cluster = SimpleNamespace(space=pci.space, bits=bits)
    cpu: Any = SimpleNamespace(cluster=cluster, FDT_MACHINE="x,y", fdt_node=lambda tree: None)
    sink = pci.dev("sink")
    monkeypatch.setattr(Sink, "fdt_interrupt", lambda self, end: (40 + end.index,))
    monkeypatch.setattr(Sink, "fdt_node", lambda self, tree: tree.register(self, tree.soc.child("sink")))
    tree = DeviceTree(pci.machine, [cpu])
    monkeypatch.setattr(tree, "visible", lambda obj: True)
    tree.devices.append(sink)
    return tree.build().children["soc"].children


def numbers(value: bytes) -> list[int]:
    return list(struct.unpack(f">{len(value) // 4}I", value))


@pytest.mark.parametrize("bits", [64, 32])
def test_host_bridge(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pci = Pci(("pcie-root-port", "rp0", {}))
    node = soc_of(pci, bits, monkeypatch)[f"pci@{ECAM:x}"]
    assert node["compatible"] == b"pci-host-ecam-generic\0"
    assert [numbers(node[name]) for name in ("#address-cells", "#size-cells", "#interrupt-cells", "bus-range")] == [
        [3], [2], [1], [0, 255],
    ]  # fmt: skip
    high = [0] if bits == 64 else []
    assert numbers(node["reg"]) == [*high, ECAM, *high, 256 << 20]
    ranges = [0x01000000, 0, 0, *high, PIO, 0, 0x10000, 0x02000000, 0, MMIO, *high, MMIO, 0, 0x40000000]
    if bits == 64:
        ranges += [0x03000000, MMIO64 >> 32, 0, MMIO64 >> 32, 0, 4, 0]
    assert numbers(node["ranges"]) == ranges
    assert numbers(node["interrupt-map-mask"]) == [0x1800, 0, 0, 7]
    rows = numbers(node["interrupt-map"])
    assert len(rows) == 16 * 6
    for n in range(16):
        device, _, _, pin, parent, line = rows[6 * n : 6 * n + 6]
        assert (parent, line) == (rows[4], 40 + ((device >> 11) + pin - 1) % 4)
    pci.close()


def test_every_bridge_is_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    pci = Pci(("gpex-pcihost", "pci1", {"address-space": "sys", "ecam-size": 1 << 20}), start=False)
    pci.machine.map_region("sys", "pci1/ecam", 0x20000000)
    pci.start()
    soc = soc_of(pci, 64, monkeypatch)
    assert [numbers(soc[f"pci@{at:x}"]["linux,pci-domain"]) for at in (ECAM, 0x20000000)] == [[0], [1]]
    assert numbers(soc["pci@20000000"]["bus-range"]) == [0, 0]
    pci.close()

"""PCI over QMP: a bus assembled in any order, query-pci, refusals, a device that comes and goes while the machine runs."""

from __future__ import annotations

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess


def assemble(qmp: Client) -> None:
    qmp.execute("machine-create")
    qmp.execute("device_add", driver="virtio-rng-pci", id="r0", bus="pcie.0", addr="03.0")
    qmp.execute("device_add", driver="pcie-root-port", id="rp0", chassis=1, slot=1, addr="0x1")
    qmp.execute("device_add", driver="gpex-pcihost", id="pci0", address_space="view")
    for window, at in ("ecam", 0x30000000), ("mmio", 0x40000000):
        qmp.execute("map-region", space="view", region=f"pci0/{window}", offset=at)
    qmp.execute("object-add", {"qom-type": "address-space", "id": "view"})


def refused(qmp: Client, command: str, **arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, **arguments)
    return caught.value.desc


def test_pci(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        assemble(qmp)
        assert [row["qdev_id"] for bus in qmp.execute("query-pci") for row in bus["devices"]] == []
        qmp.execute("x-exit-preconfig")
        (bus,) = qmp.execute("query-pci")
        assert [(row["slot"], row["qdev_id"]) for row in bus["devices"]] == [(0, ""), (1, "rp0"), (3, "r0")]
        assert bus["devices"][2]["id"] == {"vendor": 0x1AF4, "device": 0x1044, "subsystem-vendor": 0x1AF4, "subsystem": 0x1100}
        root = "/machine/peripheral/pci0/pcie.0"
        assert qmp.execute("qom-get", path=root, property="devices")[-1] == "03.0 /machine/peripheral/r0"
        assert qmp.execute("qom-get", path="r0", property="bus") == root
        assert {"name": "rp0", "type": "child<PCIE>"} in qmp.execute("qom-list", path="/machine/peripheral/rp0")
        assert qmp.hmp("info pci").startswith("  Bus  0, device   0, function 0:")
        text = "Bus 'pcie.0' does not support hotplugging"
        assert refused(qmp, "device_add", driver="virtio-rng-pci", id="x", bus="pcie.0") == text
        assert refused(qmp, "device_del", id="r0") == text
        assert refused(qmp, "device_add", driver="gpex-root", id="x") == "Parameter 'driver' expects a pluggable device type"
        for _ in range(2):
            qmp.execute("device_add", driver="virtio-rng-pci", id="x", bus="rp0")
            qmp.execute("device_del", id="x")
            assert qmp.wait_event("DEVICE_DELETED")["data"] == {"device": "x", "path": "/machine/peripheral/x"}
        types = {row["name"]: row for row in qmp.execute("query-device-types", bus="PCIE")}
        assert {"pcie-root-port", "virtio-rng-pci", "virtio-blk-pci", "virtio-serial-pci"} <= set(types)

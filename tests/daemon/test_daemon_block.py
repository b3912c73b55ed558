"""Block nodes over QMP: made and removed at any phase, shown as QEMU shows them, refused in its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess


def refusal(qmp: Client, command: str, **arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.desc


def test_disks_over_qmp(daemon: DaemonProcess, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    options = {"driver": "raw", "node-name": "r0", "file": {"driver": "file", "filename": str(image)}}
    with daemon.client() as qmp:
        assert qmp.execute("query-named-block-nodes") == qmp.execute("query-block") == qmp.execute("query-blockstats") == []
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="virtio-blk-device", id="d0", drive="r0")
        assert refusal(qmp, "device_add", driver="virtio-blk-device", id="d1", drive="r0", rerror="foo") == (
            "Parameter 'rerror' does not accept value 'foo'"
        )
        qmp.execute("blockdev-add", options)
        assert refusal(qmp, "blockdev-add", **options) == "Duplicate nodes with node-name='r0'"
        assert refusal(qmp, "blockdev-add", driver="qcow2") == "Parameter 'driver' does not accept value 'qcow2'"
        assert refusal(qmp, "blockdev-add", driver="file") == "Parameter 'filename' is missing"
        assert refusal(qmp, "blockdev-add", driver="file", filename="/", **{"node-name": "n"}).startswith("Could not open '/'")
        assert refusal(qmp, "blockdev-del", **{"node-name": "r0"}) == "Node r0 is in use"
        assert refusal(qmp, "blockdev-del", **{"node-name": "r1"}) == "Failed to find node with node-name='r1'"
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("device_add", driver="virtio-mmio", id="vm0")
        qmp.execute("x-exit-preconfig")
        nodes = qmp.execute("query-named-block-nodes")
        assert [(n["node-name"], n["drv"], n["ro"]) for n in nodes] == [("r0", "raw", False), ("#r0.file", "file", False)]
        assert qmp.execute("query-block") == [
            {"device": "", "qdev": "/machine/peripheral/d0", "type": "unknown", "removable": False, "locked": False,
             "inserted": nodes[0], "io-status": "ok"}
        ]  # fmt: skip
        (stats,) = qmp.execute("query-blockstats")
        assert (stats["device"], stats["qdev"], stats["node-name"]) == ("", "/machine/peripheral/d0", "r0")
        assert stats["stats"]["rd_operations"] == 0 and stats["stats"]["account_invalid"]
        assert stats["parent"]["node-name"] == "#r0.file" and stats["parent"]["driver-specific"]["driver"] == "file"
        by_node = qmp.execute("query-blockstats", {"query-nodes": True})
        assert [(each["node-name"], "parent" in each) for each in by_node] == [("#r0.file", False), ("r0", True)]
        none = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        for given, words in (
            ({}, "Need exactly one of 'device' and 'id'"),
            ({"id": "d0", "device": "d0"}, "Need exactly one of 'device' and 'id'"),
            ({"device": "d0"}, "Device 'd0' not found"),
            ({"id": "zz"}, "Device 'zz' not found"),
            ({"id": "vm0"}, "Device does not have a block device backend"),
            ({"id": "d0", "bps_max": 1}, "bps_max/iops_max require corresponding bps/iops values"),
        ):
            assert refusal(qmp, "block_set_io_throttle", **none, **given) == words
        qmp.execute("block_set_io_throttle", {**none, "id": "/machine/peripheral/d0/virtio-backend", "bps": 9, "group": "g"})
        inserted = qmp.execute("query-block")[0]["inserted"]
        assert (inserted["bps"], inserted["group"]) == (9, "g")
        qmp.execute("block_set_io_throttle", {**none, "id": "d0"})
        assert "group" not in qmp.execute("query-block")[0]["inserted"]
        assert refusal(qmp, "block_resize", size=512) == "Cannot find device='' nor node-name=''"
        too_long = (1 << 63) - 1
        words = f"offset({too_long}) exceeds maximum(9223372035781033984)"
        assert refusal(qmp, "block_resize", **{"node-name": "r0", "size": too_long}) == words
        qmp.execute("block_resize", {"node-name": "r0", "size": 1000})
        assert (image.stat().st_size, qmp.execute("query-block")[0]["inserted"]["image"]["virtual-size"]) == (1000, 1024)
        qmp.execute("block_resize", {"node-name": "r0", "size": 2 << 20})
        assert qmp.execute("query-block")[0]["inserted"]["image"]["virtual-size"] == image.stat().st_size == 2 << 20
        qmp.execute("block-set-write-threshold", {"node-name": "r0", "write-threshold": 5})
        assert qmp.execute("query-named-block-nodes")[0]["write_threshold"] == 5
        qmp.execute("block-set-write-threshold", {"node-name": "r0", "write-threshold": (1 << 64) - 2})
        assert qmp.execute("query-named-block-nodes")[0]["write_threshold"] == -2, "an int64 in the schema"
        assert refusal(qmp, "block-set-write-threshold", **{"node-name": "zz", "write-threshold": 5}) == "Device 'zz' not found"
        qmp.execute("blockdev-add", {"driver": "file", "filename": str(image), "node-name": "late", "read-only": True})
        qmp.execute("blockdev-del", {"node-name": "late"})
        assert refusal(qmp, "device_add", driver="virtio-blk-device", id="d1", drive="r0", bus="vm0.0") == (
            "Bus 'vm0.0' does not support hotplugging"
        )


def test_two_daemons_want_one_image(daemon: DaemonProcess, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))

    def assemble(qmp: Client) -> None:
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("device_add", driver="virtio-mmio", id="vm0")
        qmp.execute("blockdev-add", {"driver": "file", "filename": str(image), "node-name": "n0"})
        qmp.execute("device_add", driver="virtio-blk-device", id="d0", drive="n0")

    with DaemonProcess(str(tmp_path / "other")) as other, daemon.client() as first, other.client() as second:
        assemble(first)
        assemble(second)
        first.execute("x-exit-preconfig")
        assert refusal(second, "x-exit-preconfig") == '/machine/peripheral/d0: Failed to get "write" lock'
        first.execute("quit")
        daemon.process.wait(60)
        second.execute("x-exit-preconfig")

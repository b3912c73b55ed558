"""Network backends over QMP: made and removed at any phase, their events, their refusals in QEMU's words."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from daemon_kit import Raw

from ratite.clients.qmp import DaemonProcess


def ask(qmp: Raw, command: str, fds: tuple[int, ...] = (), /, **arguments: object) -> dict[str, object]:
    answer = qmp.ask({"execute": command, "arguments": arguments}, fds)
    assert isinstance(answer, dict)
    return answer


def test_netdevs_over_qmp(daemon: DaemonProcess, path: str, tmp_path: Path) -> None:
    wire = str(tmp_path / "wire")
    addr = {"type": "unix", "path": wire}
    with Raw(path) as qmp:
        ask(qmp, "machine-create")
        assert ask(qmp, "netdev_add", type="stream", id="n0", addr=addr, server=True) == {"return": {}}
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(wire)
            event = qmp.line()
            assert (event["event"], event["data"]) == ("NETDEV_STREAM_CONNECTED", {"netdev-id": "n0", "addr": addr})
        event = qmp.line()
        assert (event["event"], event["data"]) == ("NETDEV_STREAM_DISCONNECTED", {"netdev-id": "n0"})

        def desc(command: str, /, **arguments: object) -> object:
            error = ask(qmp, command, **arguments)["error"]
            assert isinstance(error, dict)
            return error["desc"]

        assert desc("netdev_add", type="stream", id="n0", addr=addr) == "Duplicate ID 'n0'"
        assert desc("netdev_add", type="hubport", id="n1") == "Parameter 'type' does not accept value 'hubport'"
        assert desc("netdev_add", type="tap", id="n1", fd="3") == "File descriptor named '3' has not been found"
        assert desc("netdev_add", type="stream", id="n1") == "Parameter 'addr' is missing"
        assert desc("netdev_add", type="socket", id="1") == "Parameter 'id' expects an identifier"
        assert desc("netdev_add", type="socket", id="n1", fd="3") == "File descriptor named '3' has not been found"
        assert desc("netdev_del", id="n1") == "Device 'n1' not found"
        ask(qmp, "device_add", driver="virtio-net-device", id="d0", netdev="n0")
        assert str(desc("netdev_del", id="n0")).startswith("Netdev 'n0' is in use")
        near, far = socket.socketpair()
        assert ask(qmp, "getfd", (near.fileno(),), fdname="near") == {"return": {}}
        near.close()
        assert ask(qmp, "netdev_add", type="stream", id="n2", addr={"type": "fd", "str": "near"}) == {"return": {}}
        assert ask(qmp, "netdev_del", id="n2") == {"return": {}}
        far.settimeout(60)
        assert far.recv(1) == b"", "the descriptor went with it"
        far.close()
        assert ask(qmp, "object-add", **{"qom-type": "address-space", "id": "mem"}) == {"return": {}}
        assert ask(qmp, "device_add", driver="virtio-mmio", id="vm0") == {"return": {}}
        assert ask(qmp, "map-region", space="mem", region="vm0", offset=0x1000) == {"return": {}}
        assert ask(qmp, "x-exit-preconfig") == {"return": {}}
        for name in ("d0", "n0"):
            for up in (False, True):
                assert ask(qmp, "set_link", name=name, up=up) == {"return": {}}
        assert desc("set_link", name="zz", up=True) == "Device 'zz' not found"
        assert desc("query-rx-filter", name="zz") == "invalid net client name: zz"
        assert desc("query-rx-filter", name="n0") == "net client(n0) isn't a NIC"
        (row,) = ask(qmp, "query-rx-filter")["return"]
        assert (row["name"], row["promiscuous"], len(row["vlan-table"])) == ("d0", True, 4096)
        assert ask(qmp, "query-rx-filter", name="d0")["return"] == [row]


def test_a_device_and_its_netdev_go(daemon: DaemonProcess, path: str, tmp_path: Path) -> None:
    wire = str(tmp_path / "wire")
    with Raw(path) as qmp:
        ask(qmp, "machine-create")
        ask(qmp, "netdev_add", type="stream", id="n0", addr={"type": "unix", "path": wire}, server=True)
        ask(qmp, "device_add", driver="virtio-net-device", id="d0", netdev="n0")
        assert json.dumps(ask(qmp, "device_del", id="d0")) == '{"return": {}}'
        assert ask(qmp, "netdev_del", id="n0") == {"return": {}}
        assert not Path(wire).exists()

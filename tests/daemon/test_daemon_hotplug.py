"""Hot plug over QMP as a tool does it that knows QEMU: JSON types, refusals, no id, clients that race or die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess

PORTS = 3


def assemble(qmp: Client) -> None:
    """A machine without CPUs whose bus has ports rp0, rp1, …, their slots without power."""
    qmp.execute("machine-create")
    qmp.execute("object-add", {"qom-type": "address-space", "id": "view"})
    qmp.execute("device_add", {"driver": "gpex-pcihost", "id": "pci0", "address-space": "view"})
    qmp.execute("device_add", driver="virtio-mmio", id="vm0")
    qmp.execute("map-region", space="view", region="pci0/ecam", offset=0x30000000)
    for n in range(PORTS):
        qmp.execute("device_add", driver="pcie-root-port", id=f"rp{n}", chassis=1, slot=n, bus="pcie.0", addr=str(n + 1))
    qmp.execute("x-exit-preconfig")


@pytest.fixture
def qmp(daemon: DaemonProcess) -> Iterator[Client]:
    """A monitor that takes the daemon for QEMU."""
    with daemon.client() as client:
        assemble(client)
        client.execute("view-select", personality="qemu")
        yield client


def refused(qmp: Client, command: str, arguments: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.error_class, caught.value.desc


def deleted(qmp: Client) -> dict[str, Any]:
    data: dict[str, Any] = qmp.wait_event("DEVICE_DELETED")["data"]
    return data


def listed(qmp: Client, path: str) -> list[str]:
    return [row["name"] for row in qmp.execute("qom-list", path=path) if row["type"].startswith("child<")]


def test_without_an_id(qmp: Client) -> None:
    place = "/machine/peripheral-anon"
    assert listed(qmp, place) == []
    for n in range(2):
        qmp.execute("device_add", driver="virtio-rng-pci", bus=f"rp{n}")
    assert listed(qmp, place) == ["device[0]", "device[1]"]
    assert set(listed(qmp, "/machine")) >= {"peripheral", "peripheral-anon"}
    qmp.execute("device_del", id=f"{place}/device[0]")
    assert deleted(qmp) == {"path": f"{place}/device[0]"}
    assert refused(qmp, "device_del", {"id": f"{place}/device[0]"}) == (
        "DeviceNotFound", f"Device '{place}/device[0]' not found"
    )  # fmt: skip
    assert refused(qmp, "device_del", {"id": "/machine"}) == ("GenericError", "/machine is not a device")


def test_refusals(qmp: Client) -> None:
    """As QEMU 10.0 words them, in its order: type, bus, id, properties, place."""
    qmp.execute("device_add", driver="virtio-rng-pci", id="taken", bus="rp1")
    for arguments, text in (
        ({}, "Parameter 'driver' is missing"),
        ({"driver": "nope"}, "'nope' is not a valid device model name"),
        ({"driver": "virtio-pci"}, "Parameter 'driver' expects a non-abstract device type"),
        ({"driver": "rng-builtin"}, "'rng-builtin' is not a valid device model name"),
        ({"driver": "virtio-rng-pci"}, "Bus 'pcie.0' does not support hotplugging"),
        ({"driver": "virtio-rng-device"}, "Bus 'vm0.0' does not support hotplugging"),
        ({"driver": "virtio-rng-pci", "bus": "nope"}, "Bus 'nope' not found"),
        ({"driver": "virtio-rng-pci", "bus": "vm0.0"}, "Device 'virtio-rng-pci' can't go on virtio-bus bus"),
        ({"driver": "virtconsole"}, "No 'virtio-serial-bus' bus found for device 'virtconsole'"),
        ({"driver": "virtio-rng-pci", "bus": "rp0", "id": "taken", "bogus": 1}, "Duplicate device ID 'taken'"),
        ({"driver": "virtio-rng-pci", "bus": "rp0", "bogus": 1}, "Property 'virtio-rng-pci.bogus' not found"),
        ({"driver": "virtio-net-pci", "bus": "rp0", "tx_queue_size": "256"}, "Parameter 'tx_queue_size' expects uint64"),
        ({"driver": "virtio-net-pci", "bus": "rp0", "tx_queue_size": 1 << 16}, "Parameter 'tx_queue_size' expects uint16_t"),
        ({"driver": "virtio-rng-pci", "bus": "rp0", "multifunction": "on"},
         "Invalid parameter type for 'multifunction', expected: boolean"),
        ({"driver": "virtio-rng-pci", "bus": "rp1"},
         "PCI: slot 0 function 0 already occupied by virtio-rng-pci, new func virtio-rng-pci cannot be exposed to guest."),
        ({"driver": "virtio-blk-pci", "bus": "rp0"}, "drive property not set"),
        ({"driver": "virtio-blk-pci", "bus": "rp0", "drive": "nope"},
         "Property 'virtio-blk-device.drive' can't find value 'nope'"),
        ({"driver": "virtio-net-pci", "bus": "rp0", "netdev": "nope"},
         "Property 'virtio-net-device.netdev' can't find value 'nope'"),
        ({"driver": "virtio-net-pci", "bus": "rp0", "mac": "no"}, "Property 'virtio-net-device.mac' doesn't take value 'no'"),
    ):  # fmt: skip
        assert refused(qmp, "device_add", {"id": "x", **arguments}) == ("GenericError", text)
    assert listed(qmp, "/machine/peripheral-anon") == []


def test_json_types_again_and_again(qmp: Client) -> None:
    """What json-cli-hotplug promises: numbers and booleans as such, the same device plugged again."""
    for _ in range(3):
        given = {"driver": "virtio-net-pci", "id": "r", "bus": "rp0", "addr": 0, "tx_queue_size": 64, "multifunction": False}
        qmp.execute("device_add", given)
        assert qmp.execute("qom-get", path="/machine/peripheral/r", property="tx_queue_size") == 64
        qmp.execute("device_del", id="r")
        assert deleted(qmp) == {"device": "r", "path": "/machine/peripheral/r"}


def test_the_device_behind_a_transport_has_a_path(qmp: Client) -> None:
    qmp.execute("device_add", {"driver": "virtio-net-pci", "id": "n", "bus": "rp0", "tx_queue_size": 64})
    path = "/machine/peripheral/n/virtio-backend"
    assert qmp.execute("qom-get", path=path, property="tx_queue_size") == 64
    assert refused(qmp, "device_del", {"id": path}) == ("GenericError", "Bus 'virtio-bus' does not support hotplugging")
    assert refused(qmp, "qom-list", {"path": f"{path}/nope"})[0] == "DeviceNotFound"
    qmp.execute("device_del", id="/machine/peripheral/n/")
    assert deleted(qmp)["device"] == "n"


def test_what_is_plugged_into_a_device_goes_with_it(qmp: Client) -> None:
    qmp.execute("device_add", driver="virtio-serial-pci", id="s", bus="rp0")
    for name in ("one", "two"):
        qmp.execute("chardev-add", id=name, backend={"type": "null", "data": {}})
        qmp.execute("device_add", driver="virtserialport", id=name, chardev=name)
    qmp.execute("device_del", id="s")
    assert [deleted(qmp)["device"] for _ in range(3)] == ["one", "two", "s"]
    assert not {"one", "two", "s"} & set(listed(qmp, "/machine/peripheral"))
    for name in ("one", "two"):
        qmp.execute("chardev-remove", id=name)


def test_backends_in_use(qmp: Client, tmp_path: Any) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "n0", "filename": str(image)})
    qmp.execute("netdev_add", type="socket", id="net0", listen="127.0.0.1:0")
    qmp.execute("chardev-add", id="c0", backend={"type": "null", "data": {}})
    qmp.execute("device_add", driver="virtio-blk-pci", id="b", bus="rp0", drive="n0")
    qmp.execute("device_add", driver="virtio-net-pci", id="n", bus="rp1", netdev="net0")
    qmp.execute("device_add", driver="virtio-serial-pci", id="s", bus="rp2")
    qmp.execute("device_add", driver="virtconsole", id="con", chardev="c0")
    for command, arguments, text in (
        ("blockdev-del", {"node-name": "n0"}, "Node n0 is in use"),
        ("chardev-remove", {"id": "c0"}, "Chardev 'c0' is busy"),
        ("netdev_add", {"type": "socket", "id": "net0", "listen": "127.0.0.1:0"}, "Duplicate ID 'net0'"),
        ("chardev-add", {"id": "c0", "backend": {"type": "null", "data": {}}}, "Chardev with id 'c0' already exists"),
        ("blockdev-add", {"driver": "file", "node-name": "n0", "filename": str(image)}, "Duplicate nodes with node-name='n0'"),
        ("device_add", {"driver": "virtconsole", "id": "two", "chardev": "c0"},
         "Property 'virtconsole.chardev' can't take value 'c0': chardev 'c0' is already in use"),
    ):  # fmt: skip
        assert refused(qmp, command, arguments)[1] == text
    assert refused(qmp, "netdev_del", {"id": "net0"})[1].startswith("Netdev 'net0' is in use")
    for name in ("con", "s", "n", "b"):
        qmp.execute("device_del", id=name)
        assert deleted(qmp)["device"] == name
    qmp.execute("device_add", driver="virtio-net-pci", id="n", bus="rp1", netdev="net0")
    assert refused(qmp, "device_add", {"driver": "virtio-net-pci", "id": "m", "bus": "rp0", "netdev": "net0"})[1] == (
        "Property 'virtio-net-device.netdev' can't take value 'net0', it's in use"
    )
    qmp.execute("device_del", id="n")
    for command, arguments in (
        ("blockdev-del", {"node-name": "n0"}), ("chardev-remove", {"id": "c0"}), ("netdev_del", {"id": "net0"}),
    ):  # fmt: skip
        qmp.execute(command, arguments)


def test_two_clients_race_for_one_id(qmp: Client, daemon: DaemonProcess) -> None:
    """What each was told adds up to what is there, and everybody hears of every end."""
    allowed = {"Duplicate device ID 'x'", "Device 'x' not found"}
    told: list[list[tuple[str, str]]] = [[], []]

    def racer(mine: list[tuple[str, str]], port: int) -> None:
        with daemon.client() as client:
            for _ in range(60):
                for command, arguments in (
                    ("device_add", {"driver": "virtio-rng-pci", "id": "x", "bus": f"rp{port}"}), ("device_del", {"id": "x"}),
                ):  # fmt: skip
                    try:
                        client.execute(command, arguments)
                        mine.append((command, ""))
                    except CommandError as error:
                        mine.append((command, error.desc))

    threads = [threading.Thread(target=racer, args=(mine, n)) for n, mine in enumerate(told)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = told[0] + told[1]
    assert {text for _, text in every if text} <= allowed
    assert len(every) == 240
    added, removed = (sum(row == (name, "") for row in every) for name in ("device_add", "device_del"))
    left = listed(qmp, "/machine/peripheral").count("x")
    assert (added - removed, added > 0) == (left, True)
    if left:
        qmp.execute("device_del", id="x")
    for _ in range(added):
        assert deleted(qmp)["device"] == "x"
    qmp.execute("device_add", driver="virtio-rng-pci", id="x", bus="rp0")


VICTIM = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
send = lambda name, **given: sock.sendall(json.dumps({"execute": name, "arguments": given}).encode())
send("qmp_capabilities")
while True:
    send("device_add", driver="virtio-rng-pci", id="x", bus="rp0")
    send("device_del", id="x")
    sock.recv(65536)
"""


@pytest.mark.parametrize("after", [1, 2, 7])
def test_a_client_is_killed_between_plug_and_unplug(qmp: Client, daemon: DaemonProcess, after: int) -> None:
    """The device is there or it isn't; the port, the id and the other monitors are as ever."""
    with subprocess.Popen([sys.executable, "-c", VICTIM, daemon.address.removeprefix("unix:")]) as victim:
        for _ in range(after):
            deleted(qmp)
        os.kill(victim.pid, signal.SIGKILL)
    # Everything that it sent whole before is done or dropped once its monitor is closed.
    while True:
        try:
            qmp.execute("device_add", driver="virtio-rng-pci", id="mine", bus="rp0")
            break
        except CommandError as error:
            assert "already occupied" in error.desc
            try:
                qmp.execute("device_del", id="x")
            except CommandError as gone:
                assert gone.desc == "Device 'x' not found"
    assert refused(qmp, "device_del", {"id": "x"}) == ("DeviceNotFound", "Device 'x' not found")
    assert [name for name in listed(qmp, "/machine/peripheral") if name in ("x", "mine")] == ["mine"]
    qmp.execute("device_del", id="mine")
    while deleted(qmp)["device"] != "mine":
        pass


def test_half_a_command_plugs_nothing(qmp: Client, daemon: DaemonProcess) -> None:
    line = json.dumps({"execute": "device_add", "arguments": {"driver": "virtio-rng-pci", "id": "x", "bus": "rp0"}}).encode()
    for size in (1, 40, len(line) - 1):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(daemon.address.removeprefix("unix:"))
            sock.sendall(b'{"execute": "qmp_capabilities"}' + line[:size])
            assert sock.recv(65536)
    assert "x" not in listed(qmp, "/machine/peripheral")

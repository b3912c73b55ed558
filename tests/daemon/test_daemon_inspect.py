"""What a front end draws and shows: topology, memory map, memory, registers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.clients.machines import demo
from ratite.clients.qmp import Client, CommandError, DaemonProcess

ELF = Path(__file__).parents[1] / "guests" / "elf"


@pytest.fixture(scope="module")
def qmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The demo machine, realized, not started."""
    place = tmp_path_factory.mktemp("inspect")
    shared = place / "shared"
    shared.write_bytes(bytes(1 << 20))
    with DaemonProcess(place / "qmp", "-S") as daemon, daemon.client() as client:
        for command, arguments in demo(ELF / "demo-rv.rv64.elf", ELF / "demo-mb.mb.elf", shared, "con", accel="interp"):
            if command == "device_add" and arguments["driver"] == "ns16550":
                client.execute("chardev-add", {"id": "con", "backend": {"type": "null", "data": {}}})
            client.execute(command, arguments)
        client.execute("device_add", driver="gpex-pcihost", id="pci", address_space="rv-view")
        for window, at in ("ecam", 0x30000000), ("mmio", 0x40000000):
            client.execute("map-region", space="rv-view", region=f"pci/{window}", offset=at)
        client.execute("device_add", driver="pcie-root-port", id="rp0", chassis=1)
        client.execute("x-exit-preconfig")
        yield client


def test_topology_has_every_object_its_kind_and_its_links(qmp: Client) -> None:
    found = qmp.execute("query-topology")
    objects = {row["path"]: row for row in found["objects"]}
    assert [row["path"] for row in found["objects"]] == sorted(objects)
    assert objects["/objects/rv-cluster"] == {
        "path": "/objects/rv-cluster", "type": "cpu-cluster", "kind": "cluster", "target": "riscv64", "accelerator": "interp",
        "links": [{"property": "address-space", "to": "/objects/rv-view"}],
    }  # fmt: skip
    kinds = {path: row["kind"] for path, row in objects.items()}
    assert kinds["/machine/peripheral/mb0"] == "cpu"
    assert kinds["/objects/mb-view"] == "address-space"
    assert kinds["/machine/peripheral/mbox"] == "device"
    assert kinds["/chardevs/con"] == "chardev"
    assert objects["/objects/shared"]["kind"] == "memory"
    assert objects["/objects/shared"]["size"] == 1 << 20
    assert {"property": "chardev", "to": "/chardevs/con"} in objects["/machine/peripheral/uart0"]["links"]
    wiring = qmp.execute("query-wiring")
    assert {"wires": found["wires"], "maps": found["maps"]} == wiring
    assert len(found["wires"]) == 3


def test_topology_shows_buses_as_parts_and_what_is_on_them(qmp: Client) -> None:
    objects = {row["path"]: row for row in qmp.execute("query-topology")["objects"]}
    port = objects["/machine/peripheral/rp0"]
    (bus,) = [link["to"] for link in port["links"] if link["property"] == "bus"]
    assert objects[bus]["kind"] == "bus"
    assert objects[bus]["part-of"] == "/machine/peripheral/pci"


def test_topology_of_a_machine_that_is_not_wired(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        cluster = {"qom-type": "cpu-cluster", "id": "c", "target": "riscv64", "address-space": "later"}
        qmp.execute("object-add", cluster)
        qmp.execute("map-region", space="later", region="nothing", offset=0x1000)
        found = qmp.execute("query-topology")
        (row,) = found["objects"]
        assert row["links"] == [{"property": "address-space", "to": "later"}]
        assert "accelerator" not in row
        assert found["maps"] == [{"space": "later", "region": "nothing", "offset": 0x1000, "priority": 0}]
        assert qmp.execute("query-memory-map") == []
        qmp.execute("object-add", {"qom-type": "address-space", "id": "later"})
        (row, _space) = qmp.execute("query-topology")["objects"]
        assert row["links"] == [{"property": "address-space", "to": "/objects/later"}], "it is there now, though not wired"


def test_memory_map_names_the_owner_of_each_range(qmp: Client) -> None:
    maps = {row["space"]: row["ranges"] for row in qmp.execute("query-memory-map")}
    assert sorted(maps) == ["/objects/mb-view", "/objects/rv-view"]
    rv = {row["first"]: row for row in maps["/objects/rv-view"]}
    assert rv[0x80000000]["last"] == 0x80FFFFFF
    assert (rv[0x80000000]["kind"], rv[0x80000000]["owner"]) == ("ram", "/objects/rv-ram")
    assert (rv[0x10010000]["kind"], rv[0x10010000]["owner"]) == ("device", "/machine/peripheral/mbox")
    assert [row["space"] for row in qmp.execute("query-memory-map", space="rv-view")] == ["/objects/rv-view"]
    with pytest.raises(CommandError, match="not found"):
        qmp.execute("query-memory-map", space="nowhere")


def test_memory_is_read_and_devices_and_holes_are_left_out(qmp: Client) -> None:
    (piece,) = qmp.execute("query-memory", address=0x80000000, size=16, space="rv-view")
    assert piece["address"] == 0x80000000
    data = base64.b64decode(piece["data"])
    assert len(data) == 16
    assert any(data), "the program stands there"
    # from a hole below into RAM, by another space
    pieces = qmp.execute("query-memory", address=0x8FFFFFF0, size=32, space="mb-view")
    assert [(row["address"], len(base64.b64decode(row["data"]))) for row in pieces] == [(0x90000000, 16)]
    assert qmp.execute("query-memory", address=0x10000000, size=8) == [], "a UART: reading it would take a byte"
    assert qmp.execute("query-memory", address=(1 << 64) - 8, size=64) == []
    (first,) = qmp.execute("query-memory", address=0, size=4)
    assert first["address"] == 0, "the first CPU by path is the MicroBlaze, with RAM at 0"
    with pytest.raises(CommandError, match="must be at most 65536, not 65537"):
        qmp.execute("query-memory", address=0, size=65537)


def test_memory_is_written_whole_or_not_at_all(qmp: Client) -> None:
    def write(address: int, data: bytes, space: str = "mb-view") -> None:
        qmp.execute("memory-write", address=address, data=base64.b64encode(data).decode(), space=space)

    def read(address: int, size: int, space: str = "mb-view") -> bytes:
        (piece,) = qmp.execute("query-memory", address=address, size=size, space=space)
        return base64.b64decode(piece["data"])

    write(0x90000100, b"seen by both")
    assert read(0x90000100, 12, "rv-view") == b"seen by both", "RAM that two address spaces share"
    before = read(0x900FFFF0, 16)
    with pytest.raises(CommandError, match="there is no memory at 0x90100000; nothing was written"):
        write(0x900FFFF0, bytes(range(32)))
    assert read(0x900FFFF0, 16) == before
    with pytest.raises(CommandError, match="there is a device at 0x10000000"):
        write(0x10000000, b"x")
    with pytest.raises(CommandError, match="there is no memory at 0xffffffffffffffff"):
        write((1 << 64) - 1, b"xx")
    with pytest.raises(CommandError, match="must be base64"):
        qmp.execute("memory-write", address=0x90000100, data="é")
    with pytest.raises(CommandError, match="at most 65536 bytes, not 65537"):
        write(0x90000000, bytes(65537))
    write(0x90000100, b"")


def test_registers_of_both_architectures(qmp: Client) -> None:
    rv = qmp.execute("query-registers", cpu="rv0")
    assert rv[0] == {"name": "pc", "group": "pc", "bits": 64, "value": f"{0x80000000:016x}"}
    assert {row["name"] for row in rv} >= {"sp", "a0"} or {row["name"] for row in rv} >= {"x1", "x31"}
    mb = qmp.execute("query-registers", cpu="/machine/peripheral/mb0")
    assert (mb[0]["name"], mb[0]["bits"], len(mb[0]["value"])) == ("pc", 32, 8)
    assert {f"r{number}" for number in range(32)} <= {row["name"] for row in mb}
    with pytest.raises(CommandError, match="is no CPU"):
        qmp.execute("query-registers", cpu="uart0")
    with pytest.raises(CommandError, match="not found"):
        qmp.execute("query-registers", cpu="nobody")

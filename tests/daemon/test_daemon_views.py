"""Views over the socket: none, one target, several, pinned, unconditional, QEMU's; tables that change under busy monitors."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess

MODELS = "query-cpu-definitions"


def names(qmp: Client) -> frozenset[str]:
    return frozenset(row["name"] for row in qmp.execute("query-commands"))


def in_schema(qmp: Client, command: str = "") -> Any:
    """The names of the commands in the schema; of one, those of its arguments."""
    rows = {row["name"]: row for row in qmp.execute("query-qmp-schema")}
    if command:
        return {row["name"] for row in rows[rows[command]["arg-type"]]["members"]}
    return frozenset(name for name, row in rows.items() if row["meta-type"] == "command")


def cluster(qmp: Client, target: str, command: str = "object-add") -> None:
    arguments = {"id": f"cl-{target}"}
    if command == "object-add":
        arguments |= {"qom-type": "cpu-cluster", "target": target, "address-space": "space"}
    qmp.execute(command, arguments)


def refused(qmp: Client, command: str, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return f"{caught.value.error_class}: {caught.value.desc}"


def test_each_view_has_its_commands(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp, daemon.client() as pinned:
        assert refused(qmp, MODELS) == f"CommandNotFound: The command {MODELS} has not been found"
        nothing = names(qmp)
        assert nothing == in_schema(qmp)
        pinned.execute("view-select", target="microblaze")
        assert [event["data"]["targets"] for event in pinned.drain()] == [["microblaze"]]
        qmp.execute("machine-create")
        cluster(qmp, "microblaze")
        assert names(qmp) == nothing
        cluster(qmp, "riscv64")
        assert names(qmp) - nothing == {MODELS, "query-cpu-model-expansion"}
        assert names(qmp) == in_schema(qmp) and in_schema(qmp, MODELS) == {"target"}
        # The primary target, the first cluster's, hasn't got the command.
        assert refused(qmp, MODELS) == f"GenericError: Target 'microblaze' has no {MODELS}; riscv64 do"
        for wrong in ("riscv32", ""):
            assert refused(qmp, MODELS, target=wrong).endswith(f"(microblaze, riscv64), not '{wrong}'")
        of_riscv = {row["name"] for row in qmp.execute(MODELS, target="riscv64")}
        assert {"rv64", "max"} <= of_riscv
        # A monitor that is pinned to one of the targets.
        assert names(pinned) == nothing and pinned.drain() == []
        assert refused(pinned, MODELS).startswith("CommandNotFound")
        pinned.execute("view-select", target="riscv64")
        assert {row["name"] for row in pinned.execute(MODELS)} == of_riscv
        assert refused(pinned, MODELS, target="riscv64") == "GenericError: Parameter 'target' is unexpected"
        assert pinned.execute("query-target") == {"arch": "riscv64"}
        types = {row["name"] for row in pinned.execute("qom-list-types", implements="cpu")}
        assert "rv64-riscv-cpu" in types and not types & {"microblaze-cpu", "rv32-riscv-cpu"}
        assert "DeviceNotFound" in refused(pinned, "qom-list-properties", typename="microblaze-cpu")
        # The primary target is what a monitor that isn't pinned means.
        qmp.execute("qom-set", path="/machine", property="primary-target", value="riscv64")
        assert {row["name"] for row in qmp.execute(MODELS)} == of_riscv


def test_the_unconditional_view(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("view-select", target="riscv64")
        everything = names(qmp)
        assert "UNCONDITIONAL" in qmp.execute("view-select", unconditional=True)["facts"]
        assert names(qmp) == in_schema(qmp) == everything
        assert refused(qmp, MODELS) == f"GenericError: The command '{MODELS}' is not supported on this target"
        qmp.execute("view-select", target="microblaze", unconditional=True)
        assert names(qmp) == everything
        assert refused(qmp, MODELS, zz=1) == f"GenericError: The command '{MODELS}' is not supported on this target"
        qmp.execute("view-select", target="riscv64", unconditional=True)
        assert qmp.execute(MODELS) and refused(qmp, MODELS, target="riscv64").endswith("is unexpected")
        # It follows the machine as others do.
        qmp.execute("view-select", unconditional=True)
        qmp.execute("machine-create")
        cluster(qmp, "riscv64")
        assert qmp.wait_event("VIEW_CHANGED")["data"]["targets"] == ["riscv64"]
        assert qmp.execute(MODELS) and names(qmp) == everything
        qmp.execute("view-select", personality="qemu", target="microblaze", unconditional=True)
        assert MODELS in names(qmp) and "view-select" not in names(qmp)


def test_types_with_qemus_manners(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("x-exit-preconfig")
        qmp.execute("view-select", personality="qemu", target="microblaze")
        assert qmp.execute("qom-list-types", implements="accel", abstract=True) == [
            {"name": "accel", "abstract": True, "parent": "object"}, {"name": "tcg-accel", "parent": "accel"},
        ]  # fmt: skip
        assert qmp.execute("qom-list-types", implements="tcg-accel") == [{"name": "tcg-accel", "parent": "accel"}]
        assert qmp.execute("qom-list-types", implements="nothing") == []
        assert qmp.execute("qom-list-properties", typename="tcg-accel") == [{"name": "type", "type": "string"}]
        assert "GenericError" in refused(qmp, "device-list-properties", typename="tcg-accel")
        assert [row["name"] for row in qmp.execute("qom-list-types", implements="cpu")] == ["microblaze-cpu"]
        assert refused(qmp, "device-list-properties", typename="rv64-riscv-cpu").startswith("DeviceNotFound")
        assert {"name": "container", "parent": "object"} in qmp.execute("qom-list-types")
    with daemon.client() as qmp:
        assert qmp.execute("qom-list-types", implements="accel") == []


def test_properties_with_qemus_manners(daemon: DaemonProcess) -> None:
    with daemon.client() as own, daemon.client() as qmp:
        own.execute("machine-create")
        own.execute("device_add", driver="ns16550", id="early")
        own.execute("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 4096})
        own.execute("object-add", {"qom-type": "address-space", "id": "space"})
        for name in "early", "late":
            own.execute("map-region", space="space", region=name, offset=4096 * len(name))
        qmp.execute("view-select", personality="qemu", target="riscv64")
        assert not qmp.execute("qom-get", path="/machine/peripheral/early", property="realized")
        own.execute("unmap-region", space="space", region="late", offset=4096 * 4)
        own.execute("x-exit-preconfig")
        own.execute("device_add", driver="ns16550", id="late")
        common = {"parent_bus": "link<bus>", "realized": "bool", "hotplugged": "bool", "hotpluggable": "bool"}
        for name, late in ("early", False), ("late", True):
            path = f"/machine/peripheral/{name}"
            rows = {row["name"]: row["type"] for row in qmp.execute("qom-list", path=path)}
            assert common.items() <= rows.items() and rows["chardev"] == "str"
            values = {name: qmp.execute("qom-get", path=path, property=name) for name in common}
            assert values == {"parent_bus": "", "realized": True, "hotplugged": late, "hotpluggable": True}
            assert refused(qmp, "qom-set", path=path, property="realized", value=False).endswith("is not writable")
            assert not common.keys() & {row["name"] for row in own.execute("qom-list", path=path)}
        of_type = {row["name"]: row["type"] for row in qmp.execute("qom-list-properties", typename="virtio-blk-device")}
        assert common.items() <= of_type.items() and of_type["drive"] == "str"
        # Other objects' properties are spelt otherwise.
        for command, arguments in ("qom-list", {"path": "ram"}), ("qom-list-properties", {"typename": "memory-backend-ram"}):
            shown = {row["name"]: row["type"] for row in qmp.execute(command, arguments)}
            assert shown["size"] == shown["host-nodes"] == "int" and shown["type"] == "string" and "realized" not in shown
        given = {row["name"]: row for row in qmp.execute("device-list-properties", typename="virtio-blk-device")}
        assert given["drive"]["type"] == "str" and not common.keys() & given.keys()
        model = {"name": "rv64", "props": {"zba": 5}}
        assert "'model.props.zba', expected: boolean" in refused(qmp, "query-cpu-model-expansion", type="full", model=model)


def test_tables_change_under_monitors_that_are_busy(daemon: DaemonProcess) -> None:
    """Whatever a monitor asks, it is answered from one view, whole: the one before or the one after."""
    known: set[frozenset[str]] = set()
    with daemon.client() as qmp:
        for choice in {}, {"target": "riscv64"}:
            qmp.execute("view-select", choice)
            known.add(names(qmp))
            assert in_schema(qmp) == names(qmp)
    faults: list[object] = []
    over = threading.Event()

    def ask() -> None:
        try:
            with daemon.client() as qmp:
                generation = 0
                while not over.is_set():
                    if names(qmp) not in known or in_schema(qmp) not in known:
                        faults.append("a mixture")
                    try:
                        qmp.execute(MODELS, target="riscv64")
                    except CommandError as error:
                        if "not been found" not in error.desc and "is unexpected" not in error.desc:
                            faults.append(error.desc)
                    for event in qmp.drain():
                        if event["event"] == "VIEW_CHANGED":
                            if event["data"]["generation"] != generation + 1:
                                faults.append(event)
                            generation += 1
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        for _ in range(10):
            for command in "object-add", "object-del":
                for target in "microblaze", "riscv64":
                    cluster(qmp, target, command)
                    assert names(qmp) in known
    over.set()
    for thread in threads:
        thread.join(30)
    assert faults == [] and not any(thread.is_alive() for thread in threads)


def test_machine_types_where_a_view_has_no_target(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("view-select", personality="qemu")["targets"] == []
        assert qmp.execute("query-machines") == []

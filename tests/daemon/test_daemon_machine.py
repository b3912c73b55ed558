"""A heterogeneous machine of toys, assembled and looked at over QMP.  Nothing here knows a real target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_kit import install_plugins

from ratite.clients.qmp import Client, CommandError, DaemonProcess


def assemble(qmp: Client, behaviour: str = "sleep") -> None:
    """Two clusters, each with its view and memory; a lever in both views."""
    qmp.execute("machine-create")
    for name, target, kind in (("a", "toy64", "toy64-cpu"), ("b", "toybe", "toybe-cpu")):
        # Links first, what they name later: any order does.
        qmp.execute("device_add", driver=kind, id=f"cpu-{name}", cluster=f"cluster-{name}", behaviour=behaviour)
        qmp.execute("map-region", space=f"space-{name}", region=f"ram-{name}", offset=0x1000)
        qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": f"cluster-{name}", "target": target,
                                   "accel": "toy", "address-space": f"space-{name}"})  # fmt: skip
        qmp.execute("object-add", {"qom-type": "address-space", "id": f"space-{name}"})
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": f"ram-{name}", "size": 0x1000})
        qmp.execute("map-region", space=f"space-{name}", region="lever", offset=0x8000)
    qmp.execute("wire-irq", {"from": "lever", "output": "irq", "to": "cpu-a", "input": "irq"})
    qmp.execute("device_add", driver="toy-lever", id="lever", speed=7)


def test_inventory(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        targets = {row["name"]: row for row in qmp.execute("query-targets")}
        assert targets["toybe"] == {
            "name": "toybe", "word-size": 32, "byte-order": "big", "cpu-types": ["toybe-cpu"], "usable": True,
            "default-cpu": "toybe-cpu", "present": False, "primary": False,
        }  # fmt: skip
        (lever,) = [row for row in qmp.execute("query-device-types", kind="device") if row["name"] == "toy-lever"]
        assert lever["inputs"] == [{"name": "in", "count": 1}]
        assert lever["regions"] == ["regs"]
        assert not lever["available"]
        assert "machine-create" in lever["reason"]
        properties = {row["name"]: row for row in qmp.execute("device-list-properties", typename="toy-lever")}
        assert properties["speed"] == {
            "name": "speed", "type": "uint8", "description": "how fast", "default-value": 3, "kind": "config",
            "maximum": 9, "unit": "Hz", "since": "0.1",
        }  # fmt: skip
        modules = {row["name"]: row for row in qmp.execute("query-modules")}
        assert modules["ratite_broken"]["state"] == "failed"
        assert "no such luck" in modules["ratite_broken"]["reason"]
        assert modules["ratite_toy.parts"]["distribution"] == "ratite-toy"
        assert not modules["ratite_toy.parts"]["built-in"]
        assert "toy" in [row["name"] for row in qmp.execute("query-accelerators")]


def test_assembled_in_any_order_and_started(toy: DaemonProcess) -> None:
    with toy.client() as qmp, toy.client() as other:
        assemble(qmp)
        assert [e["data"]["targets"] for e in qmp.events] == [["toy64"], ["toy64", "toybe"]]
        assert [e["data"]["generation"] for e in qmp.events] == [1, 2]
        assert "HETEROGENEOUS" in other.execute("query-view")["facts"]
        assert qmp.execute("query-target") == {"arch": "toy64"}
        assert qmp.execute("query-memory-size-summary") == {"base-memory": 0x2000}
        qmp.execute("x-exit-preconfig")
        other.wait_event("RESUME")
        cpus = qmp.execute("query-cpus-fast")
        assert [(cpu["cpu-index"], cpu["qom-path"], cpu["target"]) for cpu in cpus] == [
            (0, "/machine/peripheral/cpu-a", "toy64"),
            (1, "/machine/peripheral/cpu-b", "toybe"),
        ]
        assert all(Path(f"/proc/{toy.process.pid}/task/{cpu['thread-id']}").exists() for cpu in cpus)
        assert qmp.execute("qom-get", path="cpu-a", property="pc") == 0x1000
        assert qmp.execute("qom-get", path="/machine/peripheral/lever", property="speed") == 7
        with pytest.raises(CommandError, match="after it was realized"):
            qmp.execute("qom-set", path="lever", property="speed", value=1)
        listed = qmp.execute("qom-list-get", paths=["lever", "/objects/ram-a"])
        assert {"name": "speed", "type": "uint8", "value": 7} in listed[0]["properties"]
        qmp.execute("view-select", target="toybe")
        assert [cpu["target"] for cpu in qmp.execute("query-cpus-fast")] == ["toybe"]


def test_primary_target(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        with pytest.raises(CommandError, match="no-such"):
            qmp.execute("machine-create", primary_target="no-such")
        qmp.execute("machine-create", primary_target="toybe")
        assert qmp.execute("query-target") == {"arch": "toybe"}
        assert [row["name"] for row in qmp.execute("query-targets") if row["primary"]] == ["toybe"]
        for name, target in (("a", "toy64"), ("b", "toybe")):
            qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": name, "target": target, "address-space": "s"})
            assert qmp.execute("query-target") == {"arch": "toybe"}
        with pytest.raises(CommandError, match="no-such"):
            qmp.execute("qom-set", path="/machine", property="primary-target", value="no-such")
        assert qmp.execute("qom-get", path="/machine", property="primary-target") == "toybe"
        qmp.execute("qom-set", path="/machine", property="primary-target", value="riscv64")
        assert qmp.execute("query-target") == {"arch": "riscv64"}
        qmp.execute("qom-set", path="/machine", property="primary-target", value="")
        assert qmp.execute("query-target") == {"arch": "toy64"}
        qmp.execute("qom-set", path="/machine", property="primary-target", value="toybe")
        assert qmp.execute("view-select", personality="qemu")["targets"] == ["toybe"]


def test_numbers_of_cpus_stay(toy: DaemonProcess) -> None:
    def numbers() -> dict[str, int]:
        return {row["qom-path"].rpartition("/")[2]: row["cpu-index"] for row in qmp.execute("query-cpus-fast")}

    with toy.client() as qmp:
        assemble(qmp)
        qmp.execute("x-exit-preconfig")
        assert numbers() == {"cpu-a": 0, "cpu-b": 1}
        qmp.execute("device_add", {"driver": "toybe-cpu", "id": "aaa", "cluster": "cluster-b", "cpu-index": 1})
        assert numbers() == {"cpu-a": 0, "cpu-b": 1, "aaa": 2}
        qmp.execute("unwire-irq", to="cpu-a", input="irq")
        qmp.execute("device_del", id="cpu-a")
        assert numbers() == {"cpu-b": 1, "aaa": 2}
        assert qmp.hmp("info cpus").splitlines()[0].startswith("* CPU #1: ")
        assert qmp.hmp("info registers 0") == "CPU#0 not available\n"
        assert qmp.hmp("info registers").startswith("\nCPU#1\n")
        with pytest.raises(CommandError, match="Parameter 'cpu-index' expects a CPU number"):
            qmp.execute("memsave", val=0x1000, size=1, filename="/nonexistent/x", cpu_index=0)
        qmp.execute("device_del", id="aaa")
        qmp.execute("device_add", {"driver": "toy64-cpu", "id": "cpu-a", "cluster": "cluster-a"})
        assert numbers() == {"cpu-b": 1, "cpu-a": 2}


def test_wire_names_every_dangling_end(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="toy64-cpu", id="cpu0", cluster="nowhere")
        qmp.execute("wire-irq", {"from": "gone", "output": "irq", "to": "cpu0", "input": "irq"})
        qmp.execute("map-region", space="no-space", region="no-region", offset=0)
        for command in ("machine-wire", "x-exit-preconfig"):
            with pytest.raises(CommandError) as caught:
                qmp.execute(command)
            for name in ("nowhere", "gone", "no-space", "no-region"):
                assert name in caught.value.desc
            assert qmp.execute("query-machine-phase") == {"phase": "created"}


def test_a_mistyped_wire_or_map_is_taken_back(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        assemble(qmp)
        good = qmp.execute("query-wiring")
        lever, cpu = "/machine/peripheral/lever", "/machine/peripheral/cpu-a"
        assert good["wires"] == [{"from": lever, "output": "irq[0]", "to": cpu, "input": "irq[0]"}]
        assert {"space": "/objects/space-a", "region": "/objects/ram-a", "offset": 0x1000, "priority": 0} in good["maps"]
        qmp.execute("unwire-irq", to="cpu-a", input="irq")
        qmp.execute("wire-irq", {"from": "lever", "output": "irqq", "to": "cpu-a", "input": "irq"})
        qmp.execute("map-region", space="space-a", region="tpyo", offset=0)
        qmp.execute("map-region", space="spaec", region="lever", offset=1 << 63)
        with pytest.raises(CommandError, match="irqq"):
            qmp.execute("machine-wire")
        bad = qmp.execute("query-wiring")
        assert {"space": "spaec", "region": lever, "offset": 1 << 63, "priority": 0} in bad["maps"]
        for wire in bad["wires"]:
            qmp.execute("unwire-irq", to=wire["to"], input=wire["input"])
        for row in bad["maps"]:
            if row not in good["maps"]:
                qmp.execute("unmap-region", space=row["space"], region=row["region"], offset=row["offset"])
        with pytest.raises(CommandError, match="irq input 'irq' of 'cpu-a' is not wired"):
            qmp.execute("unwire-irq", to="cpu-a", input="irq")
        with pytest.raises(CommandError, match="'tpyo' is not mapped at 0x0 of 'space-a'"):
            qmp.execute("unmap-region", space="space-a", region="tpyo", offset=0)
        qmp.execute("wire-irq", {"from": "lever", "output": "irq", "to": "cpu-a", "input": "irq"})
        assert qmp.execute("query-wiring") == good
        qmp.execute("machine-wire")
        # In phase initialized they take effect at once.
        for row in good["maps"]:
            qmp.execute("unmap-region", space=row["space"], region=row["region"], offset=row["offset"])
            qmp.execute("map-region", **row)
        qmp.execute("unwire-irq", to="cpu-a", input="irq[0]")
        qmp.execute("wire-irq", {"from": "lever", "output": "irq", "to": "cpu-a", "input": "irq"})
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("query-wiring") == good


def test_hot_plugged_memory_goes_again(toy: DaemonProcess, tmp_path: Path) -> None:
    with toy.client() as qmp:
        assemble(qmp, "busy")
        qmp.execute("x-exit-preconfig")
        before = qmp.execute("query-wiring")
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 0x1000})
        qmp.execute("map-region", space="space-a", region="more", offset=0x10000)
        qmp.execute("pmemsave", val=0x10000, size=16, filename=str(tmp_path / "out"))
        with pytest.raises(CommandError, match="in use"):
            qmp.execute("object-del", id="more")
        qmp.execute("unmap-region", space="space-a", region="more", offset=0x10000)
        with pytest.raises(CommandError, match="Invalid addr"):
            qmp.execute("pmemsave", val=0x10000, size=16, filename=str(tmp_path / "out"))
        qmp.execute("object-del", id="more")
        assert qmp.execute("query-wiring") == before


def test_guest_memory(toy: DaemonProcess, tmp_path: Path) -> None:
    with toy.client() as qmp:
        assemble(qmp)
        out = tmp_path / "out"
        with pytest.raises(CommandError, match="permitted only after machine initialization"):
            qmp.execute("pmemsave", val=0x1000, size=16, filename=str(out))
        qmp.execute("x-exit-preconfig")
        qmp.execute("pmemsave", val=0x1000, size=16, filename=str(out))
        assert out.read_bytes() == bytes(16)
        qmp.execute("pmemsave", val=0x1000, size=0x1000, filename=str(out), space="space-b")
        assert out.stat().st_size == 0x1000
        qmp.execute("memsave", val=0x1ff0, size=16, filename=str(out), cpu_index=1)
        with pytest.raises(CommandError, match="Parameter 'cpu-index' expects a CPU number"):
            qmp.execute("memsave", val=0, size=1, filename=str(out), cpu_index=9)
        with pytest.raises(CommandError, match="Invalid addr 0x0000000000000ff0/size 32 specified"):
            qmp.execute("memsave", val=0xFF0, size=32, filename=str(out))
        with pytest.raises(CommandError, match="Could not open '/nonexistent/x': No such file"):
            qmp.execute("pmemsave", val=0x1000, size=1, filename="/nonexistent/x")


def test_device_trees_are_written(toy: DaemonProcess, tmp_path: Path) -> None:
    out = tmp_path / "dtb"
    with toy.client() as qmp:
        assemble(qmp)
        qmp.execute("x-exit-preconfig")
        with pytest.raises(CommandError, match="This machine doesn't have a FDT"):
            qmp.execute("dumpdtb", filename=str(out))
        for cpu, text in (("nobody", "Device 'nobody' not found"), ("/objects", "is no CPU")):
            with pytest.raises(CommandError, match=text):
                qmp.execute("dumpdtb", filename=str(out), cpu=cpu)
        assert not out.exists()
        qmp.execute("dumpdtb", filename=str(out), cpu="cpu-a")
        assert out.read_bytes()[:4] == b"\xd0\x0d\xfe\xed"
        with pytest.raises(CommandError, match="Error saving FDT to file /nonexistent/x: No such file"):
            qmp.execute("dumpdtb", filename="/nonexistent/x", cpu="cpu-a")


def test_guest_memory_goes_to_regular_files_only(toy: DaemonProcess, tmp_path: Path) -> None:
    fifo, out, kept = tmp_path / "fifo", tmp_path / "out", tmp_path / "kept"
    os.mkfifo(fifo)
    kept.write_text("as it was")
    with toy.client() as qmp:
        assemble(qmp)
        qmp.execute("x-exit-preconfig")
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        for place in (fifo, "/dev/null", tmp_path):
            with pytest.raises(CommandError, match=f"Could not open '{place}': it must be a regular file"):
                qmp.execute("pmemsave", val=0x1000, size=16, filename=str(place))
        os.close(reader)
        with pytest.raises(CommandError, match=f"Could not open '{fifo}': it must be a regular file"):
            qmp.execute("memsave", val=0x1000, size=16, filename=str(fifo))
        for size in (0x1001, 1 << 62):
            for file in (out, kept):
                with pytest.raises(CommandError, match=f"Invalid addr 0x0000000000001000/size {size} specified"):
                    qmp.execute("pmemsave", val=0x1000, size=size, filename=str(file))
        assert not out.exists()
        assert kept.read_text() == "as it was"
        qmp.execute("pmemsave", val=0x1000, size=4, filename=str(kept))
        assert kept.read_bytes() == bytes(4)


def test_no_name_of_the_host_holds_a_nul(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        assemble(qmp)
        file = {"type": "file", "data": {"out": "a\0b"}}
        unix = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "a\0b"}}}}
        for backend in (file, unix):
            with pytest.raises(CommandError, match=r"Parameter '(out|path)' must not contain a NUL character"):
                qmp.execute("chardev-add", id="c", backend=backend)
        with pytest.raises(CommandError, match="Parameter 'mem-path' must not contain a NUL character"):
            qmp.execute("object-add", {"qom-type": "memory-backend-file", "id": "m", "mem-path": "a\0b", "size": 4096})
        with pytest.raises(CommandError, match="Parameter 'image' must not contain a NUL character"):
            qmp.execute("qom-set", path="cpu-a", property="image", value="a\0b")
        qmp.execute("x-exit-preconfig")
        with pytest.raises(CommandError, match="Parameter 'filename' must not contain a NUL character"):
            qmp.execute("pmemsave", val=0x1000, size=16, filename="a\0b")


@pytest.mark.parametrize(
    "text, label",
    [
        ("stop now", "stop|s"), ("q nope", "quit|q"), ("c z", "cont|c"), ("system_reset 1", "system_reset"),
        ("info status extra", "status"), ("info uuid 1", "uuid"), ("info qom-tree / b", "qom-tree"),
        ("info mtree -f x", "mtree"),
        ("device_del a b", "device_del"), ("object_del a b", "object_del"), ("qom-list / b", "qom-list"),
        ("qom-get / a b", "qom-get"), ("xp/4xw 0 0", "xp"), ("p 1 2", "print|p"), ("info registers 1 2", "registers"),
    ],
)  # fmt: skip
def test_human_monitor_takes_nothing_surplus(hmp: Client, text: str, label: str) -> None:
    """As qemu-system-riscv64 7.2 prints it."""
    name, topic, *_ = text.replace("/4", " ").split()
    shown = f"info {topic}" if name == "info" else name
    want = f'{label}: extraneous characters at the end of line\nTry "help {shown}" for more information\n'
    assert hmp.hmp(text) == want
    assert hmp.execute("query-status") == {"running": True, "status": "running"}


@pytest.mark.parametrize(
    "text, want",
    [
        ("qom-get a", "qom-get: string expected"), ("device_del", "device_del: string expected"),
        ("info mtree -z", "mtree: unsupported option -z"), ("p", "unexpected end of expression"),
    ],
)  # fmt: skip
def test_human_monitor_says_what_is_missing(hmp: Client, text: str, want: str) -> None:
    """As qemu-system-riscv64 7.2 prints it."""
    assert hmp.hmp(text).splitlines()[0] == want


@pytest.fixture(scope="module")
def hmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A monitor of a machine of toys that runs."""
    place = tmp_path_factory.mktemp("hmp")
    with pytest.MonkeyPatch.context() as patch:
        install_plugins(place, patch)
        with DaemonProcess(place / "qmp") as daemon, daemon.client() as qmp:
            assemble(qmp)
            qmp.execute("x-exit-preconfig")
            yield qmp


@pytest.mark.parametrize("path", ["/", "/machine", "cpu-a", "/objects/ram-a", "lever"])
def test_human_monitor_lists_the_same_properties(hmp: Client, path: str) -> None:
    rows = hmp.execute("qom-list", path=path)
    assert hmp.hmp(f"qom-list {path}").splitlines() == [f"{row['name']} ({row['type']})" for row in rows]


def test_human_monitor(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        assemble(qmp)
        qmp.execute("x-exit-preconfig")
        assert qmp.hmp("info status") == "VM status: running\n"
        assert "/cpu-a (toy64-cpu)" in qmp.hmp("info qom-tree")
        tree = qmp.hmp("info qtree")
        assert '  dev: toy-lever, id "lever"\n' in tree
        assert "    speed = 7 (0x7)\n" in tree
        assert '    gpio-out "irq" 1\n' in tree
        mtree = qmp.hmp("info mtree")
        assert "address-space: space-a\n" in mtree
        assert "    0000000000001000-0000000000001fff (prio 0, ram): ram-a" in mtree
        assert "  0000000000008000-000000000000800f (prio 0, i/o)" in qmp.hmp("info mtree -f")
        assert qmp.hmp("xp /4xw 0x1000") == "0000000000001000: 0x00000000 0x00000000 0x00000000 0x00000000\n"
        assert qmp.hmp("x/2xg $pc") == "0000000000001000: 0x0000000000000000 0x0000000000000000\n"
        assert qmp.hmp("xp /12xb 4096").splitlines()[1] == "0000000000001008: 0x00 0x00 0x00 0x00"
        assert qmp.hmp("xp /2dh 0x1000") == "0000000000001000:      0      0\n"
        assert qmp.hmp("xp /2c 0x1000") == "0000000000001000: '\\x00' '\\x00'\n"
        assert qmp.hmp("xp /4xw 0") == "0000000000000000: Cannot access memory\n"
        assert ".word 00000000" in qmp.hmp("x /2i $pc")
        assert qmp.hmp("xp /2z 0").startswith("invalid char in format: 'z'\n")
        assert qmp.hmp("p $nope").startswith("unknown register")
        assert qmp.hmp("p $pc + 2*(3-1)") == "0x1004\n"
        registers = qmp.hmp("info registers -a")
        assert registers.startswith("\nCPU#0\n pc       0000000000001000\n x0       0000000000000000")
        assert "\nCPU#1\n pc       00001000\n x0       00000000 x1       00000abc" in registers
        assert "CPU#1" not in qmp.hmp("info registers")
        assert qmp.hmp("info registers 1").startswith("\nCPU#1\n")
        assert qmp.hmp("info cpus").startswith("* CPU #0: thread_id=")
        assert qmp.hmp("qom-set lever speed 1").startswith("Error: Attempt to set property 'speed'")
        qmp.hmp("stop")
        assert qmp.wait_event("STOP")
        qmp.hmp("device_add toy-lever,id=second,speed=0x4")
        assert qmp.hmp("qom-get second speed") == "4\n"
        qmp.hmp("device_del second")
        deleted = qmp.wait_event("DEVICE_DELETED")["data"]
        assert deleted == {"device": "second", "path": "/machine/peripheral/second"}
        for line in ("x", "xp /", "p", "p (", "p 1/0", "p 09", "info nope", "nope", "?", "help info", "device_add", "p '"):
            assert qmp.hmp(line)
        qmp.hmp("quit")
        assert qmp.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"


@pytest.mark.parametrize("behaviour", ["busy", "wedge"])
def test_sigterm_ends_it_in_time_whatever_the_cpus_do(
    toy: DaemonProcess, path: str, tmp_path: Path, behaviour: str
) -> None:
    toy.stop()
    pidfile = tmp_path / "pid"
    toy = DaemonProcess(path, "--pidfile", str(pidfile))
    with toy.client() as qmp:
        assemble(qmp, behaviour)
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("query-status")["running"]
        assert toy.stop() == 0
    assert not Path(path).exists()
    assert not pidfile.exists()


def test_panic(toy: DaemonProcess) -> None:
    with toy.client() as qmp, toy.client() as qemu:
        qemu.execute("view-select", personality="qemu")
        assemble(qmp, "panic")
        qmp.execute("x-exit-preconfig")
        panic = qmp.wait_event("GUEST_PANICKED")["data"]
        assert panic["action"] == "pause"
        assert panic["cpu"]["cause"] == "no trap handler"
        assert qemu.wait_event("GUEST_PANICKED")["data"] == {"action": "pause"}
        while qmp.execute("query-status")["status"] != "guest-panicked":
            pass
        assert qmp.hmp("info status") == "VM status: paused (guest-panicked)\n"
        assert qmp.execute("query-machine-phase") == {"phase": "paused"}


def test_allow_bounds_what_may_be_loaded(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)
    with DaemonProcess(path, "--allow", "target:no-such") as process, process.client() as qmp:
        rows = {row["name"]: row for row in qmp.execute("query-targets")}
        assert all(row["reason"] == "not allowed" for row in rows.values())
        with pytest.raises(CommandError, match=r"not allowed|not found"):
            qmp.execute("view-select", target="toy64")


def test_chardevs_need_no_machine_and_become_its(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        ring = {"type": "ringbuf", "data": {"size": 16}}
        qmp.execute("chardev-add", id="early", backend=ring)
        qmp.execute("ringbuf-write", device="early", data="before")
        with pytest.raises(CommandError, match="already exists"):
            qmp.execute("chardev-add", id="early", backend=ring)
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="ns16550", id="uart0", chardev="early")
        assert [row["label"] for row in qmp.execute("query-chardev")] == ["early"]
        assert qmp.execute("ringbuf-read", device="early", size=16) == "before"
        with pytest.raises(CommandError, match="busy"):
            qmp.execute("chardev-remove", id="early")

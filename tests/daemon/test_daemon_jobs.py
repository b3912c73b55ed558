"""Jobs: making images, moving disks, backups in transactions.  Statistics."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess


def refusal(qmp: Client, command: str, **arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.desc


def create(qmp: Client, job: str, path: Path | str, size: int, **more: str) -> list[str]:
    """The states that a job of making an image goes through."""
    options = {"driver": "file", "filename": str(path), "size": size, **more}
    qmp.execute("blockdev-create", {"job-id": job, "options": options})
    states = []
    while "concluded" not in states:
        data = qmp.wait_event("JOB_STATUS_CHANGE")["data"]
        assert data["id"] == job
        states.append(data["status"])
    return states


def test_images_are_made_by_jobs(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp:
        assert qmp.execute("query-jobs") == qmp.execute("query-block-jobs") == []
        qmp.execute("machine-create")
        done = ["created", "running", "waiting", "pending", "concluded"]
        assert create(qmp, "j1", tmp_path / "a", 1000) == done
        assert (tmp_path / "a").stat().st_size == 1000
        assert create(qmp, "j2", tmp_path / "b", 3 << 20, preallocation="full") == done
        assert (tmp_path / "b").read_bytes() == bytes(3 << 20)
        assert create(qmp, "j3", tmp_path / "c", 1 << 20, preallocation="falloc") == done
        assert os.stat(tmp_path / "c").st_blocks * 512 >= 1 << 20
        assert create(qmp, "j4", "/nonexistent/d", 1 << 20) == ["created", "running", "aborting", "concluded"]
        assert qmp.execute("query-jobs")[0] == {
            "id": "j4", "type": "create", "status": "concluded", "current-progress": 1, "total-progress": 1,
            "error": "Could not create '/nonexistent/d': No such file or directory",
        }  # fmt: skip
        assert qmp.execute("query-jobs")[2]["current-progress"] == qmp.execute("query-jobs")[2]["total-progress"] == 3 << 20
        file = {"driver": "file", "filename": str(tmp_path / "e"), "size": 512}
        for id, options, words in (
            ("j1", file, "Job ID 'j1' already in use"),
            ("1j", file, "Invalid job ID '1j'"),
            ("k", {"driver": "raw"}, "Driver does not support blockdev-create"),
            ("k", {**file, "filename": "a\0b"}, "Parameter 'filename' must not contain a NUL character"),
        ):
            assert refusal(qmp, "blockdev-create", **{"job-id": id, "options": options}) == words
        for verb in ("cancel", "complete", "finalize"):
            words = f"Job 'j1' in state 'concluded' cannot accept command verb '{verb}'"
            assert refusal(qmp, f"job-{verb}", id="j1") == words
            assert refusal(qmp, f"job-{verb}", id="zz") == "Job not found"
        qmp.execute("job-dismiss", id="j1")
        assert qmp.wait_event("JOB_STATUS_CHANGE")["data"] == {"id": "j1", "status": "null"}
        assert refusal(qmp, "job-dismiss", id="j1") == "Job not found"
        assert [job["id"] for job in qmp.execute("query-jobs")] == ["j4", "j3", "j2"]


@pytest.mark.skipif(sys.platform != "linux", reason="locks of files are Linux's")
def test_an_image_in_use_is_not_made_again(daemon: DaemonProcess, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(b"precious" * 64)
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("blockdev-add", {"driver": "file", "filename": str(image), "node-name": "n"})
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("device_add", driver="virtio-mmio", id="bus")
        qmp.execute("device_add", driver="virtio-blk-device", id="d", drive="n")
        qmp.execute("x-exit-preconfig")
        assert create(qmp, "j", image, 4096) == ["created", "running", "aborting", "concluded"]
        assert qmp.execute("query-jobs")[0]["error"] == 'Failed to get "write" lock'
        assert image.read_bytes() == b"precious" * 64


def test_a_job_is_given_up(daemon: DaemonProcess) -> None:
    """One that writes for ever, into nothing: /dev/null takes all and keeps none."""
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        options = {"driver": "file", "filename": "/dev/null", "size": 1 << 60, "preallocation": "full"}
        qmp.execute("blockdev-create", {"job-id": "j", "options": options})
        assert refusal(qmp, "job-dismiss", id="j") == "Job 'j' in state 'running' cannot accept command verb 'dismiss'"
        qmp.execute("job-cancel", id="j")
        while qmp.wait_event("JOB_STATUS_CHANGE")["data"]["status"] != "concluded":
            pass
        assert qmp.execute("query-jobs")[0]["error"] == "Operation canceled"
        qmp.execute("blockdev-create", {"job-id": "k", "options": options})
        qmp.execute("quit")
    assert daemon.process.wait(60) == 0


def test_statistics(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20})
        qmp.execute("map-region", space="mem", region="ram", offset=0x80000000)
        cluster = {"target": "riscv64", "address-space": "mem", "accel": "interp"}
        qmp.execute("object-add", {"qom-type": "cpu-cluster", "id": "c0", **cluster})
        for n in range(2):
            qmp.execute("device_add", {"driver": "rv64-riscv-cpu", "id": f"cpu{n}", "cluster": "c0", "cpu-index": n})
        qmp.execute("x-exit-preconfig")
        (schema,) = qmp.execute("query-stats-schemas")
        names = [each["name"] for each in schema["stats"]]
        assert (schema["provider"], schema["target"], names[0]) == ("ratite", "vcpu", "instructions")
        rows = qmp.execute("query-stats", {"target": "vcpu"})
        assert [row["qom-path"] for row in rows] == ["/machine/peripheral/cpu0", "/machine/peripheral/cpu1"]
        # Not all: the evaluator has no native code to leave.
        assert names[0] in (shown := [each["name"] for each in rows[0]["stats"]]) and names[-1] not in shown
        few = [{"provider": "ratite", "names": ["instructions"]}]
        (row,) = qmp.execute("query-stats", {"target": "vcpu", "vcpus": ["/machine/peripheral/cpu1"], "providers": few})
        assert row["qom-path"].endswith("cpu1") and [each["name"] for each in row["stats"]] == ["instructions"]
        for nothing in ({"target": "vm"}, {"target": "vcpu", "providers": [{"provider": "kvm"}]}):
            assert qmp.execute("query-stats", nothing) == []
        assert qmp.execute("query-stats-schemas", provider="kvm") == []


def nodes(qmp: Client, place: Path, **sizes: int) -> None:
    """A raw node on a file of each size, as libvirt makes them."""
    for name, size in sizes.items():
        (place / name).write_bytes(name.encode() * (size // len(name)))
        file = {"driver": "file", "filename": str(place / name), "node-name": f"{name}-file"}
        qmp.execute("blockdev-add", file)
        qmp.execute("blockdev-add", {"driver": "raw", "file": f"{name}-file", "node-name": name})


def until(qmp: Client, id: str, status: str) -> list[str]:
    """The states that a job goes through, up to this one."""
    states = [""]
    while states[-1] != status:
        data = qmp.wait_event("JOB_STATUS_CHANGE")["data"]
        if data["id"] == id:
            states.append(data["status"])
    return states[1:]


def test_a_disk_moves_to_another_image(daemon: DaemonProcess, tmp_path: Path) -> None:
    size = 1 << 20
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        nodes(qmp, tmp_path, a=size, b=size)
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("device_add", driver="virtio-mmio", id="bus")
        qmp.execute("device_add", driver="virtio-blk-device", id="d", drive="a")
        qmp.execute("x-exit-preconfig")
        mirror = {"job-id": "j", "device": "a", "target": "b", "sync": "full", "auto-dismiss": False}
        qmp.execute("blockdev-mirror", mirror)
        assert until(qmp, "j", "ready") == ["created", "running", "ready"]
        assert qmp.execute("query-block-jobs") == [{
            "type": "mirror", "device": "j", "len": size, "offset": size, "busy": False, "paused": False, "speed": 0,
            "io-status": "ok", "ready": True, "status": "ready", "auto-finalize": True, "auto-dismiss": False,
            "actively-synced": False,
        }]  # fmt: skip
        assert refusal(qmp, "blockdev-backup", **{**mirror, "job-id": "k"}) == (
            "Node 'a' is busy: block device is in use by block job: mirror"
        )
        qmp.execute("job-pause", id="j")
        qmp.execute("block-job-resume", device="j")
        qmp.execute("job-complete", id="j")
        assert until(qmp, "j", "concluded")[-3:] == ["waiting", "pending", "concluded"]
        assert qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]["type"] == "mirror"
        (disk,) = qmp.execute("query-block")
        assert disk["inserted"]["node-name"] == "b"
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
        qmp.execute("block-job-dismiss", id="j")
        for name in ("a", "a-file"):
            qmp.execute("blockdev-del", {"node-name": name})
        assert refusal(qmp, "blockdev-del", **{"node-name": "b"}) == "Node b is in use"
        with pytest.raises(CommandError) as caught:
            qmp.execute("block-job-cancel", device="j")
        assert (caught.value.error_class, caught.value.desc) == ("DeviceNotActive", "Block job 'j' not found")


def test_transactions(daemon: DaemonProcess, tmp_path: Path) -> None:
    def backup(source: str, job: str, **more: object) -> dict[str, object]:
        given = {"job-id": job, "device": source, "target": f"{source}2", "sync": "full", **more}
        return {"type": "blockdev-backup", "data": given}

    with daemon.client() as qmp:
        qmp.execute("machine-create")
        nodes(qmp, tmp_path, a=1 << 16, a2=1 << 16, b=1 << 20, b2=1 << 20)
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("transaction", actions=[]) == {}
        for actions, words in (
            ([backup("a", "x"), {"type": "abort", "data": {}}], "Transaction aborted using Abort action"),
            ([backup("a", "x"), backup("b", "x")], "Job ID 'x' already in use"),
            ([backup("a", "x"), backup("b", "y", target="a2")], "Source and target image have different sizes"),
        ):
            assert refusal(qmp, "transaction", actions=actions) == words
        assert qmp.execute("query-jobs") == []
        grouped = {"completion-mode": "grouped"}
        qmp.execute("transaction", actions=[backup("a", "x"), backup("b", "y", speed=1)], properties=grouped)
        assert until(qmp, "x", "waiting") == ["created", "running", "waiting"]
        qmp.execute("block-job-set-speed", device="y", speed=0)
        assert until(qmp, "x", "null") == ["pending", "concluded", "null"]
        qmp.execute("transaction", actions=[backup("a", "x"), backup("b", "y", speed=1)], properties=grouped)
        until(qmp, "x", "waiting")
        qmp.execute("job-cancel", id="y")
        assert until(qmp, "x", "null") == ["aborting", "concluded", "null"]
        qmp.execute("transaction", actions=[backup("a", "x", **{"auto-finalize": False}), backup("b", "y", speed=1)])
        until(qmp, "x", "pending")
        assert qmp.wait_event("BLOCK_JOB_PENDING")["data"] == {"type": "backup", "id": "x"}
        assert [job["status"] for job in qmp.execute("query-jobs")] == ["running", "pending"], "each by itself"
        qmp.execute("job-finalize", id="x")
        until(qmp, "x", "null")
        qmp.execute("block-job-cancel", device="y", force=True)
        until(qmp, "y", "null")
        assert qmp.execute("query-block-jobs") == []
    for name in "a", "b":
        assert (tmp_path / f"{name}2").read_bytes() == (tmp_path / name).read_bytes()

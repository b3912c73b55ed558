"""Control groups, in a tree of files that looks like the kernel's."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from control_kit import ControlProcess, refused

from ratite.clients.control import ControlClient
from ratite.daemon.control import cgroups, instance
from ratite.daemon.control.birth import OVERHEAD
from ratite.daemon.control.instance import Instance
from ratite.daemon.log import Log

USED = ("O_CLOEXEC", "O_WRONLY", "W_OK", "access", "close", "getpid", "open", "write")
FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "pids.max", "memory.max")


class Kernel:
    """A group's files come with it; it can be removed once `busy` tries have failed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.busy = 0
        self.killed: list[str] = []
        place.mkdir()
        (place / "cgroup.controllers").write_text("cpu memory pids\n")
        self.make(place / "unit")
        (place / "unit/cgroup.controllers").write_text("memory pids\n")
        (place / "unit/cgroup.procs").write_text(f"{os.getpid()}\n")
        self.membership = place.parent / "membership"
        self.membership.write_text("3:cpuset:/\n0::/unit\n")

    def make(self, path: str | Path) -> None:
        Path(path).mkdir()
        for name in FILES:
            (Path(path) / name).touch()

    def remove(self, path: str) -> None:
        if not Path(path).exists():
            raise FileNotFoundError
        self.killed.append((Path(path) / "cgroup.kill").read_text())
        if self.busy:
            self.busy -= 1
            raise OSError(16, "busy")
        shutil.rmtree(path)

    def take(self) -> cgroups.Groups | None:
        return cgroups.take(str(self.place), str(self.membership))

    def read(self, name: str) -> str:
        return (self.place / "unit" / name).read_text()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path / "cgroup")
    calls = SimpleNamespace(**{name: getattr(os, name) for name in USED}, mkdir=made.make, rmdir=made.remove)
    monkeypatch.setattr(cgroups, "os", calls)
    return made


def test_an_instance_has_a_group_with_its_limits(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "RETRY_SECONDS", 0.001)
    groups = kernel.take()
    assert groups is not None and groups.controllers == ("memory", "pids")
    assert kernel.read("control/cgroup.procs") == "0" and kernel.read("cgroup.subtree_control") == "+memory +pids"

    async def work() -> None:
        limits = {"ram": 1 << 30, "processes": 20}
        made = Instance("a", asyncio.get_running_loop(), Log("error"), limits, False, lambda *event: None)
        group = made.join(groups)
        assert group is not None
        os.write(group.procs, b"0")
        made.joined()
        assert kernel.read("i1/cgroup.procs") == "0" and kernel.read("i1/pids.max") == "20"
        assert kernel.read("i1/memory.max") == str((1 << 30) + OVERHEAD)
        kernel.busy = 2
        made.finish(0)
        while (kernel.place / "unit/i1").exists():
            await asyncio.sleep(0)
        assert kernel.killed == ["1", "1", "1"]

    asyncio.run(work())
    bare = groups.make({}, 0)
    assert kernel.read("i2/pids.max") == "" == kernel.read("i2/memory.max")
    assert bare.remove() and bare.remove()
    kernel.make(kernel.place / "unit/i3")
    assert groups.make({}, 0).path.endswith("i4"), "what a predecessor left isn't taken"


@pytest.mark.parametrize("spoil", ["others", "no controllers", "no v2", "refused", "no files"])
def test_what_is_not_ours_alone_stays_as_it_is(kernel: Kernel, spoil: str) -> None:
    unit = kernel.place / "unit"
    if spoil == "others":
        (unit / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    elif spoil == "no controllers":
        (unit / "cgroup.controllers").write_text("cpu\n")
    elif spoil == "no v2":
        kernel.membership.write_text("3:cpuset:/\n")
    elif spoil == "refused":
        (unit / "cgroup.subtree_control").unlink()
    else:
        kernel.membership.unlink()
    before = (unit / "cgroup.procs").read_text()
    assert kernel.take() is None
    assert not (unit / "control").exists()
    # It writes itself back where it came from; the kernel's file would read as before.
    assert (unit / "cgroup.procs").read_text() == ("0" + before[1:] if spoil == "refused" else before)


def test_control_info_says_what_holds_each_limit(shared: ControlProcess, control: ControlClient, tmp_path: Path) -> None:
    held = {row["limit"]: row["by"] for row in control.control_info()["limits-held"]}
    assert set(held) == {"ram", "vcpus", "files", "processes", "events", "log"}
    assert held["ram"][:2] == ["check", "rlimit"] and held["files"] == ["rlimit"]
    if held["processes"]:
        assert control.instance_create(limits={"processes": 64})["state"] == "running"
        assert refused(control, "instance-create", limits={"processes": 1}).code == -32602
    else:
        assert "cgroup" in refused(control, "instance-create", limits={"processes": 64}).message
        status, said = ControlProcess(tmp_path / "sock", "--limit", "processes=64").stopped()
        assert status == 1 and "can't be held on this host" in said

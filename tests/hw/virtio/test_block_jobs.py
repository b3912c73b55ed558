"""Jobs that copy a disk while its guest writes: mirrors and backups."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blk_kit import FLUSH, IN, OUT, ZEROES, Disk

from ratite.core.backends.block.copy import Backup, Mirror
from ratite.qapi.errors import GenericError

SIZE = 1 << 20
CHUNK = 64 << 10
DEADLINE = 30.0


class Copied(Disk):
    """A disk on the node n0, and a node `copy` of its size."""

    def __init__(self, place: Path, size: int = SIZE) -> None:
        self.image, self.copy = place / "image", place / "copy"
        self.before = bytearray(random.Random(7).randbytes(SIZE))
        self.image.write_bytes(self.before)
        self.copy.write_bytes(b"\xff" * size)
        super().__init__(self.image, inline=False)
        self.told = threading.Condition()
        self.machine.on_event = self.tell
        self.call(self.machine.blockdev_add, {"driver": "file", "filename": str(self.copy), "node-name": "copy"})
        self.ready()
        # What the guest should find.
        self.model = bytearray(self.before)

    def tell(self, name: str, data: dict[str, Any]) -> None:
        with self.told:
            self.events.append((name, data))
            self.told.notify_all()

    def until(self, what: Callable[[], bool]) -> None:
        with self.told:
            assert self.told.wait_for(what, DEADLINE), self.events

    def begin(self, kind: type[Mirror | Backup], **options: Any) -> None:
        given = {"job-id": "j", "device": "n0", "target": "copy", "sync": "full"}
        given |= {name.replace("_", "-"): value for name, value in options.items()}
        self.call(lambda: self.machine.jobs.start(kind(self.machine.blocks, given)))

    def told_of(self, name: str) -> bool:
        return any(event == name for event, _ in self.events)

    def states(self) -> list[str]:
        return [data["status"] for name, data in self.events if name == "JOB_STATUS_CHANGE"]

    def until_status(self, status: str) -> None:
        self.until(lambda: status in self.states())

    def put(self, sector: int, data: bytes) -> None:
        assert self.do(OUT, sector, data)[0] == 0
        self.model[512 * sector : 512 * sector + len(data)] = data

    def scribble(self, rng: random.Random, times: int, end: int = SIZE) -> None:
        for _ in range(times):
            count = rng.choice((1, 3, 8, 130))
            self.put(rng.randrange(end // 512 - count), rng.randbytes(512) * count)

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call(self.machine.jobs.block_list)[0]
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Copied]:
    made = Copied(tmp_path)
    yield made
    assert made.faults() == 0
    made.machine.close()


def test_a_mirror_takes_the_place(disk: Copied) -> None:
    disk.begin(Mirror)
    disk.until_status("ready")
    assert disk.events[-1] == (
        "BLOCK_JOB_READY", {"type": "mirror", "device": "j", "len": SIZE, "offset": SIZE, "speed": 0},
    )  # fmt: skip
    disk.put(40, b"n" * 512)
    disk.call(disk.machine.jobs.complete, "j")
    disk.until_status("null")
    assert disk.states() == ["created", "running", "ready", "waiting", "pending", "concluded", "null"]
    assert disk.copy.read_bytes() == disk.model == disk.image.read_bytes()
    assert disk.dev.get_property("drive") == "/blockdevs/copy"
    disk.put(41, b"o" * 512)
    assert disk.do(IN, 41, size=512) == (0, b"o" * 512)
    assert disk.copy.read_bytes() == disk.model and disk.image.read_bytes() != disk.model
    disk.call(disk.machine.blockdev_del, "n0")
    with pytest.raises(GenericError, match="Node copy is in use"):
        disk.call(disk.machine.blockdev_del, "copy")


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
@pytest.mark.parametrize("pivot", [True, False])
@pytest.mark.parametrize("granularity", [512, CHUNK])
def test_writes_meanwhile_are_copied(disk: Copied, mode: str, pivot: bool, granularity: int) -> None:
    rng = random.Random(mode + str(pivot))
    disk.begin(Mirror, copy_mode=mode, granularity=granularity, buf_size=CHUNK)
    disk.scribble(rng, 40)
    disk.until_status("ready")
    disk.scribble(rng, 15)
    if mode == "write-blocking":
        assert disk.info()["actively-synced"]
        assert disk.copy.read_bytes() == disk.model, "at once"
    ending = disk.machine.jobs.complete if pivot else lambda id: disk.machine.jobs.cancel(id, False)
    disk.call(ending, "j")
    disk.scribble(rng, 15)
    disk.until_status("null")
    assert disk.told_of("BLOCK_JOB_COMPLETED")
    assert disk.do(FLUSH, 0)[0] == 0
    assert (disk.copy if pivot else disk.image).read_bytes() == disk.model
    assert disk.do(IN, 0, size=CHUNK) == (0, bytes(disk.model[:CHUNK]))


def test_a_backup_is_of_the_instant_when_it_began(disk: Copied) -> None:
    rng = random.Random(3)
    disk.begin(Backup, speed=CHUNK)
    assert disk.info()["offset"] < SIZE, "it is slow"
    disk.scribble(rng, 40, SIZE // 2)
    with_zeros = disk.do(ZEROES, 0, (1000).to_bytes(8, "little") + (100).to_bytes(4, "little") + bytes(4))
    assert with_zeros[0] == 0
    disk.model[512000 : 512000 + 51200] = bytes(51200)
    disk.call(disk.machine.jobs.set_speed, "j", 0)
    disk.until_status("null")
    assert disk.copy.read_bytes() == disk.before and disk.image.read_bytes() == disk.model
    assert disk.states() == ["created", "running", "waiting", "pending", "concluded", "null"]


def test_a_backup_of_what_changes_alone(disk: Copied) -> None:
    disk.begin(Backup, sync="none")
    disk.put(130, b"x" * 512)
    at = 130 * 512 // CHUNK * CHUNK
    expected = bytearray(b"\xff" * SIZE)
    expected[at : at + CHUNK] = disk.before[at : at + CHUNK]
    assert disk.copy.read_bytes() == expected and disk.info()["offset"] == CHUNK
    disk.call(disk.machine.jobs.cancel, "j")
    disk.until_status("null")
    assert disk.told_of("BLOCK_JOB_CANCELLED")


def test_a_mirror_of_what_changes_alone(disk: Copied) -> None:
    disk.begin(Mirror, sync="none", copy_mode="write-blocking")
    disk.until_status("ready")
    disk.put(0, b"x" * 512)
    assert disk.copy.read_bytes()[: 2 * CHUNK] == disk.model[:CHUNK] + b"\xff" * CHUNK


def test_pauses_and_speed(disk: Copied) -> None:
    jobs = disk.machine.jobs
    disk.begin(Mirror, speed=1)
    assert (disk.info()["len"], disk.info()["status"], disk.info()["speed"]) == (SIZE, "running", 1)
    disk.call(jobs.pause, "j")
    with pytest.raises(GenericError, match="Job is already paused"):
        disk.call(jobs.pause, "j")
    disk.call(jobs.set_speed, "j", 0)
    disk.put(5, b"p" * 512)
    assert disk.info()["paused"] and disk.states()[-1] == "paused"
    disk.call(jobs.resume, "j")
    disk.until_status("ready")
    with pytest.raises(GenericError, match="Can't resume a job that was not paused"):
        disk.call(jobs.resume, "j")
    disk.call(jobs.pause, "j")
    disk.call(jobs.complete, "j")
    assert disk.states()[-1] == "standby"
    disk.call(jobs.resume, "j")
    disk.until_status("null")
    assert disk.copy.read_bytes() == disk.model


def test_errors_of_the_target(disk: Copied) -> None:
    os.truncate(disk.copy, 0)
    disk.begin(Mirror, on_target_error="stop")
    disk.until_status("paused")
    event = ("BLOCK_JOB_ERROR", {"device": "j", "operation": "write", "action": "stop"})
    assert event in disk.events and disk.info()["io-status"] == "failed"
    os.truncate(disk.copy, SIZE)
    disk.call(disk.machine.jobs.resume, "j")
    disk.until_status("ready")
    os.truncate(disk.copy, 0)
    disk.put(9, b"q" * 512)
    disk.until(lambda: disk.states().count("standby") == 1)
    disk.call(disk.machine.jobs.cancel, "j")
    disk.until_status("null")
    disk.events.clear()
    disk.begin(Backup)
    disk.until_status("null")
    assert ("BLOCK_JOB_ERROR", {"device": "j", "operation": "write", "action": "report"}) in disk.events
    ends = [data["error"] for name, data in disk.events if name == "BLOCK_JOB_COMPLETED"]
    assert ends == ["Input/output error"]
    disk.put(9, b"r" * 512)
    disk.events.clear()
    disk.begin(Mirror, on_target_error="ignore")
    disk.until(lambda: disk.told_of("BLOCK_JOB_ERROR"))
    os.truncate(disk.copy, SIZE)
    disk.until_status("ready")
    disk.call(disk.machine.jobs.complete, "j")
    disk.until_status("null")
    assert disk.copy.read_bytes() == disk.model


def test_guests_writes_go_on_when_a_backup_fails(disk: Copied) -> None:
    disk.begin(Backup, speed=1)
    os.truncate(disk.copy, 0)
    disk.put(700, b"s" * 512)
    disk.until_status("null")
    assert disk.image.read_bytes() == disk.model


def test_refusals_while_it_works(disk: Copied) -> None:
    disk.begin(Mirror, auto_finalize=False, auto_dismiss=False)
    busy = "Node 'n0' is busy: block device is in use by block job: mirror"
    for refused in (
        lambda: disk.begin(Mirror, job_id="k"), lambda: disk.call(disk.machine.blocks.resize, "n0", 512),
        lambda: disk.call(disk.machine.blocks.remove, "n0"),
    ):  # fmt: skip
        with pytest.raises(GenericError) as caught:
            refused()
        assert caught.value.desc == busy
    with pytest.raises(GenericError, match="Node copy is in use"):
        disk.call(disk.machine.blocks.remove, "copy")
    disk.until_status("ready")
    disk.call(disk.machine.jobs.complete, "j")
    disk.until_status("pending")
    _, _, status = disk.submit(OUT, 3, b"t" * 512)
    disk.until(lambda: disk.told_of("BLOCK_JOB_PENDING"))
    assert disk.read(status, 1) == b"\xff", "it waits for the place where it belongs"
    disk.call(disk.machine.jobs.finalize, "j")
    disk.wait()
    assert disk.copy.read_bytes()[1536:2048] == b"t" * 512 != disk.image.read_bytes()[1536:2048]
    with pytest.raises(GenericError, match="Job ID 'j' already in use"):
        disk.begin(Backup, device="copy", target="n0")
    disk.call(disk.machine.jobs.dismiss, "j")


@pytest.mark.parametrize(("options", "words"), [
    ({"target": "n0"}, "Can't mirror node into itself"),
    ({"device": "zz"}, "Cannot find device='zz' nor node-name='zz'"),
    ({"granularity": 100}, "Parameter 'granularity' expects a value in range [512B, 64MB]"),
    ({"granularity": 1000}, "Parameter 'granularity' expects a power of 2"),
    ({"buf_size": -1}, "Invalid parameter 'buf-size'"),
    ({"speed": -1}, "Parameter 'speed' expects a non-negative value"),
    ({"job_id": ""}, "Invalid job ID ''"),
])  # fmt: skip
def test_what_can_not_be(disk: Copied, options: dict[str, Any], words: str) -> None:
    with pytest.raises(GenericError) as caught:
        disk.begin(Mirror, **options)
    assert caught.value.desc == words
    disk.call(disk.machine.blocks.remove, "copy")


def test_an_image_of_many_chunks(disk: Copied) -> None:
    for path in (disk.image, disk.copy):
        os.truncate(path, 64 << 30)
    for name in ("n0", "copy"):
        disk.call(disk.machine.blocks.resize, name, 64 << 30)
    with pytest.raises(GenericError, match="a granularity of 512 is too small for 68719476736 bytes"):
        disk.begin(Mirror, granularity=512)
    disk.begin(Mirror, speed=1)
    assert disk.info()["len"] == 64 << 30
    disk.call(disk.machine.jobs.cancel, "j")
    disk.until_status("null")


def test_sizes_that_differ(tmp_path: Path) -> None:
    disk = Copied(tmp_path, SIZE // 2)
    with pytest.raises(GenericError, match="Source and target image have different sizes"):
        disk.begin(Backup)
    disk.begin(Mirror)
    disk.until_status("null")
    assert disk.states() == ["created", "running", "aborting", "concluded", "null"]
    disk.call(disk.machine.blocks.remove, "copy")
    disk.machine.close()


def test_nothing_but_zeros_is_a_hole(disk: Copied) -> None:
    disk.image.write_bytes(bytes(SIZE))
    disk.call(lambda: disk.machine.blocks.reopen([
        {"driver": "file", "filename": str(disk.copy), "node-name": "copy", "discard": "unmap"},
    ]))  # fmt: skip
    disk.begin(Mirror)
    disk.until_status("ready")
    assert disk.copy.read_bytes() == bytes(SIZE) and disk.copy.stat().st_blocks == 0


def test_the_machine_ends_meanwhile(tmp_path: Path) -> None:
    disk = Copied(tmp_path)
    disk.begin(Backup, speed=1)
    disk.machine.close()
    assert disk.machine.status == "shutdown"

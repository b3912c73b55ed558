"""Disks whose I/O a thread does that a client made."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from blk_kit import FLUSH, IN, OUT, Disk

from ratite.qapi.errors import GenericError

SIZE = 1 << 20
DATA = random.Random(9).randbytes(SIZE)
PIECE = 1 << 13


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "image").write_bytes(DATA)
    made = Disk(tmp_path / "image", inline=False, iothread="io0")
    made.call(made.machine.create_object, "iothread", "io0", {"poll-max-ns": 1000000, "poll-grow": 3, "poll-shrink": 2})
    made.ready()
    yield made
    assert made.faults() == 0
    made.machine.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ratite-disk", "ratite-io0"))]


def test_it_does_the_io(disk: Disk, tmp_path: Path) -> None:
    for sector in range(0, SIZE // 512, PIECE // 512):
        assert disk.do(IN, sector, size=PIECE) == (0, DATA[512 * sector : 512 * sector + PIECE])
    assert disk.do(OUT, 5, b"i" * 512)[0] == disk.do(FLUSH, 0)[0] == 0
    assert (tmp_path / "image").read_bytes()[2560:3072] == b"i" * 512
    assert threads() == ["ratite-io0"], "and nobody else"
    thread = next(thread for thread in threading.enumerate() if thread.name == "ratite-io0")
    assert disk.machine.resolve("/objects/io0").thread_id == thread.native_id  # type: ignore[attr-defined]
    with pytest.raises(GenericError, match="object 'io0' is in use"):
        disk.call(disk.machine.delete_object, "io0")


@pytest.mark.parametrize("batch", [0, 1])
def test_several_disks_and_what_is_queued_when_it_goes(disk: Disk, tmp_path: Path, batch: int) -> None:
    machine = disk.machine
    (tmp_path / "other").write_bytes(bytes(SIZE))
    disk.call(machine.resolve("/objects/io0").set_property, "aio-max-batch", batch)
    disk.call(machine.blockdev_add, {"driver": "file", "filename": str(tmp_path / "other"), "node-name": "n1"})
    nodes = [machine.blocks.find(name) for name in ("n0", "n1")]
    disk.call(nodes[1].served_by, machine.resolve("/objects/io0"))
    done: list[int] = []
    ended = threading.Event()

    def begin() -> None:
        from ratite.core.backends.block.worker import Request

        for n in range(64):
            for number, node in enumerate(nodes):
                data = bytes([n]) * 512
                node.submit(Request("write", 512 * n, 512, lambda request: count(request.tag), (data,), tag=number))

    def count(number: object) -> None:
        done.append(number)  # type: ignore[arg-type]
        if len(done) == 128:
            ended.set()

    disk.call(begin)
    with pytest.raises(GenericError, match="Cannot change iothread of active block backend"):
        disk.call(lambda: (begin(), nodes[1].served_by(None)))
    assert ended.wait(30)
    assert sorted(done)[:64] == [0] * 64
    machine.close()
    image = (tmp_path / "other").read_bytes()
    assert image[: 64 * 512] == b"".join(bytes([n]) * 512 for n in range(64))


def test_numbers_that_are_none(disk: Disk) -> None:
    for name in ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"):
        with pytest.raises(GenericError, match=rf"{name} value must be in range \[0, 9223372036854775807\]"):
            disk.call(disk.machine.resolve("/objects/io0").set_property, name, -1)
    disk.call(disk.machine.resolve("/objects/io0").set_property, "poll-max-ns", 0)
    assert disk.do(IN, 0, size=512) == (0, DATA[:512])


def test_a_disk_that_goes_after_it_waits_for_what_it_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread and the disk's own never serve the disk at once: one would close the file that the other works on."""
    from ratite.core.backends.block.iothread import IoThread
    from ratite.core.backends.block.worker import Request, Worker

    begun, held = threading.Event(), threading.Event()

    def write(fd: int, data: object, offset: int) -> None:
        begun.set()
        held.wait()
        os.fstat(fd)

    (tmp_path / "image").write_bytes(bytes(4096))
    io, owner = IoThread("io0"), SimpleNamespace(soon=lambda call: call())
    worker = Worker(os.open(tmp_path / "image", os.O_RDWR), 4096, owner, "image")  # type: ignore[arg-type]
    monkeypatch.setattr(worker, "_write_at", write)
    io.realize()
    worker.served_by(io)
    requests = [Request("write", 0, 512, lambda request: None, (bytes(512),)) for _ in range(3)]
    worker.submit(requests[0])
    begun.wait()
    io.unrealize()
    worker.submit(requests[1])
    worker.submit(requests[2])
    own = worker._thread
    assert own is not None
    worker.end()
    own.join(0.1)
    assert own.is_alive()
    held.set()
    own.join(60)
    assert not own.is_alive(), "nobody took its end from it"
    assert [request.error for request in requests] == [0, 0, 0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(worker._fd)

"""virtio-blk on files: requests, errors of the host, locks, hostile drivers."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blk_kit import DISCARD, F_DISCARD, F_FLUSH, F_RO, F_WRITE_ZEROES, FLUSH, GET_ID, IN, OUT, ZEROES, Disk
from virtio_kit import F_VERSION_1, RAM, RAM_SIZE, Board, new_machine

from ratite.core.backends.block import hostio
from ratite.core.backends.block.throttle import Limits
from ratite.qapi.errors import GenericError

SIZE = 1 << 20
PATTERN = random.Random(5).randbytes(SIZE)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(PATTERN)
    return path


@pytest.fixture(params=[True, False], ids=["inline", "threads"])
def disk(image: Path, request: Any) -> Iterator[Disk]:
    made = Disk(image, inline=request.param).ready()
    yield made
    assert made.faults() == 0
    made.machine.close()


def test_configuration(disk: Disk) -> None:
    assert disk.reg(8) == 2
    assert disk.config(0, 4) == SIZE // 512 and disk.config(12, 4) == 254 and disk.config(20, 4) == 512
    assert disk.config(0x3C, 4) == 0, "nothing behind it"
    assert disk.features() & (F_FLUSH | F_DISCARD | F_WRITE_ZEROES | F_RO) == F_FLUSH | F_DISCARD | F_WRITE_ZEROES


def test_read_write_flush(disk: Disk, image: Path) -> None:
    assert disk.do(IN, 0, size=512) == (0, PATTERN[:512])
    assert disk.do(IN, 3, size=8192) == (0, PATTERN[1536 : 1536 + 8192])
    assert disk.do(IN, SIZE // 512 - 1, size=512) == (0, PATTERN[-512:])
    assert disk.do(OUT, 7, b"\x5a" * 1024) == (0, b"")
    assert disk.do(IN, 7, size=1024) == (0, b"\x5a" * 1024)
    assert disk.do(FLUSH, 0) == (0, b"")
    assert image.read_bytes() == PATTERN[: 7 * 512] + b"\x5a" * 1024 + PATTERN[9 * 512 :]


def test_past_the_hosts_cache(image: Path) -> None:
    """The same with cache.direct, and an image that ends within a block."""
    image.write_bytes(PATTERN + b"tail")
    try:
        disk = Disk(image, options={"cache": {"direct": True}}).ready()
    except GenericError as error:
        pytest.skip(error.desc)
    assert disk.do(IN, 3, size=8192) == (0, PATTERN[1536 : 1536 + 8192])
    assert disk.do(OUT, 7, b"\x5a" * 1024) == (0, b"") and disk.do(IN, 6, size=512) == (0, PATTERN[3072:3584])
    assert disk.do(IN, SIZE // 512, size=512) == (0, b"tail" + bytes(508))
    assert disk.do(OUT, SIZE // 512, b"\xa5" * 512)[0] == disk.do(FLUSH, 0)[0] == disk.do(ZEROES, 0, span(0, 2, 0))[0] == 0
    assert image.read_bytes() == bytes(1024) + PATTERN[1024:3584] + b"\x5a" * 1024 + PATTERN[4608:] + b"\xa5" * 512
    disk.machine.close()


def test_many_requests_under_way(disk: Disk) -> None:
    rng = random.Random(1)
    for _ in range(10):
        disk.top = disk.floor
        ring = disk.queues[0]
        ring.free = list(range(8))
        asked = {}
        for _ in range(2):
            sector = rng.randrange(SIZE // 512 - 8)
            head, data, status = disk.submit(IN, sector, size=512 * 8)
            asked[head] = (sector, data, status)
        while asked:
            for head, written in disk.wait():
                sector, data, status = asked.pop(head)
                assert written == 512 * 8 + 1 and disk.read(status, 1) == b"\0"
                assert disk.read(data, 4096) == PATTERN[512 * sector : 512 * sector + 4096]


def test_id(image: Path) -> None:
    disk = Disk(image, serial="a serial of more than twenty").ready()
    assert disk.do(GET_ID, 0, size=20) == (0, b"a serial of more tha")
    assert disk.do(GET_ID, 0, size=4) == (0, b"a se")
    disk.machine.close()


END = SIZE // 512


def span(sector: int, count: int, flags: int) -> bytes:
    """The data of a discard or write-zeroes."""
    return struct.pack("<QII", sector, count, flags)


REFUSED = (
    (IN, END, b"", 512, 1), (IN, END - 1, b"", 1024, 1), (IN, (1 << 64) - 1, b"", 512, 1), (IN, 0, b"", 100, 1),
    (OUT, END, b"x" * 512, 0, 1), (OUT, 0, b"x", 0, 1), (99, 0, b"", 0, 2), (14, 0, b"", 0, 2), (IN, 0, b"", 0, 0),
    (DISCARD, 0, b"x", 0, 1), (DISCARD, 0, span(0, 8, 1), 0, 2), (DISCARD, 0, span(END, 1, 0), 0, 1),
    (DISCARD, 0, span(0, 1, 0) * 2, 0, 1), (ZEROES, 0, span(0, 8, 2), 0, 2), (ZEROES, 0, span(1 << 63, 1, 0), 0, 1),
    (ZEROES, 0, span(0, 0xFFFFFFFF, 0), 0, 1),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "sector", "out", "size", "status"), REFUSED)
def test_requests_that_are_refused(image: Path, kind: int, sector: int, out: bytes, size: int, status: int) -> None:
    disk = Disk(image).ready()
    assert disk.do(kind, sector, out, size)[0] == status
    assert disk.do(IN, 0, size=512) == (0, PATTERN[:512]) and not disk.needs_reset()
    assert image.read_bytes() == PATTERN
    disk.machine.close()


def test_a_request_without_header_or_status_stops_the_device(image: Path) -> None:
    disk = Disk(image).ready()
    at = disk.alloc(32)
    disk.queues[0].send((at, 8, False), (at + 16, 1, True))
    assert disk.needs_reset()
    disk.top = RAM
    disk.up()
    disk.queues[0].send((at, 16, False))
    assert disk.needs_reset()
    disk.machine.close()


def test_wild_lengths_cost_no_memory(image: Path) -> None:
    disk = Disk(image).ready()
    head, status = disk.alloc(16), disk.alloc(1)
    for kind in (IN, OUT):
        for count in (1, 5):
            ring = disk.queues[0]
            ring.free = list(range(8))
            disk.write(head, struct.pack("<IIQ", kind, 0, 0))
            big = [(RAM, 0x30000000, kind == IN)] * count
            ring.send((head, 16, False), *big, (status, 1, True))
            assert len(disk.wait()) == 1 and (count > 1 or disk.read(status, 1) == b"\x01")
    assert not disk.needs_reset()
    disk.machine.close()


def test_discard_and_zeroes(image: Path) -> None:
    for options, holes in (({}, False), ({"discard": "unmap"}, True)):
        image.write_bytes(PATTERN)
        disk = Disk(image, options=options).ready()
        before = os.stat(image).st_blocks
        assert disk.do(DISCARD, 0, struct.pack("<QII", 64, 512, 0)) == (0, b"")
        assert disk.do(ZEROES, 0, struct.pack("<QII", 8, 8, 0)) == (0, b"")
        assert disk.do(ZEROES, 0, struct.pack("<QII", 24, 8, 1)) == (0, b"")
        assert disk.do(IN, 8, size=4096) == disk.do(IN, 24, size=4096) == (0, bytes(4096))
        middle = bytes(512 * 512) if holes else PATTERN[512 * 64 : 512 * 576]
        assert disk.do(IN, 64, size=4096) == (0, middle[:4096])
        if holes:
            assert os.stat(image).st_blocks <= before - 400
        assert len(image.read_bytes()) == SIZE
        disk.machine.close()


def test_zeroes_without_the_hosts_help(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(hostio, "_fallocate", refuse)
    monkeypatch.setattr(hostio, "_ZEROS", 1000)
    with image.open("r+b") as file:
        hostio.zero(file.fileno(), 100, 3500, True)
    assert image.read_bytes() == PATTERN[:100] + bytes(3500) + PATTERN[3600:]


def test_partial_transfers_are_continued(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.preadv, os.pwritev
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: read(fd, [buffers[0][:300]], at))
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, at: write(fd, [memoryview(buffers[0])[:7]], at))
    with image.open("r+b") as file:
        assert hostio.read_at(file.fileno(), 1000, 5) == PATTERN[5:1005]
        assert hostio.read_at(file.fileno(), 1000, SIZE - 10) == PATTERN[-10:]
        hostio.write_at(file.fileno(), [b"a" * 10, b"", b"b" * 20, b"c"], 3)
    assert image.read_bytes() == PATTERN[:3] + b"a" * 10 + b"b" * 20 + b"c" + PATTERN[34:]


def test_a_read_only_disk(image: Path) -> None:
    disk = Disk(image, options={"read-only": True}).ready()
    assert disk.features() & (F_RO | F_DISCARD | F_WRITE_ZEROES) == F_RO
    assert disk.do(OUT, 0, b"x" * 512)[0] == 1 and disk.do(IN, 0, size=512)[0] == 0
    assert disk.do(DISCARD, 0, struct.pack("<QII", 0, 1, 0))[0] == 2
    disk.machine.close()


def test_without_flush_every_write_is_on_the_disk(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    disk = Disk(image).ready()
    disk.do(OUT, 0, b"x" * 512)
    assert not synced
    disk.do(FLUSH, 0)
    assert len(synced) == 1
    disk.top = RAM
    disk.up(want=F_VERSION_1)
    disk.floor = disk.top
    disk.do(OUT, 0, b"x" * 512)
    assert len(synced) == 2
    disk.machine.close()


def test_an_image_that_shrinks(disk: Disk, image: Path) -> None:
    os.truncate(image, 4096)
    assert disk.do(IN, 0, size=4096) == (0, PATTERN[:4096])
    assert disk.do(IN, 4, size=4096)[0] == 1
    assert disk.do(IN, 100, size=512)[0] == 1
    assert disk.do(OUT, 100, b"x" * 512)[0] == 1, "no hole where data was"
    assert image.stat().st_size == 4096
    events = told(disk)
    assert [each["operation"] for each in events] == ["read", "read", "write"]
    assert events[0] == {
        "qom-path": "/machine/peripheral/dev", "device": "", "node-name": "n0", "operation": "read", "action": "report",
        "nospace": False, "reason": os.strerror(errno.EIO),
    }  # fmt: skip
    os.truncate(image, SIZE)
    assert disk.do(IN, 100, size=512) == (0, bytes(512))


def test_an_image_of_an_odd_length(tmp_path: Path) -> None:
    image = tmp_path / "odd"
    image.write_bytes(b"a" * 1000)
    disk = Disk(image).ready()
    assert disk.config(0, 8) == 2 and disk.do(IN, 0, size=1024) == (0, b"a" * 1000 + bytes(24))
    assert disk.do(OUT, 1, b"b" * 512)[0] == 0 and image.read_bytes() == b"a" * 512 + b"b" * 512
    disk.machine.close()


def test_host_errors_are_the_guests(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def quota(*args: Any) -> int:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "pwritev", quota)
    assert disk.do(OUT, 0, b"x" * 512)[0] == 1
    assert not disk.events[-1][1]["nospace"] and disk.dev.io_errors == 1
    monkeypatch.setattr(os, "preadv", lambda *args: 1 // 0)
    assert disk.do(IN, 0, size=512)[0] == 1
    assert not disk.needs_reset()


class Failing:
    """The host's calls for reading or writing fail with ``error`` as long as it isn't 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
        self.error = error
        real = getattr(os, call)

        def maybe(*args: Any) -> int:
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            count: int = real(*args)
            return count

        monkeypatch.setattr(os, call, maybe)


def until(condition: Callable[[], bool]) -> None:
    """The disk's thread gets there."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end


def told(disk: Disk, name: str = "BLOCK_IO_ERROR") -> list[dict[str, Any]]:
    return [data for found, data in disk.events if found == name]


def stopped(disk: Disk, times: int) -> None:
    """The machine has stopped so often."""
    until(lambda: len(told(disk, "STOP")) == times and disk.machine.status == "io-error")


@pytest.mark.parametrize(("policy", "error", "action"), [
    ("report", errno.ENOSPC, "report"), ("ignore", errno.EIO, "ignore"), ("enospc", errno.EIO, "report"),
    ("enospc", errno.ENOSPC, "stop"), ("stop", errno.EIO, "stop"), ("auto", errno.EIO, "report"), ("auto", errno.ENOSPC, None)])
@pytest.mark.parametrize("op", ["read", "write"])
def test_what_follows_an_error(
    image: Path, monkeypatch: pytest.MonkeyPatch, op: str, policy: str, error: int, action: str | None,
) -> None:
    disk = Disk(image, **{"rerror" if op == "read" else "werror": policy}).ready()
    disk.machine.cont()
    action = action or ("report" if op == "read" else "stop")  # the default
    failing = Failing(monkeypatch, "preadv" if op == "read" else "pwritev", error)
    fresh = b"y" * 512
    kind, out, size = (IN, b"", 512) if op == "read" else (OUT, fresh, 0)
    head, data, status = disk.submit(kind, 0, out, size)
    until(lambda: bool(told(disk)))
    (event,) = told(disk)
    assert (event["action"], event["operation"], event["nospace"]) == (action, op, error == errno.ENOSPC)
    if action != "stop":
        assert disk.wait()[0][0] == head
        assert disk.read(status, 1)[0] == (1 if action == "report" else 0) and disk.machine.running
        disk.machine.close()
        return
    stopped(disk, 1)
    assert disk.queues[0].taken() == []
    assert disk.dev.io_status == ("nospace" if error == errno.ENOSPC else "failed")
    disk.machine.cont()
    stopped(disk, 2)
    assert [name for name, _ in disk.events[-5:]] == ["BLOCK_IO_ERROR", "STOP", "RESUME", "BLOCK_IO_ERROR", "STOP"], "again"
    assert disk.queues[0].taken() == []
    failing.error = 0
    disk.machine.cont()
    assert disk.wait()[0][0] == head and disk.read(status, 1) == b"\0" and disk.dev.io_status == "ok"
    assert disk.machine.running and disk.dev.io_errors == 2
    assert disk.read(data, 512) == PATTERN[:512] if op == "read" else image.read_bytes()[:512] == fresh
    disk.machine.close()


def test_what_waits_for_the_machine_goes_with_a_reset(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"driver": "raw", "offset": 512, "file": {"driver": "file", "filename": str(image)}}
    disk = Disk(image, rerror="stop", options=options).ready()
    disk.machine.cont()
    failing = Failing(monkeypatch, "preadv", errno.EIO)
    for _ in range(2):
        disk.submit(IN, 1, size=512)
    until(lambda: len(told(disk)) == 2)
    stopped(disk, 1)
    disk.machine.reset()
    assert (disk.dev.io_status, disk.dev._bytes_under_way) == ("ok", 0)
    failing.error = 0
    disk.machine.cont()
    disk.top = RAM
    disk.up()
    disk.floor = disk.top
    assert disk.do(IN, 1, size=512) == (0, PATTERN[1024:1536])
    disk.machine.close()


def test_what_is_done_again_is_done_in_the_same_place(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes between the disk and the file move a request's offset."""
    options = {"driver": "raw", "offset": 512, "file": {"driver": "file", "filename": str(image)}}
    disk = Disk(image, rerror="stop", options=options).ready()
    disk.machine.cont()
    failing = Failing(monkeypatch, "preadv", errno.EIO)
    _, data, _ = disk.submit(IN, 1, size=512)
    stopped(disk, 1)
    failing.error = 0
    disk.machine.cont()
    assert len(disk.wait()) == 1 and disk.read(data, 512) == PATTERN[1024:1536]
    disk.machine.close()


def test_a_reset_drops_what_is_under_way(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    go, real = threading.Event(), os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: go.wait() and real(*args))
    disk = Disk(image, inline=False).ready()
    disk.submit(IN, 0, size=512)
    disk.set(0x70, 0)
    go.set()
    disk.negotiate()
    ring = disk.setup(0)
    disk.driver_ok()
    assert disk.do(IN, 1, size=512) == (0, PATTERN[512:1024])
    disk.call(lambda: None)
    assert ring.used_idx() == 1 and disk.dev._bytes_under_way == 0
    disk.machine.close()


def test_more_under_way_than_may_be_waits(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratite.hw.virtio.blk.BUDGET", 4096)
    disk = Disk(image, inline=False, **{"num-queues": 2}).ready(queues=2, num=32)
    ring = disk.queues[1]
    heads = []
    for sector in range(10):
        _, data, status = disk.submit(IN, sector, size=4096, queue=1)
        heads.append((sector, data, status))
    found: list[Any] = []
    while len(found) < 10:
        found += ring.taken()
    for sector, data, status in heads:
        assert disk.read(status, 1) == b"\0" and disk.read(data, 4096) == PATTERN[512 * sector : 512 * sector + 4096]
    disk.machine.close()


# -- nodes


def refused(options: dict[str, Any]) -> str:
    machine = new_machine()
    with pytest.raises(GenericError) as caught:
        machine.blockdev_add(options)
    assert machine.blocks.nodes() == []
    machine.close()
    return caught.value.desc


def test_images_that_cannot_be_opened(tmp_path: Path, image: Path) -> None:
    def of(path: object, **more: Any) -> dict[str, Any]:
        return {"driver": "file", "filename": str(path), "node-name": "n", **more}

    assert refused(of(tmp_path)) == f"Could not open '{tmp_path}': Is a directory"
    assert refused(of(tmp_path, **{"read-only": True})) == f"'file' driver requires '{tmp_path}' to be a regular file"
    assert refused(of("/nowhere/x")) == "Could not open '/nowhere/x': No such file or directory"
    assert refused(of("")) == "The 'file' block driver requires a file name"
    assert refused(of("/dev/null")) == "'file' driver requires '/dev/null' to be a regular file"
    os.mkfifo(tmp_path / "pipe")
    assert "to be a regular file" in refused(of(tmp_path / "pipe"))
    assert refused({"driver": "file", "filename": "x"}) == "'node-name' must be specified for the root node"
    assert refused(of(image, **{"node-name": "1bad"})) == "Invalid node-name: '1bad'"
    assert refused({"driver": "raw", "file": "no", "node-name": "r"}) == "Cannot find device='no' nor node-name='no'"
    inner = {"driver": "file", "filename": str(image)}
    assert refused({"driver": "raw", "file": inner, "node-name": "r", "offset": 3}) == "Specified offset is not multiple of 512"
    assert refused({"driver": "raw", "file": inner, "node-name": "r", "offset": 2 * SIZE}).startswith("Offset (2097152) cannot")
    assert refused({"driver": "raw", "file": inner, "node-name": "r", "offset": 512, "size": SIZE}).startswith("The sum of")


def test_a_part_of_a_node(image: Path) -> None:
    machine = new_machine()
    machine.blockdev_add({"driver": "file", "filename": str(image), "node-name": "f"})
    machine.blockdev_add({"driver": "raw", "file": "f", "node-name": "n1", "offset": 1024, "size": 4096})
    with pytest.raises(GenericError, match="Duplicate nodes with node-name='n1'"):
        machine.blockdev_add({"driver": "raw", "file": "f", "node-name": "n1"})
    disk = Disk.__new__(Disk)
    Board.__init__(disk, "virtio-blk-device", machine=machine, drive="n1")
    disk.ready()
    assert disk.config(0, 8) == 8
    assert disk.do(IN, 0, size=4096) == (0, PATTERN[1024:5120]) and disk.do(IN, 8, size=512)[0] == 1
    disk.do(OUT, 1, b"z" * 512)
    assert image.read_bytes()[1536:2048] == b"z" * 512
    for name, text in (("n1", "Node n1 is in use"), ("f", "Block device f is in use")):
        with pytest.raises(GenericError, match=text):
            machine.blockdev_del(name)
    with pytest.raises(GenericError, match="Failed to find node with node-name='zz'"):
        machine.blockdev_del("zz")
    info = machine.blocks.nodes()[0].info()
    assert (info["node-name"], info["drv"], info["image"]["virtual-size"], info["file"]) == ("n1", "raw", 4096, str(image))
    machine.close()


def test_nodes_go_with_what_was_made_along(image: Path) -> None:
    machine = new_machine()
    machine.blockdev_add({"driver": "raw", "file": {"driver": "file", "filename": str(image)}, "node-name": "r"})
    assert [node.id for node in machine.blocks.nodes()] == ["r", "#r.file"]
    machine.blockdev_del("r")
    assert machine.blocks.nodes() == []
    machine.close()


def test_what_a_device_says_of_its_drive(image: Path) -> None:
    machine = new_machine()
    machine.create_object("address-space", "mem", {})
    machine.device_add("virtio-mmio", "vm", {})
    with pytest.raises(GenericError, match="drive property not set"):
        machine.device_add("virtio-blk-device", "d", {})
    machine.device_add("virtio-blk-device", "d", {"drive": "no"})
    with pytest.raises(GenericError, match=r"Property 'virtio-blk-device.drive' can't find value 'no'"):
        machine.exit_preconfig()
    machine.close()


CONFLICT = (
    "Permission conflict on node 'n0': permissions 'write' are both required by block device '/machine/peripheral/dev' (uses "
    "node 'n0' as 'root' child) and unshared by block device '/machine/peripheral/two' (uses node 'n0' as 'root' child)."
)


def test_one_writer_or_many_readers(image: Path) -> None:
    for read_only in (False, True):
        disk = Disk(image, options={"read-only": read_only})
        disk.machine.device_add("virtio-mmio", "vm1", {})
        disk.machine.device_del("dev")
        disk.machine.device_add("virtio-blk-device", "dev", {"drive": "n0", "bus": "vm0.0"})
        disk.machine.device_add("virtio-blk-device", "two", {"drive": "n0", "bus": "vm1.0"})
        if read_only:
            disk.machine.exit_preconfig()
        else:
            with pytest.raises(GenericError) as caught:
                disk.machine.exit_preconfig()
            assert caught.value.desc == f"/machine/peripheral/two: {CONFLICT}"
        disk.machine.close()


OTHER = """
import sys
from virtio_kit import new_machine
from blk_kit import Disk
from pathlib import Path
disk = Disk(Path(sys.argv[1]), options={"read-only": sys.argv[2] == "ro"})
try:
    disk.ready()
    print("taken")
except Exception as error:
    print(error)
disk.machine.close()
"""


def elsewhere(image: Path, mode: str) -> str:
    """What another process says when it wants the image."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", OTHER, str(image), mode], env=env, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1]


def test_locks_against_others(image: Path) -> None:
    write, shared = 'Failed to get "write" lock', 'Failed to get shared "write" lock'
    disk = Disk(image).ready()
    assert elsewhere(image, "rw").endswith(write) and elsewhere(image, "ro").endswith(shared)
    second = Disk(image)
    with pytest.raises(GenericError, match=write):
        second.start()
    disk.machine.close()
    second.start()
    second.machine.close()
    assert elsewhere(image, "rw") == "taken"

    disk = Disk(image, options={"read-only": True}).ready()
    assert elsewhere(image, "ro") == "taken" and elsewhere(image, "rw").endswith(write)
    disk.machine.close()
    disk = Disk(image, options={"locking": "off"}).ready()
    assert elsewhere(image, "rw") == "taken"
    disk.machine.close()


@pytest.mark.peer
def test_locks_are_qemus_too(image: Path) -> None:
    import shutil

    tool = shutil.which("qemu-io")
    if tool is None:
        pytest.skip("qemu-io isn't installed")
    command = [tool, "-f", "raw", "-c", "write 0 512", str(image)]
    disk = Disk(image).ready()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 'Failed to get "write" lock' in done.stdout + done.stderr
    disk.machine.close()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    holder = [tool, "-f", "raw", str(image)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("write 0 512\n")
        process.stdin.flush()
        while "ops" not in process.stdout.readline():
            pass
        disk = Disk(image)
        with pytest.raises(GenericError, match='Failed to get shared "write" lock'):
            disk.start()
        process.stdin.write("quit\n")
    disk.ready()
    disk.machine.close()


@pytest.mark.parametrize("seed", range(10))
def test_a_hostile_driver(image: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = Disk(image).ready()
    for _ in range(30):
        disk.top = RAM
        disk.up()
        ring = disk.queues[0]
        head = disk.alloc(64)
        disk.write(head, struct.pack("<IIQ", rng.choice((0, 1, 4, 8, 11, 13, rng.getrandbits(32))), 0,
                                     rng.choice((0, 1, rng.randrange(SIZE // 512 + 9), rng.getrandbits(64)))))  # fmt: skip
        for _ in range(rng.randrange(1, 4)):
            ring.free = list(range(8))
            parts = [(head, rng.choice((16, 16, 15, 3)), False)]
            for _ in range(rng.randrange(4)):
                addr = rng.choice((RAM + rng.randrange(RAM_SIZE), rng.getrandbits(64), RAM + 4096))
                parts.append((addr, rng.choice((0, 1, 16, 512, 4096, rng.getrandbits(32))), rng.random() < 0.5))
            ring.send(*sorted(parts, key=lambda part: part[2]))
    disk.top = RAM
    disk.up()
    disk.floor = disk.top
    assert disk.do(IN, 1, size=512)[0] == 0 and disk.faults() == 0
    disk.machine.close()


def test_what_is_counted(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By disk as the requests end, by node where writes ended and what was discarded."""
    options = {"driver": "raw", "offset": 1024, "discard": "unmap", "file": {"driver": "file", "filename": str(image)}}
    disk = Disk(image, werror="stop", options=options).ready()
    disk.machine.cont()
    fresh = disk.dev.account.stats(0)
    assert "idle_time_ns" not in fresh and not any(value for name, value in fresh.items() if not name.startswith("account"))
    for sector, size in ((0, 512), (8, 4096)):
        assert disk.do(IN, sector, size=size)[0] == 0
    assert disk.do(OUT, 4, bytes(1024))[0] == disk.do(FLUSH, 0)[0] == disk.do(DISCARD, 0, span(16, 8, 0))[0] == 0
    assert disk.do(ZEROES, 0, span(32, 4, 0))[0] == 0
    assert disk.do(IN, END, size=512)[0] == disk.do(OUT, END, bytes(512))[0] == disk.do(DISCARD, 0, span(END, 1, 0))[0] == 1
    failing = Failing(monkeypatch, "preadv", errno.EIO)
    assert disk.do(IN, 0, size=512)[0] == 1
    failing.error = 0
    failing = Failing(monkeypatch, "pwritev", errno.EIO)
    disk.submit(OUT, 0, bytes(512))
    stopped(disk, 1)
    failing.error = 0
    disk.machine.cont()
    disk.wait()
    node = disk.machine.blocks.find("n0")
    stats = disk.dev.account.stats(node.wr_highest_offset)
    wanted = {
        "rd_operations": 2, "rd_bytes": 4608, "wr_operations": 3, "wr_bytes": 1024 + 2048 + 512, "flush_operations": 1,
        "unmap_operations": 1, "unmap_bytes": 4096, "failed_rd_operations": 1, "failed_wr_operations": 0,
        "invalid_rd_operations": 1, "invalid_wr_operations": 1, "invalid_unmap_operations": 1, "invalid_flush_operations": 0,
        "wr_highest_offset": 36 * 512, "rd_merged": 0, "timed_stats": [], "account_failed": True,
    }  # fmt: skip
    assert {name: stats[name] for name in wanted} == wanted and "flush_bytes" not in stats
    assert all(stats[f"{kind}_total_time_ns"] > 0 for kind in ("rd", "wr", "flush", "unmap")) and stats["idle_time_ns"] > 0
    parent = node.stats()["parent"]
    assert node.stats()["stats"]["wr_highest_offset"] == 36 * 512 and not node.stats()["stats"]["wr_operations"]
    assert parent["stats"]["wr_highest_offset"] == 36 * 512 + 1024
    assert parent["driver-specific"] == {"driver": "file", "discard-nb-ok": 1, "discard-nb-failed": 0, "discard-bytes-ok": 4096}
    disk.machine.close()


def test_writes_of_zeros_are_looked_for(image: Path) -> None:
    options = {"detect-zeroes": "unmap", "discard": "unmap"}
    disk = Disk(image, options=options).ready()
    before = os.stat(image).st_blocks
    assert disk.do(OUT, 0, bytes(1 << 18))[0] == 0
    assert disk.do(OUT, 1024, bytes(4095) + b"\1")[0] == 0
    assert image.read_bytes() == bytes(1 << 18) + PATTERN[1 << 18 : 1 << 19] + bytes(4095) + b"\1" + PATTERN[(1 << 19) + 4096 :]
    assert os.stat(image).st_blocks < before - 256, "a hole, where there were only zeros"
    assert disk.machine.blocks.nodes()[0].info()["detect_zeroes"] == "unmap"
    disk.machine.close()
    machine = new_machine()
    with pytest.raises(GenericError, match="setting detect-zeroes to unmap is not allowed without setting discard"):
        machine.blockdev_add({"driver": "file", "filename": str(image), "node-name": "n", "detect-zeroes": "unmap"})
    machine.close()


def test_a_disk_becomes_longer_and_shorter(image: Path) -> None:
    machine = new_machine()
    machine.blockdev_add({"driver": "file", "filename": str(image), "node-name": "below"})
    machine.blockdev_add({"driver": "raw", "file": "below", "node-name": "n0", "offset": 512})
    disk = Board("virtio-blk-device", machine=machine, drive="n0")
    disk.start()
    disk.up()
    generation = disk.reg(0xFC)
    machine.blocks.resize("n0", 2 * SIZE - 100)
    assert disk.config(0, 4) == 2 * SIZE // 512 and disk.reg(0xFC) != generation
    assert disk.reg(0x60) & 2, "the driver is told"
    assert image.stat().st_size == 2 * SIZE - 100 + 512
    machine.blocks.resize("below", SIZE)
    assert disk.config(0, 4) == SIZE // 512 - 1
    assert [node.length() for node in machine.blocks.nodes()] == [SIZE - 512, SIZE]
    machine.blockdev_add({"driver": "raw", "file": "below", "node-name": "part", "size": 512, "read-only": True})
    machine.blockdev_add({"driver": "file", "filename": str(image), "node-name": "ro", "read-only": True, "locking": "off"})
    for name, size, words in (
        ("part", 1024, "Image is read-only"),
        ("ro", 1024, "Image is read-only"),
        ("below", -1, "Parameter 'size' expects a >0 size"),
        ("below", 1 << 62, "Failed to resize the image: File too large"),
        ("zz", 0, "Cannot find device='' nor node-name='zz'"),
    ):
        with pytest.raises(GenericError, match=words):
            machine.blocks.resize(name, size)
    machine.close()


def test_a_write_beyond_the_threshold_is_told_once(disk: Disk) -> None:
    disk.machine.blocks.set_write_threshold("n0", 8192)
    for sector in (0, 15, 100, 200):
        assert disk.do(OUT, sector, bytes(1024))[0] == 0
    told = [data for name, data in disk.events if name == "BLOCK_WRITE_THRESHOLD"]
    assert told == [{"node-name": "n0", "amount-exceeded": 512, "write-threshold": 8192}]
    assert disk.machine.blocks.find("n0").info()["write_threshold"] == 0


def test_io_is_limited_and_a_reset_lets_go(image: Path) -> None:
    disk = Disk(image).ready()
    machine, clock = disk.machine, disk.machine.clock
    machine.blocks.limit(disk.dev, "group", Limits({"iops": 1}))
    assert disk.do(IN, 0, size=512)[0] == 0
    for _ in range(2):
        disk.queues[0].free = list(range(disk.queues[0].num))
        waiting = disk.submit(IN, 0, size=512)[0]
        flush = disk.submit(FLUSH, 0)[0]
        assert [head for head, _ in disk.wait()] == [flush], "flushes are not limited"
        clock.advance(1_000_000_000)
        assert [head for head, _ in disk.wait()] == [waiting]
    disk.queues[0].free = list(range(disk.queues[0].num))
    disk.submit(IN, 0, size=512)
    disk.set(0x70, 0)
    assert clock.next_deadline() is None
    while disk.dev._bytes_under_way:
        pass
    machine.blocks.limit(disk.dev, None, Limits({}))
    assert disk.dev.throttle is None and not machine.blocks._groups
    machine.close()


def test_an_image_that_can_only_be_read(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = new_machine()
    real = machine.files.open

    def refuse(path: str, flags: int, mode: int = 0o666) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, mode)

    monkeypatch.setattr(type(machine.files), "open", staticmethod(refuse))
    options = {"driver": "file", "filename": str(image), "node-name": "n"}
    with pytest.raises(GenericError, match="Permission denied"):
        machine.blockdev_add(options)
    machine.blockdev_add({**options, "auto-read-only": True})
    assert machine.blocks.find("n").info()["ro"]
    with pytest.raises(GenericError, match="force-share=on can only be used with read-only images"):
        machine.blockdev_add({**options, "node-name": "m", "force-share": True})
    machine.close()


def test_a_reader_that_minds_nobody(disk: Disk, image: Path) -> None:
    """force-share: no locks, so it reads what another process writes."""
    other = new_machine()
    other.blockdev_add({"driver": "file", "filename": str(image), "node-name": "n0", "read-only": True, "force-share": True})
    reader = Board("virtio-blk-device", machine=other, drive="n0")
    reader.start()
    other.close()


def test_nodes_get_other_options(image: Path) -> None:
    """While a disk is at work on them: locks, the host's cache and what is refused change with the options."""
    machine = new_machine(inline=False)
    call = machine.owner.call
    file = {"driver": "file", "filename": str(image), "node-name": "below"}
    raw = {"driver": "raw", "file": "below", "node-name": "n0"}
    call(machine.blockdev_add, file)
    call(machine.blockdev_add, raw)
    call(machine.blockdev_add, {"driver": "raw", "file": "below", "node-name": "spare", "read-only": True})
    disk = Disk.__new__(Disk)
    Board.__init__(disk, "virtio-blk-device", machine=machine, drive="n0")
    disk.ready()

    def refused(*wanted: dict[str, Any]) -> str:
        with pytest.raises(GenericError) as caught:
            call(machine.blocks.reopen, wanted)
        return caught.value.desc

    assert disk.do(OUT, 0, b"1" * 512)[0] == 0
    cached = {"direct": True}
    call(machine.blocks.reopen, [{**file, "cache": cached}, {**raw, "detect-zeroes": "on"}])
    infos = {node.id: node.info() for node in machine.blocks.nodes()}
    assert infos["below"]["cache"]["direct"] and infos["n0"]["detect_zeroes"] == "on"
    assert disk.do(IN, 0, size=512) == (0, b"1" * 512)
    assert disk.do(OUT, 1, b"2" * 512)[0] == 0
    call(machine.blocks.reopen, [file, {**raw, "offset": 512}])
    assert disk.config(0, 4) == SIZE // 512 - 1
    assert disk.do(IN, 0, size=512) == (0, b"2" * 512)
    other = new_machine()
    other.blockdev_add({**file, "node-name": "n0"})
    rival = Board("virtio-blk-device", machine=other, drive="n0")
    with pytest.raises(GenericError, match='Failed to get "write" lock'):
        rival.start()
    other.close()
    assert refused({**raw, "read-only": True}) == "Read-only block node 'n0' cannot support read-write users"
    assert refused({**file, "read-only": True}) == "Read-only block node 'below' cannot support read-write users"
    assert refused({**file, "filename": "/x"}) == "Cannot change the option 'filename'"
    assert refused({**raw, "node-name": "below"}) == "Cannot change the option 'driver'"
    assert refused({**raw, "file": "n0"}) == "Cannot change the option 'file'"
    assert refused({**raw, "offset": 5}) == "Specified offset is not multiple of 512"
    assert refused({**raw, "node-name": "zz"}) == "Failed to find node with node-name='zz'"
    assert refused(file, {"driver": "raw", "file": "below"}) == "node-name not specified"
    call(machine.blocks.reopen, [{"driver": "raw", "file": "below", "node-name": "spare"}])
    assert not machine.blocks.find("spare").read_only
    machine.close()

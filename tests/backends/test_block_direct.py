"""cache.direct: pieces of any place and size through blocks of the host's, against a plain file."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.qmp import CommandError, DaemonProcess
from ratite.core.backends.block import direct as module
from ratite.core.backends.block.direct import Direct, open_direct
from ratite.qapi.errors import GenericError

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this host has no O_DIRECT")


def opened(path: Path) -> int:
    try:
        return open_direct(str(path), os.O_RDWR)
    except GenericError as error:
        pytest.skip(error.desc)


@pytest.mark.parametrize("block", [0, 4096])
@pytest.mark.parametrize("length", [0, 100, 512, 5000, 8192, 20_001])
def test_as_a_plain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, block: int) -> None:
    """Content and length, also where requests are larger than the buffer and the file ends within a block."""
    monkeypatch.setattr(module, "BUFFER", 8192)
    rng = random.Random(length + block)
    path = tmp_path / "file"
    model = bytearray(rng.randbytes(length))
    path.write_bytes(model)
    fd = opened(path)
    try:
        io = Direct(fd)
        io.block = block or io.block
        for _ in range(120):
            offset = rng.choice((0, rng.randrange(24_000), rng.randrange(48) * 512))
            size = rng.choice((1, 512, 4096, rng.randrange(1, 20_000)))
            if rng.random() < 0.5:
                assert io.read_at(fd, size, offset) == model[offset : offset + size]
                continue
            data = rng.randbytes(size)
            cut = rng.randrange(size + 1)
            io.write_at(fd, [data[:cut], data[cut:]], offset)
            model += bytes(max(0, offset - len(model)))
            model[offset : offset + size] = data
            assert os.fstat(fd).st_size == len(model)
        assert path.read_bytes() == model
    finally:
        os.close(fd)


def test_the_block_is_one_that_the_host_takes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 16))
    fd = opened(path)
    try:
        io = Direct(fd)
        assert io.block in (512, 1024, 2048, 4096)
        assert os.preadv(fd, [io._buffer[: io.block]], io.block) == io.block
    finally:
        os.close(fd)


def test_over_qmp(daemon_process: DaemonProcess, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 16))
    os.close(opened(image))
    with daemon_process.client() as qmp:
        qmp.execute("machine-create")
        options: dict[str, Any] = {"driver": "raw", "cache": {"direct": True}, "node-name": "r0",
                                   "file": {"driver": "file", "filename": str(image)}}
        qmp.execute("blockdev-add", options)
        nodes = qmp.execute("query-named-block-nodes")
        assert [node["cache"] for node in nodes] == [{"writeback": True, "direct": True, "no-flush": False}] * 2
        pid = daemon_process.process.pid
        flags = [int(line.split()[1], 8) for info in Path(f"/proc/{pid}/fd").iterdir()
                 if os.path.realpath(info) == str(image)
                 for line in Path(f"/proc/{pid}/fdinfo/{info.name}").read_text().splitlines() if line.startswith("flags")]
        assert len(flags) == 1 and flags[0] & os.O_DIRECT
        with pytest.raises(CommandError) as caught:
            qmp.execute("blockdev-add", {"driver": "file", "filename": "/proc/self/status", "node-name": "n1",
                                         "read-only": True, "cache": {"direct": True}})
        assert caught.value.desc == "Could not open '/proc/self/status': filesystem does not support O_DIRECT"


@pytest.fixture
def daemon_process(tmp_path: Path) -> Any:
    with DaemonProcess(tmp_path / "qmp") as daemon:
        yield daemon

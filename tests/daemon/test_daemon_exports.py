"""Disks for others: the NBD server, spoken to by hand and by QEMU's tools."""

from __future__ import annotations

import os
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.core.backends.block.nbd import NbdClient

SIZE = 1 << 20
DATA = random.Random(11).randbytes(SIZE)
SOCKETS: list[socket.socket] = []


@pytest.fixture
def qmp(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Client]:
    """A machine with the nodes a and b (read-only)."""
    with daemon.client() as made:
        made.execute("machine-create")
        for name in "ab":
            (tmp_path / name).write_bytes(DATA)
            file = {"driver": "file", "filename": str(tmp_path / name)}
            made.execute("blockdev-add", {"driver": "raw", "node-name": name, "file": file, "read-only": name == "b"})
        yield made
    while SOCKETS:
        SOCKETS.pop().close()


def connected(path: str) -> socket.socket:
    """Closed when the test ends."""
    sock = socket.socket(socket.AF_UNIX)
    SOCKETS.append(sock)
    sock.settimeout(30)
    sock.connect(path)
    return sock


def serve(qmp: Client, place: Path, **more: Any) -> str:
    path = str(place / "nbd")
    address = {"type": "unix", "data": {"path": path}}
    qmp.execute("nbd-server-start", {"addr": address, **{name.replace("_", "-"): value for name, value in more.items()}})
    return path


def export(qmp: Client, id: str, node: str, **more: Any) -> None:
    qmp.execute("block-export-add", {"type": "nbd", "id": id, "node-name": node, **more})


def refusal(qmp: Client, command: str, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.desc


class Nbd:
    """A client."""

    def __init__(self, path: str) -> None:
        self.sock = connected(path)
        assert self.take(18) == b"NBDMAGICIHAVEOPT\0\3"
        self.sock.sendall(struct.pack(">I", 3))

    def take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "hung up"
            data += more
        return data

    def gone(self) -> bool:
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """The replies up to the last."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        found = []
        while True:
            magic, option, kind, size = struct.unpack(">QIII", self.take(20))
            assert (magic, option) == (0x3E889045565A9, number)
            found.append((kind, self.take(size)))
            if kind == 1 or kind >> 31:
                return found

    def go(self, name: str, option: int = 7) -> list[tuple[int, bytes]]:
        text = name.encode()
        return self.option(option, struct.pack(">I", len(text)) + text + struct.pack(">HHH", 2, 1, 2))

    def ask(self, command: int, offset: int = 0, size: int = 0, data: bytes = b"", flags: int = 0) -> int:
        """A request; its error.  What is read is `read`'s."""
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, 77, offset, size or len(data)) + data)
        magic, error, handle = struct.unpack(">IIQ", self.take(16))
        assert (magic, handle) == (0x67446698, 77)
        return int(error)

    def read(self, offset: int, size: int) -> bytes:
        assert self.ask(0, offset, size) == 0
        return self.take(size)


def test_a_disk_is_read_and_written(qmp: Client, tmp_path: Path) -> None:
    path = serve(qmp, tmp_path)
    export(qmp, "e", "a", name="disk", writable=True, description="words")
    export(qmp, "f", "b")
    client = Nbd(path)
    assert client.option(3) == [(2, b"\0\0\0\4diskwords"), (2, b"\0\0\0\1b"), (1, b"")]
    assert client.go("nope") == [(1 << 31 | 6, b"")] and client.option(8) == [(1 << 31 | 1, b"")]
    told = client.go("disk", 6)
    assert told == [
        (3, b"\0\1disk"), (3, b"\0\2words"), (3, struct.pack(">HIII", 3, 1, 4096, 32 << 20)),
        (3, struct.pack(">HQH", 0, SIZE, 1 | 4 | 8 | 32 | 64)), (1, b""),
    ]  # fmt: skip
    assert client.go("disk") == told
    assert client.read(0, SIZE) == DATA and client.read(1001, 7) == DATA[1001:1008]
    assert client.ask(1, 513, data=b"x" * 1000, flags=1) == 0
    assert client.ask(6, 4096, 4096) == client.ask(4, 8192, 4096) == client.ask(3) == 0
    expected = DATA[:513] + b"x" * 1000 + DATA[1513:4096] + bytes(4096)
    assert (tmp_path / "a").read_bytes()[:8192] == expected
    errors = [client.ask(0, SIZE, 1), client.ask(1, SIZE - 1, data=b"ab"), client.ask(9), client.ask(0, 0, 1, flags=64)]
    assert errors == [22, 28, 22, 22] and client.ask(0, 0, (32 << 20) + 1) == 22
    other = Nbd(path)
    other.go("b")
    assert other.read(5, 100) == DATA[5:105] and other.ask(1, 0, data=b"no") == 1
    assert refusal(qmp, "block-export-del", id="f") == "export 'f' still in use"
    assert refusal(qmp, "blockdev-del", **{"node-name": "a"}) == "Node a is in use"
    qmp.execute("block-export-del", id="f", mode="hard")
    assert qmp.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "f"}
    assert other.gone()
    client.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))
    assert client.gone()
    qmp.execute("nbd-server-stop")
    assert qmp.execute("query-block-exports") == [] and not os.path.exists(path)


def test_refusals(qmp: Client, tmp_path: Path) -> None:
    add = {"type": "nbd", "id": "e", "node-name": "a"}
    assert refusal(qmp, "block-export-add", **add) == refusal(qmp, "nbd-server-stop") == "NBD server not running"
    bad = {"type": "unix", "data": {"path": "/nonexistent/x"}}
    assert refusal(qmp, "nbd-server-start", addr=bad).startswith("Failed to bind socket to /nonexistent/x")
    serve(qmp, tmp_path)
    assert refusal(qmp, "nbd-server-start", addr=bad) == "NBD server already running"
    export(qmp, "e", "a", name="disk")
    for given, words in (
        ({"node-name": "zz", "id": "g"}, "Cannot find device='' nor node-name='zz'"),
        ({"id": "1e"}, "Invalid block export id"),
        ({}, "Block export id 'e' is already in use"),
        ({"id": "f", "name": "disk"}, "NBD server already has export named 'disk'"),
        ({"id": "f", "node-name": "b", "writable": True}, "Cannot export read-only node as writable"),
        ({"id": "f", "name": "x" * 5000}, f"export name '{'x' * 5000}' too long"),
    ):
        assert refusal(qmp, "block-export-add", **{**add, **given}) == words
    assert qmp.execute("query-block-exports") == [{"id": "e", "type": "nbd", "node-name": "a", "shutting-down": False}]
    assert refusal(qmp, "block-export-del", id="zz") == "Export 'zz' is not found"


@pytest.mark.parametrize("sent", [
    b"\xff\xff\xff\xff", struct.pack(">I", 3) + b"nonsense" + bytes(8), struct.pack(">I", 3) + b"IHAVEOPT\0\0\0\7\0\1\0\0",
    struct.pack(">I", 3) + b"IHAVEOPT\0\0\0\1\0\0\0\2zz",
])  # fmt: skip
def test_who_breaks_the_rules_is_sent_away(qmp: Client, tmp_path: Path, sent: bytes) -> None:
    path = serve(qmp, tmp_path)
    export(qmp, "e", "a")
    sock = connected(path)
    sock.recv(18)
    sock.sendall(sent)
    assert sock.recv(100) == b""
    late = Nbd(path)
    late.go("a")
    late.sock.sendall(struct.pack(">IHHQQI", 0x25609514, 0, 0, 0, 0, 512))
    assert late.gone()
    assert Nbd(path).go("a")[-1] == (1, b""), "others are served"


def test_who_reads_nothing_holds_up_nobody(qmp: Client, tmp_path: Path) -> None:
    path = serve(qmp, tmp_path)
    export(qmp, "e", "a")
    greedy = Nbd(path)
    greedy.go("a")
    asked = struct.pack(">IHHQQI", 0x25609513, 0, 0, 0, 0, SIZE) * 2000
    greedy.sock.setblocking(False)
    sent = greedy.sock.send(asked)
    client = Nbd(path)
    client.go("a")
    assert client.read(0, 512) == DATA[:512] and sent
    assert qmp.execute("query-block-exports")
    greedy.sock.close()
    assert client.read(512, 512) == DATA[512:1024]


def test_requests_that_nobody_reads_the_answers_of_wait() -> None:
    begun: list[Any] = []
    node: Any = SimpleNamespace(submit=begun.append, length=lambda: 1 << 30)
    shown: Any = SimpleNamespace(name="a", description="", node=node, writable=True, writethrough=False, clients=set())
    client = NbdClient({"a": shown})
    client.received(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"a")
    client.out.clear()
    client.received(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 1 << 20) * 1000)
    assert 16 <= len(begun) <= 18 and client.full
    done = 0
    while done < len(begun):
        request = begun[done]
        request.data, done = (bytes(request.size),), done + 1
        request.done(request)
        assert len(client.out) + client.bytes_under_way < 20 << 20
        if done % 10 == 0:
            client.out.clear()
            client.go_on()
    client.out.clear()
    client.go_on()
    assert len(begun) > done or done == 1000


def test_who_says_nothing_is_sent_away_and_places_are_counted(qmp: Client, tmp_path: Path) -> None:
    path = serve(qmp, tmp_path, handshake_max_seconds=1, max_connections=1)
    export(qmp, "e", "a")
    silent = Nbd(path)
    waiting = Nbd.__new__(Nbd)
    waiting.sock = connected(path)
    assert silent.gone()
    assert waiting.take(18)[:8] == b"NBDMAGIC", "its turn came"


def test_a_socket_that_a_client_hands_over(qmp: Client, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "own"))
        listening.listen()
        qmp.execute("getfd", {"fdname": "s"}, fds=[listening.fileno()])
    qmp.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "s"}})
    export(qmp, "e", "a")
    client = Nbd(str(tmp_path / "own"))
    client.go("a")
    assert client.read(0, 16) == DATA[:16]


@pytest.mark.peer
@pytest.mark.skipif(not (shutil.which("qemu-img") and shutil.which("qemu-io")), reason="qemu-img and qemu-io aren't installed")
def test_tools_of_others(qmp: Client, tmp_path: Path) -> None:
    path = serve(qmp, tmp_path)
    export(qmp, "e", "a", writable=True)
    url = f"nbd+unix:///a?socket={path}"
    done = subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url, tmp_path / "out"], check=False, timeout=60)
    assert done.returncode == 0 and (tmp_path / "out").read_bytes() == DATA
    orders = ("write -P 7 4096 65536", "write -z 100k 64k", "discard 0 4096", "flush", "read -P 7 4096 4096")
    commands = [word for order in orders for word in ("-c", order)]
    done = subprocess.run(["qemu-io", "-f", "raw", *commands, url], check=False, timeout=60, capture_output=True)
    assert done.returncode == 0 and b"failed" not in done.stdout, done.stdout
    image = (tmp_path / "a").read_bytes()
    assert image[4096:69632] == b"\7" * 65536 and image[102400:167936] == bytes(65536)

"""Chardevs and those at their other end: reconnecting, Telnet, addresses of all kinds, pipes, ports, datagrams."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

import pytest
from backends_kit import TIMEOUT, Front, chardev_set, client, unix

from ratite.core.backends import telnet
from ratite.qapi.errors import GenericError


@pytest.fixture
def chardevs():
    with chardev_set() as made:
        yield made


def attach(chardevs, id: str) -> Front:
    front = Front()
    with chardevs.lock:
        chardevs.find(id).attach(front)
    return front


def write(chardevs, front: Front, data: bytes) -> None:
    with chardevs.lock:
        assert front.line is not None
        assert front.line.write(data) == len(data)


def inet(host: str = "127.0.0.1", port: str = "0", **rest) -> dict[str, object]:
    return {"addr": {"type": "inet", "data": {"host": host, "port": port, **rest.pop("addr", {})}}, **rest}


def test_a_client_comes_back(chardevs, tmp_path) -> None:
    """It is made before there is anybody, and connects again when who was there has gone."""
    path = tmp_path / "s"
    chardevs.add("c", "socket", unix(path, server=False, **{"reconnect-ms": 5}))
    assert chardevs.list()[0]["filename"] == f"disconnected:unix:{path}"
    front = attach(chardevs, "c")
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(TIMEOUT)
        server.bind(str(path))
        server.listen()
        for _ in range(3):
            peer, _ = server.accept()
            front.until("opened")
            peer.sendall(b"hi")
            front.expect(b"hi")
            peer.close()
            front.expect("closed")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"server": False, "reconnect": 1, "reconnect-ms": 5}, "'reconnect' and 'reconnect-ms' are mutually exclusive"),
        ({"server": True, "reconnect": 1}, "'reconnect' option is incompatible with socket in server listen mode"),
        ({"server": False, "reconnect-ms": -1}, "Parameter 'reconnect-ms' expects a non-negative value"),
        ({"server": False, "wait": True}, "'wait' option is incompatible with socket in client connect mode"),
    ],
)
def test_ways_of_connecting_that_do_not_go_together(chardevs, tmp_path, options, words) -> None:
    with pytest.raises(GenericError, match=words):
        chardevs.add("c", "socket", unix(tmp_path / "s", **options))


def test_a_client_in_no_hurry_holds_nobody_up(chardevs, tmp_path) -> None:
    """No host's call waits for 292 million years; the others on the thread would have been lost with it."""
    chardevs.add("c", "socket", unix(tmp_path / "nobody", server=False, **{"reconnect-ms": (1 << 63) - 1}))
    while chardevs.find("c").poll_after() is None:
        assert chardevs.io.sync()
    for _ in range(3):
        assert chardevs.io.sync()


def test_telnet(chardevs) -> None:
    chardevs.add("c", "socket", inet(telnet=True))
    chardev = chardevs.find("c")
    assert chardev.filename.startswith("disconnected:telnet:127.0.0.1:")
    front = attach(chardevs, "c")
    host, port = chardev.actual_address.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as peer:
        front.until("opened")
        peer.sendall(b"a\xff\xfd\x01b\xff\xff\xff\xf3c\xff\xfa\x18\x00ansi\xff\xf0d\xff")
        peer.sendall(b"\xfb\x1fe")
        front.until("break")
        while front.data != b"ab\xffcde":
            front.said.get(timeout=TIMEOUT)
        write(chardevs, front, b"x\xffy")
        said = b""
        while len(said) < len(telnet.OFFER) + 4:
            said += peer.recv(100)
        assert said == telnet.OFFER + b"x\xff\xffy"


def test_telnet_however_it_is_cut() -> None:
    sent = b"one\xff\xfb\x03\xff\xff\xff\xfa\x1f\0\x50\xff\xff\0\xff\xf0two\xff\xf1\xff\xf3"
    whole, reader = telnet.Reader(), telnet.Reader()
    assert whole.feed(sent) == b"".join(reader.feed(bytes((byte,))) for byte in sent) == b"one\xfftwo"
    assert whole.breaks == reader.breaks == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has abstract names")
@pytest.mark.parametrize("tight", [True, False])
def test_abstract_names(chardevs, tmp_path, tight) -> None:
    name = f"ratite-test-{os.getpid()}-{tmp_path.name}"
    data = {"path": name, "abstract": True, "tight": tight}
    chardevs.add("s", "socket", {"addr": {"type": "unix", "data": data}})
    shown = f"unix:{name},abstract=on{',tight=on' if tight else ''},server=on"
    assert chardevs.find("s").filename == f"disconnected:{shown}"
    chardevs.add("c", "socket", {"addr": {"type": "unix", "data": data}, "server": False})
    assert chardevs.find("s").wait_connected(TIMEOUT)
    assert chardevs.find("s").filename == shown
    write(chardevs, attach(chardevs, "c"), b"hello")
    attach(chardevs, "s").until(b"hello")


def test_families_ranges_and_what_is_refused(chardevs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if port < 65500:
            chardevs.add("r", "socket", inet(port=str(port), addr={"to": port + 30}))
            assert port < int(chardevs.find("r").actual_address.split(":")[1]) <= port + 30
    for addr, host, words in (
        ({"ipv4": False, "ipv6": False}, "::1", "Cannot disable IPv4 and IPv6 at same time"),
        ({"ipv6": False}, "::1", "address resolution failed for ::1:0: Address family for hostname not supported"),
        ({"numeric": True}, "localhost", "address resolution failed for localhost:0"),
        ({"keep-alive": True}, "127.0.0.1", "keep-alive option is not supported for passive sockets"),
    ):
        with pytest.raises(GenericError, match=words):
            chardevs.add("x", "socket", inet(host, addr=addr))
    with pytest.raises(GenericError, match="Parameter 'to' must be from 5 to 65535, not 4"):
        chardevs.add("x", "socket", inet(port="5", addr={"to": 4}))


def test_names_of_sockets_that_were_handed_over(chardevs, tmp_path) -> None:
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener, ours:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        for id, fd, server in (("l", os.dup(listener.fileno()), True), ("p", theirs.detach(), False)):
            chardevs.add(id, "socket", {"addr": {"type": "fd", "data": {"str": str(fd)}}, "server": server})
        names = {row["label"]: row["filename"] for row in chardevs.list()}
        assert names == {"l": f"disconnected:unix:{tmp_path}/s,server=on", "p": "unix:"}


def test_pipes(chardevs, tmp_path) -> None:
    path = tmp_path / "p"
    with pytest.raises(GenericError, match=f"Could not open '{path}': No such file or directory"):
        chardevs.add("c", "pipe", {"device": str(path)})
    os.mkfifo(f"{path}.in")
    os.mkfifo(f"{path}.out")
    chardevs.add("c", "pipe", {"device": str(path)})
    front = attach(chardevs, "c")
    with open(f"{path}.in", "wb", buffering=0) as to, open(f"{path}.out", "rb", buffering=0) as back:
        to.write(b"in")
        front.until(b"in")
        write(chardevs, front, b"out")
        assert back.read(3) == b"out"


def test_a_serial_port(chardevs) -> None:
    master, slave = os.openpty()
    chardevs.add("c", "serial", {"device": os.ttyname(slave)})
    front = attach(chardevs, "c")
    os.write(master, b"raw\r\x03")
    front.until(b"raw\r\x03")
    write(chardevs, front, b"back\n")
    assert os.read(master, 10) == b"back\n"
    os.close(slave)
    chardevs.close()
    os.close(master)


def test_datagrams(chardevs) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(TIMEOUT)
        remote = inet(port=str(peer.getsockname()[1]))["addr"]
        chardevs.add("u", "udp", {"remote": remote, "local": inet()["addr"]})
        front = attach(chardevs, "u")
        write(chardevs, front, b"ping")
        data, where = peer.recvfrom(100)
        assert data == b"ping"
        for each in (b"", b"pong"):
            peer.sendto(each, where)
        front.until(b"pong")
    # Nobody is there now: what is sent is lost, and the line goes on.
    for _ in range(3):
        write(chardevs, front, b"lost")
        assert chardevs.io.sync()
    assert chardevs.find("u").connected
    with pytest.raises(GenericError, match="must be 'inet', not 'unix'"):
        chardevs.add("v", "udp", {"remote": {"type": "unix", "path": "x"}})


def test_a_pty_by_a_name_of_its_own(chardevs, tmp_path) -> None:
    link = tmp_path / "console"
    path = chardevs.add("p", "pty", {"path": str(link)})["pty"]
    assert os.readlink(link) == path
    with pytest.raises(GenericError, match="Failed to create PTY symlink: File exists"):
        chardevs.add("q", "pty", {"path": str(link)})
    chardevs.remove("p")
    assert not link.is_symlink()
    chardevs.add("p", "pty", {"path": str(link)})
    link.unlink()
    link.symlink_to("/somebody/elses")
    chardevs.remove("p")
    assert link.is_symlink()


def test_many_come_at_once(chardevs, tmp_path) -> None:
    """Some clients never wait for a place in the queue (asyncio's): the host refuses them."""
    chardevs.add("c", "socket", unix(tmp_path / "s"))
    with contextlib.ExitStack() as peers:
        for _ in range(50):
            peer = peers.enter_context(socket.socket(socket.AF_UNIX))
            peer.setblocking(False)
            peer.connect(str(tmp_path / "s"))


def test_a_connection_is_yanked_and_one_is_given(chardevs, tmp_path) -> None:
    chardevs.add("c", "socket", unix(tmp_path / "s"))
    front = attach(chardevs, "c")
    with client(tmp_path / "s") as peer:
        front.until("opened")
        other, spare = socket.socketpair()
        with other, spare:
            assert not chardevs.add_client("c", spare.fileno())
        chardevs.find("c").yank()
        front.expect("closed")
        assert peer.recv(1) == b""
    ours, theirs = socket.socketpair()
    assert chardevs.add_client("c", theirs.detach())
    with ours:
        front.expect("opened")
        ours.sendall(b"given")
        front.expect(b"given")
    chardevs.add("d", "socket", unix(tmp_path / "d"))
    read, write = os.pipe()
    assert not chardevs.add_client("d", read)
    os.close(read)
    with pytest.raises(BrokenPipeError):  # nobody else has the end that was refused
        os.write(write, b"x")
    os.close(write)


def test_what_is_handed_over_need_not_be_tcp(chardevs) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
        spare.bind(("127.0.0.1", 0))
        addr = {"type": "fd", "data": {"str": str(spare.detach())}}
    chardevs.add("u", "socket", {"addr": addr, "server": False, "nodelay": True})
    assert chardevs.find("u").connected

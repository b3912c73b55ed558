"""Netdevs whose peers are on this host: datagrams, and streams that connect again."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from backends_kit import TIMEOUT

from ratite.core.backends.io import IoThread
from ratite.core.backends.net.set import NetdevSet
from ratite.qapi.errors import GenericError


class Card:
    """What a network device is to its netdev."""

    def __init__(self) -> None:
        self.frames: queue.Queue[bytes] = queue.Queue()

    def net_receive(self, frames: Sequence[bytes]) -> int:
        for frame in frames:
            self.frames.put(frame)
        return len(frames)

    def net_writable(self) -> None:
        """Nothing waits here."""

    def set_link(self, up: bool) -> None:
        """Nobody pulls the cable."""


@pytest.fixture
def netdevs():
    events: queue.Queue[tuple[str, Any]] = queue.Queue()
    made = NetdevSet(threading.RLock(), IoThread(), lambda name, data: events.put((name, data)))
    made.events = events
    yield made
    made.close()
    made.io.stop()


def plug(netdevs: NetdevSet, id: str, kind: str, **options: Any) -> tuple[Any, Card]:
    made, card = netdevs.add(id, kind, options), Card()
    with netdevs.lock:
        made.attach(card)
    return made, card


def send(netdevs: NetdevSet, netdev: Any, frame: bytes) -> None:
    with netdevs.lock:
        assert netdev.send(frame)
        netdev.flush()


def inet(port: object = 0, host: str = "127.0.0.1") -> dict[str, str]:
    return {"type": "inet", "host": host, "port": str(port)}


def test_udp(netdevs) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(TIMEOUT)
        netdev, card = plug(netdevs, "n", "dgram", local=inet(), remote=inet(peer.getsockname()[1]))
        send(netdevs, netdev, b"ping" * 400)
        data, where = peer.recvfrom(4096)
        assert data == b"ping" * 400
        for frame in (b"", b"pong"):
            peer.sendto(frame, where)
        assert card.frames.get(timeout=TIMEOUT) == b"pong"
    for _ in range(3):
        send(netdevs, netdev, b"nobody is there")
        assert netdevs.io.sync()
    assert card.frames.empty()


def test_unix_datagrams(netdevs, tmp_path: Path) -> None:
    ends = [{"type": "unix", "path": str(tmp_path / name)} for name in "ab"]
    first, first_card = plug(netdevs, "a", "dgram", local=ends[0], remote=ends[1])
    send(netdevs, first, b"too early")
    second, second_card = plug(netdevs, "b", "dgram", local=ends[1], remote=ends[0])
    send(netdevs, first, b"there")
    send(netdevs, second, b"back")
    assert second_card.frames.get(timeout=TIMEOUT) == b"there"
    assert first_card.frames.get(timeout=TIMEOUT) == b"back"
    with netdevs.lock:
        second.detach()
    netdevs.remove("b")
    assert not (tmp_path / "b").exists() and (tmp_path / "a").is_socket()


def test_a_socket_that_was_handed_over(netdevs) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    netdev, card = plug(netdevs, "n", "dgram", local={"type": "fd", "str": str(theirs.detach())})
    with ours:
        ours.send(b"in")
        assert card.frames.get(timeout=TIMEOUT) == b"in"
        send(netdevs, netdev, b"out")
        assert ours.recv(100) == b"out"
    stream, other = socket.socketpair()
    with stream, other, pytest.raises(GenericError, match="is not a datagram socket"):
        netdevs.add("m", "dgram", {"local": {"type": "fd", "str": str(stream.fileno())}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "dgram requires local= parameter"),
        ({"remote": inet(1)}, "dgram requires local= parameter"),
        ({"local": inet()}, "type=inet or type=unix requires remote parameter"),
        ({"local": {"type": "unix", "path": "/x"}}, "type=inet or type=unix requires remote parameter"),
        ({"local": {"type": "unix", "path": "/x"}, "remote": inet(1)}, "remote and local types must be the same"),
        ({"local": {"type": "fd", "str": "0"}, "remote": inet(1)}, r"don't set remote with local\.fd"),
        ({"local": inet(host="no.such.host.invalid"), "remote": inet(1)}, "address resolution failed"),
        ({"local": {"type": "unix", "path": "/nonexistent/x"}, "remote": {"type": "unix", "path": "/y"}}, "can't bind unix="),
    ],
)
def test_datagrams_that_cannot_be(netdevs, options, words) -> None:
    with pytest.raises(GenericError, match=words):
        netdevs.add("n", "dgram", options)
    assert not netdevs.children


def test_what_is_refused_stays_whole(netdevs) -> None:
    """A descriptor that is no socket: who handed it over closes it, and then nobody has it."""
    read, write = os.pipe()
    for kind, member in (("dgram", "local"), ("stream", "addr")):
        with pytest.raises(GenericError, match="is not a socket"):
            netdevs.add("n", kind, {member: {"type": "fd", "str": str(read)}})
    os.close(read)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)


def test_a_stream_over_no_tcp(netdevs) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
        netdev, _ = plug(netdevs, "n", "stream", addr={"type": "fd", "str": str(spare.detach())})
    assert netdev.connected


def test_a_stream_connects_again(netdevs, tmp_path: Path) -> None:
    path = tmp_path / "s"
    address = {"type": "unix", "path": str(path)}
    for more, words in (
        ({"server": True, "reconnect-ms": 5}, "'reconnect' and 'reconnect-ms' options are incompatible with socket in server"),
        ({"reconnect": 1, "reconnect-ms": 5}, "'reconnect' and 'reconnect-ms' are mutually exclusive"),
    ):
        with pytest.raises(GenericError, match=words):
            netdevs.add("n", "stream", {"addr": address, **more})
    _netdev, card = plug(netdevs, "n", "stream", addr=address, **{"reconnect-ms": 5})
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(TIMEOUT)
        server.bind(str(path))
        server.listen()
        for _ in range(3):
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"\0\0\0\3abc")
                assert card.frames.get(timeout=TIMEOUT) == b"abc"
            assert netdevs.events.get(timeout=TIMEOUT)[0] == "NETDEV_STREAM_CONNECTED"
            assert netdevs.events.get(timeout=TIMEOUT)[0] == "NETDEV_STREAM_DISCONNECTED"

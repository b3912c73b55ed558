"""virtio-net on stream netdevs: frames both ways, peers that come, go, stall and lie, hostile drivers; passt where it is."""

from __future__ import annotations

import os
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from virtio_kit import F_VERSION_1, RAM, RAM_SIZE, Board, new_machine

from ratite.core.backends.net import user
from ratite.core.backends.net.stream import BUFFER
from ratite.core.backends.net.user import passt_arguments
from ratite.qapi.errors import DeviceNotFound, GenericError

F_MTU, F_MAC, F_MRG, F_STATUS = 1 << 3, 1 << 5, 1 << 15, 1 << 16
NUM = 64


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


class Card(Board):
    """A virtio-net-device on one end of a socket pair; `far` is the other."""

    def __init__(self, **props: Any) -> None:
        machine = new_machine(inline=False)
        near, self.far = socket.socketpair()
        self.far.settimeout(20)
        self.received = b""
        options = {"addr": {"type": "fd", "str": str(near.detach())}}
        machine.owner.call(machine.netdev_add, "n0", "stream", options)
        super().__init__("virtio-net-device", machine=machine, netdev="n0", **props)

    def ready(self, want: int | None = None) -> Card:
        self.start()
        self.up(queues=2, want=want, num=NUM)
        return self

    def post(self, size: int = 1526) -> int:
        """A buffer for a frame; gives its address."""
        at = self.alloc(size)
        self.queues[0].send((at, size, True))
        return at

    def transmit(self, frame: bytes, header: bytes = bytes(12)) -> None:
        at = self.alloc(len(frame) + len(header))
        self.write(at, header + frame)
        self.queues[1].send((at, len(header), False), (at + len(header), len(frame), False))

    def frame(self) -> bytes:
        """The next frame that came out."""
        while len(self.received) < 4 or len(self.received) - 4 < int.from_bytes(self.received[:4], "big"):
            data = self.far.recv(1 << 16)
            assert data
            self.received += data
        size = int.from_bytes(self.received[:4], "big")
        frame, self.received = self.received[4 : 4 + size], self.received[4 + size :]
        return frame

    def used(self, count: int = 1) -> list[tuple[int, int]]:
        """Waits for used buffers of the receive queue."""
        found: list[tuple[int, int]] = []
        while len(found) < count:
            found += self.queues[0].taken()
        return found

    def sync(self) -> None:
        """All bytes that were sent here were looked at."""
        assert self.machine.chardevs.io.sync()

    def close(self) -> None:
        assert self.faults() == 0
        self.machine.close()
        self.far.close()


@pytest.fixture
def card() -> Iterator[Card]:
    made = Card(mac="52:54:00:12:34:56").ready()
    yield made
    made.close()


def test_configuration(card: Card) -> None:
    assert card.reg(8) == 1 and card.features() & (F_MTU | F_MAC | F_MRG | F_STATUS) == F_MAC | F_MRG | F_STATUS
    assert bytes(card.config(at, 1) for at in range(6)) == bytes.fromhex("525400123456")
    assert card.config(6, 2) == 1, "the link is up"


def test_frames_go_out(card: Card) -> None:
    frames = [bytes([n]) * (14 + 100 * n) for n in range(1, 12)]
    for frame in frames:
        card.transmit(frame)
    assert [card.frame() for _ in frames] == frames
    assert len(card.queues[1].taken()) == len(frames)


@pytest.mark.parametrize("merge", [False, True])
def test_frames_come_in(merge: bool) -> None:
    card = Card().ready(want=F_VERSION_1 | (F_MRG if merge else 0))
    at = [card.post() for _ in range(4)]
    card.far.sendall(framed(b"a" * 60, b"b" * 1514))
    assert card.used(2) == [(0, 72), (1, 1526)]
    assert card.read(at[0], 72) == bytes(10) + b"\x01\x00" + b"a" * 60
    assert card.read(at[1] + 12, 1514) == b"b" * 1514
    for piece in (b"\0\0", b"\0\x10", b"0123", b"456789abcdef\0\0\0\x01!"):
        card.far.sendall(piece)
    assert card.used(2) == [(2, 28), (3, 13)]
    assert card.read(at[2] + 12, 16) == b"0123456789abcdef"
    assert card.irq() == 1
    card.close()


def test_one_frame_in_several_buffers(card: Card) -> None:
    at = [card.post(100) for _ in range(3)]
    card.far.sendall(framed(bytes(range(250))))
    assert card.used(3) == [(0, 100), (1, 100), (2, 62)]
    data = b"".join(card.read(addr, 100) for addr in at)
    assert data[:262] == bytes(10) + b"\x03\x00" + bytes(range(250))
    card.post(100)
    card.far.sendall(framed(bytes(250)))
    card.sync()
    assert card.queues[0].taken() == [], "not a part of a frame"
    card.post(100)
    card.post(100)
    assert len(card.used(3)) == 3


def test_a_frame_that_no_buffer_takes_is_dropped() -> None:
    card = Card().ready(want=F_VERSION_1)
    card.post(100)
    card.far.sendall(framed(b"x" * 200, b"y" * 20))
    assert card.used(1) == [(0, 32)] and card.dev.frames_dropped == 1
    card.close()


def test_frames_wait_for_buffers_and_the_peer_waits_too(card: Card) -> None:
    frames = [struct.pack(">I", n) * 20 for n in range(300)]
    card.far.sendall(framed(*frames))
    card.sync()
    ring, got = card.queues[0], []
    base = card.top
    while len(got) < len(frames):
        card.top = base
        ring.free = list(range(NUM))
        at = {n: card.alloc(200) for n in range(NUM)}
        heads = [ring.chain((at[n], 200, True)) for n in range(NUM)]
        for head in heads:
            ring.offer(head, kick=False)
        ring.kick()
        want = min(NUM, len(frames) - len(got))
        got += [card.read(at[head] + 12, 80) for head, _ in card.used(want)]
        if want < NUM:
            break
    assert got == frames


def test_a_flood_of_empty_frames(card: Card) -> None:
    for _ in range(3):
        card.post()
    card.far.sendall(framed(*[b""] * 2000))
    assert card.used(3) == [(0, 12), (1, 12), (2, 12)]
    assert card.dev.netdev._frames
    card.set(0x70, 0)
    card.machine.owner.call(card.dev.netdev.accept_input)
    card.top = RAM
    card.up(queues=2, num=NUM)
    card.post()
    card.far.sendall(framed(b"new"))
    assert card.used(1) == [(0, 15)]


def test_a_peer_that_does_not_read_holds_the_ring(card: Card) -> None:
    frame, ring = b"z" * 1500, card.queues[1]
    at = card.alloc(1512)
    card.write(at, bytes(12) + frame)
    sent = 0
    while not card.dev._stalled:
        if not ring.free:
            ring.free = list(range(NUM))
            ring.taken()
        ring.send((at, 1512, False))
        sent += 1
    assert sent * 1500 > BUFFER and not card.needs_reset()
    assert all(card.frame() == frame for _ in range(sent))
    while card.dev._stalled:
        pass
    card.transmit(b"after")
    assert card.frame() == b"after"


def test_nobody_there_and_nobody_listening(card: Card) -> None:
    card.far.close()
    card.sync()
    while card.machine.netdevs.find("n0").connected:
        card.sync()
    card.transmit(b"lost")
    assert len(card.queues[1].taken()) == 1
    card.sync()
    assert ("NETDEV_STREAM_DISCONNECTED", {"netdev-id": "n0"}) in card.events


def test_a_lying_peer_is_sent_away(card: Card) -> None:
    card.post()
    card.far.sendall(framed(b"fine") + b"\xff\xff\xff\xff" + b"x" * 100)
    assert card.used(1) == [(0, 16)]
    while card.far.recv(100):
        pass


def test_a_driver_that_does_not_run_gets_nothing() -> None:
    card = Card()
    card.start()
    card.far.sendall(framed(b"early"))
    card.sync()
    card.sync()
    card.up(queues=2, num=NUM)
    card.post()
    card.far.sendall(framed(b"late!!"))
    assert card.used(1) == [(0, 18)]
    card.close()


def test_broken_frames(card: Card) -> None:
    card.transmit(b"", bytes(12))
    card.transmit(b"x", bytes(3))
    assert card.needs_reset()
    card.top = RAM
    card.up(queues=2, num=NUM)
    card.queues[1].send((RAM, 12, False), (RAM, 70000, False))
    card.transmit(b"fine")
    assert card.frame() == b"fine" and card.dev.frames_dropped == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_hostile_driver(card: Card, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        card.top = RAM
        card.up(queues=2, num=NUM)
        card.far.setblocking(False)
        for _ in range(30):
            ring = card.queues[rng.randrange(2)]
            ring.free = list(range(NUM))
            addr = rng.choice((RAM + rng.randrange(RAM_SIZE), rng.getrandbits(64)))
            parts = [(addr, rng.choice((0, 1, 11, 12, 13, 1500, rng.getrandbits(32))), rng.random() < 0.5)]
            parts *= rng.randrange(1, 4)
            ring.send(*sorted(parts, key=lambda part: part[2]))
            try:
                card.far.send(framed(b"f" * rng.randrange(2000)))
                card.far.recv(1 << 20)
            except BlockingIOError:
                pass
    card.sync()
    card.top = RAM
    card.up(queues=2, num=NUM)
    assert not card.needs_reset()


def test_macs() -> None:
    machine = new_machine()
    for bad in ("zz", "52:54:00:12:34", "52:54-00:12:34:56"):
        with pytest.raises(GenericError, match=r"Property 'virtio-net-device.mac' doesn't take value"):
            machine.device_add("virtio-net-device", "a", {"mac": bad})
    machine.close()
    macs = set()
    for _ in range(2):
        board = Board("virtio-net-device").start()
        macs.add(board.dev.mac)
        assert board.config(6, 2) == 0, "no netdev, no link"
        board.up(queues=2)
        at = board.alloc(100)
        board.queues[1].send((at, 100, False))
        assert len(board.queues[1].taken()) == 1
        board.machine.close()
    assert len(macs) == 1 and macs.pop().startswith("52:54:00:")


# -- netdevs


def refused(kind: str, **options: Any) -> str:
    machine = new_machine()
    with pytest.raises(GenericError) as caught:
        machine.netdev_add("n", kind, options)
    assert not machine.netdevs.children
    machine.close()
    return caught.value.desc


def test_netdevs_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("socket") == "exactly one of listen=, connect=, mcast= or udp= is required"
    assert refused("socket", listen="1", connect="2") == "exactly one of listen=, connect=, mcast= or udp= is required"
    assert refused("socket", connect="127.0.0.1") == "host address '127.0.0.1' doesn't contain ':' separating host from port"
    path = str(tmp_path / "none")
    assert refused("stream", addr={"type": "unix", "path": path}) == f"Failed to connect to '{path}': No such file or directory"
    assert "Failed to bind" in refused("stream", addr={"type": "unix", "path": "/nowhere/x"}, server=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("user") == "netdev type 'user' needs the program 'passt', which isn't installed on this host"


def test_two_machines_on_one_wire(tmp_path: Path) -> None:
    path = str(tmp_path / "wire")
    machines = [new_machine(inline=False) for _ in range(2)]
    cards = []
    for server, machine in zip((True, False), machines, strict=True):
        machine.owner.call(machine.netdev_add, "n0", "stream", {"addr": {"type": "unix", "path": path}, "server": server})
        cards.append(Board("virtio-net-device", machine=machine, netdev="n0").start().up(queues=2, num=NUM))
    one, two = cards
    while not machines[0].netdevs.find("n0").connected:
        machines[0].chardevs.io.sync()
    for a, b, text in ((one, two, b"there"), (two, one, b"and back again")):
        at = b.alloc(100)
        b.queues[0].send((at, 100, True))
        out = a.alloc(100)
        a.write(out, bytes(12) + text)
        a.queues[1].send((out, 12 + len(text), False))
        while not (used := b.queues[0].taken()):
            pass
        assert used == [(0, 12 + len(text))] and b.read(at + 12, len(text)) == text
    with pytest.raises(DeviceNotFound, match="Device 'x' not found"):
        machines[0].owner.call(machines[0].netdev_del, "x")
    with pytest.raises(GenericError, match="Netdev 'n0' is in use"):
        machines[0].owner.call(machines[0].netdev_del, "n0")
    with pytest.raises(GenericError, match="Duplicate ID 'n0'"):
        machines[0].owner.call(machines[0].netdev_add, "n0", "stream", {})
    for machine in machines:
        machine.close()
    assert not os.path.exists(path)


def test_over_tcp_with_a_port_of_the_hosts() -> None:
    machine = new_machine(inline=False)
    machine.owner.call(machine.netdev_add, "n0", "socket", {"listen": "127.0.0.1:0"})
    where = machine.netdevs.find("n0").actual_address
    other = new_machine(inline=False)
    other.owner.call(other.netdev_add, "n0", "socket", {"connect": where})
    assert other.netdevs.find("n0").connected
    other.owner.call(other.netdev_del, "n0")
    machine.close()
    other.close()


def test_one_netdev_has_one_device() -> None:
    card = Card()
    card.machine.owner.call(card.machine.device_add, "virtio-mmio", "vm1", {})
    card.machine.owner.call(card.machine.device_del, "dev")
    for n in (0, 1):
        card.call(card.machine.device_add, "virtio-net-device", f"d{n}", {"netdev": "n0", "bus": f"vm{n}.0"})
    with pytest.raises(GenericError, match=r"Property 'virtio-net-device.netdev' can't take value 'n0', it's in use"):
        card.call(card.machine.exit_preconfig)
    card.call(card.machine.device_del, "d1")
    card.call(card.machine.device_add, "virtio-net-device", "d1", {"netdev": "no", "bus": "vm1.0"})
    with pytest.raises(GenericError, match=r"Property 'virtio-net-device.netdev' can't find value 'no'"):
        card.call(card.machine.exit_preconfig)
    card.machine.close()
    card.far.close()


def test_passts_arguments() -> None:
    assert passt_arguments({"ipv6": False, "dns": "10.0.0.1", "dnssearch": [{"str": "a.b"}],
                            "hostfwd": [{"str": "tcp::2222-:22"}, {"str": "udp:127.0.0.1:53-:53"}, {"str": "::80-:80"}]}) == [
        "--quiet", "--mtu", "1500", "--ipv4-only", "--dns", "10.0.0.1", "--search", "a.b",
        "--tcp-ports", "2222:22,80:80", "--udp-ports", "127.0.0.1/53:53",
    ]  # fmt: skip
    for bad in ("x", "tcp:22-:22", "tcp::0-:22", "icmp::1-:1", "tcp::1-10.0.0.1:1"):
        with pytest.raises(GenericError, match="Invalid host forwarding rule"):
            passt_arguments({"hostfwd": [{"str": bad}]})
    with pytest.raises(GenericError, match="both disabled"):
        passt_arguments({"ipv4": False, "ipv6": False})


def test_a_passt_that_dies_is_logged_and_reaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "passt"
    program.write_text("#!/bin/sh\necho no such thing >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told: list[Any] = []
    monkeypatch.setattr(user.log, "error", lambda event, **fields: told.append((event, fields["said"])))
    machine = new_machine(inline=False)
    machine.owner.call(machine.netdev_add, "n0", "user", {})
    while not told:
        machine.chardevs.io.sync()
    assert told == [("passt ended", "no such thing")]
    machine.chardevs.io.sync()
    assert machine.netdevs.find("n0")._process is None
    machine.close()


def dhcp_discover(mac: bytes) -> bytes:
    """A DHCP request as an Ethernet frame (RFC 2131)."""
    bootp = struct.pack(">BBBBIHH16s", 1, 1, 6, 0, 0x1234, 0, 0x8000, bytes(16)) + mac.ljust(16, b"\0") + bytes(192)
    bootp += b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\xff"
    udp = struct.pack(">HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + head + udp


@pytest.mark.peer
def test_the_hosts_network_by_passt() -> None:
    program = shutil.which("passt")
    if program is None:
        pytest.skip("passt isn't installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    machine = new_machine(inline=False)
    machine.owner.call(machine.netdev_add, "n0", "user", {"ipv6": False})
    board = Board("virtio-net-device", machine=machine, netdev="n0", mac="52:54:00:12:34:56").start().up(queues=2, num=NUM)
    at = board.alloc(1526)
    board.queues[0].send((at, 1526, True))
    frame = dhcp_discover(bytes.fromhex("525400123456"))
    out = board.alloc(12 + len(frame))
    board.write(out, bytes(12) + frame)
    board.queues[1].send((out, 12 + len(frame), False))
    while not (used := board.queues[0].taken()):
        if machine.netdevs.find("n0")._process is None:
            pytest.skip(f"passt doesn't run here: {version}")
    reply = board.read(at + 12, used[0][1] - 12)
    assert reply[6 + 6 : 14] == b"\x08\x00" and reply[34:38] == struct.pack(">HH", 67, 68), "an offer from the server"
    machine.close()


def test_the_cable_is_pulled(card: Card) -> None:
    card.post()
    generation = card.reg(0xFC)
    card.call(card.dev.set_link, False)
    assert card.config(6, 2) == 0 and card.reg(0xFC) != generation
    assert card.reg(0x60) & 2, "the driver is told"
    card.transmit(b"lost" * 16)
    card.far.sendall(framed(b"lost, too" * 8))
    card.sync()
    card.sync()
    assert not card.queues[0].taken()
    card.call(card.dev.set_link, True)
    assert card.config(6, 2) == 1
    card.transmit(b"sent" * 16)
    assert card.frame() == b"sent" * 16
    card.far.sendall(framed(b"come" * 16))
    assert card.used()[0][1] == 12 + 64
    assert card.dev.rx_filter()["main-mac"] == "52:54:00:12:34:56"

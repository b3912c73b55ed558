"""virtio-net on a network interface of the host: opened by us by its name, or by somebody else, with and without heads."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from test_virtio_net import Card
from virtio_kit import Board, new_machine

from ratite.core.backends.net.tap import TapNetdev
from ratite.qapi.errors import GenericError

IFREQ = struct.Struct("=16sH22x")
TUNSETIFF, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x400454CA, 0x8913, 0x8914
TUN, TAP, NO_PI, VNET_HDR, UP, RUNNING = 1, 2, 0x1000, 0x4000, 1, 0x40
KIND = 0x88B5  # an EtherType for experiments


def interface(flags: int) -> tuple[int, str]:
    """A new interface: its descriptor and its name; skips where the host gives none."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        name, _ = IFREQ.unpack(fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(b"ratite%d", flags)))
    except OSError as error:
        pytest.skip(f"this host gives no network interfaces: {error}")
    return fd, name.rstrip(b"\0").decode()


@contextmanager
def wire(name: str) -> Iterator[socket.socket]:
    """The host's side of an interface, which is up: frames of KIND."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _, flags = IFREQ.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, IFREQ.pack(name.encode(), 0)))
        fcntl.ioctl(control, SIOCSIFFLAGS, IFREQ.pack(name.encode(), flags | UP | RUNNING))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND)) as sock:
        sock.bind((name, KIND))
        sock.settimeout(20)
        yield sock


class TapCard(Card):
    """A virtio-net-device on a tap."""

    def __init__(self, **options: str) -> None:
        machine = new_machine(inline=False)
        machine.owner.call(machine.netdev_add, "n0", "tap", options)
        Board.__init__(self, "virtio-net-device", machine=machine, netdev="n0")

    @property
    def netdev(self) -> TapNetdev:
        found = self.machine.netdevs.find("n0")
        assert isinstance(found, TapNetdev)
        return found

    def close(self) -> None:
        assert self.faults() == 0
        self.machine.close()


def frame(text: bytes) -> bytes:
    return (b"\xff" * 6 + b"\x52\x54\x00\x00\x00\x01" + KIND.to_bytes(2, "big") + text).ljust(60, b"\0")


def both_ways(card: TapCard) -> None:
    card.ready()
    with wire(card.netdev.ifname) as host:
        for number in range(5):
            card.transmit(frame(b"from the guest %d" % number))
            assert host.recv(2000) == frame(b"from the guest %d" % number)
        at = card.post()
        host.send(frame(b"from the host"))
        found = b""
        while not found.endswith(frame(b"from the host")):  # the host says other things by itself
            used = card.used()
            found = card.read(at, used[0][1])
            at = card.post() if not found.endswith(frame(b"from the host")) else at
        assert found[:12] == bytes(10) + b"\x01\x00", "the guest's head is the card's, not the interface's"


def test_an_interface_of_our_own() -> None:
    probe, name = interface(TAP | NO_PI)
    os.close(probe)
    card = TapCard(ifname=name, script="no", downscript="no")
    try:
        assert card.netdev.ifname == name
        both_ways(card)
    finally:
        card.close()
    assert name not in {found for _, found in socket.if_nameindex()}, "it goes with the netdev"


@pytest.mark.parametrize("flags", [TAP | NO_PI, TAP | NO_PI | VNET_HDR], ids=["plain", "with heads"])
def test_an_interface_that_somebody_opened(flags: int) -> None:
    fd, name = interface(flags)
    card = TapCard(fd=str(fd))
    try:
        assert card.netdev.ifname == name
        both_ways(card)
    finally:
        card.close()


def refused(**options: str) -> str:
    with pytest.raises(GenericError) as caught:
        TapCard(**options)
    return str(caught.value)


def test_what_cannot_be() -> None:
    assert refused(script="/etc/ifup") == "Parameter 'script' expects 'no': the interface is to be set up before"
    assert refused(fd="3", ifname="x") == "ifname=, script=, downscript=, and vnet_hdr= are invalid with fd="
    fd, name = interface(TUN)
    try:
        assert refused(fd=str(fd)) == f"File descriptor '{fd}' is a tun interface, without Ethernet"
        assert refused(ifname=name).startswith("could not configure /dev/net/tun")
        assert "at most 15 bytes" in refused(ifname="n" * 16)
    finally:
        os.close(fd)
    with open("/dev/null", "rb") as null:
        assert refused(fd=str(null.fileno())).startswith(f"File descriptor '{null.fileno()}' is not a tap interface: ")

"""Packed virtqueues: what split ones do, and what a hostile driver may write into them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blk_kit import IN, OUT, Disk
from pci_board import PciBoard
from virtio_kit import (
    AVAIL_FLAG,
    CONFIG,
    F_EVENT_IDX,
    F_INDIRECT,
    F_PACKED,
    F_VERSION_1,
    INDIRECT,
    NEXT,
    RAM,
    RAM_SIZE,
    USED,
    USED_FLAG,
    WRITE,
    Board,
    PackedRing,
)

PLAIN = F_VERSION_1 | F_PACKED | F_INDIRECT
WRAP = 1 << 15


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board("virtio-rng-device", packed=True).start()
    yield made
    assert made.faults() == 0
    made.machine.close()


def test_it_is_offered_where_it_is_asked_for(board: Board) -> None:
    assert board.features() & F_PACKED
    other = Board("virtio-rng-device").start()
    assert not other.features() & F_PACKED
    assert other.negotiate(PLAIN) == 3, "accepted without an offer"
    other.machine.close()


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("features", [PLAIN, PLAIN | F_EVENT_IDX])
@pytest.mark.parametrize("num", [2, 5, 8])
def test_buffers_go_round(board: Board, indirect: bool, features: int, num: int) -> None:
    """Rings of any size, over the wrap many times."""
    ring = board.up(want=features, num=num).queues[0]
    assert isinstance(ring, PackedRing)
    buffer = board.alloc(64)
    for turn in range(40):
        board.write(buffer, bytes(64))
        head = ring.send((buffer, 20, True), (buffer + 32, 12, True), indirect=indirect)
        assert ring.taken() == [(head, 32)], turn
        data = board.read(buffer, 64)
        assert any(data[:20]) and any(data[32:44]) and not any(data[20:32]) and not any(data[44:])
        assert (board.irq(), board.ack(), board.irq()) == (1, USED, 0)
        ring.free = [turn * 977 & 0xFFFF]  # an id is the driver's own
        board.top = buffer + 64


def test_an_unpacked_driver_is_served_as_ever(board: Board) -> None:
    for want in (F_VERSION_1, PLAIN, F_VERSION_1):
        board.top = RAM
        ring = board.up(want=want).queues[0]
        ring.send((board.alloc(16), 16, True))
        assert len(ring.taken()) == 1


def test_the_driver_may_not_want_to_hear(board: Board) -> None:
    ring = board.up(want=PLAIN).queues[0]
    buffer = board.alloc(16)
    board.write(ring.avail, struct.pack("<HH", 0, 1))
    ring.send((buffer, 16, True))
    assert ring.taken() and not board.irq()
    board.write(ring.avail, struct.pack("<HH", 0, 2))  # by descriptor, which was not negotiated
    ring.send((buffer, 16, True))
    assert ring.taken() and board.ack()

    ring = board.up().queues[0]
    board.write(ring.avail, struct.pack("<HH", 2 | WRAP, 2))
    for want in (0, 0, 1, 0, 0, 0, 0, 0):
        ring.send((buffer, 16, True))
        ring.free = [1]
        assert (len(ring.taken()), bool(board.ack())) == (1, bool(want))
    assert board.read(ring.used, 4) == struct.pack("<HH", 0, 2), "asks for the next, behind the wrap"
    board.write(ring.avail, struct.pack("<HH", 1, 2))
    for want in (0, 1):
        ring.send((buffer, 16, True))
        ring.free = [1]
        assert (len(ring.taken()), bool(board.ack())) == (1, bool(want))


def test_one_kick_for_many(board: Board) -> None:
    ring = board.up().queues[0]
    buffer = board.alloc(16)
    for _ in range(8):
        ring.offer(ring.chain((buffer, 16, True)), kick=False)
    assert ring.taken() == []
    ring.kick()
    assert [head for head, _ in ring.taken()] == list(range(8))


def fail_chain(board: Board, ring: PackedRing, case: str) -> None:
    """Sets up what the name says, and kicks."""
    buffer = board.alloc(64)
    if case == "longer than the ring":
        for n in range(8):
            ring.put(buffer, 4, NEXT | WRITE, n)
    elif case == "address beyond":
        ring.put(RAM + RAM_SIZE - 8, 16, WRITE, 0)
    elif case == "address end of the world":
        ring.put((1 << 64) - 8, 16, WRITE, 0)
    elif case == "registers":
        ring.put(0x10001000, 256, WRITE, 0)
    elif case == "total":
        ring.put(buffer, 0xFFFFFFFF, NEXT | WRITE, 0)
        ring.put(buffer, 0xFFFFFFFF, WRITE, 0)
    elif case == "order":
        ring.put(buffer, 4, NEXT | WRITE, 0)
        ring.put(buffer, 4, 0, 0)
    elif case == "nested":
        board.write(buffer, struct.pack("<QIHH", buffer, 16, 0, INDIRECT))
        ring.put(buffer, 16, INDIRECT, 0)
    elif case == "indirect next":
        ring.put(buffer, 16, INDIRECT | NEXT, 0)
        ring.put(buffer, 16, WRITE, 0)
    elif case == "indirect in a chain":
        ring.put(buffer, 16, NEXT | WRITE, 0)
        ring.put(buffer, 16, INDIRECT, 0)
    elif case.startswith("indirect length"):
        ring.put(buffer, int(case.split()[-1]), INDIRECT, 0)
    elif case == "indirect outside":
        ring.put(0x1000, 16, INDIRECT, 0)
    ring.kick()


@pytest.mark.parametrize("case", [
    "longer than the ring", "address beyond", "address end of the world", "registers", "total", "order", "nested",
    "indirect next", "indirect in a chain", "indirect length 0", "indirect length 24", "indirect length 4294967280",
    "indirect outside"])
def test_broken_rules_stop_the_device_and_a_reset_brings_it_back(board: Board, case: str) -> None:
    ring = board.up().queues[0]
    fail_chain(board, ring, case)
    assert board.needs_reset() and board.ack() & CONFIG
    board.top = RAM
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    assert len(ring.taken()) == 1


def test_indirect_without_the_feature(board: Board) -> None:
    ring = board.up(want=F_VERSION_1 | F_PACKED).queues[0]
    ring.send((board.alloc(16), 16, True), indirect=True)
    assert board.needs_reset()


@pytest.mark.parametrize(("num", "desc", "driver", "device"), [
    (0, 0, 0, 0), (9, 0, 0, 0), (8, 8, 0, 0), (8, 0, 2, 0), (8, 0, 0, 2), (8, RAM_SIZE - 64, 0, 0), (8, 0, RAM_SIZE, 0)])
def test_rings_that_cannot_be(board: Board, num: int, desc: int, driver: int, device: int) -> None:
    board.negotiate()
    board.set(0x38, num)
    for offset, delta in ((0x80, desc), (0x90, driver), (0xA0, device)):
        board.set(offset, RAM + delta)
        board.set(offset + 4, 0)
    board.set(0x44, 1)
    assert (board.reg(0x44), board.needs_reset()) == (0, True)


def test_more_descriptors_than_the_ring_has(board: Board) -> None:
    """The driver makes available again what the device has not given back."""
    source: Any = board.dev._source
    source.request = lambda count, answer: None  # nothing is ever answered
    ring = board.up().queues[0]
    buffer = board.alloc(16)
    for _ in range(8):
        ring.offer(ring.chain((buffer, 16, True)))
    assert not board.needs_reset()
    ring.free = [0]
    ring.offer(ring.chain((buffer, 16, True)))
    assert board.needs_reset()


def test_saved_state_goes_on_elsewhere(board: Board) -> None:
    ring = board.up(num=3).queues[0]
    for _ in range(4):
        ring.send((board.alloc(16), 16, True))
        ring.free = [7]
        assert len(ring.taken()) == 1
    other = Board("virtio-rng-device", packed=True).start()
    other.space.write(RAM, board.space.read(RAM, RAM_SIZE))
    for name in ("dev", "mmio"):
        getattr(other, name).load_state(getattr(board, name).save_state())
    other.top, ring.board = board.top, other
    for _ in range(4):
        ring.send((other.alloc(16), 16, True))
        ring.free = [7]
        assert len(ring.taken()) == 1
    other.machine.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_hostile_driver(board: Board, seed: int) -> None:
    """A ring full of what random picks, kicked again and again.  Nothing raises, and a reset always helps."""
    rng = random.Random(seed)

    def descriptor() -> bytes:
        addr = rng.choice((rng.getrandbits(64), RAM + rng.randrange(RAM_SIZE), RAM + RAM_SIZE - rng.randrange(64), 0))
        size = rng.choice((rng.getrandbits(32), rng.randrange(64), 16, 0))
        flags = rng.choice((0, 1, 2, 3, 4, 7)) | rng.choice((AVAIL_FLAG, USED_FLAG, AVAIL_FLAG | USED_FLAG, 0))
        return struct.pack("<QIHH", addr, size, rng.getrandbits(16), flags)

    for _ in range(25):
        board.top = RAM
        ring = board.up(num=rng.randrange(1, 9)).queues[0]
        for _ in range(rng.randrange(1, 6)):
            for at in range(ring.num):
                if rng.random() < 0.7:
                    board.write(ring.desc + 16 * at, descriptor())
            board.write(ring.avail, struct.pack("<HH", rng.getrandbits(16), rng.randrange(5)))
            ring.kick()
    board.top = RAM
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    assert len(ring.taken()) == 1


def test_a_disk_whose_requests_end_in_any_order(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(range(256)) * 64)
    disk = Disk(image, inline=False, packed=True).ready(num=16)
    data = random.Random(1).randbytes(1024)
    assert disk.do(OUT, 4, data) == (0, b"") and disk.do(IN, 4, size=1024) == (0, data)
    ring = disk.queues[0]
    disk.top, ring.free = disk.floor, list(range(16))
    wanted = {disk.submit(IN, n, size=512)[0] for n in range(5)}
    found: set[int] = set()
    while len(found) < 5:
        found |= {head for head, _ in disk.wait()}
    assert found == wanted
    disk.machine.close()


def test_over_pci() -> None:
    board = PciBoard("virtio-rng-device", packed=True).start()
    ring = board.up().queues[0]
    for turn in range(20):
        ring.free = [turn]
        ring.send((board.alloc(16), 16, True))
        assert ring.taken() == [(turn, 16)]
    board.machine.close()

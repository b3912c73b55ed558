"""The core of virtio devices and the MMIO transport, by an entropy device: negotiation, rings, interrupts, resets."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from virtio_kit import (
    CONFIG,
    F_EVENT_IDX,
    F_INDIRECT,
    F_VERSION_1,
    INDIRECT,
    MMIO,
    NEXT,
    RAM,
    RAM_SIZE,
    USED,
    WRITE,
    Board,
    Ring,
    new_machine,
)

from ratite.core.memory import Access
from ratite.qapi.errors import GenericError

NO_EVENTS = F_VERSION_1 | F_INDIRECT


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board("virtio-rng-device").start()
    yield made
    assert made.faults() == 0
    made.machine.close()


def test_identity_and_status_machine(board: Board) -> None:
    assert [board.reg(at) for at in (0x0, 0x4, 0x8, 0xC)] == [0x74726976, 2, 4, 0x554D4551]
    assert board.features() == F_VERSION_1 | F_EVENT_IDX | F_INDIRECT
    board.set(0x14, 2)
    assert board.reg(0x10) == 0
    assert board.negotiate(0) == 3, "a driver without VERSION_1 is not served"
    assert board.negotiate(F_VERSION_1 | 1 << 40) == 3, "nor one that accepts what wasn't offered"
    board.set(0x70, 7)
    assert board.reg(0x70) == 3, "DRIVER_OK before FEATURES_OK"
    assert board.negotiate() == 11
    board.set(0x20, 0)
    assert board.dev.driver_features == board.accepted, "negotiation is over"
    board.set(0x70, 8)
    assert board.reg(0x70) == 11, "bits aren't taken back"
    board.set(0x70, 0)
    assert (board.reg(0x70), board.dev.driver_features) == (0, 0)
    assert [board.reg(at) for at in (0xB0, 0xB4, 0x100)] == [0xFFFFFFFF, 0xFFFFFFFF, 0]


def test_registers_and_configuration_are_little_endian_for_everybody() -> None:
    board = Board("virtio-net-device", mac="52:54:00:12:34:56").start()
    big = Access(big=True)
    assert board.space.load(MMIO, 4, big) == 0x76697274
    assert board.space.load(MMIO + 0x100, 2, big) == 0x5254 and board.space.load(MMIO + 0x105, 1, big) == 0x56
    board.space.store(MMIO + 0x70, 4, 0x01000000, big)
    assert board.reg(0x70) == 1
    assert board.reg(0x70, 1) == 0 and board.reg(0x72, 2) == 0, "registers are words"
    board.machine.close()


def test_queue_registers(board: Board) -> None:
    board.negotiate()
    board.set(0x30, 1)
    assert (board.reg(0x34), board.reg(0x44)) == (0, 0)
    board.set(0x44, 1)
    board.set(0x80, 1)
    board.set(0x30, 0)
    assert board.reg(0x34) == 8
    board.setup(0)
    assert board.reg(0x44) == 1
    board.set(0x80, 0x1234)
    assert board.dev.queues[0].desc == RAM, "an enabled queue keeps its addresses"
    board.set(0x44, 0)
    assert board.reg(0x44) == 0


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("features", [NO_EVENTS, NO_EVENTS | F_EVENT_IDX])
def test_buffers_go_round(board: Board, indirect: bool, features: int) -> None:
    ring = board.up(want=features).queues[0]
    buffer = board.alloc(64)
    for turn in range(40):
        board.write(buffer, bytes(64))
        board.write(ring.avail + 4 + 2 * ring.num, struct.pack("<H", turn))  # used_event: every one
        head = ring.send((buffer, 20, True), (buffer + 32, 12, True), indirect=indirect)
        assert ring.taken() == [(head, 32)]
        data = board.read(buffer, 64)
        assert any(data[:20]) and any(data[32:44]) and not any(data[20:32]) and not any(data[44:])
        assert (board.irq(), board.ack(), board.irq()) == (1, USED, 0)
        ring.free = list(range(8))
        board.top = buffer + 64


def test_the_driver_may_not_want_to_hear(board: Board) -> None:
    ring = board.up(want=NO_EVENTS).queues[0]
    buffer = board.alloc(16)
    board.write(ring.avail, b"\x01\x00")
    ring.send((buffer, 16, True))
    assert ring.taken() and not board.irq()

    ring = board.up().queues[0]
    board.write(ring.avail + 4 + 2 * ring.num, struct.pack("<H", 2))  # used_event
    for want in (0, 0, 1, 0):
        ring.send((buffer, 16, True))
        assert (len(ring.taken()), bool(board.ack())) == (1, bool(want))
    assert board.read(ring.used + 4 + 8 * ring.num, 2) == struct.pack("<H", 4), "avail_event asks for the next"


def test_one_kick_for_many_and_none_for_a_stopped_queue(board: Board) -> None:
    ring = board.up().queues[0]
    buffer = board.alloc(16)
    for _ in range(8):
        ring.offer(ring.chain((buffer, 16, True)), kick=False)
    assert ring.taken() == []
    ring.kick()
    assert len(ring.taken()) == 8
    board.set(0x50, 7)
    board.set(0x30, 0)
    board.set(0x44, 0)
    ring.free = [0]
    ring.send((buffer, 16, True))
    assert ring.taken() == [] and not board.needs_reset()


def fail_chain(board: Board, ring: Ring, case: str) -> None:
    """Sets up what the name says, and kicks."""
    buffer = board.alloc(64)
    if case == "loop":
        ring.describe(0, buffer, 4, NEXT | WRITE, 1)
        ring.describe(1, buffer, 4, NEXT | WRITE, 0)
    elif case == "self loop":
        ring.describe(0, buffer, 4, NEXT | WRITE, 0)
    elif case == "next beyond":
        ring.describe(0, buffer, 4, NEXT | WRITE, 8)
    elif case == "address beyond":
        ring.describe(0, RAM + RAM_SIZE - 8, 16, WRITE)
    elif case == "address end of the world":
        ring.describe(0, (1 << 64) - 8, 16, WRITE)
    elif case == "registers":
        ring.describe(0, 0x10001000, 256, WRITE)
    elif case == "length":
        ring.describe(0, RAM + RAM_SIZE - 16, 0xFFFFFFFF, WRITE)
    elif case == "total":
        ring.describe(0, buffer, 0xFFFFFFFF, NEXT | WRITE, 1)
        ring.describe(1, buffer, 0xFFFFFFFF, WRITE)
    elif case == "order":
        ring.describe(0, buffer, 4, NEXT | WRITE, 1)
        ring.describe(1, buffer, 4)
    elif case == "nested":
        board.write(buffer, struct.pack("<QIHH", buffer, 16, INDIRECT, 0))
        ring.describe(0, buffer, 16, INDIRECT)
    elif case == "indirect next":
        board.write(buffer, struct.pack("<QIHH", buffer, 16, WRITE, 0))
        ring.describe(0, buffer, 16, INDIRECT | NEXT)
    elif case.startswith("indirect length"):
        ring.describe(0, buffer, int(case.split()[-1]), INDIRECT)
    elif case == "indirect loop":
        board.write(buffer, struct.pack("<QIHH", buffer, 1, WRITE | NEXT, 0))
        ring.describe(0, buffer, 16, INDIRECT)
    elif case == "indirect outside":
        ring.describe(0, 0x1000, 16, INDIRECT)
    if case == "head":
        ring.offer(8)
    elif case == "index":
        ring.avail_idx = 8
        ring.offer(0)
    else:
        ring.offer(0)


CASES = ("loop", "self loop", "next beyond", "address beyond", "address end of the world", "registers", "length", "total",
         "order", "nested", "indirect next", "indirect length 0", "indirect length 24", "indirect length 4294967280",
         "indirect loop", "indirect outside", "head", "index")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_broken_rules_stop_the_device_and_a_reset_brings_it_back(board: Board, case: str) -> None:
    ring = board.up().queues[0]
    fail_chain(board, ring, case)
    assert board.needs_reset()
    assert (board.irq(), board.ack() & CONFIG) == (1, CONFIG)
    assert board.dev.get_property("guest-faults") == 1
    ring.kick()
    board.set(0x70, 15)
    assert board.needs_reset(), "only a reset leads out"
    board.top = RAM
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    assert len(ring.taken()) == 1


def test_indirect_without_the_feature(board: Board) -> None:
    ring = board.up(want=F_VERSION_1).queues[0]
    ring.send((board.alloc(16), 16, True), indirect=True)
    assert board.needs_reset()


@pytest.mark.parametrize(
    ("num", "desc", "avail", "used"),
    [(0, 0, 0, 0), (3, 0, 0, 0), (16, 0, 0, 0), (0xFFFFFFFF, 0, 0, 0), (8, 8, 0, 0), (8, 0, 1, 0), (8, 0, 0, 2),
     (8, RAM_SIZE - 64, 0, 0), (8, 0, RAM_SIZE, 0), (8, 0, 0, -0x1000), (8, 0, 0, (1 << 64) - RAM - 4), (8, -RAM, 0, 0)],
)  # fmt: skip
def test_rings_that_cannot_be(board: Board, num: int, desc: int, avail: int, used: int) -> None:
    board.negotiate()
    board.set(0x38, num)
    for offset, delta in ((0x80, desc), (0x90, avail), (0xA0, used)):
        addr = (RAM + delta) % (1 << 64)
        board.set(offset, addr & 0xFFFFFFFF)
        board.set(offset + 4, addr >> 32)
    board.set(0x44, 1)
    assert (board.reg(0x44), board.needs_reset()) == (0, True)
    board.driver_ok()
    board.set(0x50, 0)
    board.up()


def test_rings_that_go_away(board: Board) -> None:
    ring = board.up().queues[0]
    board.machine.unmap_region("mem", "ram", RAM)
    ring.kick()
    assert board.needs_reset()
    board.machine.map_region("mem", "ram", RAM)
    board.up()


def test_rings_and_buffers_across_two_memories() -> None:
    board = Board("virtio-rng-device")
    board.machine.create_object("memory-backend-ram", "more", {"size": 4096})
    board.machine.map_region("mem", "more", RAM + RAM_SIZE)
    board.start()
    seam = RAM + RAM_SIZE
    for at in ("desc", "avail", "used"):
        board.negotiate()
        board.top = RAM
        ring = Ring(board, 0, 8)
        setattr(ring, at, seam - 16 if at == "desc" else seam - 8)
        board.write(seam - 16, bytes(256))
        for offset, addr in ((0x80, ring.desc), (0x90, ring.avail), (0xA0, ring.used)):
            board.set(offset, addr)
        board.set(0x38, 8)
        board.set(0x44, 1)
        board.driver_ok()
        buffer = seam - 64 if at == "desc" else board.alloc(16)
        for _ in range(3):
            ring.send((buffer, 16, True))
        assert len(ring.taken()) == 3
    board.write(seam - 12, bytes(64))
    ring.send((seam - 12, 24, True))
    assert any(board.read(seam - 12, 12)) and any(board.read(seam, 12))
    board.machine.close()


def test_saved_state_goes_on_elsewhere(board: Board) -> None:
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    other = Board("virtio-rng-device").start()
    other.space.write(RAM, board.space.read(RAM, RAM_SIZE))
    for name in ("dev", "mmio"):
        getattr(other, name).load_state(getattr(board, name).save_state())
    other.top = board.top
    ring.board = other
    assert len(ring.taken()) == 1
    ring.send((other.alloc(16), 16, True))
    assert len(ring.taken()) == 1 and other.dev.save_state() != board.dev.save_state()
    other.machine.close()


def test_buses_are_named_found_and_full() -> None:
    machine = new_machine()
    machine.create_object("address-space", "mem", {})
    machine.device_add("virtio-rng-device", "r0", {})
    with pytest.raises(GenericError, match=r"No 'virtio-bus' bus found for device 'virtio-rng-device'$"):
        machine.exit_preconfig()
    machine.device_add("virtio-mmio", "virtio-mmio-bus", {})
    machine.device_add("virtio-rng-device", "r1", {"bus": "virtio-mmio-bus.0"})
    with pytest.raises(GenericError, match=r"Bus 'virtio-mmio-bus.0' is full"):
        machine.exit_preconfig()
    machine.device_add("virtio-mmio", "vm1", {})
    with pytest.raises(GenericError, match=r"must say which bus is meant: '/machine/peripheral/virtio-mmio-bus/virtio-mmio-b"):
        machine.exit_preconfig()
    machine.device_del("r0")
    machine.device_add("virtio-rng-device", "r0", {"bus": "nope"})
    with pytest.raises(GenericError, match=r"Bus 'nope' not found$"):
        machine.exit_preconfig()
    machine.device_del("r0")
    machine.exit_preconfig()
    for props, text in (
        ({"bus": "virtio-mmio-bus.0"}, "Bus 'virtio-mmio-bus.0' does not support hotplugging"),
        ({"bus": "vm1.0"}, "Bus 'vm1.0' does not support hotplugging"),
        ({"bus": "nobus"}, "Bus 'nobus' not found"),
    ):
        with pytest.raises(GenericError) as caught:
            machine.device_add("virtio-rng-device", "r2", props)
        assert caught.value.desc == text
    with pytest.raises(GenericError, match="Device 'virtio-mmio' does not support hotplugging"):
        machine.device_add("virtio-mmio", "vm2", {})
    machine.close()


def test_long_chains_are_taken_in_portions(board: Board) -> None:
    ring = board.up(num=8).queues[0]
    at = board.alloc(16)
    for _ in range(8):
        ring.offer(ring.indirect(*[(at, 1, True)] * 1024), kick=False)
    seen = []
    handle = board.dev.handle
    board.dev.handle = lambda queue: (seen.append(queue.last_avail), handle(queue))
    ring.kick()
    assert ring.taken() == [(n, 1024) for n in range(8)] and seen == list(range(8))


def test_more_chains_than_the_ring_has_entries(board: Board) -> None:
    """The driver makes available again what the device has not given back: the host's memory is not for that."""
    board.dev._source.request = lambda count, answer: None  # nothing is ever answered
    ring = board.up().queues[0]
    head = ring.chain((board.alloc(16), 16, True))
    for _ in range(8):
        ring.offer(head)
    assert not board.needs_reset()
    ring.offer(head)
    assert board.needs_reset()
    board.up().queues[0].offer(0)
    assert not board.needs_reset(), "a reset brings it back"


def test_the_memory_that_a_device_works_on() -> None:
    for prepare, text in (
        (lambda m: None, "must say which is meant: '/objects/one', '/objects/two'"),
        (lambda m: m.map_region("two", "vm", 0), ""),
        (lambda m: (m.map_region("two", "vm", 0), m.map_region("one", "vm", 0)), "must say which is meant"),
    ):
        machine = new_machine()
        machine.create_object("address-space", "one", {})
        machine.create_object("address-space", "two", {})
        machine.device_add("virtio-mmio", "vm", {})
        machine.device_add("virtio-rng-device", "dev", {})
        prepare(machine)
        if text:
            with pytest.raises(GenericError, match=text):
                machine.exit_preconfig()
        else:
            machine.exit_preconfig()
            assert machine.resolve("vm").space is machine.resolve("two")
        machine.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_hostile_driver(board: Board, seed: int) -> None:
    """Rings full of what random picks; the registers hit at random.  Nothing raises, and a reset always helps."""
    rng = random.Random(seed)

    def word() -> int:
        return rng.choice((rng.getrandbits(64), RAM + rng.randrange(RAM_SIZE), RAM + RAM_SIZE - rng.randrange(64), 0))

    def descriptor() -> bytes:
        size = rng.choice((rng.getrandbits(32), rng.randrange(64), 16, 0))
        return struct.pack("<QIHH", word(), size, rng.choice((0, 1, 2, 3, 4, 7, rng.getrandbits(16))), rng.randrange(12))

    for _ in range(25):
        board.top = RAM
        if rng.random() < 0.8:
            board.negotiate()
            ring = board.setup(0)
            board.driver_ok()
            for at in range(8):
                board.write(ring.desc + 16 * at, descriptor())
            for _ in range(rng.randrange(6)):
                board.write(RAM + rng.randrange(4096), descriptor())
            for _ in range(rng.randrange(1, 5)):
                ring.offer(rng.randrange(10))
            if rng.random() < 0.3:
                board.write(ring.avail + 2, struct.pack("<H", rng.getrandbits(16)))
                ring.kick()
        for _ in range(rng.randrange(30)):
            offset = rng.choice((*range(0, 0x100, 4), rng.randrange(0x200)))
            board.set(offset & ~3, rng.choice((0, 1, 3, 11, 15, 8, rng.getrandbits(32))))
            board.reg(offset & ~3)
    board.top = RAM
    ring = board.up().queues[0]
    ring.send((board.alloc(16), 16, True))
    assert len(ring.taken()) == 1


def test_rng_random_reads_a_file(tmp_path: Any) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(1, 101)))
    machine = new_machine(inline=False)
    with pytest.raises(GenericError, match="Could not open '/nowhere': No such file or directory"):
        machine.owner.call(machine.create_object, "rng-random", "bad", {"filename": "/nowhere"})
    machine.owner.call(machine.create_object, "rng-random", "src", {"filename": str(source)})
    board = Board("virtio-rng-device", machine=machine, rng="src").start()
    ring = board.up(want=NO_EVENTS).queues[0]
    buffer = board.alloc(64)
    ring.send((buffer, 64, True))
    assert machine.chardevs.io.sync()
    while not (used := ring.taken()):
        assert machine.chardevs.io.sync()
    assert used == [(0, 64)] and board.read(buffer, 64) == bytes(range(1, 65))
    board.machine.close()

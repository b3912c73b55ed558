"""virtio-balloon: pages that come and go, what a client asks and is told, statistics, drivers that lie."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from virtio_kit import RAM, RAM_SIZE, Board, new_machine

from ratite.hw.virtio.balloon import PAGES_AT_ONCE, STATISTICS
from ratite.qapi.errors import GenericError

PAGE = 4096
UNKNOWN = (1 << 64) - 1


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board("virtio-balloon-device").start()
    made.up(queues=3)
    yield made
    assert made.faults() == 0
    made.machine.close()


def give(board: Board, *pages: int, queue: int = 0) -> None:
    """The driver names pages of 4 KiB."""
    board.queues[queue].free = list(range(8))
    at = board.alloc(4 * len(pages))
    board.write(at, struct.pack(f"<{len(pages)}I", *pages))
    board.queues[queue].send((at, 4 * len(pages), False))
    assert len(board.queues[queue].taken()) == 1


def test_what_a_client_asks(board: Board) -> None:
    dev = board.dev
    assert board.reg(8) == 5 and dev.balloon_actual == RAM_SIZE and (board.config(0, 4), board.config(4, 4)) == (0, 0)
    for target, pages in ((RAM_SIZE - 10 * PAGE, 10), (1, (RAM_SIZE - 1) // PAGE), (1 << 60, 0)):
        generation = board.reg(0xFC)
        board.call(dev.balloon_to, target)
        assert board.config(0, 4) == pages and board.reg(0xFC) != generation and board.reg(0x60) & 2
    board.set(0x104, 3)
    assert dev.balloon_actual == RAM_SIZE - 3 * PAGE
    board.set(0x104, 3)
    board.set(0x100, 77)
    assert board.config(0, 4) == 0, "what is asked is the client's"
    assert [data for name, data in board.events if name == "BALLOON_CHANGE"] == [{"actual": RAM_SIZE - 3 * PAGE}]
    saved = dev.save_state()
    board.call(board.machine.reset_members)
    assert dev.balloon_actual == RAM_SIZE
    dev.load_state(saved)
    dev.post_load()
    assert board.config(4, 4) == 3


def test_pages_are_taken_and_given_back(board: Board) -> None:
    last = (RAM + RAM_SIZE) // PAGE - 1
    board.write(last * PAGE, b"x" * PAGE)
    board.write((last - 1) * PAGE, b"y" * PAGE)
    give(board, last)
    assert board.read(last * PAGE, PAGE) == bytes(PAGE)
    assert board.read((last - 1) * PAGE, PAGE) == b"y" * PAGE
    board.write(last * PAGE, b"again")
    give(board, last, queue=1)
    assert board.read(last * PAGE, 5) == b"again", "deflating takes nothing"


def test_the_host_has_its_memory_back(board: Board) -> None:
    ram = board.space.view.find(RAM).region
    assert ram.private
    said: list[tuple[int, int]] = []
    real = ram.buf

    class Told:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def __setitem__(self, at: slice, data: bytes) -> None:
            real[at] = data

        def __getitem__(self, at: slice) -> bytes:
            return real[at]

        def madvise(self, option: int, start: int, length: int) -> None:
            said.append((start, length))

    ram.buf = Told()
    give(board, RAM // PAGE + 40)
    ram.buf = real
    assert said == [(40 * PAGE, PAGE)]


def test_pages_that_are_none(board: Board) -> None:
    give(board, 0, 0xFFFFFFFF, RAM // PAGE - 1, (RAM + RAM_SIZE) // PAGE)
    many = board.alloc(8 * PAGES_AT_ONCE)
    board.queues[0].free = list(range(8))
    board.queues[0].send((many, 8 * PAGES_AT_ONCE, False))
    assert len(board.queues[0].taken()) == 1


def test_statistics_that_come_before_the_driver_is_ready() -> None:
    """Linux offers its buffer and kicks while it still sets the device up."""
    board = Board("virtio-balloon-device").start()
    board.negotiate()
    for queue in range(3):
        board.setup(queue)
    at = board.alloc(10)
    board.write(at, struct.pack("<HQ", 4, 1000))
    board.queues[2].send((at, 10, False))
    board.driver_ok()
    assert board.dev.get_property("guest-stats")["stats"]["stat-free-memory"] == 1000
    board.machine.close()


def test_statistics(board: Board) -> None:
    dev, clock = board.dev, board.machine.clock
    assert dev.get_property("guest-stats") == {"stats": dict.fromkeys(STATISTICS, UNKNOWN), "last-update": 0}
    at = board.alloc(40)

    def tell(*pairs: tuple[int, int]) -> None:
        board.queues[2].free = list(range(8))
        board.write(at, b"".join(struct.pack("<HQ", *pair) for pair in pairs))
        board.queues[2].send((at, 10 * len(pairs), False))

    tell((4, 1000), (5, 2000), (999, 1))
    stats = dev.get_property("guest-stats")
    assert (stats["stats"]["stat-free-memory"], stats["stats"]["stat-total-memory"]) == (1000, 2000)
    assert stats["stats"]["stat-swap-in"] == UNKNOWN
    assert not board.queues[2].taken(), "the device keeps the buffer"
    board.call(dev.set_property, "guest-stats-polling-interval", 2)
    clock.advance(1_999_999_999)
    assert not board.queues[2].taken()
    clock.advance(1)
    assert len(board.queues[2].taken()) == 1
    tell((4, 500))
    assert dev.get_property("guest-stats") == {
        "stats": {**dict.fromkeys(STATISTICS, UNKNOWN), "stat-free-memory": 500, "stat-total-memory": 2000}, "last-update": 2,
    }  # fmt: skip
    board.call(dev.set_property, "guest-stats-polling-interval", 0)
    clock.advance(10_000_000_000)
    assert not board.queues[2].taken()
    for value, words in ((-1, "timer value must be greater than zero"), (1 << 33, "timer value is too big")):
        with pytest.raises(GenericError, match=words):
            board.call(dev.set_property, "guest-stats-polling-interval", value)


def test_the_size_is_known_before_the_guest_lets_the_device_work() -> None:
    machine = new_machine()
    machine.create_object("address-space", "mem", {})
    machine.create_object("memory-backend-ram", "ram", {"size": RAM_SIZE})
    machine.map_region("mem", "ram", RAM)
    machine.device_add("gpex-pcihost", "pci0", {"address-space": "mem"})
    machine.device_add("virtio-balloon-pci", "b0", {})
    machine.exit_preconfig()
    balloon = machine.resolve("/machine/peripheral/b0")
    assert balloon.balloon_actual == RAM_SIZE
    balloon.balloon_to(RAM_SIZE // 2)
    assert balloon.num_pages == RAM_SIZE // 2 // PAGE
    machine.close()


def test_one_is_enough() -> None:
    board = Board("virtio-balloon-device", bus="vm0.0")
    board.call(board.machine.device_add, "virtio-mmio", "vm1", {})
    board.call(board.machine.map_region, "mem", "vm1", 0x20000000)
    board.call(board.machine.device_add, "virtio-balloon-device", "two", {"bus": "vm1.0"})
    with pytest.raises(GenericError, match="Only one balloon device is supported"):
        board.start()
    board.machine.close()

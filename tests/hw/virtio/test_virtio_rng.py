"""The entropy device's limit of the rate."""

from __future__ import annotations

import pytest
from virtio_kit import RAM, RAM_SIZE, Board

from ratite.qapi.errors import GenericError

MS = 1_000_000


def buffers(board: Board, *sizes: int) -> list[int]:
    """Offers a buffer of each size; gives what was written so far, of these and of earlier ones that waited."""
    ring = board.queues[0]
    for size in sizes:
        ring.send((board.alloc(size), size, True))
    return [written for _, written in ring.taken()]


def test_a_period_has_so_many_bytes() -> None:
    board = Board("virtio-rng-device", **{"max-bytes": 100, "period": 50}).start().up()
    board.machine.clock.start()
    board.machine.clock.advance(1000 * MS)
    assert buffers(board, 64, 64, 16) == [64, 36], "the second gets what is left, the third waits"
    board.machine.clock.advance(50 * MS - 1)
    assert buffers(board) == []
    board.machine.clock.advance(1)
    assert buffers(board) == [16]
    assert buffers(board, 84) == [84], "of the new period"
    assert buffers(board, 8) == []
    board.machine.clock.advance(49 * MS)
    assert buffers(board) == []
    board.set(0x70, 0)
    board.up()
    assert buffers(board, 10) == [], "a reset by the driver brings no more"
    board.machine.clock.advance(1 * MS)
    assert buffers(board) == [10]
    board.machine.close()


def test_a_saved_period_ends_elsewhere() -> None:
    props = {"max-bytes": 32, "period": 10}
    board, other = (Board("virtio-rng-device", **props).start() for _ in range(2))
    board.up().machine.clock.start()
    assert buffers(board, 32) == [32]
    other.machine.clock.start()
    other.write(RAM, board.read(RAM, RAM_SIZE))
    for name in ("dev", "mmio"):
        getattr(other, name).load_state(getattr(board, name).save_state())
    other.queues, other.top = board.queues, board.top
    other.queues[0].board = other
    assert buffers(other, 8) == []
    other.machine.clock.advance(10 * MS)
    assert buffers(other) == [8]
    for each in board, other:
        each.machine.close()


def test_without_a_limit_time_need_not_pass() -> None:
    board = Board("virtio-rng-device", period=1).start().up()
    assert buffers(board, 4096, 4096, 5000) == [4096, 4096, 4096]
    assert board.machine.clock.next_deadline() is None
    board.machine.close()


@pytest.mark.parametrize(("name", "value", "words"), [
    ("max-bytes", 1 << 63, "'max-bytes' parameter must be positive, and less than 2^63"),
    ("max-bytes", 0, "'max-bytes' parameter must be positive, and less than 2^63"),
    ("period", 0, "'period' parameter expects a positive integer"),
])  # fmt: skip
def test_limits_that_are_none(name: str, value: int, words: str) -> None:
    with pytest.raises(GenericError) as caught:
        Board("virtio-rng-device", **{name: value})
    assert caught.value.desc == words

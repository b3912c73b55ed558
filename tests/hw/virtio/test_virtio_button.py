"""virtio-button: what the driver asks, what a press tells it."""

from __future__ import annotations

import struct

import pytest
from virtio_kit import Board

POWER, DOWN, UP, SYN = 116, 1, 0, (0, 0, 0)
PRESS = [(1, POWER, DOWN), SYN, (1, POWER, UP), SYN]


def made(**props: object) -> Board:
    return Board("virtio-button-device", bus="vm0.0", **props).start()


def asked(board: Board, select: int, subsel: int = 0) -> bytes:
    board.set(0x100, select, 1)
    board.set(0x101, subsel, 1)
    size = board.config(2, 1)
    return bytes(board.config(8 + n, 1) for n in range(size))


class Listener:
    """A driver with buffers for `count` events."""

    def __init__(self, board: Board, count: int) -> None:
        self.board = board
        self.places = {}
        for _ in range(count):
            self.offer()

    def offer(self) -> None:
        at = self.board.alloc(8)
        self.places[self.board.queues[0].send((at, 8, True))] = at

    def heard(self) -> list[tuple[int, ...]]:
        taken = self.board.queues[0].taken()
        assert all(size == 8 for _, size in taken)
        return [struct.unpack("<HHI", self.board.read(self.places[head], 8)) for head, _ in taken]


def test_what_it_is() -> None:
    board = made(label="Aus")
    assert board.reg(8) == 18
    board.negotiate()
    assert asked(board, 1) == b"Aus"
    assert struct.unpack("<4H", asked(board, 3)) == (6, 0x1AF4, 18, 1)
    keys = int.from_bytes(asked(board, 0x11, 1), "little")
    assert keys == 1 << POWER
    for select, subsel in ((0, 0), (2, 0), (0x10, 0), (0x11, 2), (0x12, 0), (1, 1), (0xFF, 0xFF)):
        assert asked(board, select, subsel) == b""
    board.set(0x108, 0x55, 1)
    assert asked(board, 1) == b"Aus"
    board.machine.reset()
    assert board.config(0, 1) == 0


def test_a_press() -> None:
    board = made().up(2)
    listener = Listener(board, 6)
    board.machine.powerdown()
    assert ("POWERDOWN", {}) in board.events
    assert (listener.heard(), board.ack() & 1) == (PRESS, 1)
    board.machine.powerdown()
    assert listener.heard() == PRESS[:2]
    for _ in range(2):
        listener.offer()
    assert listener.heard() == PRESS[2:]
    assert board.faults() == 0


def test_without_a_driver_nothing_waits() -> None:
    board = made()
    board.machine.powerdown()
    board.up(2)
    listener = Listener(board, 4)
    assert listener.heard() == []
    board.machine.powerdown()
    assert listener.heard() == PRESS


def test_presses_that_nobody_takes_are_bounded_and_saved() -> None:
    board = made().up(2)
    for _ in range(100):
        board.machine.powerdown()
    assert len(board.dev.waiting) == 64
    saved = [(obj, obj.save_state()) for obj in board.machine.tree.members()]
    other = made().up(2)
    for obj, state in saved:
        other.machine.resolve(obj.path).load_state(state)
    assert other.dev.waiting == board.dev.waiting
    board.set(0x70, 0)
    assert board.dev.waiting == []


def test_what_the_driver_sets_is_taken() -> None:
    board = made().up(2)
    at = board.alloc(8)
    board.queues[1].send((at, 8, False))
    assert board.queues[1].taken() == [(0, 0)]
    board.queues[0].send((board.alloc(4), 4, True))
    board.machine.powerdown()
    assert board.queues[0].taken() == [(0, 4)]
    assert not board.needs_reset()


@pytest.mark.parametrize("key", [0, 0x300, 1 << 16])
def test_keys_that_are_none(key: int) -> None:
    from ratite.qapi.errors import GenericError

    with pytest.raises(GenericError, match="key"):
        made(key=key)

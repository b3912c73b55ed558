"""The daemon's loop: turns, timers, descriptors, other threads and signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from ratite.daemon.loop import EventLoop


class Run:
    """A loop, what was called, and what failed."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.errors: list[Exception] = []
        self.loop = EventLoop(self.errors.append)

    def turns(self, count: int = 1) -> list[object]:
        """What is said in the next turns."""
        self.said.clear()
        for _ in range(count):
            self.loop.stop()
            self.loop.run_forever()
        return list(self.said)


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run()
    yield made
    made.loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_soon_is_the_next_turn_in_order(run: Run) -> None:
    run.loop.call_soon(lambda: run.loop.call_soon(run.said.append, 3))
    run.loop.call_soon(run.said.append, 1)
    run.loop.call_soon_threadsafe(run.said.append, 2)
    assert run.turns() == [1, 2]
    assert run.turns() == [3]
    assert run.turns() == []


def test_timers_fire_when_due_in_order_and_not_once_cancelled(run: Run) -> None:
    began = monotonic()
    run.loop.call_later(0.02, run.loop.stop)
    for number in 3, 4:
        run.loop.call_later(0.01, run.said.append, number)
    run.loop.call_later(0, run.said.append, 1)
    late = run.loop.call_later(3600, run.said.append, "never")
    cancelled = run.loop.call_later(0.005, run.said.append, "cancelled")
    cancelled.cancel()
    run.loop.run_forever()
    assert run.said == [1, 3, 4] and monotonic() - began >= 0.02
    cancelled.cancel()
    late.cancel()
    assert run.turns() == []


def test_descriptors_are_told_until_they_are_taken_out(run: Run, pair: tuple[socket.socket, socket.socket]) -> None:
    fd = pair[0].fileno()
    assert not run.loop.remove_reader(fd)
    run.loop.add_reader(fd, run.said.append, "read")
    assert run.turns() == []
    run.loop.add_writer(fd, run.said.append, "write")
    assert run.turns() == ["write"]
    pair[1].send(b"x")
    assert run.turns() == ["read", "write"]
    run.loop.add_reader(fd, run.said.append, "read by another")
    assert run.loop.remove_writer(fd) and not run.loop.remove_writer(fd)
    assert run.turns() == ["read by another"]
    run.loop.add_writer(fd, run.said.append, "write")
    assert run.loop.remove_reader(fd)
    assert run.turns() == ["write"]
    assert run.loop.remove_writer(fd)
    assert run.turns() == []


def test_a_descriptor_that_was_closed_in_the_turn_is_not_told(run: Run, pair: tuple[socket.socket, socket.socket]) -> None:
    """The number may be another file's at once."""
    left, right = pair
    for end in pair:
        end.send(b"x")
    another: list[socket.socket] = []

    def close_other(mine: socket.socket, other: socket.socket) -> None:
        run.said.append("told")
        number = other.fileno()
        run.loop.remove_reader(number)
        run.loop.remove_reader(mine.fileno())
        other.close()
        another.extend(socket.socketpair())
        assert number in [each.fileno() for each in another]
        run.loop.add_reader(number, run.said.append, "told of nothing")

    run.loop.add_reader(left.fileno(), close_other, left, right)
    run.loop.add_reader(right.fileno(), close_other, right, left)
    assert run.turns(2) == ["told"]
    for each in another:
        run.loop.remove_reader(each.fileno())
        each.close()


def test_a_callback_that_fails_costs_nobody_else_anything(run: Run, pair: tuple[socket.socket, socket.socket]) -> None:
    run.loop.call_soon(int, "no number")
    run.loop.call_soon(run.said.append, 1)
    assert run.turns() == [1] and [type(error) for error in run.errors] == [ValueError]


def test_another_thread_wakes_it(run: Run) -> None:
    def work() -> None:
        for number in range(1000):
            run.loop.call_soon_threadsafe(run.said.append, number)
        run.loop.call_soon_threadsafe(run.loop.stop)

    thread = threading.Thread(target=work)
    run.loop.call_soon(thread.start)
    run.loop.run_forever()
    thread.join()
    assert run.said == list(range(1000))


class Interrupted:
    """A socket at which somebody else comes in between whenever it is about to be read."""

    def __init__(self, sock: socket.socket, between: Callable[[], object]) -> None:
        self._sock, self._between = sock, between

    def recv(self, size: int) -> bytes:
        """As a socket's."""
        self._between()
        return self._sock.recv(size)


def test_a_call_while_the_waking_byte_is_read_costs_no_later_one_its_byte(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = run.loop._woken
    monkeypatch.setattr(run.loop, "_woken", Interrupted(woken, lambda: run.loop.call_soon_threadsafe(run.said.append, 2)))
    run.loop.call_soon_threadsafe(run.said.append, 1)
    assert run.turns() == [1, 2]
    monkeypatch.setattr(run.loop, "_woken", woken)
    run.loop.call_soon_threadsafe(run.said.append, 3)
    assert woken.recv(1) == b"!"


def test_a_signal_is_a_call_and_after_the_end_what_it_was() -> None:
    run = Run()
    run.loop.add_signal_handler(signal.SIGHUP, run.loop.stop)
    run.loop.call_later(0.01, os.kill, os.getpid(), signal.SIGHUP)
    run.loop.run_forever()
    run.loop.close()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    with pytest.raises(RuntimeError):
        run.loop.call_soon_threadsafe(print)

"""The virtual clock: passes only while the machine runs, fires timers in order."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratite.core.clock import VirtualClock
from ratite.core.owner import Owner


class Hand:
    """A source of time moved by hand."""

    def __init__(self) -> None:
        self.ns = 1000

    def __call__(self) -> int:
        return self.ns


def test_time_passes_only_while_it_runs() -> None:
    hand = Hand()
    clock = VirtualClock(hand)
    hand.ns += 50
    assert clock.now() == 0 and not clock.running
    clock.start()
    hand.ns += 70
    assert clock.now() == 70
    clock.stop()
    hand.ns += 1000
    assert clock.now() == 70
    clock.start()
    hand.ns += 1
    assert clock.now() == 71


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["keep", "cancel", "rearm"])), max_size=20))
def test_timers_fire_in_order_at_their_deadline(plan: list[tuple[int, str]]) -> None:
    clock = VirtualClock(manual=True)
    fired: list[tuple[int, int]] = []
    wanted = []
    for number, (deadline, fate) in enumerate(plan):
        timer = clock.timer(lambda number=number: fired.append((clock.now(), number)))
        timer.arm(deadline)
        if fate == "cancel":
            timer.cancel()
        else:
            if fate == "rearm":
                deadline += 5
                timer.arm(deadline)
            wanted.append((deadline, number))
    clock.advance(100)
    assert sorted(fired) == sorted(wanted)
    assert [at for at, _ in fired] == sorted(at for at, _ in fired)
    assert clock.now() == 100 and clock.next_deadline() is None


@pytest.mark.parametrize("step", [0, 1, -1], ids=["the-same", "later", "sooner"])
def test_arming_again_and_again_takes_no_more_room(step: int) -> None:
    """As a guest may, for a time that it never lets come."""
    clock = VirtualClock(manual=True)
    fired: list[str] = []
    clock.timer(lambda: fired.append("before")).arm(10)
    gone = clock.timer(lambda: fired.append("gone"))
    timer = clock.timer(lambda: fired.append("it"))
    for number in range(5000):
        gone.arm(20_000)
        gone.cancel()
        timer.arm(10_000 + step * number)
        assert len(clock._heap) < 200
    clock.timer(lambda: fired.append("after")).arm(30_000)
    clock.advance(40_000)
    assert fired == ["before", "it", "after"]


def test_a_periodic_timer_and_a_stopped_clock() -> None:
    hand = Hand()
    clock = VirtualClock(hand)
    ticks = []
    timer = clock.timer(lambda: (ticks.append(clock.now()), timer.arm_after(10)))
    timer.arm(10)
    assert clock.delay() is None
    clock.start()
    assert clock.delay() == 10
    hand.ns += 35
    assert clock.delay() == 0
    assert clock.fire_due() == 1, "one that is armed for the future waits"
    assert ticks == [35] and timer.deadline == 45


def test_a_callback_that_arms_for_now_does_not_hold_the_owner() -> None:
    clock = VirtualClock(manual=True)
    count = []
    timer = clock.timer(lambda: (count.append(1), timer.arm(0)))
    timer.arm(0)
    assert clock.fire_due() == 1 and len(count) == 1


def test_the_owner_fires_timers_and_does_work_in_order() -> None:
    lock = threading.RLock()
    clock = VirtualClock()
    owner = Owner("t", lock, clock)
    done: list[object] = []
    fired = threading.Event()
    thread = []

    def arm() -> None:
        clock.start()
        bad = clock.timer(lambda: 1 // 0)
        bad.arm(0)
        good = clock.timer(lambda: (thread.append(threading.current_thread().name), fired.set()))
        good.arm_after(1)

    futures = [owner.post(done.append, i) for i in range(100)]
    owner.call(arm)
    assert fired.wait(5), "a failing callback doesn't stop the others"
    assert all(f.done() for f in futures) and done == list(range(100))
    assert thread == ["ratite-t"]
    failing = owner.post(lambda: 1 // 0)
    assert isinstance(failing.exception(5), ZeroDivisionError)
    owner.end()
    assert isinstance(owner.post(print).exception(5), RuntimeError)


def test_work_is_done_under_the_lock() -> None:
    lock = threading.RLock()
    owner = Owner("t", lock, VirtualClock())
    with lock:
        future = owner.post(lambda: 5)
        assert not future.done()
    assert future.result(5) == 5
    owner.end()


class Keeper:
    """Somebody who keeps the owner's clock."""

    def __init__(self, owner: Owner) -> None:
        self.told = threading.Event()
        self.owner = owner

    def keep(self) -> bool:
        return self.owner.keep_clock(self.told.set)


def test_one_keeper_fires_timers_in_the_owners_place() -> None:
    lock = threading.RLock()
    clock = VirtualClock()
    owner = Owner("t", lock, clock)
    fired: list[str] = []
    done = threading.Event()

    def note() -> None:
        fired.append(threading.current_thread().name)
        done.set()

    first, second = Keeper(owner), Keeper(owner)
    owner.call(clock.start)
    assert first.keep() and not second.keep(), "one at a time"
    timer = clock.timer(note)
    owner.call(timer.arm_after, 1)
    assert first.told.is_set(), "what the owner arms is told, too"
    owner.call(lambda: None)
    owner.call(lambda: None)
    assert not fired, "the owner leaves it to the keeper"
    delay = owner.fire()
    while not fired:
        assert delay is not None
        delay = owner.fire()
    assert fired == [threading.current_thread().name] and delay is None
    first.told.clear()
    with lock:
        timer.arm_after(3_600_000_000_000)
    assert first.told.is_set()
    assert (owner.fire() or 0) > 3000
    with lock:
        assert (owner.clock_delay() or 0) > 3000
    first.told.clear()
    with lock:
        timer.arm_after(4_000_000_000_000)
    assert not second.told.is_set()
    done.clear()
    owner.leave_clock()
    with lock:
        timer.arm_after(1)
    assert done.wait(20) and fired[-1] == "ratite-t", "the owner has it again"
    assert second.keep()
    owner.end()


def test_the_owner_fires_what_fell_due_while_the_clock_was_kept() -> None:
    lock = threading.RLock()
    clock = VirtualClock()
    owner = Owner("t", lock, clock)
    fired = threading.Event()
    keeper = Keeper(owner)
    owner.call(clock.start)
    assert keeper.keep()
    owner.call(clock.timer(fired.set).arm, 0)
    owner.call(lambda: None)
    assert not fired.is_set()
    owner.leave_clock()
    assert fired.wait(20)
    owner.end()


def test_nobody_keeps_the_clock_of_a_machine_without_a_thread() -> None:
    owner = Owner("t", threading.RLock(), VirtualClock(manual=True), inline=True)
    assert not owner.keep_clock(lambda: None)

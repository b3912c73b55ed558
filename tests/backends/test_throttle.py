"""Limits of a disk's I/O, on a clock that stands until it is moved."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ratite.core.backends.block.throttle import RATE_MAX, Limits, ThrottleGroup
from ratite.core.clock import VirtualClock
from ratite.qapi.errors import GenericError

SECOND = 1_000_000_000


class Bench:
    """A group and what it has let go: (name, when in ms)."""

    def __init__(self, **limits: int) -> None:
        self.clock = VirtualClock(manual=True)
        self.group = ThrottleGroup("g", self.clock)
        self.group.set_limits(Limits(limits))
        self.gone: list[tuple[Any, int]] = []

    def submit(self, name: Any, size: int, write: bool = False, who: object = None) -> None:
        self.group.submit(who, write, size, partial(self._go, name))

    def _go(self, name: Any) -> None:
        self.gone.append((name, self.clock.now() // 1_000_000))


def test_requests_a_second() -> None:
    bench = Bench(iops=10)
    for number in range(40):
        bench.submit(number, 4096, write=number % 2 == 1)
    assert bench.gone == [(0, 0), (1, 0)]  # a tenth of a second's worth, and the one that overflows it
    bench.clock.advance(2 * SECOND)
    assert [name for name, _ in bench.gone] == list(range(22))
    assert bench.gone[-1][1] == 2000
    bench.clock.advance(2 * SECOND)
    assert len(bench.gone) == 40


def test_bytes_a_second_of_one_direction() -> None:
    bench = Bench(bps_wr=1000)
    for number in range(5):
        bench.submit(f"w{number}", 1000, write=True)
        bench.submit(f"r{number}", 1 << 20)
    assert [name for name, _ in bench.gone] == ["w0", "r0", "r1", "r2", "r3", "r4"]
    bench.clock.advance(4 * SECOND)
    assert [when for name, when in bench.gone if name[0] == "w"] == [0, 900, 1900, 2900, 3900]


def test_bursts() -> None:
    """100 requests a second, 200 for three seconds: six hundred at the rate of the burst, then at that of the limit."""
    bench = Bench(iops=100, iops_max=200, iops_max_length=3)
    for number in range(2000):
        bench.submit(number, 512)
    bench.clock.advance(SECOND)
    assert 200 <= len(bench.gone) <= 222
    bench.clock.advance(9 * SECOND)
    assert 1570 <= len(bench.gone) <= 1630


def test_a_large_request_counts_more() -> None:
    bench = Bench(iops=10, iops_size=4096)
    bench.submit("large", 40960)
    bench.submit("next", 512)
    bench.clock.advance(SECOND * 9 // 10 - 1)
    assert bench.gone == [("large", 0)]
    bench.clock.advance(1)
    assert bench.gone[1:] == [("next", 900)]


def test_disks_share_a_group_and_leave_it() -> None:
    bench = Bench(iops=1)
    for number in range(6):
        bench.submit(number, 512, who=number % 2)
    assert bench.gone == [(0, 0)]
    bench.group.drain(1)
    assert [name for name, _ in bench.gone] == [0, 1, 3, 5]
    bench.group.set_limits(Limits({}))
    assert [name for name, _ in bench.gone] == [0, 1, 3, 5, 2, 4]
    assert bench.clock.next_deadline() is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bps": 10, "bps_rd": 10}, "bps/iops/max total values and read/write values cannot be used at the same time"),
        ({"iops": 9, "iops_max": 20, "iops_wr_max": 20}, "total values and read/write values cannot be used"),
        ({"bps": -1}, "bps/iops/max values must be within [0, 1000000000000000]"),
        ({"iops": RATE_MAX + 1}, "bps/iops/max values must be within [0, 1000000000000000]"),
        ({"bps_max": 10}, "bps_max/iops_max require corresponding bps/iops values"),
        ({"bps": 100, "bps_max": 10}, "bps_max/iops_max cannot be lower than bps/iops"),
        ({"iops_size": 10}, "iops size requires an iops value to be set"),
        ({"bps": 100, "bps_max_length": 10}, "burst length set without burst rate"),
        ({"bps": 100, "bps_max": 1000, "bps_max_length": 0}, "the burst length cannot be 0"),
        ({"bps": 100, "bps_max": 1000, "bps_max_length": 1 << 40}, "burst length too high for this burst rate"),
        ({"iops": 100, "iops_size": -5}, "Parameter 'iops_size' must not be negative, it is -5"),
    ],
)
def test_limits_that_make_no_sense(given: dict[str, int], words: str) -> None:
    with pytest.raises(GenericError) as caught:
        Limits(given)
    assert words in caught.value.desc

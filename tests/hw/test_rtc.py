"""goldfish_rtc: time, setting it, alarms."""

from __future__ import annotations

import time

from hw_kit import Bench, BenchMachine

from ratite.core.clock import VirtualClock
from ratite.hw.rtc.goldfish import GoldfishRtc

LOW, HIGH, ALARM, ALARM_HIGH, ENABLE, CLEAR_ALARM, STATUS, CLEAR = range(0, 0x20, 4)


def now(bench: Bench) -> int:
    low = bench.rd(LOW)
    return low | bench.rd(HIGH) << 32


def alarm(bench: Bench, at: int) -> None:
    bench.wr(ALARM_HIGH, at >> 32)
    bench.wr(ALARM, at & 0xFFFFFFFF)


def test_time_passes_and_a_read_is_of_one_moment() -> None:
    bench = Bench(GoldfishRtc, offset=0xFFFFFFFF)
    assert bench.rd(LOW) == 0xFFFFFFFF
    bench.pass_ns(1)
    assert (bench.rd(HIGH), now(bench)) == (0, 1 << 32)


def test_a_guest_sets_the_time_and_a_reset_keeps_it() -> None:
    bench = Bench(GoldfishRtc, offset=77)
    bench.pass_ns(1000)
    bench.wr(HIGH, 5)
    bench.wr(LOW, 6)
    bench.pass_ns(10)
    assert now(bench) == 5 << 32 | 16
    bench.dev.reset()
    assert now(bench) == 5 << 32 | 16
    twin = Bench(GoldfishRtc, bench.machine, offset=77)
    twin.dev.load_state(bench.dev.save_state())
    assert now(twin) == now(bench)


def test_the_alarm() -> None:
    bench = Bench(GoldfishRtc)
    bench.wr(ENABLE, 1)
    alarm(bench, (1 << 32) + 5)
    bench.pass_ns((1 << 32) + 4)
    assert (bench.irq(), bench.rd(STATUS)) == (0, 1)
    bench.pass_ns(1)
    assert (bench.irq(), bench.rd(STATUS)) == (1, 0)
    bench.wr(ENABLE, 0)
    assert bench.irq() == 0
    bench.wr(ENABLE, 1)
    assert bench.irq() == 1
    bench.wr(CLEAR, 1)
    assert bench.irq() == 0
    alarm(bench, 3)
    assert bench.irq() == 1, "one in the past goes off at once"
    bench.wr(CLEAR, 1)
    alarm(bench, now(bench) + 100)
    bench.wr(CLEAR_ALARM, 1)
    bench.pass_ns(1000)
    assert (bench.irq(), bench.rd(STATUS)) == (0, 0)
    alarm(bench, now(bench) + 100)
    bench.wr(HIGH, 7)
    bench.wr(LOW, 0)
    assert bench.irq() == 1, "the time was set beyond it"


def test_big_endian() -> None:
    bench = Bench(GoldfishRtc, big=True, big_endian=True, offset=0x1234)
    assert bench.rd(LOW) == 0x1234


def test_the_host_s_time_of_day() -> None:
    machine = BenchMachine()
    machine.clock = VirtualClock()
    before = time.time_ns()
    machine.clock.start()
    bench = Bench(GoldfishRtc, machine, offset=-1_000_000)
    assert before <= now(bench) + 1_000_000 <= time.time_ns() + 1_000_000_000
    machine.clock.stop()
    stood = now(bench)
    assert now(bench) == stood == machine.clock.time_of_day() - 1_000_000

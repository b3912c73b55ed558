"""The 6300ESB's watchdog timer, driven as its drivers do, and what follows when it fires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pci_kit import Pci

from ratite.qapi.errors import GenericError

MS = 1_000_000
CONFIG, LOCK = 0x60, 0x68
TICK = (1 << 15) * 1000 // 33  # ns


class Esb:
    """A driver."""

    def __init__(self, pci: Pci) -> None:
        self.pci = pci
        self.bdf = pci.enumerate()["dog"]
        self.at = pci.cr(self.bdf, 0x10) & ~15

    def unlock(self) -> None:
        self.pci.wr(self.at + 0xC, 0x80, 2)
        self.pci.wr(self.at + 0xC, 0x86, 2)

    def put(self, offset: int, value: int, size: int = 4) -> None:
        self.unlock()
        self.pci.wr(self.at + offset, value, size)

    def timed_out(self) -> bool:
        return bool(self.pci.rd(self.at + 0xC, 2) & 0x200)

    def start(self, first: int, second: int, lock: int = 2) -> None:
        """Each stage's ticks of 2^15 PCI clocks."""
        self.put(0, first)
        self.put(4, second)
        self.put(0xC, 0x100, 2)
        self.pci.cw(self.bdf, LOCK, lock, 1)

    def wait(self, ticks: float) -> None:
        self.pci.clock.advance(int(ticks * TICK))


@pytest.fixture
def esb() -> Iterator[Esb]:
    made = Pci(("i6300esb", "dog", {}))
    told: list[tuple[str, Any]] = []
    made.machine.on_event = lambda name, data: told.append((name, data))
    made.events = told
    made.machine.cont()
    told.clear()
    yield Esb(made)
    made.close()


def names(esb: Esb) -> list[str]:
    return [name for name, _ in esb.pci.events]


def test_what_it_is(esb: Esb) -> None:
    assert esb.pci.cr(esb.bdf, 0) == 0x25AB8086
    assert esb.pci.cr(esb.bdf, 8) >> 8 == 0x088000
    assert [(bar.index, bar.io, bar.size) for bar in esb.pci.bars(esb.bdf)] == [(0, False, 16)]
    esb.pci.cw(esb.bdf, CONFIG, 0xFFFF, 2)
    assert esb.pci.cr(esb.bdf, CONFIG, 2) == 0x27


def test_two_stages_then_a_reset(esb: Esb) -> None:
    esb.start(10, 5)
    for _ in range(3):
        esb.wait(9)
        esb.put(0xC, 0x100, 2)
    esb.wait(10.01)
    assert esb.pci.rd(esb.at + 8) == 1 and names(esb) == [], "stage 1 has passed"
    esb.put(0xC, 0x100, 2)
    esb.put(8, 1)
    esb.wait(14.9)
    assert names(esb) == []
    esb.wait(0.2)
    assert esb.pci.events == [
        ("WATCHDOG", {"action": "reset"}), ("RESET", {"guest": True, "reason": "guest-reset"}),
    ]  # fmt: skip
    esb = Esb(esb.pci)
    assert esb.timed_out() and esb.pci.cr(esb.bdf, LOCK, 1) == 0, "off again, and it says why"
    esb.put(0xC, 0x200, 2)
    assert not esb.timed_out()
    esb.wait(1 << 21)
    assert len(esb.pci.events) == 2


def test_writes_count_only_behind_the_sequence(esb: Esb) -> None:
    esb.start(10, 5)
    esb.wait(9)
    esb.pci.wr(esb.at + 0xC, 0x100, 2)
    esb.pci.wr(esb.at, 0xFFFFF)
    esb.pci.wr(esb.at + 0xC, 0x80, 2)
    esb.pci.wr(esb.at + 0xC, 0x100, 2)
    esb.pci.wr(esb.at + 0xC, 0x86, 2)
    esb.pci.wr(esb.at + 0xC, 0x100, 2)
    esb.wait(6.1)
    assert names(esb)[0] == "WATCHDOG"


def test_it_is_stopped_unless_it_is_locked(esb: Esb) -> None:
    esb.start(10, 5)
    esb.pci.cw(esb.bdf, LOCK, 0, 1)
    esb.wait(100)
    assert names(esb) == []
    esb.start(10, 5, lock=3)
    esb.pci.cw(esb.bdf, LOCK, 0, 1)
    assert esb.pci.cr(esb.bdf, LOCK, 1) == 3
    esb.wait(15.1)
    assert names(esb)[0] == "WATCHDOG"


def test_the_fast_clock_free_running_and_no_output(esb: Esb) -> None:
    esb.pci.cw(esb.bdf, CONFIG, 4, 2)
    esb.start(1000, 1000)
    esb.pci.clock.advance(1999 * 32 * 1000 // 33)
    assert names(esb) == []
    esb.pci.clock.advance(2 * 32 * 1000 // 33)
    assert names(esb)[0] == "WATCHDOG"
    esb = Esb(esb.pci)
    esb.pci.events.clear()
    esb.put(0xC, 0x200, 2)
    esb.start(1, 7, lock=6)
    esb.wait(7.1)
    assert esb.timed_out() and names(esb) == []
    esb.put(0xC, 0x200, 2)
    esb.wait(7)
    assert esb.timed_out(), "and round again"
    esb.pci.cw(esb.bdf, LOCK, 0, 1)
    esb.pci.cw(esb.bdf, CONFIG, 0x20, 2)
    esb.put(0xC, 0x200, 2)
    esb.start(3, 3)
    esb.wait(6.1)
    assert esb.timed_out() and names(esb) == [], "its output is off"


@pytest.mark.parametrize(("action", "events", "status"), [
    ("reset", ["RESET"], "running"),
    ("pause", ["STOP"], "watchdog"),
    ("poweroff", ["SHUTDOWN"], "shutdown"),
    ("shutdown", ["POWERDOWN"], "running"),
    ("none", [], "running"),
    ("debug", [], "running"),
    ("inject-nmi", [], "running"),
])  # fmt: skip
def test_what_follows(esb: Esb, action: str, events: list[str], status: str) -> None:
    esb.pci.machine.actions.set({"watchdog": action})
    esb.start(1, 1)
    esb.wait(2.1)
    assert esb.pci.events[0] == ("WATCHDOG", {"action": action})
    assert (names(esb)[1:], esb.pci.machine.status) == (events, status)
    if status == "watchdog":
        esb.pci.machine.cont()
        assert esb.pci.machine.status == "running"


def test_counters_of_nothing_let_time_pass(esb: Esb) -> None:
    esb.put(4, 0)
    esb.pci.cw(esb.bdf, LOCK, 6, 1)
    for _ in range(1000):
        esb.pci.clock.advance(1)
    assert esb.timed_out()


def test_a_saved_timer_goes_on(esb: Esb) -> None:
    esb.start(10, 5)
    esb.wait(12)
    other = Pci(("i6300esb", "dog", {}))
    told: list[str] = []
    other.machine.on_event = lambda name, data: told.append(name)
    other.machine.cont()
    other.clock.advance(12 * TICK)
    other.dev("dog").load_state(esb.pci.dev("dog").save_state())
    told.clear()
    other.clock.advance(2 * TICK)
    assert told == []
    other.clock.advance(2 * TICK)
    assert told[0] == "WATCHDOG"
    other.close()


def test_nobody_else_sets_it(esb: Esb) -> None:
    with pytest.raises(GenericError):
        esb.pci.machine.set_property("/machine/peripheral/dog", "stage", 1)

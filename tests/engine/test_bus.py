"""The callbacks for accesses outside of RAM: sites are made at the second access, few enough, and dropped with the view."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

import pytest

from ratite.core.engine import block as B
from ratite.core.engine.bus import SIZES, BusCallbacks
from ratite.core.isa.emitter import LOAD_FAULT, STORE_FAULT
from ratite.core.memory import BusError


class Port:
    """Answers with address + size; sites say that they are some. ``error`` is raised by both."""

    def __init__(self) -> None:
        self.sites = 0
        self.log: list[tuple[object, ...]] = []
        self.error: BaseException | None = None

    def load_site(self, addr: int, size: int) -> Callable[[], int] | None:
        self.sites += 1
        return partial(self._load, "site", addr, size) if addr != 3 else None

    def store_site(self, addr: int, size: int) -> Callable[[int], None] | None:
        self.sites += 1
        return partial(self._store, "site", addr, size) if addr != 3 else None

    def mmio_load(self, addr: int, size: int) -> int:
        return self._load("", addr, size)

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        self._store("", addr, size, value)

    def _load(self, how: str, addr: int, size: int) -> int:
        self.log.append((how, addr, size))
        if self.error is not None:
            raise self.error
        return addr + size

    def _store(self, how: str, addr: int, size: int, value: int) -> None:
        self.log.append((how, addr, size, value))
        if self.error is not None:
            raise self.error


class Bench:
    """Port, callbacks and the functions that native code would call."""

    def __init__(self) -> None:
        self.port = Port()
        self.failed: list[tuple[int, int]] = []
        self.broken: list[BaseException] = []
        self.bus = BusCallbacks(self.port, BusError, lambda *what: self.failed.append(what), self.broken.append)  # type: ignore[arg-type]
        at = dict(self.bus.words())
        word = ctypes.c_uint64
        self.load = {n: ctypes.CFUNCTYPE(word, word)(at[B.ON_LOAD + 8 * k]) for k, n in enumerate(SIZES)}
        self.store = {n: ctypes.CFUNCTYPE(None, word, word)(at[B.ON_STORE + 8 * k]) for k, n in enumerate(SIZES)}


@pytest.mark.parametrize("size", SIZES)
def test_the_second_access_makes_a_site(size: int) -> None:
    bench = Bench()
    addr = (1 << 64) - 16
    assert [bench.load[size](addr) for _ in range(4)] == [addr + size] * 4
    for value in 1, 2, 3, 4:
        bench.store[size](addr, value)
    reads = [("", addr, size), ("", addr, size), ("site", addr, size), ("site", addr, size)]
    assert bench.port.log == reads + [(*row, value) for value, row in enumerate(reads, 1)]
    assert bench.port.sites == 2


def test_where_there_is_no_site_nobody_asks_again() -> None:
    bench = Bench()
    for _ in range(5):
        assert bench.load[4](3) == 7
        bench.store[4](3, 1)
    assert bench.port.sites == 2 and {row[0] for row in bench.port.log} == {""}


def test_a_changed_view_forgets() -> None:
    bench = Bench()
    for _ in range(2):
        for _ in range(3):
            bench.load[4](0x100)
        bench.bus.forget()
    assert [row[0] for row in bench.port.log] == ["", "", "site"] * 2


def test_sites_are_bounded() -> None:
    bench = Bench()
    for addr in range(0, 40_000, 4):
        for _ in range(2):
            bench.load[4](addr)
            bench.store[4](addr, 0)
    for addr in range(40_000, 80_000, 4):
        bench.load[4](addr)
    assert bench.port.sites == 20_000, "a walk makes none"
    assert all(len(table) <= 1024 for table in bench.bus._tables)


@pytest.mark.parametrize("before", [0, 2])
def test_errors_are_told_and_never_raised(before: int) -> None:
    """In either way, with and without a site."""
    bench = Bench()
    for _ in range(before):
        bench.load[4](0x100)
        bench.store[4](0x100, 0)
    bench.port.error = BusError("unmapped", 0x100)
    assert bench.load[4](0x100) == 0
    bench.store[4](0x100, 5)
    assert bench.failed == [(LOAD_FAULT, 0x100), (STORE_FAULT, 0x100)] and not bench.broken
    for error in KeyError(0x100), KeyboardInterrupt():
        bench.port.error = error
        bench.broken.clear()
        assert bench.load[4](0x100) == 0
        bench.store[4](0x100, 5)
        assert bench.broken == [error, error] and len(bench.failed) == 2

"""Sites: accesses that are made again and again do what the space does, also behind a change of its view."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_memory_access import ORDERS, RANGES, Probe

from ratite.core.memory import Access, AliasRegion, BusError, MmioRegion, Space, anonymous_ram
from ratite.core.memory.sites import load_site, store_site

LITTLE = Access()
SIZES = st.sampled_from([1, 2, 4, 8])


def placed(probe: Probe) -> Space:
    space = Space()
    space.map(probe.region, 0x100)
    return space


@settings(max_examples=300, deadline=None)
@given(ORDERS, RANGES, RANGES, st.booleans(), SIZES, st.integers(0, 31), st.integers(0, (1 << 64) - 1), st.randoms())
def test_a_site_does_what_the_space_does(order, access, impl, big, size, offset, value, random) -> None:
    one, two = (Probe(32, order, access, impl) for _ in range(2))
    one.bytes[:] = two.bytes[:] = random.randbytes(32)
    initiator, lock = Access(big=big), threading.RLock()
    plain, addr = placed(one), 0x100 + offset
    store = store_site(placed(two), addr, size, initiator, lock)
    load = load_site(placed(two), addr, size, initiator, lock)
    whole = max(access[0], impl[0]) <= size <= min(access[1], impl[1]) and offset % size == 0 and offset + size <= 32
    assert (store is not None) == (load is not None) == whole, "what a region adapts has no site"
    if load is not None and store is not None:
        for _ in range(2):
            assert load() == plain.load(addr, size, initiator)
            store(value)
            plain.store(addr, size, value, initiator)
            assert one.bytes == two.bytes and one.seen == two.seen


def test_a_site_follows_the_view() -> None:
    first, second = Probe(32, "little", (1, 8), (1, 8)), Probe(32, "little", (1, 8), (1, 8))
    first.bytes[:4], second.bytes[:4] = b"aaaa", b"bbbb"
    space, lock = placed(first), threading.RLock()
    load, store = load_site(space, 0x100, 4, LITTLE, lock), store_site(space, 0x100, 4, LITTLE, lock)
    assert load is not None and store is not None and load() == 0x61616161
    space.map(second.region, 0x100, 1)
    assert load() == 0x62626262
    store(0x63636363)
    assert first.bytes[:4] == b"aaaa" and second.bytes[:4] == b"cccc"
    space.unmap(second.region)
    space.unmap(first.region)
    for access in load, lambda: store(1):
        with pytest.raises(BusError) as raised:
            access()
        assert (raised.value.kind, raised.value.addr) == ("unmapped", 0x100)
    assert space.bus_errors.total == 2
    space.map(first.region, 0x100)
    assert load() == 0x61616161
    assert lock.acquire(blocking=False), "a failed access gives the lock back"


def test_there_is_none_for_memory_nor_for_nothing() -> None:
    space, probe, lock = Space(), Probe(32, "little", (1, 8), (1, 8)), threading.RLock()
    space.map(anonymous_ram("ram", 0x1000), 0)
    space.map(AliasRegion("window", probe.region, 0, 32, readonly=True), 0x2000)
    for addr in 0, 0xFFE, 0x1000, 0x201E:
        assert load_site(space, addr, 4, LITTLE, lock) is None
        assert store_site(space, addr, 4, LITTLE, lock) is None
    assert load_site(space, 0x2000, 4, LITTLE, lock) is not None
    assert store_site(space, 0x2000, 4, LITTLE, lock) is None, "the space counts what it drops"


def test_faults_and_refusals_of_a_device() -> None:
    lock = threading.RLock()
    errors: list[Exception] = []
    depths: list[bool] = []

    def read(offset: int, size: int, access: Access) -> int:
        depths.append(lock._is_owned())  # type: ignore[attr-defined]
        raise errors[0]

    def write(offset: int, size: int, value: int, access: Access) -> None:
        read(offset, size, access)

    region = MmioRegion("bad", 8, None, read, write)
    space = Space()
    space.map(region, 0x40)
    load, store = load_site(space, 0x44, 4, LITTLE, lock), store_site(space, 0x44, 4, LITTLE, lock)
    assert load is not None and store is not None
    errors.append(ValueError("broken"))
    assert load() == 0 and store(1) is None
    assert region.faults.total == 2 and space.bus_errors.total == 0
    errors[0] = BusError("size", 4)
    for access in load, lambda: store(1):
        with pytest.raises(BusError) as raised:
            access()
        assert (raised.value.kind, raised.value.addr) == ("size", 0x44)
    assert region.faults.total == 2 and space.bus_errors.total == 2
    assert depths == [True] * 4 and not lock._is_owned()  # type: ignore[attr-defined]


def test_a_look_ahead_that_fails_is_a_fault_and_no_more() -> None:
    def fails(offset: int, size: int, access: Access) -> None:
        raise KeyError(offset)

    lock, written = threading.RLock(), []
    region = MmioRegion(
        "bad", 8, None, lambda o, n, a: 7, lambda o, n, v, a: written.append(v), reader=fails, writer=fails
    )
    space = Space()
    space.map(region, 0)
    load, store = load_site(space, 0, 4, LITTLE, lock), store_site(space, 0, 4, LITTLE, lock)
    assert load is not None and store is not None
    store(0x1_0000_0009)
    assert load() == 7 and written == [9] and region.faults.total == 2

"""Accesses: sizes, byte orders, splitting, crossing, faults, DMA; RAM with dirty and code pages; host limits."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.core.memory import Access, BusError, MmioRegion, RamRegion, Space, anonymous_ram, bswap
from ratite.core.memory import limits as limits_module
from ratite.core.memory.objects import AddressSpace, MemoryBackendFile, MemoryBackendRam
from ratite.qapi.errors import GenericError

LITTLE, BIG = Access(), Access(big=True)


class Probe:
    """A device that keeps bytes in its own order and notes how it was accessed."""

    def __init__(self, size: int, endianness: str, access: tuple[int, int], impl: tuple[int, int]) -> None:
        self.bytes = bytearray(size)
        self.order = endianness
        self.seen: list[tuple[str, int, int]] = []
        self.region = MmioRegion("probe", size, self, self.read, self.write, endianness, access, impl)

    def read(self, offset: int, size: int, access: Access) -> int:
        self.seen.append(("r", offset, size))
        return int.from_bytes(self.bytes[offset : offset + size], self.order)

    def write(self, offset: int, size: int, value: int, access: Access) -> None:
        self.seen.append(("w", offset, size))
        self.bytes[offset : offset + size] = value.to_bytes(size, self.order)


ORDERS = st.sampled_from(["little", "big"])
RANGES = st.sampled_from([(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (4, 4), (4, 8), (8, 8)])


@settings(max_examples=300, deadline=None)
@given(ORDERS, RANGES, RANGES, st.booleans(), st.sampled_from([1, 2, 4, 8]), st.integers(0, 31), st.randoms())
def test_bytes_stay_where_they_are(order, access, impl, big, size, offset, random) -> None:
    """Through any adaptation, byte n of memory order is byte n: in a region that is plain bytes."""
    probe, initiator = Probe(32, order, access, impl), Access(big=big)
    space = Space()
    space.map(probe.region, 0x100)
    content = random.randbytes(32)
    probe.bytes[:] = content
    end = offset + size
    fits = access[0] <= size <= access[1] and offset % size == 0 and end <= 32
    if not fits:
        with pytest.raises(BusError):
            space.load(0x100 + offset, size, initiator)
        with pytest.raises(BusError):
            space.store(0x100 + offset, size, 0, initiator)
        assert probe.seen == []
        return
    byteorder = "big" if big else "little"
    assert space.load(0x100 + offset, size, initiator) == int.from_bytes(content[offset:end], byteorder)
    data = random.randbytes(size)
    space.store(0x100 + offset, size, int.from_bytes(data, byteorder), initiator)
    assert probe.bytes[offset:end] == data
    assert all(impl[0] <= n <= impl[1] and at % n == 0 for _, at, n in probe.seen)
    if size >= impl[0]:
        assert probe.bytes[:offset] == content[:offset]
        assert probe.bytes[end:] == content[end:]


def test_same_order_means_same_value() -> None:
    for order in ("little", "big"):
        probe = Probe(8, order, (1, 8), (1, 8))
        space = Space()
        space.map(probe.region, 0)
        space.store(0, 4, 0x11223344, Access(big=order == "big"))
        assert probe.read(0, 4, LITTLE) == 0x11223344
        assert space.load(0, 4, Access(big=order != "big")) == 0x44332211 == bswap(0x11223344, 4)


@settings(max_examples=200, deadline=None)
@given(ORDERS, RANGES, st.integers(0, 40), st.integers(0, 40))
def test_dma_in_memory_order(order, impl, start, count) -> None:
    """A run of bytes over RAM, registers and RAM again."""
    space, probe = Space(), Probe(16, order, (1, 8), impl)
    low, high = anonymous_ram("low", 16), anonymous_ram("high", 64)
    for region, offset in ((low, 0), (probe.region, 16), (high, 32)):
        space.map(region, offset)
    low.write(0, bytes(range(16)))
    probe.bytes[:] = bytes(range(16, 32))
    high.write(0, bytes(range(32, 96)))
    for access in (LITTLE, BIG):
        assert space.read(start, count, access) == bytes(range(start, start + count))
    if impl[0] == 1:
        data = bytes(255 - n for n in range(count))
        space.write(start, data, LITTLE)
        assert space.read(start, count) == data


def test_unmapped_is_a_bus_error_counted_and_logged_once_a_site() -> None:
    space = Space("sys")
    for _ in range(3):
        with pytest.raises(BusError) as caught:
            space.load(0x1000, 4, LITTLE)
        assert (caught.value.kind, caught.value.addr) == ("unmapped", 0x1000)
    assert space.bus_errors.total == 3
    assert list(space.bus_errors.sites.values()) == [3]
    with pytest.raises(BusError):
        space.load(0x1000, 4, Access(debug=True))
    assert space.bus_errors.total == 3
    for addr in range(0x2000, 0x4000):
        with pytest.raises(BusError):
            space.store(addr, 1, 0, LITTLE)
    assert len(space.bus_errors.sites) == 1024


def test_crossing_ranges() -> None:
    space, one, two = Space(), anonymous_ram("one", 16), anonymous_ram("two", 16)
    space.map(one, 0)
    space.map(two, 16)
    space.store(14, 4, 0xAABBCCDD, BIG)
    assert one.read(14, 2) + two.read(0, 2) == b"\xaa\xbb\xcc\xdd"
    assert space.load(14, 4, BIG) == 0xAABBCCDD
    with pytest.raises(BusError) as caught:
        space.store(30, 4, 0x11111111, LITTLE)
    assert (caught.value.kind, caught.value.addr) == ("unmapped", 32)
    assert two.read(14, 2) == b"\0\0"
    space.map(Probe(16, "little", (1, 8), (1, 8)).region, 32)
    with pytest.raises(BusError) as caught:
        space.load(30, 4, LITTLE)
    assert caught.value.kind == "misaligned"


def test_the_end_of_the_address_space() -> None:
    space = Space()
    space.map(anonymous_ram("top", 0x1000), (1 << 64) - 0x1000)
    space.store((1 << 64) - 8, 8, 7, LITTLE)
    assert space.load((1 << 64) - 8, 8, LITTLE) == 7
    with pytest.raises(BusError):
        space.load((1 << 64) - 4, 8, LITTLE)


def test_rom() -> None:
    space, rom = Space(), anonymous_ram("rom", 0x1000, readonly=True)
    space.map(rom, 0)
    space.store(0, 4, 5, LITTLE)
    space.write(0, b"abc", LITTLE)
    assert rom.read(0, 4) == bytes(4)
    assert space.rom_writes.total == 2
    space.write(0, b"abc", Access(debug=True))
    assert rom.read(0, 4) == b"abc\0"


def test_a_device_that_raises_harms_nobody() -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("oh")

    region = MmioRegion("bad", 8, None, broken, broken, impl=(1, 4))
    space = Space()
    space.map(region, 0)
    for size in (4, 8):
        assert space.load(0, size, LITTLE) == 0
        space.store(0, size, 1, LITTLE)
    assert region.faults.total == 4


def test_ram_at_a_stable_address_with_code_and_dirty_pages() -> None:
    ram, written = anonymous_ram("ram", 0x5000), []
    ram.write(0x1234, b"xyz")
    assert ctypes.string_at(ram.address + 0x1234, 3) == b"xyz"
    ram.code.on_write.append(lambda offset, size: written.append((offset, size)))
    ram.write(0x2000, b"1")
    assert written == []
    ram.code.enter(2)
    ram.write(0x1FFE, b"1234")
    ram.store(0x2FF8, 8, 1, LITTLE)
    ram.write(0x3000, b"5")
    assert written == [(0x1FFE, 4), (0x2FF8, 8)]

    ram.dirty_start(0)
    ram.dirty_start(3)
    assert ram.dirty_collect(0) == []
    ram.write(0x0FFF, bytes(0x1002))
    ram.store(0x4FFF, 1, 1, LITTLE)
    assert ram.dirty_collect(0) == [(0, 0x3000), (0x4000, 0x1000)]
    assert ram.dirty_collect(0) == []
    ctypes.memset(ram.dirty_address + 3, 0xFF, 1)  # what native code does
    assert ram.dirty_collect(3) == [(0, 0x5000)]
    assert ram.dirty_collect(0) == [(0x3000, 0x1000)]
    ram.dirty_stop(0)
    ram.dirty_stop(3)
    assert ram.dirty_address == 0
    ram.write(0, b"1")
    ram.close()


@given(st.integers(-5, 70), st.integers(0, 70))
def test_ram_bounds(offset: int, size: int) -> None:
    ram = RamRegion("ram", mmap.mmap(-1, 64))
    if offset >= 0 and offset + size <= 64:
        ram.write(offset, b"a" * size)
        assert ram.read(offset, size) == b"a" * size
    else:
        with pytest.raises(ValueError, match="not inside"):
            ram.write(offset, b"a" * size)
        with pytest.raises(ValueError, match="not inside"):
            ram.read(offset, size)


def test_host_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GenericError, match="cannot set up guest memory 'big': Cannot allocate memory"):
        anonymous_ram("big", 1 << 62)
    monkeypatch.setattr(limits_module, "_system_limit", lambda: 4096)
    with pytest.raises(GenericError, match=r"8192 bytes wanted, 4096 allowed by the host's available memory"):
        anonymous_ram("ram", 8192)
    with pytest.raises(GenericError, match="at least 1 byte"):
        anonymous_ram("ram", 0)


def wired(obj, **props):
    obj.configure({name.replace("_", "-"): value for name, value in props.items()})
    obj.wire()
    return obj


def test_backend_ram() -> None:
    backend = wired(MemoryBackendRam("ram0"), size=0x10000)
    assert backend.region().size == 0x10000
    backend.unwire()
    with pytest.raises(GenericError, match="no memory region"):
        backend.region()
    with pytest.raises(GenericError, match=r"property 'size' of memory-backend-ram doesn't take value '0'"):
        wired(MemoryBackendRam("ram0"), size=0)


def test_backend_file(tmp_path: Path) -> None:
    path = tmp_path / "mem"
    backend = wired(MemoryBackendFile("ram0"), size=0x3000, mem_path=str(path), share=True)
    backend.region().write(0x2FFF, b"!")
    assert path.read_bytes()[-2:] == b"\0!"
    backend.reset()
    backend.unwire()
    private = wired(MemoryBackendFile("ram1"), size=0x1000, mem_path=str(path))
    private.region().write(0, b"?")
    assert path.read_bytes()[:1] == b"\0"
    assert private.region().size == 0x1000
    with pytest.raises(GenericError, match="backing store size 0x3000 is too small for 'size' option 0x8000"):
        wired(MemoryBackendFile("ram2"), size=0x8000, mem_path=str(path))
    with pytest.raises(GenericError, match="can't open backing store"):
        wired(MemoryBackendFile("ram3"), size=0x1000, mem_path=str(tmp_path / "no" / "mem"))
    nameless = wired(MemoryBackendFile("ram4"), size=0x1000, mem_path=str(tmp_path), share=True)
    nameless.region().write(0, b"?")
    assert [p.name for p in tmp_path.iterdir()] == ["mem"]


def test_address_space_type() -> None:
    space = wired(AddressSpace("sys"), address_bits=16)
    space.map(anonymous_ram("ram", 0x2000), 0xF000)
    assert [(r.start, r.end) for r in space.view] == [(0xF000, 0x10000)]
    with pytest.raises(BusError):
        space.load(0, 4, LITTLE)
    assert space.get_property("bus-errors-total") == 1

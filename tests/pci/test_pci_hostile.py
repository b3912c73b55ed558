"""What a guest may do to the bus: nothing it writes raises, loops, or costs more than it should."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pci_kit import DOORBELL, ECAM, MIB, MMIO, MMIO64, PIO, RAM, Pci

from ratite.core.memory import Access, BusError

PORTS = 3


def three_ports() -> Pci:
    devices: list[tuple[str, str, dict[str, Any]]] = []
    for n in range(PORTS):
        devices.append(("pcie-root-port", f"rp{n}", {"slot": n + 1, "addr": str(n + 1)}))
        devices.append(("pci-test", f"t{n}", {"bus": f"rp{n}"}))
    devices.append(("pci-test", "root", {"bus": "pcie.0"}))
    return Pci(*devices)


@pytest.fixture
def pci() -> Iterator[Pci]:
    made = three_ports()
    yield made
    check_sane(made)
    made.close()


def regions(pci: Pci) -> Iterator[Any]:
    yield pci.host.regions["ecam"]
    for bus in (pci.host.root_bus, *(pci.dev(f"rp{n}").child for n in range(PORTS))):
        for function in bus.functions.values():
            for bar in function.bars:
                yield bar.region


def check_sane(pci: Pci) -> None:
    """No hook raised, maps are small, and after a reset everything works."""
    assert [region.name for region in regions(pci) if region.faults.total] == []
    pci.host.refresh()
    # Each BAR is cut by at most two windows a bridge; what is between the pieces is the background.
    assert len(pci.host._memory.view) < 100
    pci.machine.reset()
    assert pci.lines() == [0] * 4
    pci.next_bus, pci.next_memory, pci.next_wide, pci.next_io = 1, MMIO, MMIO64, 0x1000
    names = pci.enumerate()
    for name in ("root", "t0", "t1", "t2"):
        if name in names:
            bar = pci.cr(names[name], 0x10)
            pci.wr(bar + 12, 42)
            assert pci.rd(bar + 12) == 42


def test_bus_numbers_that_lead_nowhere_or_back(pci: Pci) -> None:
    pci.enumerate()
    for primary, secondary, subordinate in (
        (0, 0, 0), (0, 0, 255), (5, 1, 0), (0, 255, 255), (0, 1, 255), (0, 200, 10), (255, 255, 0), (1, 1, 1),
    ):  # fmt: skip
        for n in range(PORTS):
            pci.cw((n + 1) << 3, 0x18, subordinate << 16 | secondary << 8 | primary)
        for bus in (0, 1, 2, 200, 254, 255):
            found = pci.scan(bus)
            assert len(found) <= 5
        assert pci.cr(0, 0) == 0x00081B36


def test_the_first_of_two_bridges_with_one_number_has_it(pci: Pci) -> None:
    pci.enumerate()
    for n in range(PORTS):
        pci.cw((n + 1) << 3, 0x18, 0x070700)
    pci.cw(0x700, 0x3C, 0x5A, 1)
    assert [pci.dev(f"t{n}").conf.get(0x3C, 1) for n in range(PORTS)] == [0x5A, 0, 0]
    pci.cw(8, 0x18, 0)
    pci.cw(0x700, 0x3C, 0x66, 1)
    assert [pci.dev(f"t{n}").conf.get(0x3C, 1) for n in range(PORTS)] == [0x5A, 0x66, 0]


def test_bars_on_top_of_each_other(pci: Pci) -> None:
    names = pci.enumerate()
    for n in range(PORTS):
        port, device = names[f"rp{n}"], names[f"t{n}"]
        pci.cw(port, 0x20, 0xFFF00000)
        pci.cw(port, 0x24, 0xFFF10001)
        pci.cw(port, 0x2C, 0xFFFFFFFF)
        for at in (0x10, 0x18, 0x1C, 0x20, 0x24):
            pci.cw(device, at, {0x10: MMIO, 0x24: MMIO + 0x800, 0x18: MMIO, 0x1C: 0, 0x20: 0}[at])
    for addr in (MMIO, MMIO + 0x800, MMIO + 0xFFC, MMIO + 0x1000, MMIO + 0xFFFC):
        pci.rd(addr)
        pci.wr(addr, 0)
        pci.wr(addr + 1, 0, 1)
    assert len(pci.host._memory.view) < 40


def test_bars_at_the_ends(pci: Pci) -> None:
    bdf = pci.enumerate()["root"]
    for low, high in ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFE0000, 0xFFFFFFFF), (0, 0x80000000), (0xFFFF0000, 0)):
        for at, value in ((0x10, low), (0x18, low), (0x1C, high), (0x20, low), (0x24, low)):
            pci.cw(bdf, at, value)
        for addr in (MMIO, MMIO64, PIO, PIO + 0xFFFC, MMIO + 0x3FFFFFFC, MMIO64 + 0x3FFFFFFF8):
            pci.rd(addr, 4)
        assert pci.rd(RAM, 8) == 0


def test_accesses_across_the_end_of_a_bar_and_a_window(pci: Pci) -> None:
    pci.cw(pci.enumerate()["root"], 0x10, MMIO + 0x1000)
    assert pci.rd(MMIO + 0x1FFC, 4) == 0
    assert pci.rd(MMIO + 0x1FFC, 8) == (1 << 64) - 1
    pci.wr(MMIO + 0x1FFE, 0xFFFFFFFF, 4)
    pci.wr(MMIO + 0xFFE, 0xFFFFFFFF, 4)
    for addr, size in ((MMIO + 0x40000000 - 4, 8), (ECAM + (256 << 20) - 2, 4), (PIO + 0xFFFF, 2)):
        for access in (lambda a=addr, s=size: pci.rd(a, s), lambda a=addr, s=size: pci.wr(a, 0, s)):
            with pytest.raises(BusError):
                access()


def test_messages_to_wild_addresses(pci: Pci) -> None:
    names = pci.enumerate()
    bdf = names["root"]
    cap, table, device = pci.capability(bdf, 0x11), pci.cr(bdf, 0x24), pci.cr(bdf, 0x10)
    pci.cw(bdf, cap + 2, 0x8000, 2)
    pci.wr(table + 12, 0)
    own = ECAM + (bdf << 12)
    ours = (device + 4, device, table, own + cap, own, ECAM, MMIO, PIO)
    for address in (0, 0xFFFFFFFFFFFFFFFF, DOORBELL + 0xFFF, 0x1000, *ours):
        pci.wr(table, address, 8)
        pci.wr(table + 8, 0)
        pci.wr(device + 4, 0)
    assert (pci.rd(device), pci.cr(bdf, cap + 2, 2), pci.cr(bdf, 4, 2)) == (0, 0x8045, 7)
    function = pci.dev("root")
    assert (function.messages, pci.bell.pop()) == (12, [(0xFFC, 0)])
    assert pci.host.peer_accesses == len(ours)


def test_a_device_cannot_be_made_to_call_itself(pci: Pci) -> None:
    """A message into a doorbell that answers with a message of the same function."""
    names = pci.enumerate()
    bdf, function = names["root"], pci.dev("root")
    cap, table, device = pci.capability(bdf, 0x11), pci.cr(bdf, 0x24), pci.cr(bdf, 0x10)
    pci.cw(bdf, cap + 2, 0x8000, 2)
    pci.wr(table + 12, 0)
    pci.wr(table, DOORBELL, 8)
    pci.bell.mmio_write = lambda *args: function.signal(0)
    pci.bell.regions["regs"]._write = pci.bell.mmio_write
    pci.wr(device + 4, 0)
    assert (function.messages, function.messages_lost) == (2, 1)


def test_a_configuration_write_costs_no_more_for_what_it_says(pci: Pci, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often BARs are moved, maps are made anew once, at the next access; CPUs' views stay as they are."""
    bdf = pci.enumerate()["root"]
    pci.rd(MMIO)
    made = []
    shown = pci.host._shown[0]
    inner = shown.show
    monkeypatch.setattr(shown, "show", lambda wanted: (made.append(1), inner(wanted)))
    views = []
    pci.space.listeners.append(lambda old, new: views.append(new))
    for n in range(100):
        pci.cw(bdf, 0x10, MMIO + (n << 12))
        pci.cw(bdf, 4, 5 + 2 * (n & 1), 2)
    assert len(made) <= 200
    made.clear()
    function = pci.dev("root")
    for n in range(1000):
        function.config_write(0x10, 4, MMIO + (n << 12))
    assert made == []
    pci.rd(MMIO)
    pci.rd(MMIO)
    assert (len(made), views) == (1, [])


ADDRESSES = st.one_of(
    st.integers(0, 5 << 3).map(lambda n: ECAM + (n << 12)),
    st.sampled_from([ECAM + (n << 15) for n in range(5)] + [ECAM + (n << 20) for n in range(1, 5)]),
    st.sampled_from([MMIO, MMIO + MIB, MMIO64, PIO]),
)
VALUES = st.one_of(
    st.sampled_from([0, 7, 0x407, 0xFFFFFFFF, 0x7C0, 0x1C0, 0x8000, 0xC000, 0x00020100, MMIO, ECAM, RAM, DOORBELL]),
    st.integers(0, (1 << 64) - 1),
)
STEP = st.tuples(ADDRESSES, st.integers(0, 0x180), st.sampled_from([1, 2, 4, 8]), VALUES, st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=60), st.booleans())
def test_any_writes(steps: list[tuple[int, int, int, int, bool]], numbered: bool) -> None:
    pci = three_ports()
    if numbered:
        pci.enumerate()
    for base, offset, size, value, big in steps:
        access = Access(big=big)
        addr = base + (offset & -size)
        pci.space.store(addr, size, value & (1 << 8 * size) - 1, access)
        pci.space.load(addr, size, access)
    check_sane(pci)
    pci.close()


def test_plugging_while_the_guest_scribbles(pci: Pci) -> None:
    rng = random.Random(1)
    pci.enumerate()
    for _ in range(60):
        for _ in range(10):
            bdf = rng.choice((8, 16, 24, 0x100, 0x200, 0x300))
            offset = rng.choice((4, 0x10, 0x18, 0x20, 0x24, 0x6C, rng.randrange(0x100) & ~3))
            pci.cw(bdf, offset, rng.choice((0, 7, 0x7C0, 0x1C0, 0x07C007C0, rng.getrandbits(32))))
        id = f"t{rng.randrange(PORTS)}"
        try:
            if id in pci.machine.tree.peripheral.children:
                pci.machine.device_del(id)
            else:
                pci.machine.device_add("pci-test", id, {"bus": f"rp{id[1]}"})
        except Exception as exc:
            assert type(exc).__name__ == "GenericError", exc
        if rng.random() < 0.1:
            pci.clock.advance(6_000_000_000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=40), st.lists(STEP, max_size=20))
def test_state_is_all(before: list[tuple[int, int, int, int, bool]], after: list[tuple[int, int, int, int, bool]]) -> None:
    """A machine with another's state answers as the other, and goes on as it."""
    one, two = three_ports(), three_ports()
    one.enumerate()
    for base, offset, size, value, _ in before:
        one.wr(base + (offset & -size), value & (1 << 8 * size) - 1, size)
    if {f"t{n}" for n in range(PORTS)} <= one.machine.tree.peripheral.children.keys():
        for mine, theirs in zip(one.machine.tree.members(), two.machine.tree.members(), strict=True):
            if mine.is_a("pci-device") or mine.is_a("gpex-pcihost") or mine.is_a("sink"):
                theirs.load_state(mine.save_state())
        for base, offset, size, value, write in after:
            addr = base + (offset & -size)
            assert one.rd(addr, size) == two.rd(addr, size)
            assert one.lines() == two.lines()
            if write:
                for each in (one, two):
                    each.wr(addr, value & (1 << 8 * size) - 1, size)
        for mine, theirs in zip(one.machine.tree.members(), two.machine.tree.members(), strict=False):
            if mine.is_a("pci-device"):
                assert (mine.id, mine.save_state()) == (theirs.id, theirs.save_state())
    one.close()
    two.close()

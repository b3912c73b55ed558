"""Enumeration, BARs, bridges, interrupts, messages, addresses on the bus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pci_kit import DOORBELL, ECAM, MIB, MMIO, MMIO64, PIO, RAM, Pci

from ratite.qapi.errors import GenericError

PORT = "pcie-root-port"
Make = Callable[..., Pci]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Pci] = []

    def build(*devices: Any, **host: Any) -> Pci:
        made.append(Pci(*devices, **host))
        return made[-1]

    yield build
    for each in made:
        each.close()


def test_host_bridge_as_qemus(make: Make) -> None:
    pci = make()
    assert pci.scan() == [0]
    assert [pci.cr(0, at) for at in (0, 4, 8, 12, 0x2C, 0x3C)] == [0x00081B36, 0, 0x06000000, 0, 0x11001AF4, 0]
    assert pci.cr(0x4D00, 0) == 0xFFFFFFFF
    assert pci.cr(0, 0xFFF, 1) == 0
    assert (pci.rd(MMIO + 0x1000), pci.rd(PIO + 0x10, 1), pci.rd(MMIO64, 8)) == (0xFFFFFFFF, 0xFF, (1 << 64) - 1)
    pci.wr(MMIO, 5)
    assert pci.rd(ECAM, 8) == 0x00081B36


def test_root_port_as_qemus(make: Make) -> None:
    pci = make((PORT, "rp0", {"chassis": 1, "slot": 1}))
    assert [pci.cr(8, at) for at in (0, 4, 8, 12, 0x10, 0x18, 0x1C, 0x20, 0x24, 0x34, 0x3C)] == [
        0x000C1B36, 0x00100000, 0x06040000, 0x00010000, 0, 0, 0xF0, 0xFFF0, 0x0001FFF1, 0x40, 0x100,
    ]  # fmt: skip
    express = pci.capability(8, 0x10)
    assert pci.cr(8, express + 2, 2) == 0x142
    assert pci.cr(8, express + 0x14) == 0x000A007B
    assert (pci.cr(8, express + 0x18, 2), pci.cr(8, express + 0x1A, 2)) == (0x7C0, 0)
    assert pci.cr(8, 0x100) == 0x0001000D
    for at in range(0, 0x40, 4):
        pci.cw(8, at, 0xFFFFFFFF)
    assert [pci.cr(8, at) for at in (0x4, 0x10, 0x18, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38)] == [
        0x00100547, 0xFFFFF000, 0x00FFFFFF, 0xFFF0FFF0, 0xFFF1FFF1, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0x40, 0,
    ]  # fmt: skip


def test_bars(make: Make) -> None:
    pci = make(("pci-test", "t0", {}))
    assert pci.scan() == [0, 8]
    sized = [tuple(bar) for bar in pci.bars(8)]
    assert sized == [
        (0, False, False, False, 0x1000),
        (2, False, True, True, 64 << 10),
        (4, True, False, False, 32),
        (5, False, False, False, 0x1000),
    ]
    at = pci.assign(8)
    assert pci.rd(at[0]) == 0xFFFFFFFF
    pci.cw(8, 4, 1, 2)
    assert (pci.rd(at[0]), pci.rd(PIO + at[4], 1), pci.rd(at[2])) == (0xFFFFFFFF, 0x44, 0xFFFFFFFF)
    pci.cw(8, 4, 3, 2)
    pci.wr(at[0] + 12, 0x1234)
    assert (pci.rd(at[0] + 12), pci.rd(at[2] + 5, 1)) == (0x1234, 0x22)
    pci.cw(8, 0x10, at[0] + MIB)
    assert (pci.rd(at[0] + 12), pci.rd(at[0] + MIB + 12)) == (0xFFFFFFFF, 0x1234)
    power = pci.capability(8, 1)
    pci.cw(8, power + 4, 3, 2)
    assert pci.rd(at[0] + MIB + 12) == 0xFFFFFFFF
    pci.cw(8, power + 4, 2, 2)
    assert pci.cr(8, power + 4, 1) == 8
    assert pci.rd(at[0] + MIB + 12) == 0x1234
    pci.machine.reset()
    assert (pci.cr(8, 4, 2), pci.cr(8, 0x10), pci.rd(at[0] + MIB + 12)) == (0, 0, 0xFFFFFFFF)


def test_function_level_reset(make: Make) -> None:
    pci = make(("pci-test", "t0", {}))
    bdf = pci.enumerate()["t0"]
    assert pci.dev("t0").conf.get(4, 2) == 7
    express = pci.capability(bdf, 0x10)
    assert pci.cr(bdf, express + 2, 2) >> 4 & 15 == 9
    pci.cw(bdf, express + 8, 0x8000, 2)
    assert (pci.cr(bdf, 4, 2), pci.cr(bdf, express + 8, 2)) == (0, 0)


def test_bridges_route_and_gate(make: Make) -> None:
    pci = make(
        (PORT, "rp0", {"slot": 1, "addr": "1.0"}),
        (PORT, "rp1", {"slot": 2, "addr": "2.0"}),
        ("pci-test", "a", {"bus": "rp0"}),
        ("pci-test", "b", {"bus": "rp1"}),
    )
    names = pci.enumerate()
    assert names == {"gpex_root": 0, "rp0": 8, "a": 0x100, "rp1": 16, "b": 0x200}
    bar = pci.cr(0x200, 0x10)
    pci.wr(bar + 12, 77)
    assert pci.rd(bar + 12) == 77
    assert pci.cr(0x100, 0x108) == 0
    pci.cw(16, 4, 5, 2)
    assert pci.rd(bar + 12) == 0xFFFFFFFF
    pci.cw(16, 4, 7, 2)
    pci.cw(16, 0x20, 0x0000FFF0)
    assert pci.rd(bar + 12) == 0xFFFFFFFF
    assert pci.cr(0x200, 0) == 0x7E571B36
    pci.cw(16, 0x19, 9, 1)
    pci.cw(16, 0x1A, 9, 1)
    assert (pci.cr(0x200, 0), pci.cr(0x900, 0), pci.cr(0x908, 0)) == (0xFFFFFFFF, 0x7E571B36, 0xFFFFFFFF)
    pci.cw(16, 0x3E, 0x40, 2)
    assert pci.cr(0x900, 4, 2) == 0


def test_lines_swizzle(make: Make) -> None:
    pci = make(
        (PORT, "rp0", {"slot": 1, "addr": "3.0"}),
        ("pci-test", "a", {"bus": "rp0"}),
        ("pci-test", "b", {"addr": "6.0", "bus": "pcie.0"}),
        ("pci-test", "c", {"addr": "0x7", "bus": "pcie.0"}),
    )
    names = pci.enumerate()
    bars = {name: pci.cr(names[name], 0x10) for name in "abc"}
    pci.wr(bars["a"], 1)
    assert pci.lines() == [0, 0, 0, 1]
    assert pci.cr(names["a"], 6, 1) & 8
    pci.wr(bars["c"], 1)
    pci.wr(bars["a"], 0)
    assert pci.lines() == [0, 0, 0, 1]
    pci.cw(names["c"], 4, 0x407, 2)
    assert pci.lines() == [0, 0, 0, 0]
    assert pci.cr(names["c"], 6, 1) & 8
    pci.cw(names["c"], 4, 7, 2)
    pci.wr(bars["b"], 1)
    assert pci.lines() == [0, 0, 1, 1]
    pci.machine.reset()
    assert pci.lines() == [0] * 4


def test_msix(make: Make) -> None:
    pci = make(("pci-test", "t0", {"addr": "2"}))
    bdf = pci.enumerate()["t0"]
    cap = pci.capability(bdf, 0x11)
    assert pci.cr(bdf, cap + 2, 2) == 69
    assert (pci.cr(bdf, cap + 4), pci.cr(bdf, cap + 8)) == (5, 0x805)
    table, device = pci.cr(bdf, 0x24), pci.cr(bdf, 0x10)
    pba = table + 0x800
    for vector in (0, 69):
        pci.wr(table + 16 * vector, DOORBELL + 4 * vector, 8)
        pci.wr(table + 16 * vector + 8, 1000 + vector)
    pci.wr(device, 1)
    assert pci.lines() == [0, 0, 1, 0]
    pci.cw(bdf, cap + 2, 0x8000, 2)
    assert pci.lines() == [0, 0, 0, 0]
    for vector in (0, 69, 70, 0xFFFFFFFF):
        pci.wr(device + 4, vector)
    assert pci.bell.pop() == []
    assert (pci.rd(pba, 8), pci.rd(pba + 8)) == (1, 32)
    pci.wr(pba, 0xFFFFFFFF)
    pci.wr(table + 16 * 69 + 12, 0xFFFFFFFE)
    assert pci.bell.pop() == [(276, 1069)]
    assert (pci.rd(pba, 8), pci.rd(pba + 8), pci.rd(table + 16 * 69 + 12)) == (1, 0, 0)
    pci.wr(device + 4, 69)
    assert pci.bell.pop() == [(276, 1069)]
    pci.cw(bdf, cap + 2, 0xC000, 2)
    pci.wr(table + 12, 0)
    pci.wr(device + 4, 69)
    assert pci.bell.pop() == []
    pci.cw(bdf, cap + 2, 0x8000, 2)
    assert pci.bell.pop() == [(0, 1000), (276, 1069)]
    pci.cw(bdf, 4, 3, 2)
    pci.wr(device + 4, 0)
    assert pci.bell.pop() == []
    pci.cw(bdf, 4, 7, 2)
    pci.wr(table, RAM + 0x100)
    pci.wr(device + 4, 0)
    assert pci.rd(RAM + 0x100) == 1000


def test_msi(make: Make) -> None:
    pci = make(("pci-test", "t0", {}))
    bdf = pci.enumerate()["t0"]
    cap, device = pci.capability(bdf, 5), pci.cr(bdf, 0x10)
    assert pci.cr(bdf, cap + 2, 2) == 0x184
    pci.cw(bdf, cap + 4, DOORBELL + 0x43)
    pci.cw(bdf, cap + 8, 0)
    pci.cw(bdf, cap + 12, 0xABCF, 2)
    pci.cw(bdf, cap + 2, 0x21, 2)
    for vector in (0, 3, 7):
        pci.wr(device + 4, vector)
    assert pci.bell.pop() == [(0x40, 0xABCC), (0x40, 0xABCF), (0x40, 0xABCF)]
    pci.cw(bdf, cap + 16, 2)
    pci.wr(device + 4, 1)
    assert (pci.bell.pop(), pci.cr(bdf, cap + 20)) == ([], 2)
    pci.cw(bdf, cap + 16, 0)
    assert (pci.bell.pop(), pci.cr(bdf, cap + 20)) == ([(0x40, 0xABCD)], 0)
    pci.cw(bdf, cap + 2, 0x71, 2)
    pci.wr(device + 4, 3)
    assert pci.bell.pop() == [(0x40, 0xABCF)]


def test_bus_mastering_gates_all_the_way_up(make: Make) -> None:
    pci = make((PORT, "rp0", {"slot": 1}), ("pci-test", "t0", {"bus": "rp0"}))
    names = pci.enumerate()
    device = pci.cr(names["t0"], 0x10)
    for who in ("t0", "rp0"):
        pci.wr(RAM, 0)
        pci.cw(names[who], 4, 3, 2)
        pci.wr(device + 8, RAM)
        assert (pci.rd(RAM), len(pci.dev("t0").space.view)) == (0, 0)
        pci.cw(names[who], 4, 7, 2)
        pci.wr(device + 8, RAM)
        assert pci.rd(RAM) == 0x55555555
    assert pci.dev("t0").space.view is pci.space.view


def test_addresses_do_not_depend_on_the_order(make: Make) -> None:
    devices = [("pci-test", "x", {}), ("pci-test", "y", {"addr": "1"}), ("pci-test", "a", {}), (PORT, "rp", {})]
    devices = [(driver, id, props if driver == PORT else {**props, "bus": "pcie.0"}) for driver, id, props in devices]
    one, two = make(*devices), make(*reversed(devices))
    assert one.machine.tree_dump() == two.machine.tree_dump()
    assert one.machine.get_property("/machine/peripheral/pci0/pcie.0", "devices") == [
        "00.0 /machine/peripheral/pci0/gpex_root",
        "01.0 /machine/peripheral/y",
        "02.0 /machine/peripheral/a",
        "03.0 /machine/peripheral/rp",
        "04.0 /machine/peripheral/x",
    ]


@pytest.mark.parametrize(
    ("devices", "error"),
    [
        ([("pci-test", "a", {"addr": "1"}), ("pci-test", "b", {"addr": "1.0"})],
         "PCI: slot 1 function 0 not available for pci-test, in use by pci-test,id=a"),
        ([("pci-test", "a", {"addr": "1"}), ("pci-test", "b", {"addr": "1.1"})],
         "PCI: single function device can't be populated in function 1.1"),
        ([("pci-test", "b", {"addr": "1.0"}), ("pci-test", "a", {"addr": "1.1"})],
         "PCI: 1.0 indicates single function, but 1.1 is already populated."),
        ([("pci-test", "a", {"addr": "0.0"})],
         "PCI: slot 0 function 0 not available for pci-test, in use by gpex-root,id=gpex_root"),
        ([(PORT, "rp", {}), ("pci-test", "a", {"bus": "rp", "addr": "1"})],
         "PCI: slot 1 is not valid for pci-test, parent device only allows plugging into slot 0."),
        ([(PORT, "rp", {}), ("pci-test", "a", {"bus": "rp"}), ("pci-test", "b", {"bus": "rp"})],
         "PCI: no slot/function available for pci-test, all in use or reserved"),
        ([("pci-test", "a", {"bus": "nope"})], "Bus 'nope' not found"),
        ([("pci-test", "a", {"bus": "ram"})], "Bus 'ram' not found"),
        ([(PORT, "rp", {}), (PORT, "rp2", {"bus": "rp", "slot": 2})],
         "Device 'pcie-root-port' can't be on bus 'rp': it must be on a root bus"),
        ([(PORT, "rp", {}), (PORT, "rp2", {})],
         "Can't add chassis slot: '/machine/peripheral/rp' has chassis 0 and slot 0 as well"),
        ([(PORT, "rp", {}), ("pci-test", "a", {})],
         "Property 'pci-test.bus' must say which bus is meant: '/machine/peripheral/pci0/pcie.0', '/machine/peripheral/rp/rp'"),
    ],
)  # fmt: skip
def test_refused_when_wired(make: Make, devices: Any, error: str) -> None:
    pci = make(*devices, start=False)
    with pytest.raises(GenericError) as caught:
        pci.machine.wire()
    assert error in str(caught.value.desc)
    pci.machine.device_del(devices[-1][1])
    pci.start()


@pytest.mark.parametrize("addr", ["zz", "20", "0.8", "1.0.0", "1.", ".1", "-1", "1 ", "0x", "100"])
def test_addresses_that_are_none(make: Make, addr: str) -> None:
    pci = make(start=False)
    with pytest.raises(GenericError, match=r"Property 'pci-test\.addr' doesn't take value"):
        pci.machine.device_add("pci-test", "a", {"addr": addr})
    assert "a" not in pci.machine.tree.peripheral.children


def test_parts_belong_to_their_object(make: Make) -> None:
    pci = make((PORT, "rp", {}), ("pci-test", "a", {"bus": "rp"}), start=False)
    with pytest.raises(GenericError, match="gpex_root is not a device"):
        pci.machine.device_del("/machine/peripheral/pci0/gpex_root")
    with pytest.raises(GenericError, match="in use"):
        pci.machine.device_del("rp")
    pci.machine.device_del("a")
    pci.machine.device_del("rp")
    pci.start()
    assert pci.scan() == [0]


def test_a_bus_that_was_chosen_is_in_use_as_well(make: Make) -> None:
    pci = make(("pci-test", "a", {}), start=False)
    pci.machine.wire()
    with pytest.raises(GenericError, match=r"Device 'pci0' is in use.*/machine/peripheral/a'"):
        pci.machine.device_del("pci0")
    pci.machine.device_del("a")
    pci.machine.device_del("pci0")


def test_ports_as_functions_of_one_slot(make: Make) -> None:
    """As management tools make them: eight root ports in a slot."""
    ports = [
        (PORT, f"p{n}", {"chassis": n + 1, "port": 16 + n, "addr": f"0x2.0x{n}", "bus": "pcie.0", "multifunction": n == 0})
        for n in range(8)
    ]
    pci = make(*ports, ("pci-test", "d", {"bus": "p5"}))
    names = pci.enumerate()
    assert [names[f"p{n}"] for n in range(8)] == list(range(16, 24))
    assert names["d"] == 0x600
    pci.wr(pci.cr(0x600, 0x10), 1)
    assert pci.lines() == [0, 0, 1, 0]
    assert pci.cr(21, pci.capability(21, 0x10) + 0xC) >> 24 == 21


def test_added_and_removed_while_wired(make: Make) -> None:
    pci = make(("pci-test", "a", {}), start=False)
    pci.machine.wire()
    pci.machine.device_add(PORT, "rp", {})
    pci.machine.device_add("pci-test", "b", {"bus": "rp"})
    with pytest.raises(GenericError, match="PCI: no slot/function available for pci-test"):
        pci.machine.device_add("pci-test", "c", {"bus": "rp"})
    pci.machine.device_del("a")
    pci.machine.device_add("pci-test", "c", {"bus": "pcie.0"})
    pci.start()
    assert pci.enumerate() == {"gpex_root": 0, "c": 8, "rp": 16, "b": 0x100}
    assert pci.cr(16, pci.capability(16, 0x10) + 0x1A, 2) == 0x40


def test_two_hosts(make: Make) -> None:
    pci = make(("gpex-pcihost", "pci1", {"address-space": "sys"}), ("pci-test", "a", {"bus": "pcie.0"}), start=False)
    with pytest.raises(GenericError, match=r"may mean /machine/peripheral/pci0/pcie\.0 or /machine/peripheral/pci1/pcie\.0"):
        pci.machine.wire()
    pci.machine.device_del("a")
    pci.machine.device_add("pci-test", "a", {"bus": "/machine/peripheral/pci1/pcie.0"})
    pci.machine.map_region("sys", "pci1/ecam", 0x800000000)
    pci.start()
    assert (pci.scan(), pci.rd(0x800008000)) == ([0], 0x7E571B36)
    assert MMIO64 < 0x800000000

"""pcie-root-port: native hot plug, as QEMU 7.2 does it (values of the slot's registers are what it shows)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pci_kit import DOORBELL, Pci

from ratite.qapi.errors import DeviceNotFound, GenericError

PORT = 8
S = 1_000_000_000
ON, OFF, BLINK = 0x1C0, 0x7C0, 0x2C0


class Slotted(Pci):
    """A machine with a port rp0 at 01.0 (empty), rp1 at 02.0 (device `cold`), rp2 at 03.0 without hot plug (`fixed`)."""

    def __init__(self) -> None:
        super().__init__(
            ("pcie-root-port", "rp0", {"slot": 1, "addr": "1", "chassis": 1}),
            ("pcie-root-port", "rp1", {"slot": 2, "addr": "2", "chassis": 1}),
            ("pcie-root-port", "rp2", {"slot": 3, "addr": "3", "chassis": 1, "hotplug": False}),
            ("pci-test", "cold", {"bus": "rp1"}),
            ("pci-test", "fixed", {"bus": "rp2"}),
        )
        self.enumerate()
        self.cap = self.capability(PORT, 0x10)
        self.slot = 0x100

    def regs(self, port: int = PORT) -> tuple[int, int, int]:
        """Slot Control, Slot Status, Link Status."""
        return tuple(self.cr(port, self.cap + at, 2) for at in (0x18, 0x1A, 0x12))  # type: ignore[return-value]

    def control(self, value: int, port: int = PORT) -> None:
        self.cw(port, self.cap + 0x18, value, 2)

    def clear(self, port: int = PORT) -> None:
        self.cw(port, self.cap + 0x1A, 0x1F, 2)

    def add(self, id: str, **props: Any) -> None:
        self.machine.device_add("pci-test", id, {"bus": "rp0", **props})

    def gone(self) -> list[str]:
        found = [device for name, device in self.events if name == "DEVICE_DELETED"]
        self.events.clear()
        return found


@pytest.fixture
def pci() -> Iterator[Slotted]:
    made = Slotted()
    yield made
    made.close()


def refused(pci: Slotted, driver: str, props: dict[str, Any]) -> str:
    before = pci.machine.tree_dump()
    with pytest.raises(GenericError) as caught:
        pci.machine.device_add(driver, "new", props)
    assert pci.machine.tree_dump() == before
    return str(caught.value.desc)


def test_after_reset(pci: Slotted) -> None:
    assert pci.regs(8) == (OFF, 0, 0x204)
    assert pci.regs(16) == (ON, 0x40, 0x2011)
    assert pci.regs(24) == (ON, 0x40, 0x2011)
    assert [pci.cr(port, pci.cap + 0x14) for port in (8, 16, 24)] == [0x000A007B, 0x0012007B, 0x001A001B]


def test_refusals_in_qemus_words(pci: Slotted) -> None:
    assert refused(pci, "pci-test", {"bus": "pcie.0"}) == "Bus 'pcie.0' does not support hotplugging"
    assert refused(pci, "pcie-root-port", {"slot": 9}) == "Bus 'pcie.0' does not support hotplugging"
    assert refused(pci, "pci-test", {"bus": "nope"}) == "Bus 'nope' not found"
    assert refused(pci, "pci-test", {"bus": "cold"}) == "Bus 'cold' not found"
    assert refused(pci, "pci-test", {"bus": "rp2"}) == "Bus 'rp2' does not support hotplugging"
    assert refused(pci, "pci-test", {"bus": "rp1", "addr": "0.1"}) == (
        "PCI: slot 0 function 0 already occupied by pci-test, new func pci-test cannot be exposed to guest."
    )
    assert refused(pci, "pci-test", {"bus": "rp1", "addr": "0.0"}) == (
        "PCI: slot 0 function 0 not available for pci-test, in use by pci-test,id=cold"
    )
    assert refused(pci, "pci-test", {"bus": "rp1"}) == (
        "PCI: slot 0 function 0 already occupied by pci-test, new func pci-test cannot be exposed to guest."
    )
    assert refused(pci, "pci-test", {"bus": "rp0", "addr": "1"}) == (
        "PCI: slot 1 is not valid for pci-test, parent device only allows plugging into slot 0."
    )
    assert refused(pci, "pci-test", {"bus": "rp0", "addr": "zz"}) == "Property 'pci-test.addr' doesn't take value 'zz'"
    for addr, text in (
        (256, "Parameter 'addr' expects a value between -1 and 255"),
        (-2, "Parameter 'addr' expects a value between -1 and 255"),
        (1 << 32, "Parameter 'addr' expects int32_t"),
        (True, "Invalid parameter type for 'addr', expected int or str"),
        ({}, "Invalid parameter type for 'addr', expected int or str"),
        (1.5, "Invalid parameter type for 'addr', expected: integer"),
        ("0.8", "Property 'pci-test.addr' doesn't take value '0.8'"),
        (8, "PCI: slot 1 is not valid for pci-test, parent device only allows plugging into slot 0."),
    ):
        assert refused(pci, "pci-test", {"bus": "rp0", "addr": addr}) == text
    assert "which bus is meant" in refused(pci, "pci-test", {})
    # What is wrong with the bus is said first, then what is wrong with the id, then with the rest.
    for bus, text in (("nope", "Bus 'nope' not found"), ("rp0", "Duplicate device ID 'cold'")):
        with pytest.raises(GenericError, match=text):
            pci.machine.device_add("pci-test", "cold", {"bus": bus, "bogus": 1})
    for id, text in (
        ("rp0", "Bus 'pcie.0' does not support hotplugging"),
        ("fixed", "Bus 'rp2' does not support hotplugging"),
    ):
        with pytest.raises(GenericError, match=text):
            pci.machine.device_del(id)
    with pytest.raises(DeviceNotFound):
        pci.machine.device_del("nope")
    assert pci.regs() == (OFF, 0, 0x204)


def test_plug_and_unplug_with_a_guest(pci: Slotted) -> None:
    pci.add("x")
    assert (pci.regs(), pci.cr(pci.slot, 0)) == ((OFF, 0x49, 0x2011), 0xFFFFFFFF)
    pci.clear()
    pci.control(0x3C0)
    assert (pci.regs(), pci.cr(pci.slot, 0)) == ((0x3C0, 0x50, 0x2011), 0x7E571B36)
    pci.control(ON)
    assert pci.regs() == (ON, 0x50, 0x2011)
    pci.clear()
    pci.cw(pci.slot, 0x10, pci.cr(PORT, 0x20, 2) << 16)
    pci.cw(pci.slot, 4, 7, 2)
    bar = pci.cr(pci.slot, 0x10)
    pci.wr(bar + 12, 5)
    assert pci.rd(bar + 12) == 5
    pci.wr(bar, 1)
    assert pci.lines() == [0, 1, 0, 0]

    pci.machine.device_del("x")
    assert (pci.regs(), pci.gone()) == ((ON, 0x41, 0x2011), [])
    with pytest.raises(GenericError, match=r"^Device x is already in the process of unplug$"):
        pci.machine.device_del("x")
    pci.clear()
    pci.control(BLINK)
    pci.clock.advance(5 * S)
    with pytest.raises(GenericError, match=r"^Hot-unplug failed: guest is busy \(power indicator blinking\)$"):
        pci.machine.device_del("x")
    pci.control(0x6C0)
    assert (pci.cr(pci.slot, 0), pci.rd(bar + 12), pci.lines(), pci.gone()) == (0xFFFFFFFF, 0xFFFFFFFF, [0] * 4, [])
    pci.clear()
    pci.control(OFF)
    assert (pci.regs(), pci.gone()) == ((OFF, 0x18, 0x204), ["x"])
    assert "x" not in pci.machine.tree.peripheral.children
    pci.add("x")
    assert pci.regs() == (OFF, 0x59, 0x2011)


def test_a_request_may_be_repeated_after_five_seconds(pci: Slotted) -> None:
    pci.machine.device_del("cold")
    pci.clock.advance(5 * S - 1)
    with pytest.raises(GenericError, match="already in the process"):
        pci.machine.device_del("cold")
    pci.clear(16)
    pci.clock.advance(1)
    pci.machine.device_del("cold")
    assert pci.regs(16)[1] == 0x41
    pci.machine.reset()
    assert (pci.regs(16), pci.gone()) == ((ON, 0x40, 0x2011), [])


@pytest.mark.parametrize("addr", ["0", "0.0", "00.0", "0x0", "000.00", " 0", 0, -1])
def test_spellings_of_an_address(pci: Slotted, addr: str | int) -> None:
    pci.add("x", addr=addr)
    assert pci.dev("x").devfn == 0


def test_without_an_id(pci: Slotted) -> None:
    """The device is at a place of its own, and its end is told by path alone."""
    told: list[dict[str, Any]] = []
    add = pci.machine.device_add
    assert add("pci-test", None, {"bus": "rp0", "addr": "0.1"}).path == "/machine/peripheral-anon/device[0]"
    assert add("pci-test", None, {"bus": "rp0", "addr": "0.2"}).path == "/machine/peripheral-anon/device[1]"
    pci.machine.on_event = lambda name, data: told.append({"event": name, **data})
    pci.machine.device_del("/machine/peripheral-anon/device[0]")
    assert {"event": "DEVICE_DELETED", "path": "/machine/peripheral-anon/device[0]"} in told
    assert add("pci-test", None, {"bus": "rp0"}).path == "/machine/peripheral-anon/device[0]"
    for text in ("/machine", "/machine/peripheral-anon", "/machine/peripheral/pci0/gpex_root"):
        with pytest.raises(GenericError, match=f"^{text} is not a device$"):
            pci.machine.device_del(text)
    with pytest.raises(DeviceNotFound):
        pci.machine.device_del("/machine/peripheral-anon/device[7]")


def test_a_bus_as_qemu_chooses(pci: Slotted) -> None:
    """The root bus comes before those below ports; where it can't be plugged, that is the refusal."""
    with pytest.raises(GenericError, match=r"^Bus 'pcie\.0' does not support hotplugging$"):
        pci.machine.device_add("pci-test", "x", {}, any_bus=True)
    cold = Pci(("pcie-root-port", "rp0", {"addr": "1"}), start=False)
    made = cold.machine.device_add("pci-test", "x", {}, any_bus=True)
    cold.start()
    assert made.get_property("bus") == "/machine/peripheral/pci0/pcie.0"
    cold.close()


def test_the_guest_lets_go_unasked(pci: Slotted) -> None:
    pci.control(OFF, 16)
    assert (pci.gone(), pci.regs(16)) == (["cold"], (OFF, 0x18, 0x204))


def test_a_slot_without_power_lets_go_at_once(pci: Slotted) -> None:
    pci.add("x")
    pci.clear()
    pci.machine.device_del("x")
    assert (pci.gone(), pci.regs()) == (["x"], (OFF, 0x08, 0x204))


def test_reset_powers_what_is_there(pci: Slotted) -> None:
    pci.add("x")
    pci.machine.reset()
    assert pci.regs() == (ON, 0x40, 0x2011)
    assert pci.cr(0x100, 0) == 0xFFFFFFFF
    pci.cw(PORT, 0x18, 0x010100)
    assert pci.cr(0x100, 0) == 0x7E571B36


def test_functions_of_one_slot(pci: Slotted) -> None:
    pci.add("two", addr="0.2")
    assert pci.regs() == (OFF, 0, 0x204)
    pci.add("one", addr="0.1")
    with pytest.raises(GenericError, match=r"0\.0 indicates single function, but 0\.1 is already populated"):
        pci.add("zero")
    pci.add("zero", multifunction=True)
    pci.control(ON)
    assert [pci.cr(0x100 + n, 0) == 0x7E571B36 for n in range(4)] == [True, True, True, False]
    assert pci.scan(1) == [0x100, 0x101, 0x102]
    pci.machine.device_del("one")
    pci.control(OFF)
    assert sorted(pci.gone()) == ["one", "two", "zero"]
    pci.add("one", addr="0.1")
    pci.add("zero", multifunction=True)
    pci.machine.device_del("zero")
    assert sorted(pci.gone()) == ["one", "zero"]


def test_interrupt_by_line(pci: Slotted) -> None:
    pci.control(OFF | 0x29)
    assert pci.lines() == [0] * 4
    pci.add("x")
    assert (pci.lines(), pci.cr(PORT, 6, 1) & 8) == ([0, 1, 0, 0], 8)
    pci.cw(PORT, pci.cap + 0x1A, 1, 2)
    assert pci.lines() == [0, 1, 0, 0]
    pci.cw(PORT, pci.cap + 0x1A, 8, 2)
    assert pci.lines() == [0] * 4
    pci.control(ON | 0x30)
    assert pci.lines() == [0, 1, 0, 0]
    pci.clear()
    assert pci.lines() == [0] * 4


def test_interrupt_by_message(pci: Slotted) -> None:
    cap, bar = pci.capability(PORT, 0x11), pci.cr(PORT, 0x10)
    pci.wr(bar, DOORBELL + 0x20)
    pci.wr(bar + 8, 99)
    pci.wr(bar + 12, 0)
    pci.cw(PORT, cap + 2, 0x8000, 2)
    pci.control(OFF | 0x29)
    pci.add("x")
    assert (pci.bell.pop(), pci.lines()) == ([(0x20, 99)], [0] * 4)
    pci.clear()
    pci.machine.device_del("x")
    assert pci.bell.pop() == [(0x20, 99)]


def test_interlock(pci: Slotted) -> None:
    pci.control(OFF | 0x800)
    assert pci.regs()[:2] == (OFF, 0x90)
    pci.cw(PORT, pci.cap + 0x18, 0x1F0000 | OFF | 0x800)
    assert pci.regs()[:2] == (OFF, 0x10)


def test_state_is_all(pci: Slotted) -> None:
    pci.add("x")
    pci.control(ON | 0x29)
    members = list(pci.machine.tree.members())
    saved = [obj.save_state() for obj in members]
    dump = pci.machine.tree_dump(("state",))
    pci.machine.reset()
    for obj, values in reversed(list(zip(members, saved, strict=True))):
        obj.load_state(values)
    assert pci.machine.tree_dump(("state",)) == dump
    assert pci.lines() == [0, 1, 0, 0]


def test_a_failed_plug_leaves_the_slot_empty(pci: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any) -> None:
        raise GenericError("no")

    cls = type(pci.dev("cold"))
    with monkeypatch.context() as patched:
        patched.setattr(cls, "realize", fails)
        assert refused(pci, "pci-test", {"bus": "rp0"}) == "no"
    assert pci.regs() == (OFF, 0, 0x204)
    pci.add("new")
    assert pci.regs() == (OFF, 0x49, 0x2011)


def test_query_pci_as_qemus(pci: Slotted) -> None:
    (bus,) = pci.host.describe_buses()
    assert bus["bus"] == 0
    root, empty, full, _ = bus["devices"]
    assert root == {
        "irq_pin": 0, "bus": 0, "qdev_id": "", "slot": 0, "class_info": {"class": 1536, "desc": "Host bridge"},
        "id": {"device": 8, "subsystem-vendor": 6900, "vendor": 6966, "subsystem": 4352}, "function": 0, "regions": [],
    }  # fmt: skip
    assert empty["id"] == {"device": 12, "vendor": 6966}
    assert (empty["qdev_id"], empty["slot"], empty["irq_pin"], empty["irq"]) == ("rp0", 1, 1, 0)
    assert empty["regions"] == [
        {"prefetch": False, "mem_type_64": False, "bar": 0, "size": 4096, "address": pci.cr(8, 0x10), "type": "memory"}
    ]
    assert (empty["pci_bridge"]["bus"]["secondary"], empty["pci_bridge"]["devices"]) == (1, [])
    (device,) = full["pci_bridge"]["devices"]
    assert (device["qdev_id"], device["bus"], device["class_info"]) == ("cold", 2, {"class": 0xFF00})
    assert [(row["bar"], row["type"], row["size"]) for row in device["regions"]] == [
        (0, "memory", 4096), (2, "memory", 65536), (4, "io", 32), (5, "memory", 4096),
    ]  # fmt: skip
    pci.machine.reset()
    assert pci.host.describe_buses()[0]["devices"][1]["pci_bridge"] == {
        "bus": {
            "prefetchable_range": {"limit": 1048575, "base": 4293918720},
            "memory_range": {"limit": 1048575, "base": 4293918720},
            "secondary": 0, "io_range": {"limit": 4095, "base": 61440}, "number": 0, "subordinate": 0,
        }
    }  # fmt: skip
    assert pci.host.describe_buses()[0]["devices"][1]["regions"][0]["address"] == -1


def test_a_device_that_is_let_go_while_its_removal_waits(pci: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that were queued before the removal see the slot empty and the device still there."""
    waiting: list[Any] = []
    monkeypatch.setattr(pci.machine, "let_go", waiting.append)
    pci.control(OFF, 16)
    assert (pci.regs(16)[1], [obj.id for obj in waiting]) == (0x18, ["cold"])
    cold = pci.dev("cold")
    cold.line(1)
    cold.message(DOORBELL, 1)
    assert (pci.lines(), pci.bell.pop()) == ([0] * 4, [])
    pci.machine.device_add("pci-test", "other", {"bus": "rp1"})
    pci.machine.reset()
    pci.machine.device_del("cold")
    assert (pci.gone(), pci.regs(16)) == (["cold"], (ON, 0x40, 0x2011))
    pci.machine._let_go(waiting[0])
    assert (pci.gone(), pci.cr(16, 0)) == ([], 0x000C1B36)

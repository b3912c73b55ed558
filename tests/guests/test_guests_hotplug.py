"""Guests that take part: one that hears its power button, one that drives a hot-plug slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_run import Guest

from ratite.clients import machines
from ratite.clients.qmp import CommandError
from ratite.qapi.fdt import parse


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def with_button(guest: Guest, board: str) -> None:
    """A GPIO controller whose line 1 is a power button."""
    this = machines.board(board)
    add = guest.client.execute
    if this.clint is not None:
        add("device_add", driver="sifive_soc.gpio", id="gpio", ngpio=2)
        add("map-region", space="view", region="gpio", offset=0x102000)
        add("wire-irq", {"from": "gpio", "output": "irq[1]", "to": "cpu", "input": "meip"})
    else:
        add("device_add", driver="xlnx.xps-gpio", id="gpio", width=2, endianness=this.endianness)
        add("map-region", space="view", region="gpio", offset=0x40000000)
        add("device_add", driver="xlnx.xps-intc", id="intc", endianness=this.endianness)
        add("map-region", space="view", region="intc", offset=this.intc)
        add("wire-irq", {"from": "gpio", "output": "irq", "to": "intc", "input": "irq[2]"})
        add("wire-irq", {"from": "intc", "output": "irq", "to": "cpu", "input": "irq"})
    add("device_add", driver="gpio-key", id="power")
    add("wire-irq", {"from": "power", "output": "out", "to": "gpio", "input": "in[1]"})


@pytest.mark.parametrize("board", ["rv64", "rv32", "mb", "mbel"])
def test_the_power_button(board: str, tmp_path: Path) -> None:
    with Guest("button", board, tmp_path) as guest:
        with_button(guest, board)
        guest.start()
        guest.wait_text("press\n")
        guest.client.execute("dumpdtb", filename=str(tmp_path / "dtb"), cpu="cpu")
        nodes = dict(parse("dtb", (tmp_path / "dtb").read_bytes())[0].walk())
        (gpio,) = (node for path, node in nodes.items() if path.startswith("/soc/gpio@"))
        assert gpio.props["gpio-controller"] == b""
        key = nodes["/gpio-keys/key-power"].props
        assert (key["linux,code"], key["gpios"]) == (number(116), gpio.props["phandle"] + number(1) + number(0))
        guest.client.execute("system_powerdown")
        assert guest.client.wait_event("POWERDOWN").get("data", {}) == {}
        assert guest.client.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}
        assert guest.wait_text("bye\n") == "press\nbye\n"


def test_a_machine_without_a_button_goes_on(tmp_path: Path) -> None:
    with Guest("echo", "rv64", tmp_path) as guest:
        guest.start()
        guest.wait_text("echo\n")
        guest.client.execute("system_powerdown")
        guest.client.wait_event("POWERDOWN")
        guest.send("on\n")
        guest.wait_text("ON\n")
        assert guest.client.execute("query-status")["status"] == "running"


class Slot:
    """The guest pciehp with its port rp0."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.qmp = guest.client
        add = self.qmp.execute
        for command, arguments in machines.with_timer("rv64"):
            add(command, arguments)
        add("device_add", {"driver": "gpex-pcihost", "id": "pci0", "address-space": "view"})
        for window, at in ("ecam", 0x30000000), ("mmio", 0x40000000):
            add("map-region", space="view", region=f"pci0/{window}", offset=at)
        add("wire-irq", {"from": "pci0", "output": "intx[1]", "to": "cpu", "input": "meip"})
        add("device_add", driver="pcie-root-port", id="rp0", bus="pcie.0", addr="1", chassis=1, slot=1)

    def add(self, id: str = "card") -> None:
        self.qmp.execute("device_add", driver="virtio-rng-pci", id=id, bus="rp0")

    def refused(self, command: str, **arguments: Any) -> str:
        with pytest.raises(CommandError) as caught:
            self.qmp.execute(command, arguments)
        return caught.value.desc

    def deleted(self) -> str:
        name: str = self.qmp.wait_event("DEVICE_DELETED")["data"]["device"]
        return name

    def there(self) -> bool:
        rows = self.qmp.execute("qom-list", path="/machine/peripheral")
        return "card" in [row["name"] for row in rows]


def test_a_guest_drives_the_slot(tmp_path: Path) -> None:
    with Guest("pciehp", "rv64", tmp_path) as guest:
        slot = Slot(guest)
        guest.start()
        guest.wait_text("slot off\n")
        before = "slot off\n"
        for _ in range(3):
            slot.add()
            guest.wait_text(f"{before}card 10441af4 up\n")
            guest.client.execute("device_del", id="card")
            assert slot.deleted() == "card"
            assert not slot.there()
            before = guest.wait_text(f"{before}card 10441af4 up\ncard down asked gone\n")


def test_a_guest_that_does_not_hear(tmp_path: Path) -> None:
    """The device stays, and the request with it; a dump of the tree while it waits; a reset forgets it."""
    with Guest("pciehp", "rv64", tmp_path) as guest:
        slot = Slot(guest)
        slot.add()
        guest.start()
        guest.wait_text("slot on\n")
        guest.send("d")
        guest.wait_text("deaf\n")
        guest.client.execute("device_del", id="card")
        assert slot.refused("device_del", id="card") == "Device card is already in the process of unplug"
        assert slot.there()
        assert slot.refused("device_add", driver="virtio-rng-pci", id="two", bus="rp0") == (
            "PCI: slot 0 function 0 already occupied by virtio-rng-pci, new func virtio-rng-pci cannot be exposed to guest."
        )
        (bus,) = guest.client.execute("query-pci")
        assert [row["qdev_id"] for row in bus["devices"][1]["pci_bridge"]["devices"]] == ["card"]
        assert "'card'" in repr(guest.client.execute("machine-dump"))
        guest.send("h")
        assert slot.deleted() == "card"
        guest.wait_text("card down asked gone\n")
        assert slot.refused("device_del", id="card") == "Device 'card' not found"


def test_a_guest_that_lets_go_unasked(tmp_path: Path) -> None:
    with Guest("pciehp", "rv64", tmp_path) as guest:
        slot = Slot(guest)
        slot.add()
        guest.start()
        guest.wait_text("slot on\n")
        guest.send("o")
        assert slot.deleted() == "card"
        guest.wait_text("card down unasked gone\n")
        slot.add("again")
        guest.wait_text("card 10441af4 up\n")

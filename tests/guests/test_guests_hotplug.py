"""Guests that take part: one that hears its power button, one that drives a hot-plug slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_run import ELF, Guest

from ratite.clients import machines
from ratite.clients.qmp import Client, CommandError
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
        # The client that asks goes at once: it is the machine that remembers.
        with Client.connect(guest.address) as other:
            other.execute("device_del", id="card")
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


def hart1(guest: Guest, board: str, **more: Any) -> None:
    """Plug a hart with its lines, and a line that holds it."""
    add = guest.client.execute
    second = int(guest.text.partition("\n")[0], 16)
    cpu = {"driver": machines.board(board).cpu, "id": "cpu1", "cluster": "cluster", "cpu-index": 1, "hartid": 1}
    add("device_add", {**cpu, "reset-pc": second, **more})
    for source, output, line in ("swi", "msip[1]", "msip"), ("mtimer", "mtip[1]", "mtip"), ("holder", "irq", "reset"):
        add("wire-irq", {"from": source, "output": output, "to": "cpu1", "input": line})


def hold(guest: Guest, level: bool) -> None:
    guest.client.execute("qom-set", path="/machine/peripheral/holder", property="level", value=level)


def cpus(guest: Guest) -> dict[int, str]:
    return {row["cpu-index"]: row["qom-path"].rpartition("/")[2] for row in guest.client.execute("query-cpus-fast")}


def started(guest: Guest) -> bool:
    powered: bool = guest.client.execute("qom-get", path="/machine/peripheral/cpu1", property="powered")
    return powered


@pytest.mark.parametrize("accel", ["jit", "interp"])
@pytest.mark.parametrize("board", ["rv64", "rv32"])
def test_a_cpu_comes_and_goes(board: str, accel: str, tmp_path: Path) -> None:
    with Guest("plug", board, tmp_path, accel=accel) as guest:
        add = guest.client.execute
        for kind, name, at in ("swi", "swi", 0x2000000), ("mtimer", "mtimer", 0x2004000):
            add("device_add", {"driver": f"riscv.aclint.{kind}", "id": name, "num-harts": 2})
            add("map-region", space="view", region=name, offset=at)
        add("device_add", driver="irq-source", id="holder")
        guest.start()
        before = guest.wait_text("alone\n")
        for _ in range(2):
            hart1(guest, board)
            assert (cpus(guest), started(guest)) == ({0: "cpu", 1: "cpu1"}, False)
            assert guest.client.execute("qom-get", path="/machine/peripheral/cpu1", property="instructions") == 0
            hold(guest, True)
            assert not started(guest)
            hold(guest, False)
            guest.wait_text(f"{before}up\n")
            guest.send("m")
            guest.wait_text(f"{before}up\nsoft\ntimer\n")
            add("device_del", id="cpu1")
            assert guest.client.wait_event("DEVICE_DELETED")["data"]["device"] == "cpu1"
            assert cpus(guest) == {0: "cpu"}
            guest.send("n")
            before = guest.wait_text(f"{before}up\nsoft\ntimer\nalone\n")
        hart1(guest, board)
        add("system_reset")
        guest.wait_text("up\n", timeout=60)
        assert started(guest)


def test_a_cpu_that_is_told_to_starts_at_once(tmp_path: Path) -> None:
    with Guest("plug", "rv64", tmp_path) as guest:
        guest.client.execute("device_add", {"driver": "riscv.aclint.swi", "id": "swi", "num-harts": 2})
        guest.client.execute("device_add", {"driver": "riscv.aclint.mtimer", "id": "mtimer", "num-harts": 2})
        guest.client.execute("map-region", space="view", region="mtimer", offset=0x2004000)
        guest.client.execute("device_add", driver="irq-source", id="holder")
        guest.start()
        before = guest.wait_text("alone\n")
        hart1(guest, "rv64", **{"start-powered-off": False})
        guest.wait_text(f"{before}up\n")
        # Whoever runs may go as well, and come back: a machine without CPUs is one.
        for name in ("cpu1", "cpu"):
            guest.client.execute("device_del", id=name)
            assert guest.client.wait_event("DEVICE_DELETED")["data"]["device"] == name
        assert (cpus(guest), guest.client.execute("query-status")["running"]) == ({}, True)
        guest.client.execute("stop")
        image = str(ELF / "plug.rv64.elf")
        guest.client.execute("device_add", driver="rv64-riscv-cpu", id="cpu", cluster="cluster", image=image)
        guest.client.execute("system_reset")
        guest.client.execute("cont")
        guest.wait_text(f"{before}up\n{before}")
        assert cpus(guest) == {0: "cpu"}

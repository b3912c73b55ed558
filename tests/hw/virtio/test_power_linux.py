"""system_powerdown ends a real Linux: Debian's kernel and modules report the key, its user space powers off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ratite.clients.boots.machines import pci
from tests.debian import MARKS, PATIENCE, booted

pytestmark = MARKS
Commands = list[tuple[str, dict[str, Any]]]
LISTENING = "until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /dev/input/event0; do sleep 1; done"


@pytest.mark.parametrize("driver", ["virtio-button-device", "virtio-button-pci"])
def test_powerdown(tmp_path: Path, driver: str) -> None:
    more = [*pci(), ("device_add", {"driver": driver, "id": "power", "bus": "virtio1.0" if "device" in driver else "pcie.0"})]
    with booted(tmp_path, more) as guest:
        assert "Power Button" in guest.sh(f"{LISTENING}; cat /proc/bus/input/devices")
        guest.qmp.execute("system_powerdown")
        guest.qmp.wait_event("POWERDOWN")
        event = guest.qmp.wait_event("SHUTDOWN", timeout=PATIENCE)
        assert event["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}
        guest.qmp.wait_event("STOP")
        assert guest.qmp.execute("query-status") == {"running": False, "status": "shutdown"}


def wired(kind: str, lines: str, at: int, irqs: tuple[int, ...], controller: str, **props: Any) -> Commands:
    """A GPIO controller with a button at line 1 that stays down."""
    found: Commands = [
        ("device_add", {"driver": kind, "id": "gpio", lines: 2, **props}),
        ("map-region", {"space": "view", "region": "gpio", "offset": at}),
        ("device_add", {"driver": "gpio-key", "id": "power", "hold": 1 << 30}),
        ("wire-irq", {"from": "power", "output": "out", "to": "gpio", "input": "in[1]"}),
    ]
    for n, irq in enumerate(irqs):
        found.append(("wire-irq", {"from": "gpio", "output": f"irq[{n}]", "to": controller, "input": f"irq[{irq}]"}))
    return found


@pytest.mark.parametrize(
    ("guest", "more"),
    [
        ("riscv64", wired("sifive_soc.gpio", "ngpio", 0x102000, (12, 13), "plic")),
        ("s3adsp1800", wired("xlnx.xps-gpio", "width", 0x81400000, (5,), "intc", endianness="big")),
        ("ml605", wired("xlnx.xps-gpio", "width", 0x81400000, (7,), "intc")),
    ],
)
def test_linux_sees_the_line(tmp_path: Path, guest: str, more: Commands) -> None:
    """Linux's own drivers of the controllers: the value of the line, and its interrupt."""
    with booted(tmp_path, more, guest=guest) as made:
        made.sh("cd /sys/class/gpio; echo $(($(cat gpiochip*/base) + 1)) > export; cd gpio[0-9]*; echo in > direction")
        assert "value=0" in made.sh("echo rising > edge; echo value=$(cat value)")
        made.qmp.execute("system_powerdown")
        assert "value=1" in made.sh("echo value=$(cat value)")
        assert "taken=1" in made.sh("echo taken=$(awk '/gpiolib/ {print $2}' /proc/interrupts)")

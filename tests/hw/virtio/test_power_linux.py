"""system_powerdown ends a real Linux: Debian's kernel and modules report the key, its user space powers off."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.clients.boots.machines import pci
from tests.debian import MARKS, PATIENCE, booted

pytestmark = MARKS
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

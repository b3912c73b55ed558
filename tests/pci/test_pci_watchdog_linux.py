"""A watchdog under a real Linux, driven from its shell as a driver would (Debian's kernel for riscv64 has none for it)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratite.clients.boots.machines import pci
from tests.debian import MARKS, PATIENCE, Linux, booted

pytestmark = MARKS


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Linux]:
    more = [*pci(), ("device_add", {"driver": "i6300esb", "id": "dog", "bus": "/machine/peripheral/pci0/pcie.0", "addr": "7"})]
    with booted(tmp_path, more) as made:
        yield made


def test_it_fires_as_the_client_says(guest: Linux) -> None:
    found = guest.sh("cd /sys/bus/pci/devices/0000:00:07.0; cat vendor device class resource | head -4")
    words = re.findall(r"0x[0-9a-f]+", found)
    assert words[:3] == ["0x8086", "0x25ab", "0x088000"]
    bar = int(words[3], 16)
    guest.qmp.execute("watchdog-set-action", action="pause")
    put = "dd of=config bs=1 conv=notrunc 2>/dev/null seek="
    preloads = "; ".join(
        f"devmem {bar + 12:#x} 16 0x80; devmem {bar + 12:#x} 16 0x86; devmem {bar + at:#x} 32 20" for at in (0, 4)
    )
    guest.sh(rf"printf '\002' | {put}4; {preloads}")
    guest.console.sock.sendall(rf"printf '\002' | {put}104".encode() + b"\n")
    assert guest.qmp.wait_event("WATCHDOG", timeout=PATIENCE)["data"] == {"action": "pause"}
    guest.qmp.wait_event("STOP", timeout=PATIENCE)
    assert guest.qmp.execute("query-status")["status"] == "watchdog"
    guest.qmp.execute("cont")
    assert int(guest.sh(f"devmem {bar + 12:#x} 16").split()[-1], 16) & 0x200

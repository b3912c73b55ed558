"""Debian's kernel under OpenSBI: harts that it stops and starts (SBI's HSM), a reset of the machine, power off."""

from __future__ import annotations

from pathlib import Path

from ratite.clients.boots.initramfs import MARKER
from tests.debian import MARKS, PATIENCE, booted

pytestmark = MARKS
CPU2 = "/sys/devices/system/cpu/cpu2/online"


def test_harts_come_and_go_and_the_machine_starts_anew(tmp_path: Path) -> None:
    with booted(tmp_path, harts=3) as guest:
        said = guest.sh(f"echo 0 > {CPU2}; nproc; echo 1 > {CPU2}; nproc")
        assert said.split()[-2:] == ["2", "3"], said
        assert "ran on 2" in guest.sh("busybox taskset 4 awk '{print \"ran on\", $39}' /proc/self/stat")
        cpus = guest.qmp.execute("query-cpus-fast")
        assert len({cpu["thread-id"] for cpu in cpus}) == 3
        guest.sh(f"echo 0 > {CPU2}")
        guest.console.sock.sendall(b"reboot -f\n")
        event = guest.qmp.wait_event("RESET", timeout=PATIENCE)
        assert event["data"] == {"guest": True, "reason": "guest-reset"}
        guest.console.until(MARKER)
        assert guest.sh("nproc").split()[-1] == "3", "a reset starts the hart that was stopped"
        guest.console.sock.sendall(b"poweroff -f\n")
        event = guest.qmp.wait_event("SHUTDOWN", timeout=PATIENCE)
        assert event["data"] == {"guest": True, "reason": "guest-shutdown", "code": 0}

"""What MicroBlaze Linux keeps of a program's registers and memory: all but r4 behind signals, as on QEMU (docs/boot.md)."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ratite.clients.boots import guests, main
from ratite.clients.boots.initramfs import MARKER, with_program
from ratite.clients.boots.machines import RAM, linux
from ratite.clients.qmp import Client, DaemonProcess

BOARDS = {"s3adsp1800": "mb", "ml605": "mbel"}
COUNT = 10
PATIENCE = 300.0
LINE = re.compile(
    r"^registers: (?P<trial>[a-z ]+): events (?P<events>\d+) signals (?P<signals>\d+) inside (?P<inside>\d+)"
    r"; bad(?P<bad>( r\d+=\d+)*); frame(?P<frame>( r\d+=\d+)*); wrong (?P<wrong>\d+)\r?$",
    re.MULTILINE,
)
TRIALS = ["signals", "signals beside", "faults signals beside", "faults", "faults signals", "forks", "forks signals"]


class Trial(NamedTuple):
    """One line of tests/guests/linux/registers.c."""

    events: int
    signals: int
    inside: int
    bad: set[str]
    frame: set[str]
    wrong: int


def trials(text: str) -> dict[str, Trial]:
    """By name, in order."""
    return {
        found["trial"]: Trial(
            int(found["events"]), int(found["signals"]), int(found["inside"]),
            {item.partition("=")[0] for item in found["bad"].split()},
            {item.partition("=")[0] for item in found["frame"].split()}, int(found["wrong"]),
        )
        for found in LINE.finditer(text)
    }  # fmt: skip


def boot_of(guest: str, folder: Path, place: Path) -> dict[str, str]:
    """The guest's, with registers.c in the place of calm.c."""
    boot = guests.boot_of(guest, folder)
    program = (guests.ELFS / f"registers.{BOARDS[guest]}-linux.elf").read_bytes()
    (place / "initrd").write_bytes(with_program(Path(boot["initrd"]).read_bytes(), "registers", program))
    append = boot["append"].replace("rdinit=/bin/calm", f"rdinit=/bin/registers -- {COUNT}")
    return {**boot, "initrd": str(place / "initrd"), "append": append}


@contextmanager
def on_ratite(guest: str, boot: dict[str, str], place: Path) -> Iterator[Path]:
    with DaemonProcess(place / "qmp") as daemon, Client.connect(daemon.address, PATIENCE) as qmp:
        qmp.execute("machine-create")
        address = {"type": "unix", "data": {"path": str(place / "console")}}
        qmp.execute(
            "chardev-add", id="con", backend={"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        )
        for command, arguments in linux(guest, "con", boot):
            qmp.execute(command, arguments)
        qmp.execute("x-exit-preconfig")
        yield place / "console"


@contextmanager
def on_qemu(guest: str, boot: dict[str, str], place: Path) -> Iterator[Path]:
    name = "qemu-system-microblaze" if guest == "s3adsp1800" else "qemu-system-microblazeel"
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    command = [program, "-M", f"petalogix-{guest}", "-m", str(RAM[guest] >> 20), "-display", "none", "-monitor", "none"]
    command += ["-serial", f"unix:{place / 'console'},server=on,wait=on"]
    for option, value in boot.items():
        command += [f"-{option}", value]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield place / "console"
        finally:
            process.kill()


@pytest.mark.parametrize("guest", sorted(BOARDS))
@pytest.mark.parametrize("machine", [on_ratite, pytest.param(on_qemu, marks=pytest.mark.peer)])
def test_only_r4_is_lost_and_only_behind_signals(
    folder: Path, tmp_path: Path, guest: str, machine: Callable[[str, dict[str, str], Path], AbstractContextManager[Path]]
) -> None:
    boot = boot_of(guest, folder, tmp_path)
    with machine(guest, boot, tmp_path) as place, closing(main.Console(place, time.monotonic() + PATIENCE)) as console:
        console.wait("registers: all done")
    found = trials(console.text)
    assert list(found) == TRIALS, console.text
    for name, trial in found.items():
        assert trial.events and not trial.wrong, (name, trial)
        # A signal's frame is right: r4 is lost where its handler returns (and then in the next frame, if that comes soon).
        assert trial.bad <= {"r4"} and trial.frame <= {"r4"}, (name, trial)
        assert bool(trial.signals) == ("signals" in name), (name, trial)
        if not trial.signals:
            assert not trial.bad and not trial.frame, (name, trial)
    assert found["signals"].inside and found["signals"].bad == {"r4"}, "the fault that calm.c is for"


@pytest.mark.parametrize("guest", sorted(BOARDS))
def test_shells_start_with_sigchld_blocked(folder: Path, tmp_path: Path, guest: str) -> None:
    """So that no child's end makes a shell lose r4."""
    boot = guests.boot_of(guest, folder)
    with on_ratite(guest, boot, tmp_path) as place, closing(main.Console(place, time.monotonic() + PATIENCE)) as console:
        console.wait(MARKER)
        console.wait("# ")
        console.ask("grep SigBlk /proc/self/status", "SigBlk:\t0000000000010000")

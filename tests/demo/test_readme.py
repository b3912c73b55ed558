"""README's quick start is the demo machine, and works when typed into the real qmp-shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ratite.clients import demo, machines
from ratite.clients.qmp import Client, DaemonProcess

ROOT = Path(__file__).parents[2]
SHARED, CONSOLE, ELFS = "/tmp/ratite-shared", "/tmp/ratite-console", "tests/guests/elf"
QMP_SHELL = Path(sys.executable).with_name("qmp-shell")
PROMPT = "(QEMU) "


def quick_start() -> str:
    """What README says to type."""
    return (ROOT / "README.md").read_text().partition("```qmp-shell\n")[2].partition("```")[0]


def type_in(text: str, socket: str, home: Path) -> tuple[list[machines.Command], list[Any]]:
    """The commands that the real qmp-shell made of the lines, and their replies."""
    if not QMP_SHELL.exists():
        pytest.skip(f"{QMP_SHELL} is missing (package qemu.qmp)")
    # HOME: it keeps a history there.
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [QMP_SHELL, "-v", socket], input=text, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    sent, replies = [], []
    for line in done.stdout.splitlines():
        message = line.removeprefix(PROMPT)
        if message.startswith('{"execute"'):
            command = json.loads(message)
            sent.append((command["execute"], command["arguments"]))
        elif message.startswith("{"):
            replies.append(json.loads(message))
    return sent, replies


def lines_in(place: Path) -> str:
    """The quick start with its files in `place`."""
    lines = quick_start()
    for name, here in ((SHARED, place / "shared"), (CONSOLE, place / "console"), (ELFS, demo.GUESTS)):
        assert name in lines
        lines = lines.replace(name, str(here))
    return lines


def test_quick_start(tmp_path: Path, capsys: Any) -> None:
    shared, console = tmp_path / "shared", tmp_path / "console"
    assert demo.main(["--rounds", "50", "--prepare", str(shared)]) == 0
    must = capsys.readouterr().out
    lines = lines_in(tmp_path)
    with DaemonProcess(tmp_path / "qmp", "--no-shutdown") as daemon, Client.connect(daemon.address, timeout=60) as qmp:
        sent, replies = type_in(lines, str(tmp_path / "qmp"), tmp_path)
        assert replies == [{"return": {}}] * len(lines.splitlines())
        elfs = demo.GUESTS / "demo-rv.rv64.elf", demo.GUESTS / "demo-mb.mb.elf"
        made = list(machines.demo(*elfs, shared, "console"))
        chardev = ("chardev-add", {"id": "console", "backend": {"type": "file", "data": {"out": str(console)}}})
        assert sent == [made[0], chardev, *made[1:], ("machine-wire", {}), ("x-exit-preconfig", {})]
        qmp.wait_event("SHUTDOWN", 60)
        deadline = time.monotonic() + 5
        while console.read_text() != must and time.monotonic() < deadline:
            time.sleep(0.02)
        assert console.read_text() == must


def test_what_to_look_at(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    looks = ("query-status", "query-cpus-fast", "qom-get path=/machine/peripheral/rv0 property=instructions")
    assert all(f"`{look}`" in text for look in looks)
    assert demo.main(["--rounds", "50", "--prepare", str(tmp_path / "shared")]) == 0
    with DaemonProcess(tmp_path / "qmp", "-S") as daemon:
        daemon.client().close()  # it listens
        _, replies = type_in(lines_in(tmp_path) + "\n".join(looks) + "\n", str(tmp_path / "qmp"), tmp_path)
    status, cpus, instructions = (reply["return"] for reply in replies[-3:])
    assert status == {"running": False, "status": "prelaunch"}
    assert {cpu["target"] for cpu in cpus} == {"riscv64", "microblaze"}
    assert instructions == 0

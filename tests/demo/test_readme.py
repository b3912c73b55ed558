"""README's quick start is the demo machine, and works when typed in."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ratite.clients import demo, machines
from ratite.clients.qmp import Client, DaemonProcess

ROOT = Path(__file__).parents[2]
SHARED, CONSOLE, ELFS = "/tmp/ratite-shared", "/tmp/ratite-console", "tests/guests/elf"


def typed(line: str) -> machines.Command:
    """A line as qmp-shell takes it: numbers decimal, objects as JSON without blanks."""
    name, *words = line.split()
    arguments: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        plain = text.isdigit() or text in ("true", "false") or text.startswith("{")
        arguments[key] = json.loads(text) if plain else text
    return name, arguments


def quick_start() -> list[machines.Command]:
    block = (ROOT / "README.md").read_text().partition("```qmp-shell\n")[2].partition("```")[0]
    return [typed(line) for line in block.splitlines()]


def test_it_is_the_demo_machine() -> None:
    elfs = Path(ELFS)
    made = list(machines.demo(elfs / "demo-rv.rv64.elf", elfs / "demo-mb.mb.elf", Path(SHARED), "console"))
    chardev = ("chardev-add", {"id": "console", "backend": {"type": "file", "data": {"out": CONSOLE}}})
    assert quick_start() == [made[0], chardev, *made[1:], ("machine-wire", {}), ("x-exit-preconfig", {})]


def test_it_works(tmp_path: Path, capsys: Any) -> None:
    assert demo.main(["--rounds", "50", "--prepare", str(tmp_path / "shared")]) == 0
    must = capsys.readouterr().out

    def here(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: here(item) for key, item in value.items()}
        if isinstance(value, str):
            value = value.replace(SHARED, str(tmp_path / "shared")).replace(CONSOLE, str(tmp_path / "console"))
            return value.replace(ELFS, str(demo.GUESTS))
        return value

    with DaemonProcess(tmp_path / "qmp", "--no-shutdown") as daemon, Client.connect(daemon.address, timeout=60) as qmp:
        for command, arguments in quick_start():
            qmp.execute(command, here(arguments))
        qmp.wait_event("SHUTDOWN", 60)
        deadline = time.monotonic() + 5
        while (tmp_path / "console").read_text() != must and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "console").read_text() == must

"""Machines in a daemon: what a list of commands makes, as a dump; and the dumps of published profiles, which stay.

python tests/machinefile/machines.py        writes the dumps of profiles that have none yet
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ratite.clients.qmp import Client, DaemonProcess
from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.compile import Command, Compiler
from ratite.qapi.machinefile.dump import render

DATA = Path(__file__).parent / "data"


def assembled(commands: Iterable[Command], folder: Path) -> dict[str, Any]:
    """The dump of the machine that the commands make, in a daemon of its own that doesn't start it."""
    with DaemonProcess(folder / "qmp", "--paused") as daemon, Client.connect(daemon.address, timeout=60) as qmp:
        for command, arguments in commands:
            qmp.execute(command, arguments)
        document: dict[str, Any] = qmp.execute("machine-dump")["document"]
        return document


def published(name: str) -> Path:
    """Where the dump of a profile at its defaults is kept."""
    return DATA / f"{name.replace('/', '-')}.yaml"


def dump_of(name: str, compiler: Compiler, folder: Path) -> str:
    """A profile at its defaults, with every default of its types."""
    return render(assembled(compiler.compile_named(name, {"accel": "interp"}, files.read).commands, folder))


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for profile in files.profiles():
            path = published(profile.full_name)
            if not path.exists():
                path.write_text(dump_of(profile.full_name, Compiler(files.declarations()), Path(place)))

"""`ratite ps`: the machines that run."""

from __future__ import annotations

import time
from typing import Any

import click

from ratite.clients.cli import kit, places
from ratite.clients.qmp import CommandError, QmpClientError

TIMEOUT = 5.0


def about(machine: places.Machine) -> dict[str, Any]:
    """A row of --json: what the machine's folder and its daemon say."""
    record = machine.record
    row: dict[str, Any] = {
        "name": machine.name, "status": record.get("status") or "unknown", "phase": record.get("phase"), "cpus": None,
        "pid": record.get("pid"), "created": record["created"], "source": record.get("source", "control plane"),
        "qmp": machine.address or None, "console": record.get("console") or None,
    }  # fmt: skip
    try:
        with machine.connect(TIMEOUT) as client:
            row["phase"] = client.execute("query-machine-phase")["phase"]
            row["status"] = client.execute("query-status")["status"]
            row["cpus"] = len(client.execute("query-cpus-fast"))
    except (kit.Mistake, CommandError, QmpClientError, TimeoutError):
        pass  # it is ending, or busy: what is known stands
    return row


def age_text(seconds: float) -> str:
    """ "12 s", "3 min", "5 h", "2 d"."""
    for unit, size in ("d", 86400), ("h", 3600), ("min", 60):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


@click.command("ps", short_help="List the machines that run.")
@kit.json_option
def command(as_json: bool) -> int:
    """List the machines that `ratite run` has started and that still run, and those of the control plane."""
    rows = [about(machine) for machine in [*places.local(), *places.remote()]]
    if as_json:
        kit.show_json(rows)
    elif rows:
        now = time.time()
        kit.show_table(
            ("name", "status", "CPUs", "age", "pid", "from"),
            [
                (*(row[key] if row[key] is not None else "-" for key in ("name", "status", "cpus")),
                 age_text(now - row["created"]), row["pid"], row["source"])
                for row in rows
            ],
            right=("CPUs", "age", "pid"),
        )  # fmt: skip
    return kit.OK

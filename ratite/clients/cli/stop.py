"""`ratite stop`: end machines in good order, or by force."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from ratite.clients.cli import kit, places
from ratite.clients.cli.remote import end as remote_end
from ratite.clients.qmp import CommandError, QmpClientError


def end(machine: places.Machine, seconds: float, force: bool) -> bool:
    """Ask it to end, and wait for that; with `force`, or once `seconds` have passed, kill what `ratite run` started."""
    if machine.remote:
        remote_end(machine.name, force)
        return True
    pid = machine.record.get("pid", 0)
    if not force:
        try:
            with machine.connect(max(seconds, 0.001)) as client:
                client.execute("quit")
                while True:
                    client.receive()  # to the end of the stream
        except (QmpClientError, CommandError, TimeoutError):
            pass
        except kit.Mistake:  # nobody answers; what has a process can be killed yet
            if not pid:
                raise
        if _gone(machine, pid, seconds):
            return True
    if not pid or not _ours(pid, machine):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return _gone(machine, pid, seconds)


def _ours(pid: int, machine: places.Machine) -> bool:
    """Whether that process still is the machine's daemon."""
    try:
        return str(machine.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _gone(machine: places.Machine, pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while machine.folder is not None and (places.alive(machine.folder) or _ours(pid, machine)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    if machine.folder is not None:
        places.forget(machine.folder)
    return True


@click.command("stop", short_help="End machines.")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...", shell_complete=kit.complete_machine)
@click.option("--all", "-a", "every", is_flag=True, help="End all that run.")
@click.option("--force", "-f", is_flag=True, help="Kill the daemon, ask nobody.")
@click.option(
    "--timeout", "-t", type=kit.Seconds(), default=10.0, show_default=True, metavar="S", help="Wait S seconds for each."
)
@kit.qmp_option
@kit.json_option
def command(machines: tuple[str, ...], every: bool, force: bool, timeout: float, qmp: str | None, as_json: bool) -> int:
    """End MACHINEs: `quit` over QMP; a daemon that hasn't ended after --timeout is killed. Without a name: the only one.

    Exit status 1 if one could not be ended.
    """
    if every and (machines or qmp):
        raise kit.Mistake("--all takes no names")
    found = [*places.local(), *places.remote()] if every else [places.find(name, qmp) for name in machines or [None]]
    rows = [{"name": machine.name, "ended": end(machine, timeout, force)} for machine in found]
    if as_json:
        kit.show_json(rows)
    for row in rows:
        if not row["ended"]:
            kit.complain(f"{row['name']} did not end")
        elif not as_json and sys.stdout.isatty():
            click.echo(f"{row['name']} ended")
    return kit.OK if all(row["ended"] for row in rows) else kit.FAILED

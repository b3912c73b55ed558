"""`ratite top`: how fast each vCPU of a machine runs, and in which tier. Two samples of its counters make a rate."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import click

from ratite.clients.cli import kit, places
from ratite.clients.qmp import Client, CommandError

COLUMNS = ("CPU", "target", "state", "MIPS", "compiled", "exits/s", "traps/s", "instructions")
RIGHT = ("MIPS", "compiled", "exits/s", "traps/s", "instructions")
TIER_COLUMNS = ("cluster", "tier", "regions", "code", "compiled", "cached", "waiting", "deopts", "invalidations", "failures")
TIER_RIGHT = TIER_COLUMNS[1:]


class Sample(NamedTuple):
    """The machine's counters at `when` (seconds of the host's clock): per CPU path, and query-jit's answer."""

    when: float
    status: str
    cpus: Mapping[str, Mapping[str, Any]]
    jit: list[dict[str, Any]]


def sample(client: Client) -> Sample:
    """One look at the machine. A CPU that isn't compiled has no `compiled-instructions`, `exits` and `traps`."""
    status = client.execute("query-status")["status"]
    try:
        rows, jit = client.execute("query-cpus-fast"), client.execute("query-jit")
    except CommandError:  # no machine yet
        return Sample(time.monotonic(), status, {}, [])
    counted = {cpu["qom-path"]: cpu for cluster in jit for cpu in cluster["cpus"]}
    cpus = {}
    for row in rows:
        path = row["qom-path"]
        known = counted.get(path) or {"instructions": _get(client, path, "instructions")}
        cpus[path] = {**known, "target": row.get("target", ""), "state": _get(client, path, "activity")}
    return Sample(time.monotonic(), status, cpus, jit)


def _get(client: Client, path: str, name: str) -> Any:
    return client.execute("qom-get", {"path": path, "property": name})


def report(machine: str, before: Sample, after: Sample) -> dict[str, Any]:
    """What happened between two samples, as --json prints it; rates are a second."""
    seconds = max(after.when - before.when, 1e-9)
    cpus = []
    for path, now in after.cpus.items():
        then = before.cpus.get(path, now)
        row: dict[str, Any] = {
            "path": path,
            "target": now["target"],
            "state": now["state"],
            "instructions": now["instructions"],
        }
        executed = max(0, now["instructions"] - then["instructions"])
        row["mips"] = round(executed / seconds / 1e6, 3)
        if "exits" in now and "exits" in then:
            native = now["compiled-instructions"] - then["compiled-instructions"]
            # A region's instructions are counted when it is left, so a share of a short time may be above all there were.
            row["compiled"] = round(min(1.0, max(0.0, native / executed)), 4) if executed else 0.0
            row["exits-per-second"] = round((now["exits"] - then["exits"]) / seconds, 1)
            row["traps-per-second"] = round((now["traps"] - then["traps"]) / seconds, 1)
        cpus.append(row)
    clusters = [{key: value for key, value in cluster.items() if key != "cpus"} for cluster in after.jit]
    return {"machine": machine, "status": after.status, "seconds": round(seconds, 3), "cpus": cpus, "clusters": clusters}


def cpu_rows(shown: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A report's CPUs, in COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for cpu in shown["cpus"]:
        counted = "exits-per-second" in cpu
        rows.append((
            cpu["path"].removeprefix("/machine/peripheral/"), cpu["target"], cpu["state"], f"{cpu['mips']:.1f}",
            f"{100 * cpu['compiled']:.0f} %" if counted else "-",
            kit.rate_text(cpu["exits-per-second"]) if counted else "-",
            kit.rate_text(cpu["traps-per-second"]) if counted else "-",
            kit.rate_text(cpu["instructions"]),
        ))  # fmt: skip
    return rows


def tier_rows(shown: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A report's tiers, in TIER_COLUMNS."""
    return [
        (
            cluster["cluster"].removeprefix("/objects/"), str(tier["tier"]), str(tier["regions"]), kit.size_text(tier["bytes"]),
            str(tier["compiled"]), str(tier["cached"]), str(cluster["waiting"]), kit.rate_text(tier["deopts"]),
            str(tier["invalidations"]), str(tier["failures"]),
        )
        for cluster in shown["clusters"]
        for tier in cluster["tiers"]
    ]  # fmt: skip


def _head(shown: Mapping[str, Any]) -> str:
    total = sum(cpu["mips"] for cpu in shown["cpus"])
    return f"{shown['machine']}: {shown['status']}, {len(shown['cpus'])} CPUs, {total:.1f} MIPS"


def _print(shown: Mapping[str, Any], as_json: bool, lines: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown)) if lines else kit.show_json(shown)
        return
    click.echo(_head(shown))
    kit.show_table(COLUMNS, cpu_rows(shown), RIGHT)
    if shown["clusters"]:
        click.echo()
        kit.show_table(TIER_COLUMNS, tier_rows(shown), TIER_RIGHT)


def _live(reports: Iterator[Mapping[str, Any]]) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def picture(shown: Mapping[str, Any]) -> Group:
        parts: list[Any] = [Text(_head(shown), style="bold")]
        for columns, right, rows in (COLUMNS, RIGHT, cpu_rows(shown)), (TIER_COLUMNS, TIER_RIGHT, tier_rows(shown)):
            table = Table(box=None, pad_edge=False, header_style="bold")
            for name in columns:
                table.add_column(name, justify="right" if name in right else "left", no_wrap=name == "CPU")
            for row in rows:
                table.add_row(*row)
            parts += [Text(""), table] if rows else []
        return Group(*parts, Text("Ctrl-C leaves", style="dim"))

    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        for shown in reports:
            live.update(picture(shown), refresh=True)


@click.command("top", short_help="Show how fast the vCPUs of a machine run, live.")
@kit.machine_argument
@kit.qmp_option
@click.option(
    "--interval",
    "-i",
    type=kit.Seconds(0.05),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after N reports.")
@click.option("--once", is_flag=True, help="One report over one interval; the same as --count 1.")
@kit.json_option
def command(machine: str | None, qmp: str | None, interval: float, count: int | None, once: bool, as_json: bool) -> int:
    """Show MIPS, share of compiled code, exits and traps of each vCPU of MACHINE, and what its tiers hold.

    On a terminal a picture that changes; otherwise a report an interval. MACHINE may be left out when just one runs.
    With --json an object a line, with --once one object.
    """
    found = places.find(machine, qmp)
    limit = 1 if once else count
    with found.connect() as client:

        def reports() -> Iterator[dict[str, Any]]:
            done, before = 0, sample(client)
            while limit is None or done < limit:
                time.sleep(interval)
                client.drain()
                after = sample(client)
                yield report(found.name, before, after)
                done, before = done + 1, after

        if limit is None and not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            kit.end_in_good_order()
            _live(reports())
            return kit.OK
        for number, shown in enumerate(reports()):
            if number and not as_json:
                click.echo()
            _print(shown, as_json, lines=not once)
    return kit.OK

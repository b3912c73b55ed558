"""`ratite sweep`: many runs of a machine, each with other parameters; a line of JSON for each."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ratite.clients.cli import kit
from ratite.clients.cli.machinefile import compiled, complete_source, parameters_of
from ratite.clients.cli.start import console_of, progress

if TYPE_CHECKING:
    from ratite.clients.fleet import Job, Row
    from ratite.qapi.machinefile import Compiled

SEED = "seed"
RUNS_MAX = 1_000_000
_SEEDS = re.compile(r"(\d+)(?:-(\d+))?")


@click.command("sweep", short_help="Run a machine many times, with many parameters.")
@click.argument("source", metavar="FILE|PROFILE", shell_complete=complete_source)
@click.option(
    "--set", "-s", "settings", multiple=True, metavar="NAME=VALUE,…",
    help="Give a parameter each of these values; with several --set every combination is run. A comma in a value is \\,",
)  # fmt: skip
@click.option("--seeds", metavar="N|A-B", help=f"Run each with the parameter {SEED!r} from 0 to N-1, or A to B.")
@click.option("--repeat", type=click.IntRange(1), default=1, metavar="N", help="Run each of them N times.")
@click.option("--jobs", "-j", type=click.IntRange(1), metavar="N", help="Run N at a time (default: as many as CPUs).")
@click.option("--dask", metavar="ADDR", help="On the cluster whose scheduler is at ADDR, as tcp://host:8786 (ratite[dask]).")
@click.option("--expect-text", "-e", multiple=True, metavar="TEXT", help="As of ratite run.")
@click.option("--fail-text", "-f", multiple=True, metavar="TEXT", help="As of ratite run.")
@click.option("--timeout", "-t", type=kit.Seconds(), metavar="S", help="As of ratite run.")
@click.option("--chardev", metavar="ID", help="The chardev that is the console (default: the first).")
@click.option("--output", "-o", type=click.Path(dir_okay=False), metavar="FILE", help="Write the lines to FILE, not to stdout.")
@click.option("--fail-fast", "-x", is_flag=True, help="End with the first run that fails.")
@kit.json_option
def command(source: str, settings: tuple[str, ...], seeds: str | None, as_json: bool, **more: Any) -> int:
    """Run the machine of FILE or PROFILE once for each combination of parameters, several at a time.

    \b
    ratite sweep board.yaml --set harts=1,2,4 --set ram=64M,1G --expect-text 'login:' --timeout 300
    ratite sweep fuzz.yaml --seeds 100 --fail-text 'Kernel panic' -o runs.jsonl

    Each run is a machine in a process of its own. A run that ends gives a line of JSON (with or without --json): parameters,
    seed, result and exit status as of `ratite run`, the end of the console, seconds, instructions; a failed one also the
    command that runs it again. Exit status: 0 when all runs have 0, 1 when one failed, 2 for a mistake (nothing is run then).
    """
    from ratite.clients import fleet

    options = {name: more[name] for name in ("timeout", "chardev")}
    jobs = list(_jobs(source, settings, seeds, more["repeat"], more["expect_text"], more["fail_text"], options))
    kit.end_in_good_order()
    rows = fleet.run_dask(jobs, more["dask"]) if more["dask"] else fleet.run_local(jobs, more["jobs"] or os.cpu_count() or 1)
    results: Counter[str] = Counter()
    try:
        out = open(more["output"], "w", encoding="utf-8") if more["output"] else sys.stdout  # noqa: SIM115  # closed below
    except OSError as error:
        raise kit.Mistake(f"{more['output']}: {error.strerror}") from None
    try:
        failed = _told(rows, len(jobs), out, results, more["fail_fast"])
    finally:
        if more["output"]:
            out.close()
        click.echo(f"{_count(results.total())} of {len(jobs)}: {_shares(results)}", err=True)
    return kit.FAILED if failed else kit.OK


def _told(rows: Iterator[Row], count: int, out: Any, results: Counter[str], fail_fast: bool) -> int:
    """Write each row; how many have failed."""
    failed = 0
    with closing(rows), progress(count, lambda: _shares(results)) as step:  # type: ignore[type-var]  # a generator
        for row in rows:
            results[row["result"]] += 1  # first: who has read the line may end us
            failed += row["exit-status"] != kit.OK
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            step()
            if failed and fail_fast:
                break
    return failed


def _count(number: int) -> str:
    return f"{number} run{'s' if number != 1 else ''}"


def _shares(results: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(results.items())) or "none has ended"


def _jobs(
    source: str, settings: Sequence[str], seeds: str | None, repeat: int, expect: tuple[str, ...], fail: tuple[str, ...],
    options: Mapping[str, Any],
) -> Iterator[Job]:  # fmt: skip
    """All runs, in order; Mistake if one of them can't be made."""
    from ratite.clients.fleet import Job

    values = {name: _split(text) for name, text in parameters_of(settings).items()}
    if seeds is not None and SEED in values:
        raise kit.Mistake(f"--seeds and --set {SEED}=… exclude each other")
    wanted: list[int | None] = [None] if seeds is None else list(_numbers(seeds))
    total = repeat * len(wanted)
    for each in values.values():
        total *= len(each)
    if total > RUNS_MAX:
        raise kit.Mistake(f"these are {total} runs, more than {RUNS_MAX}")
    number = 0
    for chosen in itertools.product(*values.values()):
        plain = dict(zip(values, chosen, strict=True))
        first = {**plain, **({} if wanted[0] is None else {SEED: str(wanted[0])})}
        made = _checked(source, first, seeds is not None)
        console_of(made, options["chardev"], bool(expect or fail))
        for seed, _ in itertools.product(wanted, range(repeat)):
            given = plain if seed is None else {**plain, SEED: str(seed)}
            # the canonical name has a profile's version: a failure is run again as it was
            yield Job(number, made.name, given, seed, expect, fail, folder=os.getcwd(), **options)
            number += 1


def _checked(source: str, settings: Mapping[str, str], seeded: bool) -> Compiled:
    try:
        return compiled(source, settings)
    except kit.Mistake as error:
        if seeded and SEED in error.message:
            hint = f"--seeds gives values to the machine's parameter {SEED!r}; --repeat runs a machine often that has none"
            raise kit.Mistake(f"{error.message}\n{hint}") from None
        raise


def _split(text: str) -> list[str]:
    """At commas; "\\," is one that isn't."""
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]


def _numbers(text: str) -> range:
    match = _SEEDS.fullmatch(text)
    if match is None:
        raise kit.Mistake(f"--seeds must be a number or a range like 100-199, not {text!r}")
    found = range(int(match[1])) if match[2] is None else range(int(match[1]), int(match[2]) + 1)
    if not found:
        raise kit.Mistake(f"--seeds {text} names no seed")
    return found

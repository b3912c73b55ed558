"""`ratite cache`: what is kept of compiled code. The work is done by `python -m ratite.daemon.cache`;
this is its command line, and a progress bar for what takes long."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence

import click

from ratite.clients.cli import kit


def engine(words: Sequence[str], as_json: bool) -> list[str]:
    """The command line of the process that does it."""
    return [sys.executable, "-m", "ratite.daemon.cache", *words, *(["--json"] if as_json else [])]


def _run(words: Sequence[str], as_json: bool) -> int:
    return subprocess.call(engine(words, as_json))


@click.group("cache", short_help="Show, clear and fill the cache of compiled code.", no_args_is_help=True)
def command() -> None:
    """What is kept on disk of compiled code: interpreters of CPU types, and regions of hot guest code."""


@command.command()
@kit.json_option
def stat(as_json: bool) -> int:
    """Where it is, how many files, how many bytes."""
    return _run(["stat"], as_json)


@command.command("show")
@kit.json_option
def show(as_json: bool) -> int:
    """The same as stat."""
    return _run(["stat"], as_json)


@command.command("list")
@kit.json_option
def list_files(as_json: bool) -> int:
    """Every file: bytes, last use, name."""
    return _run(["list"], as_json)


@command.command()
@kit.json_option
def clear(as_json: bool) -> int:
    """Remove all of it; it is made anew as it is needed."""
    return _run(["clear"], as_json)


@command.command()
@click.argument("mebibytes", metavar="MIB", type=click.IntRange(0))
@kit.json_option
def trim(mebibytes: int, as_json: bool) -> int:
    """Remove the longest unused until MIB mebibytes are left."""
    return _run(["trim", str(mebibytes)], as_json)


@command.command()
@click.argument("models", metavar="[CPU[,PROP=VALUE]...]...", nargs=-1)
@click.option("--system", is_flag=True, help="For every user of this host, as those of libvirt's domains; needs root.")
@kit.json_option
def warm(models: tuple[str, ...], system: bool, as_json: bool) -> int:
    """Compile the interpreters of these CPU types (default: of all), so that no machine waits for it.

    With --json a line when one is started and when it is ready. Exit status 1 if one of them failed.
    """
    words = ["warm", *(["--system"] if system else []), *models]
    if as_json or not sys.stderr.isatty():
        return _run(words, as_json)
    with subprocess.Popen(engine(words, True), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            _follow(process.stdout)
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def _follow(lines: Iterable[str]) -> None:
    """A bar on stderr for the states in `lines`; a line on stdout for each that is ready."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("interpreters", total=None)
        for line in lines:
            row = json.loads(line)
            what = f"{row['cpu']} for {row['target']}"
            if row["state"] == "started":
                progress.update(task, description=f"compiling {what}", total=row["count"])
                continue
            progress.update(task, completed=row["number"])
            if row["state"] == "ready":
                click.echo(f"{what}: ready after {row['seconds']:.1f} s")

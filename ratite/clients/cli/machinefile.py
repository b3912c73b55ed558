"""The verbs about machine files: `compile`, `schema`, `profiles`, `dump`, `from-dtb`; and how `run` compiles one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ratite.clients.cli import kit, places
from ratite.clients.cli.words import line_of

if TYPE_CHECKING:
    from ratite.qapi.machinefile import Compiled, Compiler

Command = tuple[str, dict[str, Any]]


def complete_source(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """For a shell: profiles, and files."""
    from click.shell_completion import CompletionItem

    from ratite.qapi.machinefile import files

    names = [profile.name for profile in files.profiles() if profile.newest and profile.name.startswith(incomplete)]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]


def source_argument(function: kit.F) -> kit.F:
    """FILE|PROFILE and --set, for verbs that compile."""
    settings = click.option(
        "--set",
        "-s",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Give a parameter a value; may be repeated.",
    )
    source = click.argument("source", metavar="FILE|PROFILE", shell_complete=complete_source)
    return source(settings(function))  # type: ignore[type-var]


def parameters_of(settings: Iterable[str]) -> dict[str, str]:
    """What --set gave. Mistake."""
    found: dict[str, str] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise kit.Mistake(f"--set must be NAME=VALUE, not {text!r}")
        if name in found:
            raise kit.Mistake(f"--set gives {name} twice")
        found[name] = value
    return found


@cache
def _compiler() -> Compiler:
    """One for all of a process's machines: making it takes twenty times as long as a small file does."""
    from ratite.qapi.machinefile import Compiler, files

    return Compiler(files.declarations())


def compiled(source: str, settings: Mapping[str, Any]) -> Compiled:
    """The machine of a file or profile. Mistake, a line for each fault of the file."""
    from ratite.qapi.errors import QmpError
    from ratite.qapi.machinefile import files

    try:
        return _compiler().compile_named(source, settings, files.read)
    except QmpError as error:  # of all faults
        raise kit.Mistake(error.desc) from None


@click.command("compile", short_help="Print the QMP commands that a machine file means.")
@source_argument
@kit.json_option
def compile_command(source: str, settings: tuple[str, ...], as_json: bool) -> int:
    """Print the QMP commands that make the machine of FILE or PROFILE; `ratite qmp … -` and qmp-shell take them.

    With --json an array of {"execute": …, "arguments": {…}}. Exit status 2 with a line for each fault of the file.
    """
    made = compiled(source, parameters_of(settings))
    if as_json:
        kit.show_json([{"execute": name, "arguments": arguments} for name, arguments in made.commands])
    else:
        for name, arguments in made.commands:
            click.echo(line_of(name, arguments))
    return kit.OK


@click.command("schema", short_help="Print the JSON Schema of machine files.")
@kit.json_option
def schema_command(as_json: bool) -> int:
    """Print the JSON Schema (2020-12) of machine files, for editors; it is JSON with or without --json."""
    from ratite.qapi.machinefile import files, json_schema

    kit.show_json(json_schema(files.declarations()))
    return kit.OK


@click.command("profiles", short_help="List the profiles, or one's parameters.")
@click.argument("name", required=False, shell_complete=complete_source)
@kit.json_option
def profiles_command(name: str | None, as_json: bool) -> int:
    """List the machines that `ratite run` knows by name; with NAME, a profile's or file's parameters."""
    from ratite.qapi.machinefile import Compiler, files

    if name is not None:
        _show_parameters(compiled(name, {}), as_json)
        return kit.OK
    found = files.profiles()
    if as_json:
        kit.show_json([
            {"name": profile.name, "version": profile.version, "newest": profile.newest, "path": str(profile.path)}
            for profile in found
        ])  # fmt: skip
        return kit.OK
    compiler = Compiler(files.declarations())
    rows = [
        (profile.full_name, compiler.compile_named(profile.full_name, {}, files.read).description)
        for profile in found
        if profile.newest
    ]
    kit.show_table(("profile", "machine"), rows)
    return kit.OK


def _show_parameters(made: Compiled, as_json: bool) -> None:
    rows = list(made.parameters.values())
    if as_json:
        kit.show_json([{"name": row.name, "type": row.type, "default": row.default, "description": row.text} for row in rows])
        return
    if made.description:
        click.echo(made.description)
    kit.show_table(
        ("parameter", "type", "default", "description"),
        [(row.name, row.type, "" if row.default is None else json.dumps(row.default), row.text) for row in rows],
    )


@click.command("dump", short_help="Print the machine file of a running machine.")
@kit.machine_argument
@kit.qmp_option
@kit.json_option
def dump_command(machine: str | None, qmp: str | None, as_json: bool) -> int:
    """Print the machine file that makes MACHINE as it is now, whoever assembled it."""
    from ratite.qapi.machinefile import render

    with places.find(machine, qmp).connect() as client:
        document = client.execute("machine-dump")["document"]
    if as_json:
        kit.show_json(document)
    else:
        click.echo(render(document), nl=False)
    return kit.OK


@click.command("from-dtb", short_help="Make a machine file from a device tree.")
@click.argument("blob", metavar="FILE", type=click.Path(path_type=Path))
@kit.json_option
def from_dtb_command(blob: Path, as_json: bool) -> int:
    """Print a machine file for the device tree blob FILE, as far as its devices are known; stderr lists what isn't."""
    from ratite.qapi.errors import QmpError
    from ratite.qapi.machinefile import files, from_dtb, render

    try:
        data = blob.read_bytes()
    except OSError as error:
        raise kit.Mistake(f"{blob} can't be read: {error.strerror}") from None
    try:
        made = from_dtb(data, files.declarations(), str(blob))
    except QmpError as error:
        raise kit.Mistake(f"{blob}: {error.desc}") from None
    if as_json:
        kit.show_json({"document": made.document, "unknown": made.unknown})
        return kit.OK
    click.echo(render(made.document), nl=False)
    for line in made.unknown:
        click.echo(f"unknown: {line}", err=True)
    return kit.OK

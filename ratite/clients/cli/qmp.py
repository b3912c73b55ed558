"""`ratite qmp`: commands to a machine: one from the command line, many from stdin, or an interactive shell (shell.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from ratite.clients.cli import kit, places
from ratite.clients.cli.vocabulary import Vocabulary
from ratite.clients.cli.words import LineError, Request, parse_line, parse_words
from ratite.clients.qmp import Client, CommandError


def vocabulary_of(client: Client) -> Vocabulary:
    """What the monitor's view has."""
    return Vocabulary(client.execute("query-qmp-schema"))


def execute(client: Client, request: Request) -> Any:
    """What the command returns. CommandError."""
    if request.oob or (request.command == "query-machine-phase" and client.oob):
        return client.execute_oob(request.command, request.arguments)
    return client.execute(request.command, request.arguments)


def show_reply(value: Any, as_json: bool) -> None:
    """A command's answer on stdout: for people, or `{"return": …}` in one line."""
    if as_json:
        click.echo(kit.json_text({"return": value}))
    elif isinstance(value, str):
        click.echo(value.replace("\r\n", "\n"), nl=not value.endswith("\n"))
    elif kit.coloured(sys.stdout):
        from rich import print_json

        print_json(data=value, ensure_ascii=False)
    else:
        kit.show_json(value)


def run_lines(client: Client, lines: Iterable[str], as_json: bool, keep_going: bool) -> int:
    """Execute lines, one command each; blank ones and comments (#) are skipped. The exit status."""
    vocabulary, generation = vocabulary_of(client), 0
    status = kit.OK
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            request = parse_line(line.strip(), vocabulary)
            show_reply(execute(client, request), as_json)
        except LineError as error:
            status = kit.USAGE
            _refused(f"line {number}: {error}", as_json, {"class": "GenericError", "desc": str(error)})
        except CommandError as error:
            status = kit.FAILED
            _refused(f"line {number}: {error}", as_json, {"class": error.error_class, "desc": error.desc})
        if status and not keep_going:
            return status
        changed = [event for event in client.events if event["event"] == "VIEW_CHANGED"]
        if len(changed) > generation:
            vocabulary, generation = vocabulary_of(client), len(changed)
    return status


def _refused(text: str, as_json: bool, error: dict[str, str]) -> None:
    if as_json:
        click.echo(kit.json_text({"error": error}))
    kit.complain(text)


def run_one(client: Client, words: Sequence[str], as_json: bool) -> int:
    """Execute one command. Mistake for words that aren't one; the exit status."""
    vocabulary = vocabulary_of(client)
    try:
        request = parse_line(words[0], vocabulary) if words[0].startswith("{") else parse_words(words, vocabulary)
    except LineError as error:
        raise kit.Mistake(str(error)) from None
    try:
        show_reply(execute(client, request), as_json)
    except CommandError as error:
        _refused(str(error), as_json, {"class": error.error_class, "desc": error.desc})
        return kit.FAILED
    return kit.OK


def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For a shell: the machine, then its commands, as the schema that ships has them."""
    from ratite.clients.cli.vocabulary import shipped_commands

    if not context.params.get("words") and context.params.get("qmp") is None:
        return kit.complete_machine(context, parameter, incomplete)
    return [name for name in shipped_commands() if name.startswith(incomplete)]


@click.command("qmp", short_help="Send QMP commands; without one, an interactive shell.")
@click.argument("words", metavar="[MACHINE] [COMMAND [KEY=VALUE]...]", nargs=-1, shell_complete=complete)
@kit.qmp_option
@click.option("--help-for", "help_for", metavar="COMMAND", help="Print a command's arguments and description, and exit.")
@click.option("--keep-going", "-k", is_flag=True, help="From stdin: go on after a command that failed.")
@click.option(
    "--timeout", type=kit.Seconds(0, least_open=True), metavar="S", help="Wait S seconds for an answer, not for ever."
)
@kit.json_option
def command(
    words: tuple[str, ...], qmp: str | None, help_for: str | None, keep_going: bool, timeout: float | None, as_json: bool
) -> int:
    """Send QMP commands to MACHINE: a name that `ratite ps` shows, or an address (unix:PATH, tcp:HOST:PORT, a path).

    \b
    ratite qmp                              an interactive shell of the only machine
    ratite qmp demo query-status            one command
    ratite qmp demo qom-get path=/machine property=type
    ratite qmp --qmp unix:/tmp/r.sock < commands.txt

    KEY=VALUE is read as the schema says: numbers as 10, 0x10 or 16M, bools as on or off, objects as JSON or member by
    member (backend.type=null). MACHINE may be left out with --qmp, or when just one machine runs and no COMMAND is given.
    With --json each answer is one line, {"return": …} or {"error": …}.

    Exit status: 0, 1 when a command was refused, 2 for a line that is no command.
    """
    rest = list(words)
    machine = places.find(rest.pop(0) if rest and qmp is None else None, qmp)
    with machine.connect() as client:
        client.set_timeout(timeout)
        if help_for is not None:
            vocabulary = vocabulary_of(client)
            if help_for not in vocabulary.commands and help_for not in vocabulary.events:
                raise kit.Mistake(f"there is no command {help_for!r}{kit.nearest(help_for, vocabulary.commands)}")
            if as_json:
                kit.show_json(vocabulary.about(help_for))
            else:
                click.echo(vocabulary.help(help_for))
            return kit.OK
        if rest and rest != ["-"]:
            return run_one(client, rest, as_json)
        if rest or not sys.stdin.isatty():
            return run_lines(client, sys.stdin, as_json, keep_going)
        from ratite.clients.cli.shell import Shell

        kit.end_in_good_order()
        return Shell(machine.name, client).run()

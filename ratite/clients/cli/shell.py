"""The interactive shell of `ratite qmp`: completion from the view's schema, history, help, events as they come.

Tab completes commands, arguments, values of enums and bools, and properties of the type that `driver=` or `qom-type=` names.
When the view changes (VIEW_CHANGED) its schema is asked for anew. Ctrl-D and `exit` leave; `quit` is QMP's and ends the daemon.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ratite.clients.cli import kit
from ratite.clients.cli.qmp import execute, show_reply, vocabulary_of
from ratite.clients.cli.vocabulary import Member, Vocabulary
from ratite.clients.cli.words import LineError, below, parse_line, split, type_of, unquoted
from ratite.clients.qmp import Client, CommandError, QmpClientError

OWN = (
    ("help", "commands, or everything about one: help COMMAND"),
    ("exit", "leave the shell; the machine goes on"),
    ("hmp", "a line of the human monitor: hmp info status"),
)

GREETING = """{name}: {package}. Tab completes, help lists the commands, Ctrl-D leaves."""


def history_file() -> History:
    """Lines of earlier sessions, in $XDG_STATE_HOME/ratite; in memory alone where that can't be written."""
    base = os.environ.get("XDG_STATE_HOME", "")
    place = Path(base if os.path.isabs(base) else os.path.expanduser("~/.local/state")) / "ratite"
    if not place.is_absolute():  # there is no home
        return InMemoryHistory()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(place / "qmp-history", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # an older one, too: commands may hold secrets
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(place / "qmp-history"))


class Words(Completer):
    """Completions of a line, see the module's head. `ask` fetches a view's vocabulary, when it is first needed."""

    def __init__(self, ask: Callable[[], Vocabulary]) -> None:
        self._ask = ask
        self._known: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The present view's. QmpClientError."""
        if self._known is None:
            self._known = self._ask()
        return self._known

    def summary(self, name: str) -> str:
        """A command's, as far as the view is known already."""
        return self._known.summary(name) if self._known is not None else ""

    def forget(self) -> None:
        """The view has changed."""
        self._known = None

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may stand where the cursor is."""
        text = document.text_before_cursor
        try:
            words = split(text)
            self.vocabulary  # noqa: B018
        except (LineError, QmpClientError):
            return  # inside a quote or a bracket; or the daemon has gone, which the shell will notice
        if not words or text[-1:].isspace():
            words.append("")
        *before, word = words
        if not before:
            yield from self._commands(word, own=True)
        elif before[0] == "help":
            yield from self._commands(word, own=False)
        elif before[0] not in ("hmp", "exit"):
            yield from self._arguments(before, word)

    def _commands(self, word: str, own: bool) -> Iterable[Completion]:
        rows = [(name, self.vocabulary.summary(name)) for name in self.vocabulary.commands]
        for name, text in sorted([*rows, *OWN]) if own else rows:
            if name.startswith(word):
                yield Completion(name + " ", -len(word), display=name, display_meta=text)

    def _arguments(self, before: list[str], word: str) -> Iterable[Completion]:
        type = self.vocabulary.arguments(before[0])
        if type is None:
            return
        pairs = (given.partition("=") for given in before[1:])
        flat = {key: unquoted(value) for key, _, value in pairs}
        key, equals, value = word.partition("=")
        if equals:
            for choice in self.vocabulary.values(type_of(key, type, flat, self.vocabulary) or ""):
                if choice.startswith(value):
                    yield Completion(choice + " ", -len(value), display=choice)
            return
        above, dot, last = key.rpartition(".")
        inner = type_of(above, type, flat, self.vocabulary) if above else type
        if inner is None or self.vocabulary.kind(inner) != "object":
            return
        for member in self.vocabulary.members(inner, below(above + dot, flat)):
            name = f"{above}{dot}{member.name}"
            if member.name.startswith(last) and name not in flat:
                yield self._member(member, name, word)

    def _member(self, member: Member, name: str, word: str) -> Completion:
        text = ("" if not member.optional else "optional, ") + self.vocabulary.type_text(member.type)
        behind = "." if self.vocabulary.kind(member.type) == "object" else "="
        return Completion(name + behind, -len(word), display=name, display_meta=text)


class Shell:
    """One session; `run` returns the exit status."""

    def __init__(self, name: str, client: Client) -> None:
        self._name = name
        self._prompt = "qmp> " if "/" in name or ":" in name else f"{name}> "
        self._client = client
        self._words = Words(lambda: vocabulary_of(client))
        self._session: PromptSession[str] = PromptSession(
            history=history_file(),
            completer=self._words,
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            bottom_toolbar=self._toolbar,
        )

    def run(self) -> int:
        """Read and execute until the user leaves (0) or the daemon ends (1)."""
        self._words.vocabulary  # noqa: B018 (known before the first key)
        package = self._client.greeting["version"].get("package") or "QMP"
        click.echo(GREETING.format(name=self._name, package=package))
        while True:
            try:
                line = self._session.prompt(self._prompt, pre_run=self._listen).strip()
                if not self._line(line):
                    return kit.OK
                self._show(self._client.drain())
            except EOFError:
                return kit.OK
            except KeyboardInterrupt:
                continue  # the line is dropped, or the answer not waited for
            except QmpClientError as error:
                kit.complain(str(error))
                return kit.FAILED

    # -- events

    def _listen(self) -> None:
        """Events are shown above the prompt as they come."""
        loop = get_app().loop
        assert loop is not None
        loop.add_reader(self._client.fileno(), self._arrived)

    def _arrived(self) -> None:
        try:
            events = self._client.drain()
        except QmpClientError as error:
            app = get_app()
            assert app.loop is not None
            app.loop.remove_reader(self._client.fileno())
            app.exit(exception=error)
            return
        if events:
            run_in_terminal(lambda: self._show(events))

    def _show(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            data = json.dumps(event["data"], ensure_ascii=False) if "data" in event else ""
            click.echo(f"{kit.paint(event['event'], fg='yellow')} {data}".rstrip())
            if event["event"] == "VIEW_CHANGED":
                self._words.forget()

    def _toolbar(self) -> str:
        """The comment of the command that is being typed."""
        text = self._session.default_buffer.text.split(" ", 1)[0]
        return (self._words.summary(text) if text else "") or " "

    # -- lines

    def _line(self, line: str) -> bool:
        """Execute a line; whether to go on."""
        if not line or line.startswith("#"):
            return True
        name, _, rest = line.partition(" ")
        if name == "exit":
            return False
        if name == "help":
            self._help(rest.strip())
            return True
        try:
            self._execute(name, rest, line)
        except (LineError, CommandError) as error:
            click.echo(kit.paint(str(error), fg="red"))
        except KeyboardInterrupt:
            click.echo("(not waited for; the command goes on)")
        return True

    def _execute(self, name: str, rest: str, line: str) -> None:
        if name == "hmp":
            click.echo(self._client.hmp(rest), nl=False)
        else:
            show_reply(execute(self._client, parse_line(line, self._words.vocabulary)), as_json=False)

    def _help(self, name: str) -> None:
        vocabulary = self._words.vocabulary
        if name in vocabulary.commands or name in vocabulary.events:
            click.echo(vocabulary.help(name))
            return
        if name:
            click.echo(kit.paint(f"there is no command {name!r}{kit.nearest(name, vocabulary.commands)}", fg="red"))
            return
        rows = [*OWN, *((command, vocabulary.summary(command)) for command in vocabulary.commands)]
        text = "\n".join(kit.table_lines(("command", "what it does"), rows))
        if sys.stdout.isatty():
            click.echo_via_pager(text)
        else:
            click.echo(text)

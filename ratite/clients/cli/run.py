"""`ratite run`: a machine from a file or a profile, its console on this terminal, and an exit status made for CI."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import click

from ratite.clients.cli import kit, places
from ratite.clients.cli.console import DETACH, QUIT, Keyboard, hint, relay, write_all
from ratite.clients.cli.machinefile import compiled, parameters_of, source_argument
from ratite.clients.cli.start import Local, Plan, Remote, Started, console_of
from ratite.clients.qmp import CommandError, QmpClientError

# What ended a run, and the exit status.
STATUSES = (
    ("expected", kit.OK), ("ended", kit.OK), ("detached", kit.OK), ("quit", kit.OK), ("failed-text", kit.FAIL_TEXT),
    ("timeout", kit.TIMEOUT), ("no-text", kit.NO_TEXT), ("guest-failed", kit.GUEST_FAILED), ("panicked", kit.GUEST_FAILED),
    ("crashed", kit.FAILED),
)  # fmt: skip
KEPT = 64 << 10
TICK = 0.25


class Watch:
    """Looks for texts in a stream: those expected, one after the other, and those that mean failure."""

    def __init__(self, expected: Iterable[str], failing: Iterable[str]) -> None:
        self._expected = deque(os.fsencode(text) for text in expected)
        self._failing = [os.fsencode(text) for text in failing]
        self.wants = bool(self._expected)
        self.found = ""
        self.tail = bytearray()
        self._unseen = 0  # of `tail`'s end: how many bytes an expected text may still be found in
        self._longest = max((len(text) for text in [*self._expected, *self._failing]), default=1)

    def feed(self, data: bytes) -> str:
        """ "expected" once all texts have come, "failed-text" if one of the others came first; else ""."""
        self.tail += data
        self._unseen += len(data)
        while True:
            window = bytes(self.tail[len(self.tail) - self._unseen :])
            start = len(self.tail) - self._unseen
            bad = [(at, text) for text in self._failing if (at := window.find(text)) >= 0]
            good = window.find(self._expected[0]) if self._expected else -1
            if bad and (good < 0 or min(bad)[0] <= good):
                self.found = min(bad)[1].decode(errors="replace")
                return "failed-text"
            if good < 0:
                break
            text = self._expected.popleft()
            self._unseen = len(self.tail) - (start + good + len(text))
            if not self._expected:
                self.found = text.decode(errors="replace")
                return "expected"
        self._unseen = min(self._unseen, self._longest - 1)
        del self.tail[: max(0, len(self.tail) - max(KEPT, self._unseen))]
        return ""

    @property
    def missing(self) -> str:
        """The text that is waited for; "" for none."""
        return self._expected[0].decode(errors="replace") if self._expected else ""


class Run:
    """A started machine, watched until something ends the run."""

    def __init__(
        self, machine: Started, watch: Watch, show: Callable[[bytes], None], timeout: float | None, stay: bool
    ) -> None:
        self._machine = machine
        self._watch = watch
        self._show = show
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._stay = stay  # at a panic, for somebody at the keyboard
        self.shutdown: dict[str, Any] = {}
        self.status = 0  # of the daemon: the guest's own code, if it was the guest who ended it

    def until_end(self, keyboard: Keyboard | None) -> str:
        """What ended it: a name of STATUSES."""
        machine = self._machine
        line = machine.line
        said = self._events()  # those that came while it was assembled
        while not said:
            wait = TICK if self._deadline is None else min(TICK, self._deadline - time.monotonic())
            said = relay(line, keyboard, {machine.qmp.fileno(): self._events}, self._output, wait)
            if said == "closed":
                line, said = None, ""
            said = said or self._events()  # one that came with an answer wakes nobody
            if not said and self._deadline is not None and time.monotonic() >= self._deadline:
                return "timeout"
        if said not in ("gone", "panicked"):
            return {QUIT: "quit", DETACH: "detached"}.get(said, said)
        if said == "panicked":
            with suppress(QmpClientError, CommandError):
                machine.qmp.execute("quit")  # so that the console closes behind the last that it has
        if line is not None and (last := self._rest(line)):
            return last
        return said if said == "panicked" else self._ended()

    def _output(self, data: bytes) -> str:
        self._show(data)
        return self._watch.feed(data)

    def _rest(self, line: Any) -> str:
        """What the guest printed last."""
        end = time.monotonic() + 2
        while time.monotonic() < end:
            said = relay(line, None, {}, self._output, TICK)
            if said:
                return "" if said == "closed" else said
        return ""

    def _events(self) -> str:
        try:
            events = self._machine.qmp.drain()
        except QmpClientError:
            return "gone"
        for event in events:
            if event["event"] == "SHUTDOWN":
                self.shutdown = self.shutdown or event["data"]  # the first is the reason
            elif event["event"] == "GUEST_PANICKED":
                if not self._stay:
                    return "panicked"
                hint("[the guest has panicked; Ctrl-] q stops the machine]\r")
        return "gone" if self._machine.over else ""

    def _ended(self) -> str:
        """The daemon has ended: of what?"""
        status = self._machine.wait()
        self.status = self.shutdown.get("code", status)
        if not self.shutdown:
            return "crashed"
        if self.shutdown.get("guest") and self.status:
            return "guest-failed"
        return "no-text" if self._watch.missing else "ended"


def explain(result: str, run: Run, watch: Watch, machine: Started, timeout: float | None) -> str:
    """A line for stderr, "" where there is nothing to say."""
    texts = {
        "failed-text": f"the console printed {watch.found!r}",
        "timeout": f"{timeout:g} s have passed" if timeout is not None else "",
        "no-text": "the machine ended",
        "guest-failed": f"the guest ended with code {run.status}",
        "panicked": "the guest has panicked",
        "crashed": f"the daemon ended: {machine.log_tail() or 'its log is empty'}",
    }
    text = texts.get(result, "")
    if text and watch.missing and result != "failed-text":
        text += f", and {watch.missing!r} never came"
    return text


def _name_of(source: str) -> str:
    return PurePath(source).stem if source.endswith((".yaml", ".yml", ".json")) else source.partition("@")[0]


@click.command("run", short_help="Run a machine from a file or a profile.")
@source_argument
@click.option("--name", "-n", help="What ratite ps calls it (default: after the file).")
@click.option(
    "--console", "-c", "interactive", is_flag=True, help="Attach this terminal to the console; Ctrl-] q stops the machine."
)
@click.option("--chardev", metavar="ID", help="The chardev that is the console (default: the first).")
@click.option(
    "--expect-text",
    "-e",
    multiple=True,
    metavar="TEXT",
    help="Succeed once the console has printed TEXT; repeated: in that order.",
)
@click.option(
    "--fail-text", "-f", multiple=True, metavar="TEXT", help="Fail as soon as the console prints TEXT; may be repeated."
)
@click.option("--timeout", "-t", type=kit.Seconds(), metavar="S", help="Fail S seconds after the machine has started.")
@click.option("--detach", "-d", is_flag=True, help="Leave it running in the background; with --expect-text: once that came.")
@click.option("--paused", "-S", is_flag=True, help="Assemble the machine and don't start it; cont over QMP does.")
@click.option("--control", is_flag=True, help="In the control plane (ratite serve), not in a daemon of its own.")
@click.option("--quiet", "-q", is_flag=True, help="Don't print the console.")
@kit.json_option
def command(source: str, settings: tuple[str, ...], name: str | None, as_json: bool, **more: Any) -> int:
    """Run the machine of FILE (a machine file) or PROFILE (ratite profiles lists them).

    Its console is printed until the guest powers off, a text decides, or Ctrl-C stops it.

    \b
    ratite run riscv-virt/simple --set image=hello.elf
    ratite run board.yaml --console
    ratite run board.yaml --expect-text 'login:' --fail-text 'Kernel panic' --timeout 120

    \b
    Exit status:
      0    the expected text came; without one: the guest powered off with code 0
      1    the machine could not be assembled, or its daemon died
      2    a mistake in the command line or in the machine file
      3    the console printed a --fail-text
      4    --timeout has passed
      5    the guest powered off, and an expected text never came
      6    the guest ended with another code than 0, or panicked
      130  Ctrl-C
    """
    return _run(source, parameters_of(settings), name, as_json, **more)


def _run(
    source: str, settings: dict[str, str], name: str | None, as_json: bool, *, interactive: bool, chardev: str | None,
    expect_text: tuple[str, ...], fail_text: tuple[str, ...], timeout: float | None, detach: bool, paused: bool, quiet: bool,
    control: bool,
) -> int:  # fmt: skip
    if interactive and detach:
        raise kit.Mistake("--console and --detach exclude each other; Ctrl-] d detaches later")
    if "" in expect_text or "" in fail_text:
        raise kit.Mistake("--expect-text and --fail-text need a text")
    made = compiled(source, settings)
    console = console_of(made, chardev, interactive or bool(expect_text or fail_text))
    taken = {machine.name for machine in places.remote()} if control else set()
    called = name or places.free_name(_name_of(source), taken)
    plan = Plan(called, source, settings, made.commands, console, paused, wished=name is not None)
    kit.end_in_good_order()
    watch = Watch(expect_text, fail_text)
    machine = Remote(plan) if control else Local(plan)
    if detach and not (expect_text or fail_text):
        machine.leave()
        return _left(machine, as_json)
    run = Run(machine, watch, _silent if quiet or as_json else write_all, timeout, interactive)
    started, result = time.monotonic(), "interrupted"
    try:
        result = _at_keyboard(run, machine.name) if interactive else run.until_end(None)
    finally:
        stays = result == "detached" or (detach and result == "expected")
        text = explain(result, run, watch, machine, timeout)
        if stays:
            machine.leave()
        else:
            machine.stop()
    if stays:
        return _left(machine, as_json)
    status = dict(STATUSES)[result]
    if as_json:
        kit.show_json({
            "name": machine.name, "result": result, "exit-status": status, "seconds": round(time.monotonic() - started, 3),
            "text": watch.found or None, "missing": watch.missing or None, "shutdown": run.shutdown or None,
            "guest-code": run.status if run.shutdown.get("guest") else None,
            "console": watch.tail.decode(errors="replace"),
        })  # fmt: skip
    if text:
        kit.complain(text)
    return status


def _silent(data: bytes) -> None:
    """Instead of `write_all`."""


def _at_keyboard(run: Run, name: str) -> str:
    with Keyboard() as keyboard:
        if keyboard.terminal:
            hint(f"[{name}: Ctrl-] q stops the machine, Ctrl-] d leaves it running]\r")
        return run.until_end(keyboard)


def _left(machine: Started, as_json: bool) -> int:
    """Tell of a machine that goes on."""
    if as_json:
        kit.show_json(machine.about())
    else:
        click.echo(machine.name)
    return kit.OK

"""Starting a machine: a daemon of its own where `ratite ps` finds it, and the commands that assemble the machine there.

The chardev that is the machine's console, if the machine leaves it open (`null` or `stdio`), becomes one of kind `console`, at
which any number of people may sit; the starter does before the machine runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.clients.cli import kit, places
from ratite.clients.cli.console import Line
from ratite.clients.qmp import Client, CommandError, QmpClientError

if TYPE_CHECKING:
    from ratite.qapi.machinefile import Compiled

OPEN_KINDS = ("null", "stdio", "console")
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOG_TAIL = 5

Command = tuple[str, dict[str, Any]]


class Plan(NamedTuple):
    """What to start: `console` is the chardev's id, "" for none."""

    name: str
    source: str
    settings: Mapping[str, str]
    commands: list[Command]
    console: str
    options: list[str]


def console_of(made: Compiled, wish: str | None, needed: bool) -> str:
    """The id of the chardev that becomes the console: `wish`, or the first. Mistake if it is `needed` and can't be."""
    if wish is not None and wish not in made.consoles:
        raise kit.Mistake(
            f"there is no chardev {wish!r}{kit.nearest(wish, made.consoles)}; there are: {', '.join(made.consoles)}"
        )
    chosen = wish or next(iter(made.consoles), "")
    kind = next((a["backend"]["type"] for name, a in made.commands if name == "chardev-add" and a["id"] == chosen), "")
    if kind in OPEN_KINDS:
        return chosen
    if needed or wish is not None:
        why = f"its chardev {chosen!r} is {kind!r}, not null" if chosen else "it has no chardev"
        raise kit.Mistake(f"the machine has no console to attach: {why}")
    return ""


def with_console(commands: Iterable[Command], console: str) -> Iterator[Command]:
    """The commands, with the console's backend replaced."""
    for name, arguments in commands:
        if name == "chardev-add" and arguments["id"] == console:
            yield name, {"id": console, "backend": {"type": "console", "data": {}}}
        else:
            yield name, arguments


class Started:
    """A machine that was started: its daemon, a QMP session, its console (None without one)."""

    def __init__(self, plan: Plan) -> None:
        self.name = plan.name
        self.folder = places.claim(plan.name)
        self._plan = plan
        self.line: Line | None = None
        self.process = self._spawn()
        try:
            self.qmp = self._connect()
            self._assemble()
        except BaseException:
            self.stop()
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ratite.daemon", "--qmp", f"unix:{self.folder / 'qmp.sock'}", "--name", self.name]
        with open(self.folder / "daemon.log", "wb") as log:
            # In a session of its own: Ctrl-C at the terminal is for us, who end it in good order.
            return subprocess.Popen(
                [*command, *self._plan.options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _connect(self) -> Client:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return Client.connect(f"unix:{self.folder / 'qmp.sock'}", patience=0.05)
            except QmpClientError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise kit.Failure(f"the daemon doesn't start: {self.log_tail() or error}") from None

    def _assemble(self) -> None:
        self.qmp.set_timeout(None)  # realizing may compile for a minute
        log = self.folder / "daemon.log"
        commands = list(with_console(self._plan.commands, self._plan.console))
        with progress(len(commands), lambda: told(log)) as done:
            for name, arguments in commands:
                if name == "x-exit-preconfig":
                    self._attach()
                try:
                    self.qmp.execute(name, arguments)
                except CommandError as error:
                    what = arguments.get("id") or ""
                    raise kit.Failure(f"{self._plan.source}: {name}{what and f' of {what!r}'}: {error.desc}") from None
                except QmpClientError as error:
                    raise kit.Failure(f"the daemon ended at {name}: {self.log_tail() or error}") from None
                done()

    def _attach(self) -> None:
        """Connect to the console, and tell `ratite ps` of the machine."""
        if self._plan.console:
            self.line = Line(self.qmp, self._plan.console)
        places.write_record(self.folder, {
            "name": self.name, "pid": self.process.pid, "source": self._plan.source, "set": dict(self._plan.settings),
            "created": time.time(), "console": self._plan.console,
        })  # fmt: skip

    def log_tail(self) -> str:
        """The end of the daemon's log, in one line."""
        with suppress(OSError):
            lines = (self.folder / "daemon.log").read_text(errors="replace").split("\n")
            return "; ".join(line.strip() for line in lines[-LOG_TAIL:] if line.strip())
        return ""

    def leave(self) -> None:
        """Let it go on without us."""
        self.qmp.close()
        if self.line is not None:
            self.line.close()

    def stop(self) -> int:
        """End it if it lives, remove its folder; the daemon's exit status."""
        if self.line is not None:
            self.line.close()
        if hasattr(self, "qmp"):
            self.qmp.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def wait(self) -> int:
        """The daemon's exit status; it is about to end, and killed if it doesn't."""
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def told(log: Path) -> str:
    """What the daemon compiles just now, by its log; "" for nothing."""
    lines = []
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if "native code is" in line]
    if not lines or "is compiled" not in lines[-1]:
        return ""
    isa = lines[-1].rpartition("isa=")[2].split()[0]
    return f"compiling the interpreter of {isa}, once for this host"


@contextmanager
def progress(count: int, about: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal, for work of `count` steps; call what it gives after each."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class About(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(about() or "assembling")

    columns = (SpinnerColumn(), About(""), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda: bar.advance(task)

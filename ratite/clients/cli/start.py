"""Starting a machine: a daemon of its own where `ratite ps` finds it, and the commands that assemble the machine there.

The chardev that is the machine's console, if the machine leaves it open (`null` or `stdio`), becomes one of kind `console`, at
which any number of people may sit; the starter does before the machine runs. With a control plane the daemon is its instance.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.clients.cli import kit, places
from ratite.clients.cli.console import Line
from ratite.clients.cli.remote import RemoteClient, RemoteLine, create, end
from ratite.clients.qmp import Client, CommandError, QmpClientError

if TYPE_CHECKING:
    from ratite.qapi.machinefile import Compiled

OPEN_KINDS = ("null", "stdio", "console")
START_SECONDS = 60.0
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
    paused: bool
    stays: bool = False  # when its guest has powered off, so that one can look into it
    quietly: bool = False  # without a progress bar
    folder: str = ""  # where the machine's file names begin; "" for here
    wished: bool = True  # somebody gave it that name


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


class Started(ABC):
    """A machine that was started: a QMP session with it, its console (None without one)."""

    qmp: Client

    def __init__(self, plan: Plan) -> None:
        self.name = plan.name
        self.plan = plan
        self.line: Line | RemoteLine | None = None
        self.begin()
        try:
            self._assemble()
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def begin(self) -> None:
        """Have something that serves `qmp`."""

    @abstractmethod
    def told(self) -> str:
        """What is being compiled, "" for nothing."""

    @abstractmethod
    def attach(self) -> None:
        """The console is there, and the machine will run now."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether it is known to have ended, though the session goes on."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What --json tells of a machine that goes on."""

    @abstractmethod
    def log_tail(self) -> str:
        """The end of its log, in one line."""

    @abstractmethod
    def wait(self) -> int:
        """The exit status; it is about to end, and killed if it doesn't."""

    @abstractmethod
    def stop(self) -> None:
        """End it if it lives, with all that it has left."""

    def leave(self) -> None:
        """Let it go on without us."""
        self.qmp.close()
        if self.line is not None:
            self.line.close()

    def _assemble(self) -> None:
        self.qmp.set_timeout(None)  # realizing may compile for a minute
        commands = list(with_console(self.plan.commands, self.plan.console))
        with nullcontext(_nothing) if self.plan.quietly else progress(len(commands), self.told) as done:
            for name, arguments in commands:
                if name == "x-exit-preconfig":
                    self.attach()
                try:
                    self.qmp.execute(name, arguments)
                except CommandError as error:
                    what = arguments.get("id") or ""
                    raise kit.Failure(f"{self.plan.source}: {name}{what and f' of {what!r}'}: {error.desc}") from None
                except QmpClientError as error:
                    raise kit.Failure(f"the daemon ended at {name}: {self.log_tail() or error}") from None
                done()


class Local(Started):
    """In a daemon of its own, which ends with its machine."""

    over = False
    _lifeline: int | None = None

    def begin(self) -> None:
        self.folder = places.claim(self.name, self.plan.wished)
        self.name = self.folder.name
        command = [sys.executable, "-m", "ratite.daemon", "--qmp", f"unix:{self.folder / 'qmp.sock'}", "--name", self.name]
        if self.plan.paused:
            command.append("--paused")
        passed = []
        if self.plan.stays:  # nothing else would end it if we died
            read, self._lifeline = os.pipe()
            passed = [read]
            command += ["--no-shutdown", "--lifeline", str(read)]
        with open(self.folder / "daemon.log", "wb") as log:
            # In a session of its own: Ctrl-C at the terminal is for us, who end it in good order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd=self.plan.folder or None, pass_fds=passed,
            )  # fmt: skip
        for fd in passed:
            os.close(fd)
        try:
            self.qmp = self._connect()
        except BaseException:
            self.stop()
            raise

    def _connect(self) -> Client:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return Client.connect(f"unix:{self.folder / 'qmp.sock'}", START_SECONDS, patience=0.05)
            except (QmpClientError, TimeoutError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise kit.Failure(f"the daemon doesn't start: {self.log_tail() or error}") from None

    def told(self) -> str:
        return compiling(self.folder / "daemon.log")

    def attach(self) -> None:
        if self.plan.console:
            self.line = Line(self.qmp, self.plan.console)
        places.write_record(self.folder, {
            "name": self.name, "pid": self.process.pid, "source": self.plan.source, "set": dict(self.plan.settings),
            "created": time.time(), "console": self.plan.console,
        })  # fmt: skip

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "pid": self.process.pid, "qmp": f"unix:{self.folder / 'qmp.sock'}"}

    def log_tail(self) -> str:
        with suppress(OSError):
            lines = (self.folder / "daemon.log").read_text(errors="replace").split("\n")
            return "; ".join(line.strip() for line in lines[-LOG_TAIL:] if line.strip())
        return ""

    def leave(self) -> None:
        super().leave()
        self.process.returncode = 0  # it is not waited for

    def stop(self) -> None:
        if self.line is not None:
            self.line.close()
        if hasattr(self, "qmp"):
            self.qmp.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        places.forget(self.folder, started=True)

    def wait(self) -> int:
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Remote(Started):
    """As an instance of the control plane."""

    qmp: RemoteClient

    def begin(self) -> None:
        create(self.name, paused=self.plan.paused)
        self.qmp = RemoteClient(self.name)

    def told(self) -> str:
        return ""

    def attach(self) -> None:
        if self.plan.console:
            self.line = RemoteLine(self.name, self.plan.console)

    @property
    def over(self) -> bool:
        return self.qmp.ended is not None

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "pid": None, "qmp": None}

    def log_tail(self) -> str:
        return str((self.qmp.ended or {}).get("reason", ""))

    def wait(self) -> int:
        return int((self.qmp.ended or {}).get("status", 0))

    def stop(self) -> None:
        if self.line is not None:
            self.line.close()
        if not self.over:
            with suppress(kit.Mistake):  # it has ended meanwhile
                end(self.name, force=False)
        self.qmp.close()


def compiling(log: Path) -> str:
    """What the daemon compiles just now, by its log; "" for nothing."""
    lines = []
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if "native code is" in line]
    if not lines or "is compiled" not in lines[-1]:
        return ""
    isa = lines[-1].rpartition("isa=")[2].split()[0]
    return f"compiling the interpreter of {isa}, once for this host"


def _nothing() -> None:
    """Instead of a bar's step."""


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

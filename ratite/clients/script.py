"""A machine of one's own in a Python program: started from a machine file or a profile, steered, and ended with the block.

    with Machine("riscv-virt/minimal", {"image": "echo.elf"}) as machine:
        machine.console.expect("echo\\n", timeout=10)
        machine.console.send("cassowary\\n")
        machine.qmp.execute("query-cpus-fast")
        machine.write(0x80100000, b"data")
        print(machine.wait(timeout=10))

The daemon is one of its own, as `ratite run` starts it, and ends with the machine; unlike there it stays when the guest has
powered off, so that memory, registers and counters can be looked at then. `ratite ps` lists it meanwhile.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
import secrets
import select
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import PurePath
from types import TracebackType
from typing import Any, NamedTuple

import click

from ratite.clients.cli.console import Line
from ratite.clients.cli.machinefile import compiled
from ratite.clients.cli.start import Local, Plan, console_of
from ratite.clients.qmp import Client, CommandError, QmpClientError

KEPT = 1 << 20
PIECE = 1 << 16  # what query-memory and memory-write take at once
TICK = 0.25
ANSWER = 60.0  # seconds that an answer may take
OVER = ("shutdown", "guest-panicked", "internal-error")


class MachineError(Exception):
    """What was asked of a machine, or waited for, can't be had."""


class NotPrinted(MachineError):
    """The console didn't print what was expected: in time, before a text that means failure, or before the end."""


class Ending(NamedTuple):
    """How a guest has ended: `status` is the machine's run state ("shutdown", "guest-panicked", "internal-error") or "gone"
    when its daemon has died; `code` is the one that the guest gave when it powered off."""

    status: str
    code: int | None


class Console:
    """The machine's console. `text` is the newest MiB of what it has printed, as UTF-8."""

    def __init__(self, machine: Machine, line: Line, id: str) -> None:
        self._machine = machine
        self._line = line
        self._id = id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._count = 0  # bytes that have come
        self._seen = 0  # characters of `text` that an earlier `expect` has passed
        self.closed = False
        self.text = ""

    def expect(self, what: str | re.Pattern[str], timeout: float = 30.0, failing: Iterable[str] = ()) -> str:
        """Wait until `what` is printed, a text or a pattern; searched behind what was expected before. What came from there to
        its end is returned. NotPrinted after `timeout` seconds, when one of `failing` comes first, or when the guest ends."""
        pattern = re.compile(re.escape(what)) if isinstance(what, str) else what
        bad = re.compile("|".join(map(re.escape, failing)) or r"(?!)")
        deadline = time.monotonic() + timeout
        over = False
        while True:
            found, failed = pattern.search(self.text, self._seen), bad.search(self.text, self._seen)
            if failed and (not found or failed.start() < found.start()):
                raise NotPrinted(f"the console printed {failed[0]!r} before {pattern.pattern!r}{self._tail()}")
            if found:
                came, self._seen = self.text[self._seen : found.end()], found.end()
                return came
            if over:
                raise NotPrinted(f"the machine ended ({self._machine.status()}) before {pattern.pattern!r} came{self._tail()}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotPrinted(f"{pattern.pattern!r} didn't come within {timeout:g} s{self._tail()}")
            self._machine.look(min(left, TICK))
            if self._machine.status() in (*OVER, "gone"):
                self.drain()
                over = True

    def send(self, text: str | bytes) -> None:
        """Type it: what the guest doesn't take yet waits, and is sent while somebody waits for the machine."""
        self._line.write(text.encode() if isinstance(text, str) else text)

    def drain(self) -> None:
        """Read all that a guest which has ended printed."""
        deadline = time.monotonic() + 2
        while not self.closed and time.monotonic() < deadline:
            self._take()
            with suppress(QmpClientError, CommandError):
                path = f"/chardevs/{self._id}"
                if self._count >= self._machine.qmp.execute("qom-get", {"path": path, "property": "bytes-out"}):
                    return
            select.select([self._line], [], [], TICK)

    def flush(self) -> None:
        """Pass on in both directions what can be."""
        self._line.flush()
        self._take()

    def close(self) -> None:
        """Leave it; the machine's own is left with the machine."""
        self.closed = True
        self._line.close()

    def fileno(self) -> int:
        """To wait for output."""
        return self._line.fileno()

    @property
    def waiting(self) -> bool:
        """Whether some of what was sent isn't taken yet."""
        return self._line.waiting

    def _take(self) -> None:
        while not self.closed:
            data = self._line.read()
            if data is None:
                self.closed = True
            elif not data:
                return
            else:
                self._count += len(data)
                self.text += self._decoder.decode(data)
        if len(self.text) > KEPT:
            dropped = len(self.text) - KEPT
            self.text, self._seen = self.text[dropped:], max(0, self._seen - dropped)

    def _tail(self) -> str:
        return f"; it printed last: {self.text[-500:]!r}" if self.text else "; it printed nothing"


class Machine:
    """A machine that runs, from a machine file or a profile.

    `settings` are parameters of it; paths may be path objects. `name` is what `ratite ps` shows (default: made up), `chardev`
    the one that is the console (default: the first; `console` is None where the machine has none that is left open).
    `qmp` is a session with its daemon. MachineError when it can't be made.
    """

    def __init__(
        self, source: str | os.PathLike[str], settings: Mapping[str, Any] | None = None, *, name: str = "",
        chardev: str | None = None, paused: bool = False,
    ) -> None:  # fmt: skip
        source = os.fspath(source)
        given = {key: _plain(value) for key, value in (settings or {}).items()}
        name = name or _name_for(source)
        self._console: Console | None = None
        self._consoles: list[Console] = []
        self._gone = self._closed = False
        self._last_log = ""
        try:
            made = compiled(source, given)
            console = console_of(made, chardev, False)
            self._local = Local(Plan(name, made.name, given, made.commands, console, paused, stays=True, quietly=True))
        except click.ClickException as error:
            raise MachineError(error.message) from None
        self.name = name
        self.died = False
        self.qmp = self._local.qmp
        self.qmp.set_timeout(ANSWER)
        if isinstance(self._local.line, Line):
            self._console = Console(self, self._local.line, console)
            self._consoles.append(self._console)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def console(self) -> Console:
        """Its console; MachineError if it has none."""
        if self._console is None:
            raise MachineError("the machine has no console: none of its chardevs is left open (null or stdio)")
        return self._console

    def attach(self, chardev: str) -> Console:
        """Another console of the machine: a chardev of kind `console`, which first gives what it has kept. MachineError."""
        try:
            line = Line(self.qmp, chardev)
        except CommandError as error:
            raise MachineError(error.desc) from None
        self._consoles.append(Console(self, line, chardev))
        return self._consoles[-1]

    @property
    def printed(self) -> str:
        """What the console has printed; "" without one."""
        return "" if self._console is None else self._console.text

    # -- how it goes

    def status(self) -> str:
        """The run state ("running", "paused", "shutdown", …), "gone" if the daemon has died."""
        try:
            return "gone" if self._gone else str(self.qmp.execute("query-status")["status"])
        except (QmpClientError, OSError):
            self._gone = True
            return "gone"

    def wait(self, timeout: float = 30.0) -> Ending:
        """Until the guest has ended; TimeoutError."""
        deadline = time.monotonic() + timeout
        while (status := self.status()) not in (*OVER, "gone"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the guest didn't end within {timeout:g} s; the machine is {status}")
            self.look(min(left, TICK))
        if self._console is not None:
            self._console.drain()
        codes = [event["data"]["code"] for event in self.qmp.events if "code" in event.get("data", {})]
        return Ending(status, codes[0] if status == "shutdown" and codes else None)

    def look(self, seconds: float) -> None:
        """Wait until something happens, and pass the console's bytes on."""
        lines = [console for console in self._consoles if not console.closed]
        reading = [line.fileno() for line in lines] + ([] if self._gone else [self.qmp.fileno()])
        select.select(reading, [line.fileno() for line in lines if line.waiting], [], seconds)
        for line in lines:
            line.flush()

    def instructions(self) -> dict[str, int]:
        """How many instructions each CPU has executed, by its path."""
        return instructions_of(self.qmp)

    # -- memory

    def read(self, address: int, size: int, space: str | None = None) -> bytes:
        """`size` bytes of RAM or ROM at a physical address, as `space` sees it (path or id; default: the first CPU's).
        MachineError where something else or nothing is."""
        found = bytearray()
        while len(found) < size:
            at = address + len(found)
            count = min(PIECE, size - len(found))
            pieces = self.qmp.execute("query-memory", {"address": at, "size": count, **_space(space)})
            for piece in pieces:
                if piece["address"] == address + len(found):
                    found += base64.b64decode(piece["data"])
            if len(found) != at - address + count:
                raise MachineError(f"there is no memory at {address + len(found):#x}")
        return bytes(found)

    def write(self, address: int, data: bytes, space: str | None = None) -> None:
        """Bytes to RAM or ROM at a physical address. MachineError where something else or nothing is."""
        for start in range(0, len(data), PIECE):
            text = base64.b64encode(data[start : start + PIECE]).decode()
            try:
                self.qmp.execute("memory-write", {"address": address + start, "data": text, **_space(space)})
            except CommandError as error:
                raise MachineError(error.desc) from None

    # -- the end

    def log(self) -> str:
        """What its daemon has logged."""
        with suppress(OSError):
            self._last_log = (self._local.folder / "daemon.log").read_text(errors="replace")
        return self._last_log

    def close(self) -> None:
        """End it. Doing so twice does nothing. `died` then says whether its daemon had ended by itself, unasked."""
        if self._closed:
            return
        self._closed = True
        for console in self._consoles:
            if not console.closed:
                console.flush()
            if console is not self._console:
                console.close()
        self.log()
        # one that has let go of its socket is about to end
        self.died = (self._local.wait() if self._gone else self._local.process.poll()) not in (None, 0)
        self._gone = True
        self._local.stop()


def instructions_of(client: Client) -> dict[str, int]:
    """How many instructions each CPU has executed, by its path."""
    paths = [row["qom-path"] for row in client.execute("query-cpus-fast")]
    return {path: client.execute("qom-get", {"path": path, "property": "instructions"}) for path in paths}


def _name_for(source: str) -> str:
    stem = re.sub("[^A-Za-z0-9]+", "-", PurePath(source).stem)[:32]
    return f"{stem}-{secrets.token_hex(4)}".lstrip("-")


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _space(space: str | None) -> dict[str, str]:
    return {} if space is None else {"space": space}

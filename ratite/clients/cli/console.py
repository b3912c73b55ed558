"""`ratite console`, and what `ratite run` does with a console: bytes between a terminal and a guest's serial line.

Keys go to the guest as they are typed, Ctrl-C too. Ctrl-] and a letter is for ratite:

    q   leave (of `ratite run`: stop the machine)     d   leave; the machine goes on     ]  or Ctrl-]   send a Ctrl-]
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from ratite.clients.cli import kit, places
from ratite.clients.qmp import Client, CommandError

if TYPE_CHECKING:
    from ratite.clients.cli.remote import RemoteLine

ESCAPE = 0x1D  # Ctrl-]
HOUR = 3600.0

QUIT, DETACH = "quit", "detach"


class Line:
    """A seat at a guest's console: a chardev of kind `console`, which serves any number of people and first sends what it has
    kept. CommandError where `chardev` is none."""

    def __init__(self, client: Client, chardev: str) -> None:
        self._sock, theirs = socket.socketpair()
        try:
            client.execute("getfd", {"fdname": "ratite-console"}, fds=[theirs.fileno()])
            client.execute("chardev-attach", {"id": chardev, "fdname": "ratite-console"})
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
        self._unsent = bytearray()
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """To wait for output of the guest."""
        return self._sock.fileno()

    def read(self) -> bytes | None:
        """What the guest has printed; None once the daemon has closed the line."""
        try:
            return self._sock.recv(1 << 16) or None
        except BlockingIOError:
            return b""
        except ConnectionError:
            return None

    def write(self, data: bytes) -> None:
        """To the guest. What it doesn't take yet is kept, see `flush`."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what was kept, as far as it is taken."""
        with suppress(BlockingIOError, ConnectionError):
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]

    @property
    def buffered(self) -> bool:
        """Whether `read` has something that a wait for the descriptor wouldn't tell of."""
        return False

    @property
    def waiting(self) -> bool:
        """Whether something is kept."""
        return bool(self._unsent)

    def close(self) -> None:
        """Leave the line."""
        self._sock.close()


class Keyboard:
    """Standard input: raw keys of a terminal while it is entered, or the bytes of a pipe."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self.terminal = os.isatty(self._fd)
        self.open = True
        self._before: Any = None
        self._escaped = False

    def __enter__(self) -> Keyboard:
        if self.terminal:
            import termios
            import tty

            self._before = termios.tcgetattr(self._fd)
            tty.setraw(self._fd)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def fileno(self) -> int:
        """To wait for keys."""
        return self._fd

    def read(self) -> tuple[bytes, str]:
        """(bytes for the guest, what was asked of ratite: QUIT, DETACH or ""). At the end of a pipe `open` becomes false."""
        try:
            data = os.read(self._fd, 1 << 12)
        except OSError:  # the terminal has gone, or this is no file to read
            data = b""
        if not data:
            self.open = False
        if not self.terminal:
            return data, ""
        out = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in b"qQ":
                    return bytes(out), QUIT
                if byte in b"dD":
                    return bytes(out), DETACH
                if byte in (ESCAPE, ord("]")):
                    out.append(ESCAPE)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out.append(byte)
        return bytes(out), ""


def relay(
    line: Line | RemoteLine | None,
    keyboard: Keyboard | None,
    others: Mapping[int, Callable[[], str]],
    print_out: Callable[[bytes], str],
    wait: float,
) -> str:
    """One round: wait at most `wait` seconds, pass on what has come. `others` are called when their descriptor can be read.
    What ends the talk: QUIT, DETACH, "closed" (the line was), or what a callback said; else ""."""
    reading: list[int] = list(others)
    if line is not None:
        reading.append(line.fileno())
    if keyboard is not None and keyboard.open and not (line is not None and line.waiting):
        reading.append(keyboard.fileno())
    writing = [line.fileno()] if line is not None and line.waiting else []
    buffered = line is not None and line.buffered
    ready, writable, _ = select.select(reading, writing, [], 0 if buffered else max(0.0, wait))
    if line is not None and writable:
        line.flush()
    if line is not None and (buffered or line.fileno() in ready):
        data = line.read()
        said = print_out(data) if data else ""
        if said or data is None:
            return said or "closed"
    for fd, call in others.items():
        if fd in ready and (said := call()):
            return said
    if keyboard is not None and keyboard.fileno() in ready:
        data, said = keyboard.read()
        if line is not None:
            line.write(data)
        return said
    return ""


def write_all(data: bytes) -> None:
    """To standard output, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def hint(text: str) -> None:
    """A line of ratite's own on a terminal, beside the guest's."""
    click.echo(kit.paint(text, sys.stderr, dim=True), err=True)


@click.command("console", short_help="Attach to the console of a running machine.")
@kit.machine_argument
@click.option("--chardev", metavar="ID", help="The chardev, of kind console (default: the machine's console).")
@kit.qmp_option
@kit.json_option
def command(machine: str | None, chardev: str | None, qmp: str | None, as_json: bool) -> int:
    """Attach this terminal to the console of MACHINE. Ctrl-] q leaves; the machine goes on.

    What it printed last is shown first. Standard input may be a pipe: its bytes are typed, and the output is shown until the
    machine ends or Ctrl-C. Any number may be attached. With --json nothing is attached: what would be, is printed.
    """
    found = places.find(machine, qmp)
    with found.connect() as client:
        id = chardev or found.record.get("console") or _only_console(client, found.name)
        if as_json:
            kit.show_json({"machine": found.name, "qmp": found.address, "chardev": id})
            return kit.OK
        try:
            line = found.line(client, id)
        except CommandError as error:
            raise kit.Mistake(f"the console of {found.name} can't be attached: {error.desc}") from None
        keyboard = Keyboard()
        kit.end_in_good_order()
        if keyboard.terminal:
            hint(f"[{found.name}: Ctrl-] q leaves, the machine goes on]")
        said = ""
        with keyboard:
            while not said:
                said = relay(line, keyboard, {}, _show, HOUR)
        line.close()
        if keyboard.terminal:
            hint(f"\n[{found.name} has ended]" if said == "closed" else "")
    return kit.OK


def _show(data: bytes) -> str:
    write_all(data)
    return ""


def _only_console(client: Client, name: str) -> str:
    """The chardev of kind console that a machine has. Mistake if there are none or several."""
    rows = client.execute("query-chardev")
    found = [row["label"] for row in rows if row["filename"] == "console"]
    if len(found) == 1:
        return str(found[0])
    there = ", ".join(f"{row['label']} ({row['filename']})" for row in rows) or "none at all"
    raise kit.Mistake(
        f"{name} has {'several consoles' if found else 'no chardev of kind console'}: {there}; --chardev ID chooses"
    )

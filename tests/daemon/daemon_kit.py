"""Helpers of the daemon's tests: a session without a socket, and raw connections to a real daemon."""

from __future__ import annotations

import array
import json
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratite.daemon.qmp.session import Session
from ratite.daemon.views import View, Views, load_schema
from ratite.qapi.errors import QmpError

if TYPE_CHECKING:
    import pytest

GREETING = b'{"QMP":{}}\r\n'
CAPABILITIES = b'{"execute":"qmp_capabilities"}'
OOB_CAPABILITIES = b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}'
TYPES = {
    "memory-backend-ram": [{"name": "size", "type": "size"}],
    "toy": [{"name": "speed", "type": "uint8", "optional": True}],
}


def views() -> Views:
    """Views over the real schema and a registry of two types."""
    return Views(load_schema(), lambda kinds: {"toy": TYPES["toy"]} if "device" in kinds else TYPES)


class Harness:
    """A session whose commands end at once: checked, answered with {}, or held back if their name is in `slow`."""

    def __init__(self, view: View | None = None, negotiate: bool = True, oob: bool = False) -> None:
        self.session = Session(view or views().get(), GREETING)
        self.slow: set[str] = set()
        self.held: list[Any] = []
        self.executed: list[str] = []
        self.lines()
        if negotiate:
            assert self.feed(OOB_CAPABILITIES if oob else CAPABILITIES) == [{"return": {}}]

    def feed(self, data: bytes, send: bool = True) -> list[Any]:
        """What is answered to `data`."""
        self.session.receive(data)
        self.pump()
        return self.lines() if send else []

    def pump(self) -> None:
        """Execute what may be executed."""
        session = self.session
        while (request := session.next_request()) is not None:
            self.executed.append(request.name)
            if request.name in self.slow:
                self.held.append(request)
                continue
            try:
                command = session.view.find(request.name)
                assert command is not None
                session.view.check(command, request.arguments)
            except QmpError as error:
                session.fail(request, error)
            else:
                session.reply(request, {})

    def release(self, value: object = None) -> None:
        """The oldest held command ends."""
        self.session.reply(self.held.pop(0), value or {})
        self.pump()

    def lines(self) -> list[Any]:
        """Everything that goes out now."""
        found = []
        while data := self.session.output():
            assert data.endswith(b"\r\n")
            found += [json.loads(line) for line in data.split(b"\r\n")[:-1]]
            self.session.sent(len(data))
        return found


class Raw:
    """A connection that sends exact bytes."""

    def __init__(self, path: str, negotiate: bool = True) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)
        self.buffer = b""
        self.greeting = self.line()
        if negotiate:
            assert self.ask(CAPABILITIES) == {"return": {}}

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sock.close()

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Bytes as they are, descriptors with the first of them."""
        if fds:
            self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            self.sock.sendall(data)

    def line(self, read: Callable[[bytes], Any] = json.loads) -> Any:
        """The next message, as `read` makes it of its line; None at the end of the stream."""
        while b"\r\n" not in self.buffer:
            data = self.sock.recv(1 << 20)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return read(line)

    def ask(self, data: bytes | dict[str, Any], fds: tuple[int, ...] = ()) -> Any:
        """Send, and the next message that is no event."""
        self.send(data if isinstance(data, bytes) else json.dumps(data).encode(), fds)
        while True:
            message = self.line()
            if message is None or "event" not in message:
                return message

    def all(self, until: bytes = b'{"execute":"query-status","id":"the end"}') -> list[Any]:
        """Everything up to the answer to a last, harmless command."""
        self.send(until)
        found = []
        while True:
            message = self.line()
            if message is None or message.get("id") == "the end":
                return found
            found.append(message)

    def eof(self, seconds: float = 60) -> bool:
        """Whether the server closes the connection in time."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if select.select([self.sock], [], [], 0.05)[0] and not self.sock.recv(1 << 20):
                    return True
        except ConnectionResetError:
            return True
        return False


def install_plugins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distributions as pip would leave them, on the path of processes to come."""
    for name, package in (("ratite-toy", "ratite_toy"), ("ratite-broken", "ratite_broken")):
        info = place / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[ratite.devices]\n{package} = {package}\n")
    (place / "ratite_broken").mkdir()
    (place / "ratite_broken" / "__init__.py").write_text("raise SystemExit('no such luck')\n")
    plugin, repository = Path(__file__).parent / "plugin", Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{place}:{plugin}:{repository}")

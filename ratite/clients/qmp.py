"""A small blocking QMP client: one socket, one thread, no dependency.

    with Client.connect("unix:/tmp/r.sock") as qmp:
        qmp.execute("machine-create")
        qmp.execute("device_add", driver="ns16550", id="uart0")
        qmp.wait_event("SHUTDOWN")

Arguments whose names hold '-' are given with '_', or in a dict: execute("object-add", {"qom-type": ...}).
Left out: TLS, and anything that asyncio users want; they take qemu.qmp.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Event = dict[str, Any]

# Commands of a client that are on their way at a time, as many as a daemon's queue takes.
_WINDOW = 8


class QmpClientError(Exception):
    """The connection failed, or what came over it was no QMP."""


class CommandError(Exception):
    """The server refused a command: `error_class` and `desc` as on the wire."""

    def __init__(self, command: str, error: Mapping[str, str]) -> None:
        super().__init__(f"{command}: {error['desc']}")
        self.command = command
        self.error_class = error["class"]
        self.desc = error["desc"]


class Client:
    """A negotiated session.  `events` are those that nobody has waited for yet, oldest first."""

    def __init__(self, sock: socket.socket, oob: bool = False) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._count = 0
        self.events: list[Event] = []
        greeting = self.receive()
        if "QMP" not in greeting:
            raise QmpClientError(f"the greeting must have a member QMP, not {greeting}")
        self.greeting: dict[str, Any] = greeting["QMP"]
        self.oob = oob and "oob" in self.greeting["capabilities"]
        self.execute("qmp_capabilities", {"enable": ["oob"]} if self.oob else {})

    @classmethod
    def connect(cls, address: str, timeout: float = 10.0, oob: bool = False, patience: float | None = None) -> Client:
        """To "unix:PATH" or "tcp:HOST:PORT"; tries until somebody listens, `patience` seconds at most (default: `timeout`)."""
        begun = time.monotonic()
        deadline = begun + (timeout if patience is None else patience)
        while True:
            try:
                sock = _open(address, timeout)
                break
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if time.monotonic() >= deadline:
                    raise QmpClientError(f"nobody listens at {address}: {error.strerror}") from None
                time.sleep(0.002)
            except BlockingIOError:  # a UNIX socket whose owner accepts nobody just now
                if time.monotonic() >= begun + timeout:
                    raise TimeoutError(f"{address} accepts nobody") from None
                time.sleep(0.01)
        sock.settimeout(timeout)
        try:
            return cls(sock, oob)
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._sock.close()

    def set_timeout(self, timeout: float | None) -> None:
        """Seconds that an answer may take from now on; None: any time."""
        self._sock.settimeout(timeout)

    # -- commands

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *,
        fds: Sequence[int] = (), _key: str = "execute", **more: Any,
    ) -> Any:  # fmt: skip
        """What the command returns.  CommandError if it is refused; events that come meanwhile are kept."""
        message: dict[str, Any] = {_key: command}
        given = {**(arguments or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        if given:
            message["arguments"] = given
        self._count += 1
        message["id"] = self._count
        self.send(message, fds)
        return self._answer(command, self._count)

    def execute_all(self, commands: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Any]:
        """What they return, in order; several are on their way at a time.  CommandError for the first that is refused, once all
        have been executed: for what stands or falls together, such as the assembling of a machine."""
        waiting: deque[tuple[str, int]] = deque()
        found: list[Any] = []
        refused: list[CommandError] = []

        def take() -> None:
            try:
                found.append(self._answer(*waiting.popleft()))
            except CommandError as error:
                refused.append(error)

        for command, arguments in commands:
            if len(waiting) == _WINDOW:
                take()
            self._count += 1
            self.send({"execute": command, "arguments": arguments, "id": self._count})
            waiting.append((command, self._count))
        while waiting:
            take()
        if refused:
            raise refused[0]
        return found

    def _answer(self, command: str, number: int) -> Any:
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                break
            if "event" in answer:
                self.events.append(answer)
        if "error" in answer:
            raise CommandError(command, answer["error"])
        return answer["return"]

    def execute_oob(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The same out of band: it overtakes what waits."""
        return self.execute(command, arguments, _key="exec-oob")

    def hmp(self, line: str) -> str:
        """What a line of the human monitor prints, with plain newlines."""
        text: str = self.execute("human-monitor-command", {"command-line": line})
        return text.replace("\r\n", "\n")

    # -- events

    def wait_event(
        self, name: str, timeout: float | None = None, accept: Callable[[Event], bool] | None = None
    ) -> Event:
        """The next event of this name (that `accept` takes); others are kept.  TimeoutError after `timeout` s, by default the
        session's."""
        timeout = timeout or self._sock.gettimeout() or 1e6
        deadline = time.monotonic() + timeout
        for number, event in enumerate(self.events):
            if event["event"] == name and (accept is None or accept(event)):
                return self.events.pop(number)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no event {name} within {timeout:g} s")
            answer = self.receive(left)
            if "event" not in answer:
                continue
            if answer["event"] == name and (accept is None or accept(answer)):
                return answer
            self.events.append(answer)

    def drain(self) -> list[Event]:
        """The events that nobody has waited for, with what has arrived by now; doesn't wait.  QmpClientError at the end of the
        stream, once all before it was taken."""
        try:
            while self._ready():
                message = self.receive()
                if "event" in message:
                    self.events.append(message)
        except QmpClientError:
            if not self.events:
                raise
        found, self.events = self.events, []
        return found

    def _ready(self) -> bool:
        """Whether `receive` would answer at once, or find the end."""
        while b"\r\n" not in self._buffer:
            if not select.select([self._sock], [], [], 0)[0]:
                return False
            try:
                chunk = self._sock.recv(1 << 16)
            except ConnectionError:
                return True
            if not chunk:
                return True
            self._buffer += chunk
        return True

    def fileno(self) -> int:
        """The socket's descriptor, to wait for events with others."""
        return self._sock.fileno()

    # -- messages

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """One message, with file descriptors."""
        self.send_bytes(json.dumps(message).encode() + b"\r\n", fds)

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Bytes as they are."""
        try:
            self._send(data, fds)
        except ConnectionError:
            raise QmpClientError("the server has closed the connection") from None

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        if fds:
            if sys.platform == "win32":
                raise QmpClientError("this host can't send file descriptors")
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self._sock.sendmsg([data], rights)
            data = data[sent:]
        self._sock.sendall(data)

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message, reply or event.  QmpClientError at the end of the stream, TimeoutError."""
        if timeout is not None:
            before = self._sock.gettimeout()
            self._sock.settimeout(timeout)
        try:
            line = self._line()
        finally:
            if timeout is not None:
                self._sock.settimeout(before)
        try:
            message = json.loads(line)
        except ValueError:
            raise QmpClientError(f"the server sent no JSON: {line[:100]!r}") from None
        if not isinstance(message, dict):
            raise QmpClientError(f"the server must send objects, not {line[:100]!r}")
        return message

    def _line(self) -> bytes:
        searched = 0
        while True:
            end = self._buffer.find(b"\r\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                return line
            searched = max(0, len(self._buffer) - 1)
            try:
                chunk = self._sock.recv(1 << 16)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise QmpClientError("the server has closed the connection")
            self._buffer += chunk


def _open(address: str, timeout: float) -> socket.socket:
    kind, _, place = address.partition(":")
    if kind == "unix":
        if sys.platform == "win32":
            raise QmpClientError("this host has no UNIX sockets")
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        try:
            sock.connect(place)
        except BaseException:
            sock.close()
            raise
        return sock
    if kind == "tcp":
        host, _, port = place.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"its port must be a number up to 65535, not {port!r}")
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    raise QmpClientError(f"an address must be unix:PATH or tcp:HOST:PORT, not {address!r}")


class DaemonProcess:
    """A `ratited` of our own at a UNIX socket, ended with the `with` block."""

    def __init__(
        self, path: str | os.PathLike[str], *options: str, stderr: Any = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.address = f"unix:{os.fspath(path)}"
        command = [sys.executable, "-m", "ratite.daemon", "--qmp", self.address, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=env)

    def client(self, oob: bool = False, timeout: float = 60.0) -> Client:
        """A new session."""
        return Client.connect(self.address, timeout, oob)

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self, timeout: float = 30.0) -> int:
        """End it by SIGTERM; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

"""Clients of the control plane, synchronous and asynchronous, over a WebSocket.

    with ControlClient.connect() as control:
        control.instance_create(instance="a")
        control.instance_qmp(instance="a", execute="query-status")
        control.instance_subscribe(instance="a")
        control.next_notification(timeout=10)

Addresses are "default", "unix:PATH", "tcp:HOST:PORT" and "tls:HOST:PORT"; TCP needs the token.  The methods, typed, are
generated (control_api.py).
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ratite.clients import websocket
from ratite.clients.control_api import AsyncControlMethods, ControlMethods
from ratite.qapi.rendezvous import control_path

if TYPE_CHECKING:
    from ssl import SSLContext

CHUNK = 1 << 16

Notification = dict[str, Any]


class ControlError(Exception):
    """The control plane can't be reached, or is gone."""


class RpcError(Exception):
    """The control plane refused a call; `code` as rpc.discover lists them."""

    def __init__(self, method: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{method}: {error['message']}")
        self.method = method
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


def _request(number: int, method: str, params: Mapping[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def _place(address: str) -> tuple[str, str, int]:
    """(kind, path or host, port).  ControlError."""
    if address == "default":
        return "unix", control_path(), 0
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        return kind, place, 0
    host, _, port = place.rpartition(":")
    if kind in ("tcp", "tls") and host and port.isdecimal():
        return kind, host, int(port)
    raise ControlError(f"an address must be default, unix:PATH, tcp:HOST:PORT or tls:HOST:PORT, not {address!r}")


def _opening(kind: str, place: str, port: int, token: str | None) -> websocket.WebSocket:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return websocket.WebSocket("/rpc", "localhost" if kind == "unix" else f"{place}:{port}", headers)


def _tls(context: SSLContext | None) -> SSLContext:
    import ssl

    return context or ssl.create_default_context()


class ControlClient(ControlMethods):
    """A connection of a program that waits for its answers.  `notifications` are those that nobody has asked for yet."""

    def __init__(self, sock: socket.socket, ws: websocket.WebSocket, timeout: float) -> None:
        self._sock = sock
        self._ws = ws
        self._timeout = timeout
        self._count = 0
        self._begun: dict[int, str] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self.notifications: deque[Notification] = deque()
        sock.sendall(ws.opening)
        while not ws.open:
            self._receive(timeout)

    @classmethod
    def connect(
        cls, address: str = "default", token: str | None = None, timeout: float = 30.0, tls: SSLContext | None = None
    ) -> ControlClient:
        """Connect; `timeout` seconds is how long an answer may take.  ControlError."""
        kind, place, port = _place(address)
        try:
            sock = _open(kind, place, port, timeout, tls)
        except OSError as error:
            raise ControlError(f"no control plane at {address}: {error.strerror or error}") from None
        try:
            return cls(sock, _opening(kind, place, port, token), timeout)
        except websocket.WebSocketError as error:
            sock.close()
            raise ControlError(f"the control plane at {address} refused: {error}") from None
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self._sock.sendall(self._ws.goodbye())
        self._sock.close()

    def set_timeout(self, timeout: float) -> None:
        """How many seconds an answer may take from now on."""
        self._timeout = timeout

    def fileno(self) -> int:
        """For select: readable when a message may be there (`notifications` may hold some already)."""
        return self._sock.fileno()

    def frame(self, text: str) -> bytes:
        """What carries a text to the server, for who writes to the socket on his own."""
        return self._ws.text(text)

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """A method's result.  RpcError; ControlError; TimeoutError."""
        return self.result(self.send(method, params))

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        """Begin a call; its id, for `result` and request_cancel."""
        self._count += 1
        self._sock.settimeout(self._timeout)
        self._sock.sendall(self._ws.text(_request(self._count, method, params)))
        self._begun[self._count] = method
        return self._count

    def result(self, number: int) -> Any:
        """What a call that was begun brings, as for `call`."""
        deadline = time.monotonic() + self._timeout
        while number not in self._answers:
            self._incoming(deadline)
        method, message = self._begun.pop(number), self._answers.pop(number)
        if "error" in message:
            raise RpcError(method, message["error"])
        return message["result"]

    def next_notification(self, timeout: float | None = None) -> Notification:
        """The next {"method", "params"}; TimeoutError after `timeout` seconds, ControlError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.notifications:
            self._incoming(deadline)
        return self.notifications.popleft()

    def wait_event(self, name: str, timeout: float = 30.0) -> Notification:
        """The params of the next event of this name; other notifications are kept.  TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            for number, note in enumerate(self.notifications):
                if note["method"] == "event" and note["params"]["event"] == name:
                    del self.notifications[number]
                    params: Notification = note["params"]
                    return params
            self._incoming(deadline)

    def _incoming(self, deadline: float | None) -> None:
        """Take what comes next, and put it away."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("the control plane has not answered in time")
        for text in self._receive(left):
            message = json.loads(text)
            if "method" in message:
                self.notifications.append(message)
            elif message.get("id") in self._begun:
                self._answers[message["id"]] = message

    def _receive(self, timeout: float | None) -> list[str]:
        self._sock.settimeout(timeout)
        try:
            data = self._sock.recv(CHUNK)
        except ConnectionError as error:
            raise ControlError(f"the control plane is gone: {error}") from None
        messages = self._ws.feed(data)
        answer = self._ws.output()
        if answer and not self._ws.closed:
            self._sock.sendall(answer)
        if (not data or self._ws.closed) and not messages:
            raise ControlError("the control plane has closed the connection")
        return messages


def open_socket(address: str, timeout: float = 30.0, tls: SSLContext | None = None) -> tuple[socket.socket, str]:
    """A connection, and what HTTP's Host is there.  ControlError."""
    kind, place, port = _place(address)
    try:
        return _open(kind, place, port, timeout, tls), "localhost" if kind == "unix" else f"{place}:{port}"
    except OSError as error:
        raise ControlError(f"no control plane at {address}: {error.strerror or error}") from None


def _open(kind: str, place: str, port: int, timeout: float, tls: SSLContext | None) -> socket.socket:
    if kind == "unix":
        if sys.platform == "win32":
            raise ControlError("this host has no UNIX sockets")
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(place)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((place.strip("[]"), port), timeout)
    if kind == "tcp":
        return sock
    return _tls(tls).wrap_socket(sock, server_hostname=place.strip("[]"))


class AsyncControlClient(AsyncControlMethods):
    """A connection on an event loop.  Any number of calls may be under way; `notifications` is a queue."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ws: websocket.WebSocket) -> None:
        self._reader = reader
        self._writer = writer
        self._ws = ws
        self._count = 0
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.notifications: asyncio.Queue[Notification] = asyncio.Queue()

    @classmethod
    async def connect(
        cls, address: str = "default", token: str | None = None, tls: SSLContext | None = None
    ) -> AsyncControlClient:
        """Connect.  ControlError."""
        kind, place, port = _place(address)
        try:
            if kind == "unix":
                if sys.platform == "win32":
                    raise ControlError("this host has no UNIX sockets")
                reader, writer = await asyncio.open_unix_connection(place)
            else:
                context = _tls(tls) if kind == "tls" else None
                reader, writer = await asyncio.open_connection(place.strip("[]"), port, ssl=context)
        except OSError as error:
            raise ControlError(f"no control plane at {address}: {error.strerror or error}") from None
        client = cls(reader, writer, _opening(kind, place, port, token))
        try:
            await client._start()
        except websocket.WebSocketError as error:
            writer.close()
            raise ControlError(f"the control plane at {address} refused: {error}") from None
        return client

    async def __aenter__(self) -> AsyncControlClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls under way fail."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._writer.close()

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """A method's result.  RpcError; ControlError.  Cancelling it cancels the call there, too."""
        if self._task is None or self._task.done():
            raise ControlError("the control plane has closed the connection")
        self._count += 1
        number = self._count
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._writer.write(self._ws.text(_request(number, method, params)))
        try:
            await self._writer.drain()
            message = await answer
        except asyncio.CancelledError:
            self._writer.write(self._ws.text(_request(0, "request-cancel", {"id": number})))
            raise
        finally:
            self._calls.pop(number, None)
        if "error" in message:
            raise RpcError(method, message["error"])
        return message["result"]

    async def _start(self) -> None:
        self._writer.write(self._ws.opening)
        while not self._ws.open:
            data = await self._reader.read(CHUNK)
            if not data:
                raise websocket.WebSocketError("it closed the connection")
            for text in self._ws.feed(data):
                self._take(text)
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            while not self._ws.closed:
                data = await self._reader.read(CHUNK)
                if not data:
                    break
                for text in self._ws.feed(data):
                    self._take(text)
                answer = self._ws.output()
                if answer:
                    self._writer.write(answer)
        except (ConnectionError, websocket.WebSocketError):
            pass
        finally:
            for future in self._calls.values():
                if not future.done():
                    future.set_exception(ControlError("the control plane has closed the connection"))

    def _take(self, text: str) -> None:
        message = json.loads(text)
        if "method" in message:
            self.notifications.put_nowait(message)
            return
        future = self._calls.get(message["id"])
        if future is not None and not future.done():
            future.set_result(message)

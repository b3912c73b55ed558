"""A monitor as its client sees it: the control plane's end of an instance's QMP, on the loop.

    connecting ──greeting──> negotiating ──{}──> ready ──end of stream, close()──> closed

Commands may be given at once; they are sent when it is ready.  `execute` gives a future; answers are matched by id, so
many may be under way.  Descriptors go along with the first byte of a command.

The other end isn't trusted: what is no QMP closes the link, a line may have 64 MiB, and what it doesn't read may have 16 MiB.
"""

from __future__ import annotations

import array
import os
import socket
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ratite.core.backends.io import received
from ratite.daemon.control.plainjson import decode, encode_command

CHUNK = 1 << 16
LINE_MAX = 64 << 20
# Commands that wait to be read or to be answered.
UNSENT_MAX = 16 << 20
PENDING_MAX = 4096

_NONE: Mapping[str, Any] = MappingProxyType({})
_EVENT = b'{"timestamp":'
_NEGOTIATION = b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}'


class QmpRefusal(Exception):
    """The machine refused a command: QMP's error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.error_class = str(error["class"])
        self.desc = str(error["desc"])
        super().__init__(self.desc)


class LinkClosed(Exception):
    """The monitor is gone."""


class LinkBusy(Exception):
    """Too many commands wait already."""


class QmpLink:
    """See the module's head.  `on_event` gets each event, `on_close` is called once."""

    def __init__(
        self,
        sock: socket.socket,
        loop: AbstractEventLoop,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_event = on_event
        self._on_close = on_close
        self._count = 0
        self._pending: dict[int, Future[Any]] = {}
        self._early: list[tuple[bytes, Sequence[int]]] = []
        self._out: deque[tuple[bytes, Sequence[int]]] = deque()
        self._unsent = 0
        self._in = bytearray()
        self._writing = False
        self._greeted = self._ready = False
        self.closed = False
        # Done when the greeting is there, and when commands are served.
        self.greeting: Future[dict[str, Any]] = loop.create_future()
        self.ready: Future[None] = loop.create_future()
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def execute(
        self, name: str, arguments: Mapping[str, Any] = _NONE, *, oob: bool = False, fds: Sequence[int] = ()
    ) -> Future[Any]:
        """What the command returns.  QmpRefusal; LinkClosed; LinkBusy.  `fds` stay the caller's, copies are sent."""
        future: Future[Any] = self._loop.create_future()
        if self.closed or self._unsent > UNSENT_MAX or len(self._pending) >= PENDING_MAX:
            future.set_exception(LinkClosed() if self.closed else LinkBusy())
            # Nobody need be waiting.
            future.exception()
            return future
        self._count += 1
        message: dict[str, Any] = {"exec-oob" if oob else "execute": name, "id": self._count}
        if arguments:
            message["arguments"] = arguments
        try:
            text = encode_command(message)
        except ValueError as error:
            future.set_exception(QmpRefusal({"class": "GenericError", "desc": f"JSON parse error, {error}"}))
            future.exception()
            return future
        # Copies, since a caller who is cancelled closes his before they are sent, and the numbers become others'.
        item = (text, [os.dup(fd) for fd in fds])
        self._pending[self._count] = future
        self._unsent += len(text)
        if self._ready:
            self._send(item)
        else:
            self._early.append(item)
        return future

    def close(self) -> None:
        """Close it; what is under way fails with LinkClosed."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        waiting: list[Future[Any]] = [self.greeting, self.ready, *self._pending.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(LinkClosed())
                # Nobody need be waiting.
                future.exception()
        self._pending.clear()
        for _, fds in (*self._early, *self._out):
            _close_all(fds)
        self._early.clear()
        self._out.clear()
        if self._on_close is not None:
            self._on_close()

    # -- output

    def _send(self, item: tuple[bytes, Sequence[int]]) -> None:
        self._out.append(item)
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                data, fds = self._out[0]
                sent = self._send_some(data, fds)
                self._out.popleft()
                self._unsent -= sent
                _close_all(fds)
                if sent < len(data):
                    self._out.appendleft((data[sent:], ()))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # What it has said before its end is still to be read.
            for _, fds in self._out:
                _close_all(fds)
            self._out.clear()
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            if self._writing:
                self._loop.add_writer(self._sock.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def _send_some(self, data: bytes, fds: Sequence[int]) -> int:
        if not fds:
            return self._sock.send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        return self._sock.sendmsg([data], [rights])

    # -- input

    def _readable(self) -> None:
        data = received(lambda: self._sock.recv(CHUNK))
        if data is None:
            return
        if not data:
            self.close()
            return
        self._in += data
        if b"\n" not in data:
            if len(self._in) > LINE_MAX:
                self.close()
            return
        *lines, rest = self._in.split(b"\n")
        self._in = rest
        try:
            for line in lines:
                # Who has no use for events has them all the same, as every monitor: they needn't be read.
                if not self.closed and (self._on_event is not None or not line.startswith(_EVENT)):
                    self._take(decode(line.decode()))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # It isn't what we made it, or not any more.
            self.close()

    def _take(self, message: dict[str, Any]) -> None:
        """One message.  Any of the errors above for what is none."""
        if "event" in message:
            data, timestamp = dict(message.get("data", {})), dict(message["timestamp"])
            if self._on_event is not None:
                self._on_event({"event": str(message["event"]), "data": data, "timestamp": timestamp})
            return
        if "QMP" in message:
            if self._greeted:
                raise ValueError("a second greeting")
            self._greeted = True
            self.greeting.set_result(message["QMP"])
            self._unsent += len(_NEGOTIATION)
            self._send((_NEGOTIATION, ()))
            return
        number = message.get("id")
        if type(number) is not int:
            # Our commands have ids and are JSON that it takes: nobody would ever get this answer.
            raise ValueError("an answer to nothing")
        if number == 0:
            self._negotiated(message)
            return
        future = self._pending.get(number)
        if future is None:
            raise ValueError("an answer to nothing")
        refusal = QmpRefusal(message["error"]) if "error" in message else None
        value = None if refusal else message["return"]
        del self._pending[number]
        if future.done():
            return
        if refusal is None:
            future.set_result(value)
        else:
            future.set_exception(refusal)
            future.exception()

    def _negotiated(self, message: dict[str, Any]) -> None:
        if self._ready or not self._greeted or "return" not in message:
            raise ValueError("the negotiation went wrong")
        self._ready = True
        self.ready.set_result(None)
        for item in self._early:
            self._send(item)
        self._early.clear()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

"""A monitor as its client sees it: the control plane's end of an instance's QMP, on the loop.

    connecting ──greeting──> negotiating ──{}──> ready ──end of stream, close()──> closed

Commands may be given at once; they are sent when it is ready.  `execute` gives a future; answers are matched by id, so
many may be under way.  Descriptors go along with the first byte of a command.
"""

from __future__ import annotations

import array
import json
import socket
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

CHUNK = 1 << 16

_NONE: Mapping[str, Any] = MappingProxyType({})
_encode = json.JSONEncoder(separators=(",", ":")).encode


class QmpRefusal(Exception):
    """The machine refused a command: QMP's error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["desc"])
        self.error_class: str = error["class"]
        self.desc: str = error["desc"]


class LinkClosed(Exception):
    """The monitor is gone."""


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
        self._in = bytearray()
        self._writing = False
        self._ready = False
        self.closed = False
        # Done when the greeting is there, and when commands are served.
        self.greeting: Future[dict[str, Any]] = loop.create_future()
        self.ready: Future[None] = loop.create_future()
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def execute(
        self, name: str, arguments: Mapping[str, Any] = _NONE, *, oob: bool = False, fds: Sequence[int] = ()
    ) -> Future[Any]:
        """What the command returns.  QmpRefusal; LinkClosed.  `fds` may be closed when the future is done."""
        future: Future[Any] = self._loop.create_future()
        if self.closed:
            future.set_exception(LinkClosed())
            return future
        self._count += 1
        message: dict[str, Any] = {"exec-oob" if oob else "execute": name, "id": self._count}
        if arguments:
            message["arguments"] = arguments
        self._pending[self._count] = future
        item = (_encode(message).encode("ascii"), fds)
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
                if sent < len(data):
                    self._out.appendleft((data[sent:], ()))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # What it has said before its end is still to be read.
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
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        if b"\n" not in data:
            return
        *lines, rest = self._in.split(b"\r\n")
        self._in = rest
        for line in lines:
            if not self.closed:
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            if self._on_event is not None:
                self._on_event(message)
            return
        if "QMP" in message:
            self.greeting.set_result(message["QMP"])
            self._send((b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}', ()))
            return
        number = message.get("id")
        if number == 0:
            self._ready = True
            self.ready.set_result(None)
            for item in self._early:
                self._send(item)
            self._early.clear()
            return
        future = self._pending.pop(number, None) if isinstance(number, int) else None
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(QmpRefusal(message["error"]))
            future.exception()
        else:
            future.set_result(message["return"])

"""One monitor's QMP session, without IO: bytes and file descriptors in, bytes out.

    state        input                               next state   output
    ----------   ---------------------------------   ----------   -----------------------------------
    NEW          (start)                             GREETED      greeting
    GREETED      qmp_capabilities, good              READY        {}
    GREETED      qmp_capabilities, bad `enable`      GREETED      GenericError
    GREETED      any other command                   GREETED      CommandNotFound "Expecting ..."
    READY        qmp_capabilities                    READY        CommandNotFound "... already complete"
    READY        command                             READY        its reply, after those before it
    READY        exec-oob, when enabled              READY        its reply, past the queue
    any          not JSON, or not a command          same         GenericError, in its turn
    any          more events wait than may           OVERRUN      (the shell closes)
    any          close()                             CLOSED       descriptors closed

Limits: the in-band queue is 8 deep, and past that no input is taken; while more than 1 MiB is unsent
nothing is read or executed and events wait, 1,024 at most, state-like ones replaced by their successors;
16 descriptors may wait to be claimed.  What a command does is not known here: `next_request` hands it
out, `reply` or `fail` takes its end.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ratite.qapi.errors import CommandNotFound, GenericError, QmpError
from ratite.qapi.wire import JsonStream, encode

if TYPE_CHECKING:
    from ratite.daemon.views import View

NEW, GREETED, READY, OVERRUN, CLOSED = "new", "greeted", "ready", "overrun", "closed"

QUEUE_DEPTH = 8
OUTPUT_LIMIT = 1 << 20
EVENT_LIMIT = 1024
FD_LIMIT = 16

# Only the newest of each group matters to a client that was away.
_STATE_LIKE = MappingProxyType(
    {
        "STOP": "run-state",
        "RESUME": "run-state",
        "VIEW_CHANGED": "view",
        "RTC_CHANGE": "rtc",
        "BALLOON_CHANGE": "balloon",
    }
)


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')


def indented(line: bytes) -> bytes:
    """A message as people read it: a member a line, four blanks a level, as QEMU's `pretty=on`."""
    out: list[bytes] = []
    depth = 0
    for token in _TOKEN.findall(line):
        if token in b"{[":
            depth += 1
            out += (token, b"\r\n", b"    " * depth)
        elif token in b"}]":
            depth -= 1
            if out[-2] == b"\r\n":  # nothing was in it
                del out[-2:]
            out += (b"\r\n", b"    " * depth, token)
        elif token == b",":
            out += (b",\r\n", b"    " * depth)
        elif token == b":":
            out.append(b": ")
        else:
            out.append(token)
    out.append(b"\r\n")
    return b"".join(out)


class RawJson(bytes):
    """JSON text of a `return` value that is encoded already."""

    __slots__ = ()


class Request:
    """A command to execute.  `id` is to be echoed if `has_id`; `error` is set if it never was a command."""

    __slots__ = ("arguments", "error", "has_id", "id", "name", "oob", "pieces")

    def __init__(self, message: object, oob_enabled: bool, pieces: tuple[int, int] = (0, 0)) -> None:
        self.name = ""
        self.pieces = pieces
        self.arguments: dict[str, Any] = {}
        self.id: object = None
        self.has_id = False
        self.oob = False
        self.error: QmpError | None = None
        try:
            self._take(message, oob_enabled)
        except QmpError as error:
            self.error = error

    def _take(self, message: object, oob_enabled: bool) -> None:
        if isinstance(message, QmpError):
            raise message
        if type(message) is not dict:
            raise GenericError("QMP input must be a JSON object")
        if "id" in message:
            self.id = message["id"]
            self.has_id = True
        name: object = None
        for key, value in message.items():
            if key == "execute":
                name = value
            elif key == "arguments":
                if type(value) is not dict:
                    raise GenericError("QMP input member 'arguments' must be an object")
                self.arguments = value
            elif key == "exec-oob" and oob_enabled:
                self.oob = True
                name = value
            elif key != "id":
                raise GenericError(f"QMP input member '{key}' is unexpected")
        if self.oob and "execute" in message:
            self.oob = False
            raise GenericError("QMP input member 'execute' clashes with 'exec-oob'")
        member = "exec-oob" if self.oob else "execute"
        if name is None and member not in message:
            raise GenericError("QMP input lacks member 'execute'")
        if type(name) is not str:
            raise GenericError(f"QMP input member '{member}' must be a string")
        self.name = name


class Session:
    """One monitor.  The shell calls `receive`, drains `next_request` and `output`, and tells what was `sent`."""

    def __init__(self, view: View, greeting: bytes, name: str = "", pretty: bool = False) -> None:
        self.name = name
        self._pretty = pretty
        self.view = view
        self.generation = 0
        self.pinned: str | None = None
        self.state = NEW
        self.oob = False
        self.busy = False
        self.unsent = 0
        # Pieces of input have numbers. A descriptor stands here with the number of the piece it came with, a message with those
        # of its first and last one.
        self.fds: deque[tuple[int, int]] = deque()
        self._piece = 0
        self._began = 0
        self._executing = (0, 0)
        self.fds_refused = 0
        self.named_fds: dict[str, int] = {}
        self._stream = JsonStream()
        self._backlog: deque[tuple[int, int, object]] = deque()
        self._queue: deque[Request] = deque()
        self._out: list[bytes] = []
        self._waiting: deque[tuple[str | None, bytes]] = deque()
        self._waiting_events = 0
        self._put(greeting)
        self.state = GREETED

    # -- input

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Take what arrived; descriptors past the limit are closed at once, those without data are for what comes next."""
        for fd in fds:
            if len(self.fds) < FD_LIMIT and self.state != CLOSED:
                self.fds.append((self._piece, fd))
            else:
                self.fds_refused += 1
                os.close(fd)
        if data:
            piece = self._piece
            if self._stream.idle:
                self._began = piece
            for item in self._stream.feed(data):
                self._backlog.append((self._began, piece, item))
                self._began = piece
            self._piece = piece + 1

    @property
    def wants_input(self) -> bool:
        """Whether the shell should read."""
        return (
            not self._backlog
            and len(self._queue) < QUEUE_DEPTH
            and self.unsent <= OUTPUT_LIMIT
            and self.state in (GREETED, READY)
        )

    @property
    def idle(self) -> bool:
        """Whether every message that arrived whole has been answered."""
        return not (self.busy or self._backlog or self._queue)

    def next_request(self) -> Request | None:
        """The next command to execute now, or None.  Faults of the protocol are answered on the way."""
        while self.unsent <= OUTPUT_LIMIT and self.state in (GREETED, READY):
            request = self._next_admitted()
            if request is None:
                return None
            if not request.oob:
                self.busy = True
            error = request.error
            if error is None:
                error = self._check(request)
                if error is None and request.name != "qmp_capabilities":
                    self._executing = request.pieces
                    return request
            if error is None:
                self.reply(request, {})
            else:
                self.fail(request, error)
        return None

    def _next_admitted(self) -> Request | None:
        backlog, queue = self._backlog, self._queue
        while backlog and len(queue) < QUEUE_DEPTH:
            first, last, message = backlog.popleft()
            request = Request(message, self.oob, (first, last))
            if request.oob or (not self.busy and not queue):
                return request
            queue.append(request)
        if self.busy or not queue:
            return None
        return queue.popleft()

    def _check(self, request: Request) -> QmpError | None:
        """What forbids the command here and now; a good qmp_capabilities takes effect."""
        if self.state == GREETED and request.name != "qmp_capabilities":
            return CommandNotFound("Expecting capabilities negotiation with 'qmp_capabilities'")
        command = self.view.find(request.name)
        if command is None:
            return CommandNotFound(f"The command {request.name} has not been found")
        if request.oob and not command.allow_oob:
            return GenericError(f"The command {request.name} does not support OOB")
        if request.name != "qmp_capabilities":
            return None
        if self.state == READY:
            return CommandNotFound("Capabilities negotiation is already complete, command ignored")
        try:
            arguments = command.check(request.arguments)
        except QmpError as error:
            return error
        self.oob = "oob" in arguments.get("enable", ())
        self.state = READY
        return None

    # -- output

    def reply(self, request: Request, value: object) -> None:
        """The command has done its work; `value` is a JSON value or RawJson."""
        if isinstance(value, RawJson):
            tail = b',"id":' + encode(request.id)[:-2] if request.has_id else b""
            line = b'{"return":' + value + tail + b"}\r\n"
        elif request.has_id:
            line = encode({"return": value, "id": request.id})
        else:
            line = encode({"return": value})
        self._end(request, line)

    def fail(self, request: Request, error: QmpError) -> None:
        """The command is refused."""
        if request.has_id:
            line = encode({"id": request.id, "error": error.to_dict()})
        else:
            line = encode({"error": error.to_dict()})
        self._end(request, line)

    def _end(self, request: Request, line: bytes) -> None:
        if not request.oob:
            self.busy = False
        if self._waiting:
            self._waiting.append((None, line))
        else:
            self._put(line)

    def event(self, name: str, line: bytes) -> None:
        """Send an event, or let it wait; dropped before the negotiation is done."""
        if self.state != READY:
            return
        if self.unsent <= OUTPUT_LIMIT and not self._waiting:
            self._put(line)
            return
        group = _STATE_LIKE.get(name)
        if group is not None:
            self._forget(group)
        self._waiting.append((group or "", line))
        self._waiting_events += 1
        if self._waiting_events > EVENT_LIMIT:
            self.state = OVERRUN

    def _forget(self, group: str) -> None:
        kept = deque(item for item in self._waiting if item[0] != group)
        self._waiting_events -= len(self._waiting) - len(kept)
        self._waiting = kept

    def _put(self, line: bytes) -> None:
        if self.state not in (OVERRUN, CLOSED):
            if self._pretty:
                line = indented(line)
            self._out.append(line)
            self.unsent += len(line)

    def output(self) -> bytes:
        """What is to be sent now; the shell owns it from here on and tells by `sent` what went out."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        return data

    def sent(self, count: int) -> None:
        """So many bytes have gone out; what waited may follow."""
        self.unsent -= count
        while self._waiting and self.unsent <= OUTPUT_LIMIT:
            group, line = self._waiting.popleft()
            if group is not None:
                self._waiting_events -= 1
            self._put(line)

    # -- file descriptors, view, end

    def take_fd(self) -> int:
        """The descriptor for the command that is being executed; the caller owns it.  GenericError if there is none.

        It is the first that came with the command, else the first of those that came last before it and that nobody took. All
        that came before it, and with it, are closed: they were for commands that don't take any. What came for
        commands behind this one stays.
        """
        first, last = self._executing
        here = [piece for piece, _ in self.fds if piece <= last]
        if not here:
            raise GenericError("No file descriptor supplied via SCM_RIGHTS")
        wanted = next((piece for piece in here if piece >= first), here[-1])
        taken = [fd for piece, fd in self.fds if piece == wanted]
        while self.fds and self.fds[0][0] <= wanted:
            fd = self.fds.popleft()[1]
            if fd != taken[0]:
                os.close(fd)
        return taken[0]

    def take_named_fd(self, name: str) -> int:
        """The descriptor that getfd has named so; the caller owns it.  GenericError if there is none."""
        fd = self.named_fds.pop(name, None)
        if fd is None:
            raise GenericError(f"File descriptor named '{name}' has not been found")
        return fd

    def change_view(self, view: View) -> bool:
        """Switch to another view; whether it was another."""
        if view is self.view:
            return False
        self.view = view
        self.generation += 1
        return True

    def drop_input(self) -> None:
        """Forget the commands that haven't begun."""
        self._backlog.clear()
        self._queue.clear()

    def close(self) -> None:
        """The end: descriptors that it holds are closed, nothing is sent any more."""
        self.state = CLOSED
        for fd in self.named_fds.values():
            os.close(fd)
        self.named_fds.clear()
        while self.fds:
            os.close(self.fds.popleft()[1])
        self.drop_input()
        self._waiting.clear()
        self._out = []

"""What moves a session: commands out of it, replies and events into it, and reading stopped when it is behind.

    transport ──received(bytes, fds)──> session ──execute──> … ──reply──> session ──_send(bytes)──> transport

No streams and no tasks: a command that needs no machine is answered in the callback that read it.  A transport is a subclass
(`unix.Connection`, `chardev.Link`), which says by `_watch` what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ratite.daemon.qmp.session import OVERRUN, Request, Session

if TYPE_CHECKING:
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Loop

# So many commands at a time, then the other clients get their turn.
TURN = 32

Execute = Callable[["Monitor", Request], None]
Closed = Callable[["Monitor"], None]


class Monitor:
    """One client and its session.  `execute` gets each command, `closed` is told of the end."""

    def __init__(self, session: Session, loop: Loop, log: Log, execute: Execute, closed: Closed) -> None:
        self.session = session
        self._log = log
        self._loop = loop
        self._execute = execute
        self._closed = closed
        self._out = memoryview(b"")
        self._eof = False
        self._turn_waits = False
        self._over = False
        self.closing = False

    def start(self) -> None:
        """Send the greeting and begin to read."""
        self.pump()

    # -- the transport

    def _send(self, data: memoryview) -> int:
        """Sends what can be sent now: how many bytes.  OSError when the client is gone."""
        raise NotImplementedError

    def _watch(self, read: bool, write: bool) -> None:
        """Whether `received` is to be called when something comes, and `writable` when there is room again."""
        raise NotImplementedError

    def _drained(self) -> bool:
        """Whether all that was sent is out of our hands; else `writable` is called when it is."""
        return True

    def _shut(self) -> None:
        """Let go of the client."""
        raise NotImplementedError

    # -- input

    def received(self, data: bytes, fds: Sequence[int]) -> None:
        """What came; no bytes mean that no more will."""
        if not data:
            self._eof = True
        self.session.receive(data, fds)
        if self.session.fds_refused:
            self._log.warning("descriptors refused", session=self.session.name, count=self.session.fds_refused)
            self.session.fds_refused = 0
        self.pump()

    def pump(self) -> None:
        """Execute what may be executed, send what may be sent, decide whether to read on."""
        session = self.session
        try:
            for _ in range(TURN):
                request = session.next_request()
                if request is None:
                    break
                self._execute(self, request)
            else:
                self._later()
        except Exception as error:
            # A fault of ours costs this client its session and nobody else anything.
            self._log.error("a session failed inside", session=session.name, exc_info=error)
            self.close()
        self.flush()

    def _later(self) -> None:
        if not self._turn_waits:
            self._turn_waits = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_waits = False
        if not self._over:
            self.pump()

    # -- output

    def flush(self) -> None:
        """Send what the client takes, then watch what has to be watched."""
        if self._over:
            return
        try:
            while True:
                if not self._out:
                    self._out = memoryview(self.session.output())
                    if not self._out:
                        break
                count = self._send(self._out)
                if self._over:
                    return
                if not count:
                    break
                self._out = self._out[count:]
                self.session.sent(count)
        except OSError as error:
            self.close(error)
            return
        self._decide()

    def _decide(self) -> None:
        session = self.session
        if session.state == OVERRUN:
            self._log.warning("monitor closed: it does not read, and too many events wait", session=session.name)
            self.close()
            return
        if not self._out and not session.unsent and (self.closing or self._eof) and session.idle and self._drained():
            self.close()
            return
        self._watch(session.wants_input and not self._eof and not self.closing, bool(self._out))

    def writable(self) -> None:
        """There is room again."""
        self.flush()
        if not self._over:
            self.pump()

    # -- end

    def stop_input(self) -> None:
        """Read and begin nothing more; what is under way may still be answered."""
        self.closing = True
        self.session.drop_input()

    def finish(self) -> None:
        """Close as soon as what is under way has been answered, and everything is sent."""
        self.stop_input()
        self.flush()

    def close(self, error: OSError | None = None) -> None:
        """Close now."""
        if self._over:
            return
        if error is not None:
            self._log.info("monitor lost", session=self.session.name, reason=str(error))
        self._over = True
        self._out = memoryview(b"")
        self._shut()
        self.session.close()
        self._closed(self)

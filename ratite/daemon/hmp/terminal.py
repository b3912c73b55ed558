"""The human monitor at a chardev: a prompt, an editor, one command at a time.

    chardev ──keys──> Editor ──line──> execute, on the machine's owner thread ──text──> chardev, prompt

While a command is under way nothing is read.  The loop serves the chardev, as QMP's (daemon/qmp/chardev.py).
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from ratite.core.backends.chardev import BUFFER, CLOSED, FOCUS_IN, FOCUS_OUT, OPENED
from ratite.daemon.daemon import QEMU_VERSION, version
from ratite.daemon.dispatch import Context, Later, owned
from ratite.daemon.hmp.editor import LINE, Editor
from ratite.daemon.hmp.line import Seat
from ratite.daemon.hmp.monitor import complete, execute
from ratite.daemon.views import QEMU
from ratite.qapi.errors import QmpError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ratite.core.backends.chardev import Chardev, Line
    from ratite.daemon.bridge import Done
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.qmp.loopio import LoopIo

PROMPT = "(qemu) "
CHUNK = 4096


class Terminal:
    """The frontend of a chardev at which a person sits (HostFrontend)."""

    def __init__(self, daemon: Daemon, io: LoopIo, shared: bool) -> None:
        self.line: Line | None = None
        self._daemon = daemon
        self._io = io
        # Whether others use the line too: then it is ours only while we have the focus.
        self._shared = shared
        self._focused = not shared
        self._greets = False
        self._session = daemon.new_session()
        self._editor = Editor(PROMPT)
        self._seat = Seat()
        self._out = bytearray()
        self._busy = False

    # -- the chardev's side

    def chr_can_receive(self) -> int:
        return 0 if self._busy or self._out else CHUNK

    def chr_receive(self, data: bytes) -> None:
        self._editor.typed(data)
        self._work()

    def chr_read(self, peer: socket.socket, size: int) -> bytes:
        return peer.recv(size)

    def chr_ended(self) -> None:
        if self.line is not None:
            self._io.now(self.line.hang_up, self.line)

    def chr_event(self, name: str) -> None:
        if name == OPENED:
            kept = self._editor.history
            self._editor = Editor(PROMPT)
            self._editor.history = kept
            self._greets = True
            if not self._shared:
                self._begin()
        elif name == FOCUS_IN:
            self._focused = True
            self._begin()
        elif name == FOCUS_OUT:
            self._editor.restart()
            self._editor.show("\n")
            self._send()
            self._focused = False
        elif name == CLOSED:
            self._out.clear()

    def _begin(self) -> None:
        """Somebody looks; not he who has the line left, because what had it ended with everything."""
        if self._daemon.ending:
            return
        if self._greets:
            self._greets = False
            self._editor.show(f"{self._program()} monitor - type 'help' for more information\n")
        if not self._busy:
            self._editor.show_prompt()
        self._send()

    def chr_writable(self) -> None:
        self._send()

    def chr_takes_another(self) -> bool:
        return False

    def chr_another(self, peer: socket.socket) -> None:
        """Never called: one person sits at a terminal."""

    def _program(self) -> str:
        if self._session.view.personality == QEMU:
            return f"QEMU {'.'.join(map(str, QEMU_VERSION))}"
        return str(version()["package"])

    # -- work

    def _work(self) -> None:
        """Act on what was typed, as far as that doesn't have to wait for a command."""
        while not self._busy:
            wish = self._editor.take()
            if wish is None:
                break
            kind, text = wish
            if kind == LINE:
                self._seat.history = self._editor.history
                self._run(partial(execute, text=text, seat=self._seat), self._printed)
            else:
                self._run(partial(complete, text=text), self._completed)
        self._send()

    def _run(self, fn: Callable[[Context], Any], then: Callable[[Any, QmpError | None], None]) -> None:
        self._busy = True
        self._session.view = self._daemon.first_view()
        context = Context(self._daemon, self._session)

        def done(value: object, error: QmpError | None) -> None:
            if isinstance(value, Later):
                self._daemon.bridge.aside(value.wait, done)
                return
            self._busy = False
            then(value, error)
            self._work()
            if not self._busy and self.line is not None:
                self.line.accept_input()
                self._io.wake()

        self._send()
        if self._daemon.has_machine:
            owned(self._daemon.machine, self._daemon, lambda: fn(context), done)
        else:
            # In its turn, so that many lines at once don't keep others waiting.
            self._daemon.loop.call_soon(self._alone, lambda: fn(context), done)

    def _alone(self, work: Callable[[], Any], done: Done) -> None:
        value, error = None, None
        try:
            value = work()
        except QmpError as refusal:
            error = refusal
        # After what the command has sent to the loop, as from the owner's side.
        self._daemon.loop.call_soon(done, value, error)

    def _printed(self, text: str | None, error: QmpError | None) -> None:
        self._editor.show((text or "").replace("\r\n", "\n") if error is None else f"Error: {error.desc}\n")
        if not self._daemon.ending and self._focused:
            self._editor.show_prompt()

    def _completed(self, found: tuple[int, list[str]] | None, error: QmpError | None) -> None:
        if found is not None:
            self._editor.completed(*found)

    def _send(self) -> None:
        line = self.line
        if line is None or not self._focused:
            return
        self._out += self._editor.output()
        while self._out:
            taken = line.write(bytes(self._out[:BUFFER]))
            del self._out[:taken]
            self._io.now(line.push, line)
            if not taken:
                break
        else:
            self._io.wake()


def serve_terminal(daemon: Daemon, chardev: Chardev) -> threading.Event:
    """Offer the human monitor at a chardev from when what is answered is set.  GenericError if it is in use."""
    io = daemon.loop_io
    return chardev.attach_at(io, threading.RLock(), Terminal(daemon, io, chardev.SHARED))

"""The chardev `mux`: several frontends share one other chardev, say a guest's console and a monitor one terminal.

    frontend 1 ─┐ ends                 ┌────── output of all, as it comes
    frontend 2 ─┼──────── mux ── base ─┤
    frontend 3 ─┘                      └────── input, to the one that has the focus

The newest device gets the focus; a frontend that is no device (a monitor) only where nobody has it.  Who types commands
the mux by an escape character, Ctrl-A unless the set says otherwise, and a letter (HELP).  Everything is under the
machine's lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import BUFFER, CLOSED, FOCUS_IN, FOCUS_OUT, OPENED, Chardev, Frontend, Line, str_option
from ratite.core.backends.far import FarFrontend
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.io import Io
    from ratite.core.backends.set import ChardevSet

FRONTENDS_MAX = 4
PENDING = 4096  # bytes of input that may wait for a frontend

HELP = (
    ("h", "print this help"),
    ("x", "exit emulator"),
    ("t", "toggle console timestamps"),
    ("b", "send break (magic sysrq)"),
    ("c", "switch between console and monitor"),
)


class MuxEnd:
    """One frontend's line."""

    def __init__(self, mux: MuxChardev, frontend: Frontend) -> None:
        self._mux = mux
        self.frontend = frontend
        self.open = True
        # `write` took less than all.
        self.refused = False
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        """As Line's."""
        taken = self._mux.write(data)
        self.refused = taken < len(data)
        return taken

    @property
    def room(self) -> int:
        """Bytes of input that may come."""
        return PENDING - len(self._pending)

    def take(self, data: bytes) -> None:
        """Input for this frontend."""
        self._pending += data
        self.hand_over()

    def hand_over(self) -> None:
        """Gives the frontend what it has room for."""
        while self._pending:
            count = self.frontend.chr_can_receive()
            if count <= 0:
                return
            data = bytes(self._pending[:count])
            del self._pending[:count]
            self._mux.bytes_in += len(data)
            self.frontend.chr_receive(data)

    def accept_input(self) -> None:
        """As Line's."""
        self.hand_over()
        self._mux.accept_input()

    def set_open(self, opened: bool) -> None:
        """As Line's."""
        self.open = opened
        self._mux.show_open()

    def unsent(self) -> int:
        """As Line's."""
        return self._mux.unsent()

    def push(self) -> None:
        """As Line's."""

    def hang_up(self) -> None:
        """As Line's: the peer is others' as well."""

    def detach(self) -> None:
        """As Line's."""
        self._mux.leave(self)


class MuxChardev(Chardev):
    """See the module's head.  `chardev` names the base."""

    TYPE: ClassVar[str] = "chardev-mux"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"chardev"})
    SHARED: ClassVar[bool] = True

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id, owner, options)
        self.base_name = str_option(options, "chardev")
        self.line: Line | None = None
        self._ends: list[MuxEnd] = []
        self._focus: MuxEnd | None = None
        self._escaped = False
        self._held = False
        # What is sent with timestamps or by the mux itself, and the base hasn't taken yet.
        self._out = bytearray()
        self._stamps = False
        self._first_stamp = 0.0
        self._line_begins = True

    def open(self) -> None:
        base = self.owner.children.get(self.base_name)
        if not isinstance(base, Chardev):
            raise GenericError(f"mux: base chardev {self.base_name} not found")
        if base.in_use:
            raise GenericError(f"chardev '{self.base_name}' is already in use")
        with self.lock:
            base.attach(self)
            self.show_open()

    def close(self) -> None:
        with self.lock:
            if self.line is not None:
                self.line.detach()
                self.line = None

    @property
    def in_use(self) -> bool:
        return bool(self._ends)

    # -- the frontends' side

    def attach(self, frontend: Frontend) -> None:
        end = self._new_end(frontend)
        self._arrive(end)
        self._set_focus(end)

    def attach_at(self, io: Io, lock: Any, frontend: Frontend) -> threading.Event:
        done = threading.Event()
        end = self._new_end(FarFrontend(frontend, io, lock, self.io, self.lock))

        def arrive() -> None:
            with self.lock:
                if end in self._ends:
                    self._arrive(end)
                    if self._focus is None:
                        self._set_focus(end)
            done.set()

        # It has its place among the others now; the rest waits for the machine, and who asks must not.
        self.io.call(arrive)
        return done

    def hold(self) -> None:
        """Read nothing until `release`: not everybody is here for whom it may be.  Any thread."""
        with self.lock:
            self._held = True

    def release(self) -> None:
        """Everybody is here, or on his way as `attach_at` is.  Any thread."""

        def released() -> None:
            with self.lock:
                self._held = False
                self.accept_input()

        self.io.call(released)

    def _new_end(self, frontend: Frontend) -> MuxEnd:
        self._check_room()
        end = MuxEnd(self, frontend)
        frontend.line = end
        self._ends.append(end)
        return end

    def _arrive(self, end: MuxEnd) -> None:
        self.show_open()
        if self.connected:
            end.frontend.chr_event(OPENED)
        self.accept_input()

    def _check_room(self) -> None:
        if len(self._ends) >= FRONTENDS_MAX:
            raise GenericError(f"too many uses of multiplexed chardev '{self.id}' (maximum is {FRONTENDS_MAX})")

    def detach(self) -> None:
        """Every frontend goes."""
        for end in tuple(self._ends):
            self.leave(end)

    def leave(self, end: MuxEnd) -> None:
        """A frontend goes."""
        if end in self._ends:
            self._ends.remove(end)
            if end is self._focus:
                self._focus = None
                if self._ends:
                    self._set_focus(self._ends[-1])
            self.show_open()

    def show_open(self) -> None:
        """Tells the base whether any frontend has its line open."""
        self.frontend_open = any(end.open for end in self._ends)
        if self.line is not None:
            self.line.set_open(self.frontend_open)

    def put(self, data: bytes) -> int:
        if self.line is None:
            return len(data)
        if self._out:
            return 0
        if not self._stamps:
            return self.line.write(data)
        self._say(self._stamped(data))
        return len(data)

    def unsent(self) -> int:
        return len(self._out) + (0 if self.line is None else self.line.unsent())

    def accept_input(self) -> None:
        if self.line is not None:
            self.line.accept_input()

    def send_break(self) -> None:
        if self._focus is not None:
            self._focus.frontend.chr_event("break")

    # -- the base's side

    def chr_can_receive(self) -> int:
        """As Frontend's: nothing before there is a frontend, nor while it is held."""
        return 0 if self._focus is None or self._held else max(0, self._focus.room)

    def chr_receive(self, data: bytes) -> None:
        """As Frontend's: commands are done, the rest goes to who has the focus."""
        escape = self.owner.escape
        start = at = 0
        while at < len(data):
            if self._escaped:
                self._escaped = False
                start = at if data[at] == escape else at + 1
                if start > at:
                    self._command(chr(data[at]))
            elif data[at] == escape:
                self._escaped = True
                self._give(data[start:at])
                start = at + 1
            at += 1
        self._give(data[start:])

    def _give(self, data: bytes) -> None:
        if data and self._focus is not None:
            self._focus.take(data)

    def chr_event(self, name: str) -> None:
        """As Frontend's: everybody hears it."""
        if name == OPENED:
            self.connected_event.set()
        elif name == CLOSED:
            self.connected_event.clear()
        for end in tuple(self._ends):
            end.frontend.chr_event(name)

    def chr_writable(self) -> None:
        """As Frontend's."""
        self._push()
        for end in tuple(self._ends):
            if self._out:
                break
            if end.refused:
                end.refused = False
                end.frontend.chr_writable()

    # -- what is typed behind the escape character

    def _command(self, letter: str) -> None:
        if letter == "x":
            self._say(b"%s: Terminated\n\r" % self.owner.program.encode())
            self.owner.quit()
        elif letter == "b":
            self.send_break()
        elif letter == "c":
            self._switch()
        elif letter == "t":
            self._stamps = not self._stamps
            self._first_stamp, self._line_begins = time.monotonic(), False
        elif letter in "?h":
            name = f"C-{chr(self.owner.escape + 96)}" if 0 < self.owner.escape <= 26 else chr(self.owner.escape)
            lines = [f"{name} {each:<4} {text}" for each, text in HELP]
            self._say("".join(f"\n\r{line}" for line in [*lines, f"{name} {name}  sends {name}", ""]).encode("latin-1"))

    def _switch(self) -> None:
        if self._focus is not None:
            following = self._ends.index(self._focus) + 1
            self._set_focus(self._ends[following % len(self._ends)])

    def _set_focus(self, end: MuxEnd) -> None:
        if end is self._focus:
            return
        was, self._focus = self._focus, end
        if was is not None:
            was.frontend.chr_event(FOCUS_OUT)
        end.frontend.chr_event(FOCUS_IN)
        end.hand_over()

    # -- output

    def _stamped(self, data: bytes) -> bytes:
        """`data` with the time before each line."""
        seconds = time.monotonic() - self._first_stamp
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        stamp = b"[%02d:%02d:%06.3f] " % (hours, minutes, rest)
        made = bytearray()
        for line in data.splitlines(keepends=True):
            if self._line_begins:
                made += stamp
            made += line
            self._line_begins = line.endswith(b"\n")
        return bytes(made)

    def _say(self, data: bytes) -> None:
        if len(self._out) <= BUFFER:
            self._out += data
        self._push()

    def _push(self) -> None:
        if self._out and self.line is not None:
            del self._out[: self.line.write(bytes(self._out))]

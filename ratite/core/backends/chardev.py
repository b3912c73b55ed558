"""Character devices: byte streams between a device's serial line (the frontend) and the host (the backend).

    frontend ──write()──> out buffer (64 KiB) ──io thread──> peer
    frontend <─chr_receive()── in buffer (64 KiB) <─io thread── peer

`write` never blocks: it takes what fits and says how much; when it took less, `chr_writable` is called once there is
room again.  With nobody connected everything is taken and dropped.  Input is handed over as far as `chr_can_receive`
allows; a frontend that made room calls `accept_input`.  Frontends are called under the chardev's lock only, which is the
machine's, or for a frontend that is no device (a monitor: `attach_at`) one of its own, so that it never waits for the machine.

What a frontend holds is its `line`, which `attach` gives it: the chardev itself, or where several frontends share one
(mux.py) an end of its own.

Lock order: the chardev's lock, then its own mutex, which is held for copying bytes and nothing else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ratite.core.objects.obj import Obj
from ratite.core.objects.props import debug
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    import socket

    from ratite.core.backends.io import Io
    from ratite.core.backends.logfile import LogFile
    from ratite.core.backends.set import ChardevSet

BUFFER = 1 << 16  # bytes, each direction

OPENED, CLOSED, BREAK = "opened", "closed", "break"
# Of a line that frontends share: whoever types is now heard here, or no more.
FOCUS_IN, FOCUS_OUT = "focus-in", "focus-out"

# Options of every kind.
COMMON = frozenset({"logfile", "logappend"})


class Line(Protocol):
    """What a frontend holds of a chardev; all of it under the chardev's lock."""

    def write(self, data: bytes) -> int:
        """Sends `data`: how many bytes were taken, from none to all."""

    def accept_input(self) -> None:
        """The frontend has room again."""

    def detach(self) -> None:
        """The frontend goes; nothing of it is called any more."""

    def set_open(self, opened: bool) -> None:
        """Whether the frontend has the line open, as query-chardev shows it; a frontend that is attached has."""

    def unsent(self) -> int:
        """How many bytes wait to be sent; if any, `chr_writable` is called when some have gone."""

    def push(self) -> None:
        """Sends at once what can be sent.  Only where `io` serves."""

    def hang_up(self) -> None:
        """The frontend is done with this peer.  Only where `io` serves."""


class Frontend(Protocol):
    """What a device gives to `Chardev.attach`.

    One that also has `chr_changed(chardev)` can be given another chardev in the place of its own (chardev-change): it is
    called before the new one's `attach`.
    """

    #: set by `attach`, before anything is called
    line: Line | None

    def chr_can_receive(self) -> int:
        """How many bytes it takes now."""

    def chr_receive(self, data: bytes) -> None:
        """Takes `data`, at most as long as it said."""

    def chr_event(self, name: str) -> None:
        """"opened", "closed" (the peer), "break", "focus-in" or "focus-out"."""

    def chr_writable(self) -> None:
        """`write` had refused bytes; now there is room."""


class HostFrontend(Frontend, Protocol):
    """What a frontend that is no device (a monitor) gives to `Chardev.attach_at` besides."""

    def chr_read(self, peer: socket.socket, size: int) -> bytes:
        """Reads from the peer's socket for the chardev, as recv; it may take more than bytes."""

    def chr_ended(self) -> None:
        """The peer sends no more; it is there until `Chardev.hang_up`."""

    def chr_takes_another(self) -> bool:
        """Whether one more peer is welcome while one is there; else it waits."""

    def chr_another(self, peer: socket.socket) -> None:
        """One more, its own from now on."""


class _Reserved:
    """Stands for a frontend that is on its way."""

    line: Line | None = None

    def chr_can_receive(self) -> int:
        return 0

    def chr_receive(self, data: bytes) -> None:
        """Never called."""

    def chr_event(self, name: str) -> None:
        """It will be told when it is there."""

    def chr_writable(self) -> None:
        """It has written nothing."""


_RESERVED = _Reserved()


class Chardev(Obj):
    """A character device backend: the part that all kinds have, and the whole of `null`."""

    TYPE: ClassVar[str] = "chardev"
    KIND: ClassVar[str] = ""
    ABSTRACT: ClassVar[bool] = True
    # Members of the options that the kind understands; others are refused by name.
    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    # Whether several frontends may be attached, who then are told of the focus.
    SHARED: ClassVar[bool] = False

    bytes_in = debug("uint64", 0, "bytes handed to the frontend")
    bytes_out = debug("uint64", 0, "bytes taken from the frontend")

    def __init__(self, id: str, owner: ChardevSet, options: Mapping[str, Any]) -> None:
        super().__init__(id)
        self.owner = owner
        self.io: Io = owner.io
        self.lock: Any = owner.lock
        self.frontend: Frontend | None = None
        # The same one, where it is no device.
        self.host_end: HostFrontend | None = None
        # As chardev-add took it: {"type", "data"}.
        self.options: Mapping[str, Any] = {}
        self.mutex = threading.Lock()
        self.connected_event = threading.Event()
        self.frontend_open = False
        self.log: LogFile | None = None
        for name, value in options.items():
            if name not in self.OPTIONS | COMMON and value not in (False, None):
                raise GenericError(f"Chardev '{id}': option '{name}' of backend '{self.kind}' is not supported")

    @property
    def kind(self) -> str:
        """The backend's name in chardev-add: "socket", "pty", …"""
        return self.TYPE.removeprefix("chardev-")

    @property
    def filename(self) -> str:
        """As query-chardev shows it."""
        return self.kind

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end."""
        return self.connected_event.is_set()

    def open(self) -> None:
        """Takes what the host must give; GenericError when it doesn't."""
        self.connected_event.set()

    def close(self) -> None:
        """Gives it back.  Any thread; nothing is called afterwards."""

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Waits for a peer; never under the machine's lock.  False when `timeout` seconds passed."""
        return self.connected_event.wait(timeout)

    # -- the frontend's side, all under the lock

    @property
    def in_use(self) -> bool:
        """Whether a frontend is attached."""
        return self.frontend is not None

    def attach(self, frontend: Frontend) -> None:
        """Makes `frontend` the device at this end, and sets its `line`; GenericError when there is one already."""
        self._take_frontend(frontend)
        self.frontend_open = True
        frontend.line = self
        if self.connected:
            frontend.chr_event(OPENED)
        self.accept_input()

    def attach_at(self, io: Io, lock: Any, frontend: HostFrontend) -> threading.Event:
        """As `attach`, for a frontend that lives elsewhere than devices: `io` serves the chardev from now on, under `lock`, and
        the frontend is told there; the answer is set when that is done.  Any thread; GenericError when there is one already."""
        self._take_frontend(_RESERVED)
        self.frontend_open = True
        done = threading.Event()

        def arrived() -> None:
            with lock:
                self.frontend, self.host_end = None, frontend
                self.attach(frontend)
            done.set()

        self._move(io, lock, arrived)
        return done

    def _take_frontend(self, frontend: Frontend) -> None:
        with self.mutex:
            if self.frontend is not None:
                text = f"chardev '{self.id}' is already in use"
                if isinstance(frontend, Obj):
                    text = f"Property '{frontend.TYPE}.chardev' can't take value '{self.id}': {text}"
                raise GenericError(text)
            self.frontend = frontend

    def _move(self, io: Io, lock: Any, then: Callable[[], None]) -> None:
        self.io, self.lock = io, lock
        io.call(then)

    def detach(self) -> None:
        """The device goes; nothing of it is called any more."""
        self.frontend = self.host_end = None
        self.frontend_open = False

    def set_open(self, opened: bool) -> None:
        """Whether the frontend has the line open, as query-chardev shows it."""
        self.frontend_open = opened

    def write(self, data: bytes) -> int:
        """Sends `data`: how many bytes were taken, from none to all."""
        taken = self.put(data)
        self.bytes_out += taken
        if self.log is not None:
            self.log.add(data[:taken])
        return taken

    def put(self, data: bytes) -> int:
        """The kind's own part of `write`."""
        return len(data)

    def unsent(self) -> int:
        """How many bytes wait to be sent; if any, `chr_writable` is called when some have gone."""
        return 0

    def push(self) -> None:
        """Sends at once what can be sent.  Only where `io` serves."""

    def hang_up(self) -> None:
        """The frontend is done with this peer.  Only where `io` serves."""

    def accept_input(self) -> None:
        """The frontend has room again."""

    def send_break(self) -> None:
        """The line is held low for longer than a character."""
        if self.frontend is not None:
            self.frontend.chr_event(BREAK)


class NullChardev(Chardev):
    """Takes everything, says nothing."""

    TYPE: ClassVar[str] = "chardev-null"


def bool_option(options: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean option; GenericError when it is something else."""
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise GenericError(f"Invalid parameter type for '{name}', expected: boolean")
    return value


def int_option(options: Mapping[str, Any], name: str, default: int) -> int:
    """An integer option; GenericError when it is something else."""
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GenericError(f"Invalid parameter type for '{name}', expected: integer")
    return value


def str_option(options: Mapping[str, Any], name: str) -> str:
    """A string option that must be there, and that the host's calls can take."""
    if name not in options:
        raise GenericError(f"Parameter '{name}' is missing")
    value = options[name]
    if not isinstance(value, str):
        raise GenericError(f"Invalid parameter type for '{name}', expected: string")
    if "\0" in value:
        raise GenericError(f"Invalid parameter '{name}': a NUL character can't stand in it")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise GenericError(f"Invalid parameter '{name}': it isn't valid Unicode text") from None
    return value

"""`Netdev`: Ethernet frames between a device (the frontend) and the host.

    frontend ──send(frame) …, flush()──> netdev ──> host
    frontend <──net_receive([frame, …])── netdev <── host         gives how many it took; the others wait
             ──accept_input()──> it has room again

Everything here is called under the machine lock.  With nobody at the other end what is sent is dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ratite.core.objects.obj import Obj
from ratite.core.objects.props import debug
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.net.set import NetdevSet

FRAME_MAX = 69632  # bytes of a frame, as QEMU's
BATCH = 256  # frames handed over at once


class NetFrontend(Protocol):
    """What a device gives to `Netdev.attach`."""

    def net_receive(self, frames: Sequence[bytes]) -> int:
        """Takes the first of `frames`, and says how many."""

    def net_writable(self) -> None:
        """`send` had refused a frame; now there is room."""

    def set_link(self, up: bool) -> None:
        """The cable is pulled or put in."""


class Netdev(Obj):
    """A network backend: the part that all kinds have."""

    TYPE: ClassVar[str] = "netdev"
    KIND: ClassVar[str] = ""
    ABSTRACT: ClassVar[bool] = True

    frames_in = debug("uint64", 0, "frames handed to the frontend")
    frames_out = debug("uint64", 0, "frames taken from the frontend")
    frames_dropped = debug("uint64", 0, "frames for which nobody was there")

    def __init__(self, id: str, owner: NetdevSet) -> None:
        super().__init__(id)
        self.owner = owner
        self.frontend: NetFrontend | None = None
        # Whether the cable is in, for a device that is plugged in later.
        self.link_up = True
        # As netdev_add took it, without the id.
        self.options: Mapping[str, Any] = {}

    def open(self) -> None:
        """Takes what the host must give; GenericError when it doesn't."""

    def close(self) -> None:
        """Gives it back; nothing is called afterwards."""

    def attach(self, frontend: NetFrontend) -> None:
        """Makes `frontend` the device at this end; GenericError when there is one already."""
        if self.frontend is not None:
            raise GenericError(f"Netdev '{self.id}' is in use")
        self.frontend = frontend

    def detach(self) -> None:
        """The device goes; nothing of it is called any more."""
        self.frontend = None

    def send(self, frame: bytes) -> bool:
        """Takes a frame, to be sent with the next flush; False: there is no room, `net_writable` will tell."""
        raise NotImplementedError

    def flush(self) -> None:
        """What was taken goes on its way."""

    def accept_input(self) -> None:
        """The frontend has room again."""


class HostNetdev(Netdev):
    """One whose frames come by the IO thread: where the frontend has no room they wait here, and nothing is read meanwhile.

    What the guest sends is written at once as far as the host takes it, by whoever flushes (`_push`); the rest waits in `_out`,
    of which WAITING is the most that a kind lets wait, for the IO thread (`_send_rest`).
    """

    ABSTRACT: ClassVar[bool] = True
    WAITING: ClassVar[int]
    _out: deque[bytes] | bytearray

    def __init__(self, id: str, owner: NetdevSet) -> None:
        super().__init__(id, owner)
        # Under the machine lock.
        self._frames: deque[bytes] = deque()
        self._closed = False
        # Guards the host's end and what waits to be sent; held for a call of the host that doesn't wait.
        self._mutex = threading.Lock()
        self._refused = False

    def flush(self) -> None:
        with self._mutex:
            self._push()
            rest = bool(self._out)
        if rest:
            self.owner.io.wake()

    def _push(self) -> None:
        """Writes what the host takes; the mutex is held."""
        raise NotImplementedError

    def _send_rest(self) -> None:
        """The host takes more; on the IO thread."""
        with self._mutex:
            self._push()
            room = self._refused and len(self._out) <= self.WAITING // 2
            self._refused = self._refused and not room
        if room:
            self._has_room()

    def detach(self) -> None:
        super().detach()
        self._frames.clear()

    def accept_input(self) -> None:
        if self._frames:
            self._deliver()
            if not self._frames:
                self.owner.io.wake()

    def _came(self, frames: Sequence[bytes]) -> None:
        """Frames of the host; on the IO thread."""
        with self.owner.lock:
            self._frames.extend(frames)
            self._deliver()

    def _deliver(self) -> None:
        """Hands over what waits; under the machine lock."""
        frames, frontend = self._frames, self.frontend
        if frontend is None or self._closed:
            self.frames_dropped += len(frames)
            frames.clear()
            return
        while frames:
            batch = tuple(islice(frames, BATCH))
            taken = frontend.net_receive(batch)
            self.frames_in += taken
            for _ in range(taken):
                frames.popleft()
            if taken < len(batch):
                return

    def _has_room(self) -> None:
        """Tells the frontend that a frame would be taken again; on the IO thread."""
        with self.owner.lock:
            if self.frontend is not None and not self._closed:
                self.frontend.net_writable()

    def poll_after(self) -> float | None:
        """For the IO thread: there is nothing to do from time to time."""
        return None

    def poll(self) -> None:
        """Nothing."""

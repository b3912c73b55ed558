"""One connection of a client: its calls under way, subscriptions, consoles and monitors.

A client that isn't a WebSocket (HTTP) has neither subscriptions nor consoles, and no monitors of its own.  What is to be
sent goes through `send`; a client that doesn't read isn't read either, its consoles stop, and once more events wait than
an instance's limit allows the connection is dropped.  Nobody else ever waits for it.
"""

from __future__ import annotations

import base64
import socket
from asyncio import Event, Future, Task
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.core.backends.io import received
from ratite.daemon.control import rpc
from ratite.daemon.control.rpc import RpcError

if TYPE_CHECKING:
    from ratite.daemon.control.instance import Instance
    from ratite.daemon.control.plane import ControlPlane
    from ratite.daemon.control.qmplink import QmpLink

# More than this is unsent: no more is taken from the client or from its consoles.
HIGH_WATER = 1 << 20
TASKS_MAX = 256
TAKEN_MAX = 16 << 20
SUBSCRIPTIONS_MAX = 256
CONSOLES_MAX = 64
CONSOLE_CHUNK = 1 << 14
CONSOLE_BUFFER = 1 << 20
EVENTS_DEFAULT = 1024
# Of names in a subscription, and of each.
NAMES_MAX = 256
NAME_MAX = 128
# Unsent bytes with which no event is taken any more: what came before is large.
UNSENT_MAX = 32 << 20


class _Subscription(NamedTuple):
    """`instance` None: all of them; `events` empty: all."""

    instance: str | None
    events: frozenset[str]


class Peer:
    """See the module's head.  `transmit(text)` sends one message; `drop()` cuts the connection.  Both None for HTTP."""

    def __init__(
        self,
        plane: ControlPlane,
        transmit: Callable[[str], Awaitable[None]] | None = None,
        drop: Callable[[], None] | None = None,
    ) -> None:
        self.plane = plane
        self.tasks: dict[object, Task[Any]] = {}
        # Letters of the texts whose calls are under way.
        self.taken = 0
        self.room = Event()
        self.room.set()
        self._transmit = transmit
        self._drop = drop
        self._out: deque[tuple[str, bool]] = deque()
        self._unsent = 0
        self._events = 0
        # Whether a message is on its way and its socket takes no more.
        self._stuck = False
        self._sender: Task[None] | None = None
        self._number = 0
        self._subscriptions: dict[int, _Subscription] = {}
        self._consoles: dict[int, Console] = {}
        self._monitors: dict[str, Future[QmpLink]] = {}
        self.closed = False

    def need_websocket(self, what: str) -> None:
        """RpcError over HTTP."""
        if self._transmit is None:
            raise RpcError(rpc.NOT_PERMITTED, f"{what} needs a WebSocket")

    def next_number(self) -> int:
        """A number for a subscription or console."""
        self._number += 1
        return self._number

    # -- output

    @property
    def full(self) -> bool:
        """Whether so much is unsent that nothing more is taken."""
        return self._unsent > HIGH_WATER

    @property
    def busy(self) -> bool:
        """Whether so much is under way or unsent that nothing more is taken."""
        return self.full or len(self.tasks) >= TASKS_MAX or self.taken > TAKEN_MAX

    def send(self, text: str, event: bool = False) -> None:
        """Send a message when those before it are sent."""
        if self.closed or self._transmit is None:
            return
        self._out.append((text, event))
        self._unsent += len(text)
        self._events += event
        if self.full:
            self.room.clear()
        if self._sender is None:
            self._sender = self.plane.loop.create_task(self._send_all())

    def event(self, text: str, limit: int) -> None:
        """Send an event, or give the client up: not for what comes all at once, but if it doesn't take what was sent."""
        if self._stuck and (self._events >= (limit or EVENTS_DEFAULT) or self._unsent > UNSENT_MAX):
            if not self.closed and self._drop is not None:
                self.plane.log.warning("control client dropped: it does not read, and too many events wait")
                self._drop()
                self.close()
            return
        self.send(text, event=True)

    async def _send_all(self) -> None:
        assert self._transmit is not None, "send() has seen it"
        try:
            while self._out:
                text, event = self._out[0]
                self._stuck = True
                await self._transmit(text)
                self._stuck = False
                self._out.popleft()
                self._unsent -= len(text)
                self._events -= event
                if not self.room.is_set() and not self.full:
                    self.room.set()
                    for console in self._consoles.values():
                        console.resume()
        except (ConnectionError, RuntimeError):
            # It is gone; the reader hears of it.
            self._out.clear()
            self.room.set()
        finally:
            self._sender = None

    # -- events

    def subscribe(self, instance: str | None, events: list[str]) -> int:
        """A new subscription's number.  RpcError."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise RpcError(rpc.LIMIT_EXCEEDED, f"a connection may have {SUBSCRIPTIONS_MAX} subscriptions")
        if len(events) > NAMES_MAX or any(len(name) > NAME_MAX for name in events):
            raise RpcError(rpc.LIMIT_EXCEEDED, f"a subscription may name {NAMES_MAX} events, each of {NAME_MAX} letters")
        number = self.next_number()
        self._subscriptions[number] = _Subscription(instance, frozenset(events))
        return number

    def unsubscribe(self, number: int) -> None:
        """RpcError if there is none."""
        if self._subscriptions.pop(number, None) is None:
            raise RpcError(rpc.NOT_FOUND, f"this connection has no subscription {number}")

    def wanted(self, instance: str, event: str) -> tuple[int, ...]:
        """The subscriptions that an event belongs to."""
        return tuple(
            number
            for number, wish in self._subscriptions.items()
            if wish.instance in (None, instance) and (not wish.events or event in wish.events)
        )

    def subscribed(self, instance: str) -> bool:
        """Whether it gets events of an instance."""
        return any(wish.instance in (None, instance) for wish in self._subscriptions.values())

    # -- monitors

    async def monitor(self, instance: Instance) -> QmpLink:
        """The monitor for its commands.  LinkClosed; QmpRefusal."""
        if self._transmit is None:
            return await instance.shared_monitor()
        opening = self._monitors.get(instance.name)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() or opening.result().closed)):
            # A task of its own: who is cancelled while he waits leaves it to the others.
            opening = self.plane.loop.create_task(instance.open_monitor())
            self._monitors[instance.name] = opening
        if opening.done():
            return opening.result()
        from asyncio import shield

        return await shield(opening)

    # -- consoles

    def add_console(self, instance: str, sock: socket.socket) -> int:
        """Serve a console; its number."""
        number = self.next_number()
        self._consoles[number] = Console(self, number, instance, sock)
        return number

    def check_consoles(self) -> None:
        """RpcError if it has as many as it may."""
        if len(self._consoles) >= CONSOLES_MAX:
            raise RpcError(rpc.LIMIT_EXCEEDED, f"a connection may have {CONSOLES_MAX} consoles")

    def console(self, number: int) -> Console:
        """RpcError if there is none."""
        found = self._consoles.get(number)
        if found is None:
            raise RpcError(rpc.NOT_FOUND, f"this connection has no console {number}")
        return found

    def forget_console(self, number: int) -> None:
        """It is closed."""
        self._consoles.pop(number, None)

    # -- the end

    def instance_ended(self, instance: Instance) -> None:
        """Its consoles and monitors close by themselves; what stands for them goes."""
        opening = self._monitors.pop(instance.name, None)
        if opening is not None:
            opening.add_done_callback(_close_monitor)

    def close(self) -> None:
        """The connection is gone, with all that it had."""
        self.closed = True
        self.plane.peers.pop(self, None)
        self._out.clear()
        self.room.set()
        if self._sender is not None:
            self._sender.cancel()
        for task in list(self.tasks.values()):
            task.cancel()
        for console in list(self._consoles.values()):
            console.close()
        for opening in self._monitors.values():
            opening.add_done_callback(_close_monitor)
        self._monitors.clear()


def _close_monitor(opening: Future[QmpLink]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class Console:
    """An attached console: bytes of a socket as notifications, and back."""

    def __init__(self, peer: Peer, number: int, instance: str, sock: socket.socket) -> None:
        self.instance = instance
        self._peer = peer
        self._number = number
        self._sock = sock
        self._loop = peer.plane.loop
        self._out = bytearray()
        self._open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        if self._peer.full:
            self._loop.remove_reader(self._sock.fileno())
            return
        data = received(lambda: self._sock.recv(CONSOLE_CHUNK))
        if data is None:
            return
        if not data:
            self.close()
            self._peer.send(rpc.notification("console-closed", {"console": self._number}))
            return
        text = base64.b64encode(data).decode("ascii")
        self._peer.send(rpc.notification("console-output", {"console": self._number, "data": text}))

    def resume(self) -> None:
        """The client has taken what waited."""
        if self._open:
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def write(self, data: bytes) -> None:
        """Send to the device.  RpcError if too much waits already."""
        if len(self._out) + len(data) > CONSOLE_BUFFER:
            raise RpcError(rpc.LIMIT_EXCEEDED, f"{len(self._out)} bytes wait for the device already")
        waiting = bool(self._out)
        self._out += data
        if not waiting:
            self._writable()

    def _writable(self) -> None:
        try:
            del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._out.clear()
        if self._out:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Detach."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._peer.forget_console(self._number)

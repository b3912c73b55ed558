"""One daemon: its loop, its monitors, its machine.  Everything here runs on the loop.

    start ──> serving ──shutdown()──> ending ──all sent, or 0.5 s──> ended
                                        └── a watchdog ends the process after 1.5 s, whatever hangs

The machine, the type registry and the log's library are imported when they are first needed, so that the
first reply waits for none of them.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite import __version__
from ratite.daemon.bridge import Bridge
from ratite.daemon.dispatch import Dispatcher, Handlers
from ratite.daemon.fdsets import FdSets
from ratite.daemon.qmp.events import EventHub, event_line
from ratite.daemon.qmp.session import RawJson, Session
from ratite.daemon.qmp.unix import Connection, Listener
from ratite.daemon.views import QEMU, RATITE, View, Views, load_schema, members_of
from ratite.qapi.errors import GenericError
from ratite.qapi.wire import encode

if TYPE_CHECKING:
    from ratite.core.backends.set import ChardevSet
    from ratite.core.hostfiles import HostFiles
    from ratite.core.machine import Machine
    from ratite.core.objects.registry import TypeRegistry
    from ratite.daemon.log import Log
    from ratite.daemon.loop import Loop
    from ratite.daemon.options import Options
    from ratite.daemon.qmp.address import Endpoint
    from ratite.daemon.qmp.loopio import LoopIo
    from ratite.daemon.qmp.monitor import Monitor
    from ratite.qapi.machinefile.types import MachineType
    from ratite.qapi.resolved import ResolvedSchema

# The QEMU whose wire behaviour is spoken.
QEMU_VERSION = (10, 0, 2)

DRAIN_SECONDS = 0.5
WATCHDOG_SECONDS = 1.5


def version() -> dict[str, Any]:
    """What query-version answers."""
    major, minor, micro = QEMU_VERSION
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": f"ratite {__version__}"}


class StandIn(NamedTuple):
    """Whose place a daemon takes: QEMU's binary for `target`, fixed for every monitor.  `machine`: the type of its machine;
    `empty`: one with nothing in it, which is realized from the start.  `policy`: facts of its monitors' views."""

    target: str
    machine: str
    empty: bool
    policy: frozenset[str] = frozenset()


class Daemon:
    """See the module's head.  `endpoints` are open already; `run` serves until the end.

    `tied`: the first monitor's end is the daemon's.  `ended`: the loop and the process are somebody else's, who is told of
    the end; `run` is not called then.  `schema`, `registry`: some that are loaded already.  `files`, `limits`: the machine's.
    `modules`: those of `ratite.daemon.commands`, with their commands.  `stand_in`: it serves QEMU's personality and no other.
    """

    def __init__(
        self,
        options: Options,
        loop: Loop,
        log: Log,
        endpoints: Sequence[Endpoint],
        modules: Mapping[str, str],
        *,
        schema: ResolvedSchema | None = None,
        tied: bool = False,
        ended: Callable[[], None] | None = None,
        files: HostFiles | None = None,
        limits: Mapping[str, int] | None = None,
        registry: TypeRegistry | None = None,
        stand_in: StandIn | None = None,
    ) -> None:
        self.options = options
        self.log = log
        self.loop = loop
        self.fdsets = FdSets()
        self.bridge = Bridge(loop, log)
        self.hub = EventHub(self._sessions, loop.call_later)
        self.views = Views(schema or load_schema(), self._list_types)
        self.handlers = Handlers("ratite.daemon.commands", modules)
        self.execute = Dispatcher(self, self.handlers).execute
        self._endpoints: list[Endpoint] = []
        self._stand_in = stand_in
        self._policy = stand_in.policy if stand_in is not None else frozenset()
        self._files = files
        self._limits = limits or {}
        self._tied = tied
        self._ended = ended
        self._connections: dict[Monitor, None] = {}
        self._owner: Monitor | None = None
        self._machine: Machine | None = None
        self._chardevs: ChardevSet | None = None
        self._loop_io: LoopIo | None = None
        self._registry = registry
        self._machine_types: dict[str, Sequence[MachineType]] = {}
        self._has_machine_types = False
        self.targets: tuple[str, ...] = ()
        # What the client said, also before there is a cluster of it.
        self._stated_primary = ""
        self.exit_status = 0
        # What `set-action` chose while there was no machine to tell.
        self.actions: dict[str, str] = {"shutdown": "pause"} if options.no_shutdown else {}
        # Called when the end begins, since the process may be ended by the watchdog.
        self.at_end: Callable[[], None] = lambda: None
        self._count = 0
        self.ending = self._stopped = False
        greeting = {"QMP": {"version": version(), "capabilities": ["oob"]}}
        self._greeting = encode(greeting)
        self._listeners: list[Listener] = []
        self.open(endpoints)

    # -- monitors

    def open(self, endpoints: Sequence[Endpoint]) -> None:
        """Serve monitors at these too."""
        for endpoint in endpoints:
            self._endpoints.append(endpoint)
            if endpoint.address.server:
                self._listeners.append(Listener(endpoint.sock, self.loop, self.log, self.add_monitor))
            else:
                self.add_monitor(endpoint.sock)

    @property
    def own_view(self) -> tuple[str, tuple[str, ...]]:
        """Personality and targets of a new monitor's view."""
        return (RATITE, self.targets) if self._stand_in is None else (QEMU, (self._stand_in.target,))

    def new_session(self, pretty: bool = False) -> Session:
        """The session of one more monitor, in the view that it begins with."""
        self._count += 1
        view = self.views.get(*self.own_view, policy=self._policy)
        return Session(view, self._greeting, f"monitor{self._count}", pretty)

    def first_view(self) -> View:
        """What a monitor shows before it selects another view."""
        return self.views.get(*self.own_view)

    def add_monitor(self, sock: socket.socket, pretty: bool = False) -> None:
        """Serve QMP to who is at the other end of a connected socket."""
        session = self.new_session(pretty)
        self.serve(Connection(sock, session, self.loop, self.log, self.execute, self.closed))

    def serve(self, monitor: Monitor) -> None:
        """A monitor begins; its end comes to `closed`."""
        self.log.info("monitor connected", session=monitor.session.name)
        self._connections[monitor] = None
        if self._tied and self._owner is None:
            self._owner = monitor
        monitor.start()

    def closed(self, monitor: Monitor) -> None:
        """A monitor has ended."""
        self._connections.pop(monitor, None)
        self.log.info("monitor closed", session=monitor.session.name)
        if self.ending and not self._connections:
            self._stop()
        elif monitor is self._owner:
            self.shutdown("host-signal")

    @property
    def loop_io(self) -> LoopIo:
        """What serves the chardevs of monitors."""
        if self._loop_io is None:
            from ratite.daemon.qmp.loopio import LoopIo

            self._loop_io = LoopIo(self.loop, self.log)
        return self._loop_io

    def _sessions(self) -> Iterator[Session]:
        return iter([connection.session for connection in self._connections])

    def emit(self, name: str, data: dict[str, Any] | None = None, when_ns: int = 0) -> None:
        """Send an event to every monitor that may see it."""
        self.hub.emit(name, data, when_ns)
        for connection in list(self._connections):
            connection.flush()

    # -- views

    def select_view(self, session: Session, view: View) -> None:
        """Give a monitor another view; it is told if it has one of ratite's own."""
        if session.change_view(view):
            data = {"generation": session.generation, "targets": list(view.targets)}
            shown = view.event_data("VIEW_CHANGED", data)
            if shown is not None:
                session.event("VIEW_CHANGED", event_line("VIEW_CHANGED", shown))

    def targets_changed(self, primary: str, targets: tuple[str, ...]) -> None:
        """The machine's clusters are of these targets, and the client stated this primary one or "": unpinned views follow."""
        self._stated_primary = primary
        if targets == self.targets:
            return
        self.targets = targets
        for connection in list(self._connections):
            session = connection.session
            if session.pinned is None and session.view.personality == RATITE:
                self.select_view(session, self.views.get(RATITE, targets, session.view.unconditional))
                connection.flush()

    @property
    def primary_target(self) -> str | None:
        """The target that stands for the machine where only one can."""
        if self._stand_in is not None:
            return self._stand_in.target
        return self._stated_primary or (self.targets[0] if self.targets else None)

    def _list_types(self, kinds: tuple[str, ...]) -> Mapping[str, list[dict[str, Any]]]:
        rows = self.registry.types(abstract=False)
        return {row.name: members_of(row.properties) for row in rows if row.kind in kinds}

    # -- machine

    @property
    def registry(self) -> TypeRegistry:
        """The type registry; read at the first use."""
        if self._registry is None:
            from ratite.core.objects.registry import TypeRegistry

            self._registry = TypeRegistry(allow=self.options.allow)
        if self._stand_in is not None and not self._has_machine_types:
            from ratite.daemon.personality.machines import rows_of

            self._registry.add_rows(rows_of(self._stand_in.target))
            self._has_machine_types = True
        return self._registry

    def machine_types(self, target: str) -> Sequence[MachineType]:
        """The machine types of a program for this target, by name; looked for at the first use."""
        found = self._machine_types.get(target)
        if found is None:
            from ratite.daemon.personality.machines import types_of

            found = self._machine_types[target] = types_of(target)
        return found

    @property
    def machine(self) -> Machine:
        """The machine; GenericError if there is none yet."""
        if self._machine is None and self._empty:
            self._make_empty()
        if self._machine is None:
            raise GenericError("There is no machine: its phase is 'none', and machine-create makes one")
        return self._machine

    @property
    def has_machine(self) -> bool:
        """Whether there is one."""
        return self._machine is not None or self._empty

    @property
    def _empty(self) -> bool:
        return self._stand_in is not None and self._stand_in.empty

    def _make_empty(self) -> None:
        """The empty machine that was there from the start, as far as anybody could see; a start has no time for it."""
        assert self._stand_in is not None
        machine = self._new_machine(self._stand_in.machine)
        machine.owner.post(machine.exit_preconfig).result()
        self._machine = machine
        self.bridge.listen(machine, self._machine_event, self._guest_shutdown)

    @property
    def chardevs(self) -> ChardevSet:
        """The chardevs: the machine's, or those that it will have.  On the owner's side once there is one."""
        if self._chardevs is None:
            from ratite.core.backends.set import ChardevSet

            self._chardevs = ChardevSet(files=self._host_files())
            if self._stand_in is not None:
                self._chardevs.program = "QEMU"
            self._chardevs.quit = lambda: self.bridge.call_on_loop(self.shutdown, "host-qmp-quit")
        return self._chardevs

    def _host_files(self) -> HostFiles:
        from ratite.core.hostfiles import FREE
        from ratite.daemon.fdfiles import FilesWithSets

        return FilesWithSets(self._files or FREE, self.fdsets)

    def move_log(self, path: str) -> None:
        """The log goes to another file, whose name may have the process's number in it (%d).  GenericError."""
        if self._ended is not None:
            raise GenericError("the log is that of several machines")
        if "%" in path.replace("%d", "", 1):
            raise GenericError(f"Bad logfile template: {path}")
        place = path.replace("%d", str(os.getpid()))
        # A pipe that nobody reads is refused.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = self._host_files().open(place, flags, 0o666)
        except OSError as error:
            raise GenericError(f"Error opening logfile {place}: {error.strerror}") from None
        self.log.move(fd)

    @property
    def has_chardevs(self) -> bool:
        """Whether any was ever made."""
        return self._chardevs is not None

    def create_machine(self, primary_target: str | None, kind: str = "") -> None:
        """Phase none to created; imports what a machine needs.  `kind`: the type at /machine, where it isn't ratite's own."""
        if self._machine is not None:
            raise GenericError(f"machine-create is permitted only in phase 'none', it is '{self.phase}'")
        if primary_target is not None:
            self.registry.target(primary_target)
        self._machine = machine = self._new_machine(kind)
        if primary_target is not None:
            machine.tree.node.set_property("primary-target", primary_target)
            self._stated_primary = primary_target
        self.bridge.listen(machine, self._machine_event, self._guest_shutdown)

    def _new_machine(self, kind: str) -> Machine:
        self.log.take_core()
        from ratite.core.actions import UNTOLD
        from ratite.core.machine import Machine

        machine = Machine(
            self.registry, autostart=not self.options.paused, chardevs=self.chardevs, files=self._host_files(),
            limits=self._limits, kind=kind,
        )  # fmt: skip
        if self._stand_in is not None:
            machine.actions.panic = UNTOLD
        machine.actions.set(self.actions)
        return machine

    @property
    def phase(self) -> str:
        """The machine's phase, as last published."""
        if self._machine is None:
            return "none" if not self._empty else "ready" if self.options.paused else "running"
        snapshot = self._machine.snapshot
        if snapshot.phase != "ready":
            return snapshot.phase
        if snapshot.running:
            return "running"
        return "ready" if snapshot.status == "prelaunch" else "paused"

    @property
    def status(self) -> tuple[bool, str]:
        """Whether the machine runs, and its run state, as last published."""
        if self._machine is None:
            return (True, "running") if self._empty and not self.options.paused else (False, "prelaunch")
        snapshot = self._machine.snapshot
        return snapshot.running, snapshot.status

    def _machine_event(self, name: str, data: dict[str, Any], when_ns: int) -> None:
        panic = None if self._machine is None else self._machine.panic
        if name == "GUEST_PANICKED" and panic is not None:
            data = {**data, "cpu": {"path": panic.cpu, "pc": panic.pc, "cause": panic.cause}}
        self.log.info("machine event", name=name, data=data)
        self.emit(name, data, when_ns)

    def _guest_shutdown(self, cause: str, exit_code: int) -> None:
        self.exit_status = exit_code
        self._end()

    # -- the end

    def run(self) -> int:
        """Serve until somebody ends the daemon, and clean up; the exit status."""
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                self.loop.add_signal_handler(number, self.shutdown, "host-signal")
        if self.options.lifeline is not None:
            # Whoever holds the other end has started us for himself; the kernel closes it however he ends.
            fd = int(self.options.lifeline)
            os.set_blocking(fd, False)
            self.loop.add_reader(fd, self._lifeline_moved, fd)
        try:
            self.loop.run_forever()
        finally:
            self._clean_up()
        return self.exit_status

    def _lifeline_moved(self, fd: int) -> None:
        with suppress(BlockingIOError):
            if not os.read(fd, 1 << 12):
                self.loop.remove_reader(fd)
                self.shutdown("host-signal")

    def fail(self, status: int) -> None:
        """End with this exit status, before anybody was served."""
        self.exit_status = status
        self._end()

    def shutdown(self, reason: str) -> None:
        """Tell everybody, and end."""
        if not self.ending:
            self.emit("SHUTDOWN", {"guest": False, "reason": reason})
            self._end()

    def _end(self) -> None:
        if self.ending:
            return
        self.ending = True
        for connection in self._connections:
            connection.stop_input()
        for listener in self._listeners:
            listener.close()
        for endpoint in self._endpoints:
            # The others are monitors, which get their last words yet.
            if endpoint.address.server:
                endpoint.remove()
        self.at_end()
        if self._ended is None:
            watchdog = threading.Timer(WATCHDOG_SECONDS, os._exit, (self.exit_status,))
            watchdog.daemon = True
            watchdog.start()
        self.loop.call_later(DRAIN_SECONDS, self._stop)
        self.loop.call_soon(self._finish)

    def _finish(self) -> None:
        for connection in list(self._connections):
            connection.finish()
        if not self._connections:
            self._stop()

    def _stop(self) -> None:
        """Everything is sent, or it took too long."""
        if self._ended is None:
            self.loop.stop()
        elif not self._stopped:
            # The loop is others' as well: what takes time is done aside.
            self._stopped, ended = True, self._ended
            self._close_sockets()
            self.bridge.aside(self._close_machine, lambda value, error: ended())

    def _clean_up(self) -> None:
        self._close_sockets()
        if self._loop_io is not None:
            self._loop_io.end()
        self._close_machine()

    def _close_sockets(self) -> None:
        for connection in list(self._connections):
            connection.close()
        for endpoint in self._endpoints:
            endpoint.remove()
        self.fdsets.close()

    def _close_machine(self) -> None:
        if self._machine is not None:
            self._machine.close()
        elif self._chardevs is not None:
            self._chardevs.close()


def raw_schema(view: View) -> RawJson:
    """query-qmp-schema's answer in a view, encoded once."""
    return RawJson(view.tables.introspect_bytes())

"""From a command's name to its handler, on the right side.

A handler is a function `handler(ctx, arguments) -> value` marked with

    @command("query-status")                     answered on the loop, at once
    @command("qom-list", side=OWNER)             runs on the machine's owner thread

`arguments` are checked and belong to the handler; the value is JSON (or RawJson) of the command's
return type, None for none.  A refusal is a QmpError.  Marks stay on the functions; `Dispatcher` finds them
in the modules of `ratite.daemon.commands`, by the table there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.daemon.views import RATITE
from ratite.qapi.errors import CommandNotFound, GenericError, QmpError
from ratite.qapi.views import refused_mark

if TYPE_CHECKING:
    from ratite.core.machine import Machine
    from ratite.daemon.bridge import Done
    from ratite.daemon.daemon import Daemon
    from ratite.daemon.qmp.monitor import Monitor
    from ratite.daemon.qmp.session import Request, Session
    from ratite.daemon.views import View
    from ratite.qapi.tables import Command, Tables

# Value and error of a command on the owner's side, then the stated primary target and the machine's targets.
Result = tuple[object, QmpError | None, str, tuple[str, ...]]

LOOP, OWNER = "loop", "owner"

# Phases in which everything is realized: QEMU's "after machine initialization".
INITIALIZED = frozenset({"ready", "running", "paused"})


class Context:
    """What a handler may know: who asks, in which view, of which daemon.  `machine` only on the owner's side."""

    __slots__ = ("daemon", "session", "view")

    def __init__(self, daemon: Daemon, session: Session) -> None:
        self.daemon = daemon
        self.session = session
        self.view: View = session.view

    @property
    def machine(self) -> Machine:
        """The machine; GenericError if there is none."""
        if not self.ratite and not self.daemon.has_machine:
            raise GenericError("There is no machine; a monitor whose view is ratite's own can make one")
        return self.daemon.machine

    @property
    def ratite(self) -> bool:
        """Whether the view is one of ratite's own."""
        return self.view.personality == RATITE


Handler = Callable[[Context, dict[str, Any]], object]


class Entry(NamedTuple):
    """A command's handler.

    `early` commands also serve before initialization, in ratite's own views, `assembles` ones in every view; `alone` ones of
    the owner's side also without any machine, and then run on the loop; `without` makes the answer then.
    """

    name: str
    handler: Handler
    side: str
    early: bool
    alone: bool
    assembles: bool
    without: Callable[[], object] | None


def command(
    *names: str,
    side: str = LOOP,
    early: bool = True,
    alone: bool = False,
    assembles: bool = False,
    without: Callable[[], object] | None = None,
) -> Callable[[Handler], Handler]:
    """Mark a function as the handler of the commands `names`."""

    def mark(handler: Handler) -> Handler:
        entries = tuple(Entry(name, handler, side, early, alone, assembles, without) for name in names)
        handler.qmp_entries = entries  # type: ignore[attr-defined]
        return handler

    return mark


def marked(module: ModuleType) -> Mapping[str, Entry]:
    """The handlers of a module by command name.  ValueError if a command has two."""
    found: dict[str, Entry] = {}
    for value in vars(module).values():
        for entry in getattr(value, "qmp_entries", ()):
            if found.setdefault(entry.name, entry) != entry:
                raise ValueError(f"command {entry.name!r} has two handlers")
    return found


class Handlers(Mapping[str, Entry]):
    """All handlers by command name, each module imported when it is first asked for one of its.

    `modules`: the commands of each module of `package`, as words.  ValueError if a command is in two.
    """

    def __init__(self, package: str, modules: Mapping[str, str]) -> None:
        self._package = package
        self._where: dict[str, str] = {}
        self._found: dict[str, Entry] = {}
        for module, names in modules.items():
            for name in names.split():
                if self._where.setdefault(name, module) != module:
                    raise ValueError(f"command {name!r} is in {module} and in {self._where[name]}")

    def __getitem__(self, name: str) -> Entry:
        entry = self._found.get(name)
        if entry is None:
            module = import_module(f"{self._package}.{self._where[name]}")
            self._found.update(marked(module))
            entry = self._found[name]
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


class Later:
    """What a handler gives whose answer waits for somebody: `wait`, on a thread of its own, gives it or raises QmpError.

    Nothing else waits meanwhile but the commands behind it on the same session.
    """

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait


class Dispatcher:
    """Executes requests of one daemon's sessions."""

    def __init__(self, daemon: Daemon, entries: Mapping[str, Entry]) -> None:
        self._daemon = daemon
        self._entries = entries

    def execute(self, connection: Monitor, request: Request) -> None:
        """Execute a command that the session let pass; its end goes to the session, now or later."""
        session = connection.session
        try:
            command = session.view.find(request.name)
            assert command is not None
            entry = self._entries[request.name]
            mark = refused_mark(command.features, session.view.facts) if command.features else ""
            if mark:
                raise CommandNotFound(f"{mark} command {command.name} disabled by policy")
            self._check_phase(session.view, command, entry)
            if not self._daemon.views.supports(session.view, command.name):
                raise GenericError(f"The command '{command.name}' is not supported on this target")
            if session.view.needs_extension(command):
                self._extend(connection, request, command)
                return
            arguments = session.view.check(command, request.arguments)
            context = Context(self._daemon, session)
            if entry.side is OWNER and not self._daemon.has_machine and entry.without is not None:
                value = entry.without()
            elif entry.side is OWNER and not (entry.alone and not self._daemon.has_machine):
                self._post(connection, request, entry, context, arguments)
                return
            else:
                value = entry.handler(context, arguments)
        except QmpError as error:
            session.fail(request, error)
        except Exception as error:
            self._daemon.log.error("a command failed inside", command=request.name, exc_info=error)
            session.fail(request, GenericError(f"internal error: {type(error).__name__}: {error}"))
        else:
            self._answer(connection, request, value)

    def _answer(self, connection: Monitor, request: Request, value: object) -> None:
        if not isinstance(value, Later):
            connection.session.reply(request, {} if value is None else value)
            return

        def done(found: object, error: QmpError | None) -> None:
            if error is None:
                connection.session.reply(request, {} if found is None else found)
            else:
                connection.session.fail(request, error)
            connection.pump()

        self._daemon.bridge.aside(value.wait, done)

    def _extend(self, connection: Monitor, request: Request, command: Command) -> None:
        """Make the view's tables off the loop, then try again."""
        view = connection.session.view

        def done(tables: Tables | None, error: QmpError | None) -> None:
            if tables is None:
                connection.session.fail(request, error or GenericError("the schema of this view can't be made"))
            else:
                view.extend(tables)
                self.execute(connection, request)
            connection.pump()

        self._daemon.bridge.aside(view.extension(command), done)

    def _check_phase(self, view: View, command: Command, entry: Entry) -> None:
        if command.allow_preconfig or entry.assembles or (entry.early and view.personality == RATITE):
            return
        if self._daemon.phase not in INITIALIZED:
            raise GenericError(f"The command '{command.name}' is permitted only after machine initialization has completed")

    def _post(
        self, connection: Monitor, request: Request, entry: Entry, context: Context, arguments: dict[str, Any]
    ) -> None:
        def done(value: object, error: QmpError | None) -> None:
            if error is None:
                self._answer(connection, request, value)
            else:
                connection.session.fail(request, error)
            connection.pump()

        owned(context.machine, self._daemon, lambda: entry.handler(context, arguments), done)


def owned(machine: Machine, daemon: Daemon, work: Callable[[], object], done: Done) -> None:
    """Do `work` on the owner's side; then `done(value, error)` is called on the loop, where the machine's targets are known."""

    def all_of_it() -> Result:
        try:
            value, error = work(), None
        except QmpError as refusal:
            value, error = None, refusal
        return value, error, primary_of(machine), targets_of(machine)

    def finished(result: Result | None, fault: QmpError | None) -> None:
        if result is None:
            done(None, fault)
            return
        value, error, primary, targets = result
        daemon.targets_changed(primary, targets)
        done(value, error)

    daemon.bridge.post(machine, all_of_it, finished)


def refuse_nul(values: Mapping[str, Any]) -> None:
    """GenericError if a text among the values holds a NUL, which no name of the host can."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            refuse_nul(value)
        elif isinstance(value, str) and "\0" in value:
            raise GenericError(f"Parameter '{name}' must not contain a NUL character")


def primary_of(machine: Machine) -> str:
    """The primary target that the client stated, or "".  On the owner's side."""
    primary: str = machine.tree.node.get_property("primary-target")
    return primary


def targets_of(machine: Machine) -> tuple[str, ...]:
    """The targets of a machine's clusters, in the order of their making.  On the owner's side."""
    found = [obj.get_property("target") for obj in machine.tree.objects.children.values() if obj.is_a("cpu-cluster")]
    return tuple(dict.fromkeys(target for target in found if target))

"""The commands of a start: each by its handler, as a client's would be, in order; all or the first refusal.

What needs the machine is done on its owner thread in one go.  Nobody is connected yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.daemon.daemon import Daemon
from ratite.daemon.dispatch import OWNER, Context, primary_of, targets_of
from ratite.daemon.qmp.session import Session
from ratite.qapi.errors import GenericError, QmpError

if TYPE_CHECKING:
    from ratite.daemon.personality.start import Start, Step

Ready = Callable[[Daemon], None]
Failed = Callable[[Daemon, "Step | None", QmpError], None]


class Startup:
    """One run; `ready` or `failed` is called on the loop."""

    def __init__(self, daemon: Daemon, start: Start, ready: Ready, failed: Failed) -> None:
        self._daemon = daemon
        self._start = start
        self._ready = ready
        self._failed = failed
        self._step: Step | None = None
        # A session that nobody sees: the view that checks what options ask for, and inherited descriptors.
        self._session = Session(daemon.views.get(*daemon.own_view), b"", "start")
        self._session.named_fds.update(start.fds)

    def begin(self) -> None:
        """Execute them."""
        try:
            self._daemon.create_machine(None)
            machine = self._daemon.machine
            for step in self._start.steps:
                if self._daemon.handlers[step.command].side is not OWNER:
                    self._execute(step)
        except QmpError as error:
            self._end(error)
            return
        self._daemon.bridge.post(machine, self._on_owner, self._done)

    def _on_owner(self) -> tuple[str, tuple[str, ...]]:
        for step in self._start.steps:
            if self._daemon.handlers[step.command].side is OWNER:
                self._execute(step)
        self._step = None
        machine = self._daemon.machine
        if not self._start.preconfig:
            machine.exit_preconfig()
        return primary_of(machine), targets_of(machine)

    def _execute(self, step: Step) -> None:
        self._step = step
        context = Context(self._daemon, self._session)
        arguments = step.arguments
        if step.written:
            command = self._session.view.find(step.command)
            if command is None:
                raise GenericError(f"The command {step.command} has not been found")
            arguments = self._session.view.check(command, arguments)
        self._daemon.handlers[step.command].handler(context, arguments)

    def _done(self, targets: tuple[str, tuple[str, ...]] | None, error: QmpError | None) -> None:
        if targets is None:
            self._end(error or GenericError("the machine can't be made"))
            return
        self._daemon.targets_changed(*targets)
        self._end(None)

    def _end(self, error: QmpError | None) -> None:
        self._session.close()
        if error is None:
            self._ready(self._daemon)
        else:
            self._failed(self._daemon, self._step, error)

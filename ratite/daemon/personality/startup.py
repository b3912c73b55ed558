"""The commands of a start: each by its handler, as a client's would be; all, or the first refusal.

    chardevs, -add-fd ──> backends, objects, the board ──> wired ──> devices, each wired at once ──> realized ──> monitors

What needs the machine is done on its owner thread in one go.  Nobody is connected yet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from ratite.daemon.daemon import Daemon
from ratite.daemon.dispatch import Context, primary_of, targets_of
from ratite.daemon.personality.start import Step
from ratite.daemon.qmp.session import Session
from ratite.qapi.errors import GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.backends.mux import MuxChardev
    from ratite.daemon.personality.start import Start

Ready = Callable[[Daemon], None]
Failed = Callable[[Daemon, "Step | None", QmpError], None]

CHARDEV = "chardev-add"
GIVEN, OWN = "/machine/peripheral/", "/machine/unattached/"


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
        start, daemon = self._start, self._daemon
        try:
            for fd, number, opaque in start.fdsets:
                daemon.fdsets.add(fd, number, opaque)
            for step in start.actions:
                # Before there is a machine: the one to come begins with them.
                daemon.actions.update(self._checked(step))
            for step in start.steps:
                if step.command == CHARDEV:
                    _tell_terminal(step, self._execute(step))
            # What is typed early may be for the monitor.
            for chardev in self._shared():
                chardev.hold()
            if start.empty and not start.preconfig:
                self._finish()
                return
            daemon.create_machine(None, start.machine)
        except QmpError as error:
            self._end(error)
            return
        daemon.bridge.post(daemon.machine, self._on_owner, self._done)

    def _on_owner(self) -> tuple[str, tuple[str, ...]]:
        from ratite.core.numa import MainRam

        start, machine = self._start, self._daemon.machine
        for step in start.steps:
            if step.command != CHARDEV:
                self._execute(step)
        for name in start.drives:
            machine.blocks.find(name).drive = name
        with machine.making_its_own() if start.own else nullcontext():
            for step in start.board:
                if step.command != "machine-create":
                    self._execute(step._replace(arguments=_own(step.arguments)) if start.own else step)
        self._step = None
        machine.numa.supported = start.numa
        machine.numa.main_ram = MainRam(*start.main_ram) if start.main_ram else None
        for step in start.nodes:
            self._execute(step)
        self._step = None
        if not start.preconfig:
            machine.numa.settle()
        if start.devices:
            machine.wire()
        for step in start.devices:
            self._execute(step)
        self._step = None
        if not start.preconfig or start.dump_tree:
            machine.autostart = machine.autostart and not start.dump_tree
            machine.exit_preconfig()
        if start.dump_tree:
            self._execute(Step("dumpdtb", {"filename": start.dump_tree}))
        return primary_of(machine), targets_of(machine)

    def _execute(self, step: Step) -> object:
        context = Context(self._daemon, self._session)
        return self._daemon.handlers[step.command].handler(context, self._checked(step))

    def _checked(self, step: Step) -> dict[str, Any]:
        """Its arguments; what an option asks for is what the personality's view has."""
        self._step = step
        if not step.written:
            return dict(step.arguments)
        command = self._session.view.find(step.command)
        if command is None:
            raise GenericError(f"The command {step.command} has not been found")
        return self._session.view.check(command, dict(step.arguments))

    def _done(self, targets: tuple[str, tuple[str, ...]] | None, error: QmpError | None) -> None:
        if targets is None:
            self._end(error or GenericError("the machine can't be made"))
            return
        self._daemon.targets_changed(*targets)
        try:
            self._finish()
        except QmpError as refusal:
            self._end(refusal)

    def _finish(self) -> None:
        """Everything is there: serve the monitors."""
        for step in self._start.monitors:
            self._step = step
            self._daemon.handlers[step.command].handler(Context(self._daemon, self._session), dict(step.arguments))
        for chardev in self._shared():
            chardev.release()
        self._end(None)

    def _shared(self) -> list[MuxChardev]:
        """The chardevs at which both monitors and devices may be."""
        if not self._daemon.has_chardevs:
            return []
        from ratite.core.backends.mux import MuxChardev

        wanted = {step.arguments["chardev"] for step in self._start.monitors}
        return [each for each in self._daemon.chardevs.children.values() if isinstance(each, MuxChardev) and each.id in wanted]

    def _end(self, error: QmpError | None) -> None:
        self._session.close()
        if error is None:
            self._ready(self._daemon)
        else:
            self._failed(self._daemon, self._step, error)


def _tell_terminal(step: Step, answer: object) -> None:
    """A pseudo terminal's path is nowhere else to be had by who has no monitor; in QEMU's words, for scripts wait for them."""
    if isinstance(answer, dict) and "pty" in answer:
        with suppress(OSError):
            print(f"char device redirected to {answer['pty']} (label {step.arguments['id']})", flush=True)


def _own(value: Any) -> Any:
    """A machine type's arguments, with the paths of its own devices where those are."""
    if isinstance(value, str) and value.startswith(GIVEN):
        return OWN + value.removeprefix(GIVEN)
    if isinstance(value, dict):
        return {name: _own(each) for name, each in value.items()}
    return [_own(each) for each in value] if isinstance(value, list) else value

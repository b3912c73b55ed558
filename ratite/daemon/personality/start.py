"""`Start`: what a command line comes to, as the translator leaves it and launch.py takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ratite.daemon.options import Options


class Step(NamedTuple):
    """A QMP command at the start.  `written`: the option that asks for it; "": the machine's own, checked when it was made."""

    command: str
    arguments: dict[str, Any]
    written: str = ""

    def makes(self, command: str, id: str) -> bool:
        """Whether it is this command for this id."""
        return self.command == command and self.arguments.get("id") == id


class MonitorAt(NamedTuple):
    """A monitor at the chardev of this id; `control` speaks QMP, else it is the human monitor."""

    chardev: str
    control: bool
    pretty: bool
    written: str


class Start:
    """See the module's head.  `fds`: inherited descriptors by the names that steps call them by."""

    def __init__(self, program: str, target: str) -> None:
        self.program = program
        self.target = target
        self.machine = ""
        self.options = Options()
        self.steps: list[Step] = []
        self.monitors: list[MonitorAt] = []
        self.fds: dict[str, int] = {}
        self.background = False
        self.preconfig = False
        # The command that renews the shim, where that is of another version.
        self.stale = ""
        # What messages begin with.
        self.timestamp = self.guest_name = False

    @property
    def empty(self) -> bool:
        """Whether the machine has nothing in it."""
        return not self.steps

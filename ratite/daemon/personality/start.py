"""`Start`: what a command line comes to, as the translator leaves it and launch.py takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.daemon.options import Options

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry
    from ratite.qapi.resolved import ResolvedSchema


class Step(NamedTuple):
    """A QMP command at the start.  `written`: the option that asks for it; "": the machine's own, checked when it was made."""

    command: str
    arguments: dict[str, Any]
    written: str = ""

    def makes(self, command: str, id: str) -> bool:
        """Whether it is this command for this id."""
        return self.command == command and self.arguments.get("id") == id


class Start:
    """See the module's head.  What is made, in this order: `steps` (backends and objects), `board` (what the machine is), as
    soon as `nodes` are told and that is wired `devices`; and `monitors` are served last."""

    def __init__(self, program: str, target: str) -> None:
        self.program = program
        self.target = target
        # The type of the object at /machine.
        self.machine = ""
        # Whether what the board is made of is the type's own, not a user's.
        self.own = True
        self.options = Options()
        self.steps: list[Step] = []
        self.board: list[Step] = []
        self.devices: list[Step] = []
        # NUMA nodes; whether the machine's type may have them; its RAM, with where it is and its bytes.
        self.nodes: list[Step] = []
        self.numa = True
        self.main_ram: tuple[str, str, int, int] | None = None
        # The nodes that are disks of `-drive`, by which commands know them too: "none" or "virtio", whose disks are numbered.
        self.drives: dict[str, str] = {}
        self.monitors: list[Step] = []
        # Inherited descriptors by the names that steps call them by; descriptor, set and note of each -add-fd.
        self.fds: dict[str, int] = {}
        self.fdsets: list[tuple[int, int, str | None]] = []
        self.background = False
        self.preconfig = False
        # Kernel, ramdisk and firmware, by what they are called.
        self.loads: dict[str, str] = {}
        # Where the device tree is to be written, instead of running.
        self.dump_tree = ""
        # What is odd and doesn't matter.
        self.warnings: list[str] = []
        # The command that renews the shim, where that is of another version.
        self.stale = ""
        # What set-action is told; who is to be when everything is open.
        self.actions: list[Step] = []
        self.user = ""
        # What -compat asks for, as facts of views.
        self.policy: set[str] = set()
        # What was read for the translation already.
        self.registry: TypeRegistry | None = None
        self.schema: ResolvedSchema | None = None

    def about_files(self, text: str) -> str:
        """What is wrong with the machine, told of what its CPUs were to load where a file is named."""
        for what, path in self.loads.items():
            if f"'{path}'" in text:
                return f"could not load {what} '{path}'\n{text.partition(': ')[2]}"
        return text

    @property
    def empty(self) -> bool:
        """Whether the machine has nothing in it."""
        return not (self.board or self.devices or any(step.command != "chardev-add" for step in self.steps))

"""`cpu-cluster`: CPUs of one type that share an accelerator and a view of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config, debug, link
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.accel.base import Accelerator
    from ratite.core.cpu.base import Cpu
    from ratite.core.memory.flat import FlatView
    from ratite.core.memory.space import Space


class CpuCluster(Obj):
    """CPUs of one type that share an accelerator and a view of memory."""

    TYPE = "cpu-cluster"
    KIND = "object"

    target = config("str", "", "name of the target whose CPUs these are", required=True)
    accel = config("str", "", "accelerator; empty: the best that is usable")
    address_space = link("address-space", "what the CPUs see")
    word_size = config("uint8", 0, "mode that the CPUs start in; 0: the target's", unit="bits")
    code_size = config(
        "size", 64 << 20, "compiled code that the CPUs share; when it is full, what came first goes and is counted",
        unit="bytes", minimum=1 << 20, maximum=1 << 30,
    )  # fmt: skip
    accelerator_name = debug("str", text="the accelerator in use", getter="_accelerator_name")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        # The target's row of the manifest, from wired on.
        self.target_row: Mapping[str, Any] = {}
        self.cpus: list[Cpu] = []
        self.accelerator: Accelerator | None = None

    @property
    def space(self) -> Space:
        """The view of memory, from wired on."""
        space: Space = self.address_space
        return space

    @property
    def big_endian(self) -> bool:
        """The byte order that the CPUs start in."""
        return bool(self.target_row["big-endian"])

    @property
    def bits(self) -> int:
        """The word size that the CPUs start in."""
        return int(self.word_size or self.target_row["word-size"])

    def check_property(self, name: str, value: Any) -> None:
        """Target and accelerator name types, which can't come later as objects can: they must be there and usable."""
        if name == "target":
            self.machine.registry.target(value)
        elif name == "accel" and value:
            self._check_accelerator(value)

    def wire(self) -> None:
        """Look up target and accelerator; GenericError with the reason when one can't serve."""
        row = self.machine.registry.target(self.target)
        if self.word_size not in (0, 32, 64) or self.word_size > row["word-size"]:
            sizes = " or ".join(str(n) for n in (32, 64) if n <= row["word-size"])
            raise GenericError(
                f"Property '{self.TYPE}.word-size' must be {sizes} for target '{self.target}', not {self.word_size}"
            )
        if self.accel:
            self._check_accelerator(self.accel)
        self.target_row = row

    def unwire(self) -> None:
        """Forget the target."""
        self.target_row = {}
        self.cpus = []

    def check_wired(self, errors: list[str]) -> None:
        """A cluster of a machine that is about to start has CPUs; one plugged into a started machine gets them later."""
        if not self.cpus:
            errors.append(f"{self.path}: the cluster has no CPU")

    def realize(self) -> None:
        """Choose the accelerator and follow the view of memory."""
        name = self.accel or self._best()
        self.accelerator = self.machine.registry.accelerator(name)()
        self.accelerator.code_size = int(self.code_size)
        self.space.listeners.append(self._view_changed)

    def unrealize(self) -> None:
        """Let the accelerator go."""
        if self._view_changed in self.space.listeners:
            self.space.listeners.remove(self._view_changed)
        self.accelerator = None

    def add_cpu(self, cpu: Cpu) -> None:
        """A CPU joins while it is wired; GenericError when it doesn't fit."""
        if self.target not in cpu.TARGETS:
            raise GenericError(
                f"CPU type '{cpu.TYPE}' is not of target '{self.target}' of cluster '{self.path}' "
                f"(it is of: {', '.join(cpu.TARGETS) or 'none'})"
            )
        for other in self.cpus:
            if other.TYPE != cpu.TYPE:
                raise GenericError(
                    f"cluster '{self.path}' holds CPUs of type '{other.TYPE}', a '{cpu.TYPE}' needs a cluster of its own"
                )
            if other.cpu_index == cpu.cpu_index:
                raise GenericError(f"Property 'cpu-index' is {cpu.cpu_index} of '{other.path}' too")
        self.cpus.append(cpu)
        self.cpus.sort(key=lambda c: int(c.cpu_index))

    def remove_cpu(self, cpu: Cpu) -> None:
        """A CPU leaves."""
        if cpu in self.cpus:
            self.cpus.remove(cpu)

    def _check_accelerator(self, name: str) -> None:
        reason = self._why_not(name)
        if reason:
            raise GenericError(f"Accelerator '{name}' is not available: {reason}")

    def _why_not(self, name: str) -> str:
        """Why the accelerator can't be used here; "" when it can."""
        reason: str | None = self.machine.registry.accelerator(name).probe()
        return reason or ""

    def _best(self) -> str:
        reasons = []
        for name, row in self.machine.registry.accelerators().items():
            try:
                reason = row.get("reason") or self._why_not(name)
            except GenericError as exc:
                reason = exc.desc
            if not reason:
                return name
            reasons.append(f"{name}: {reason}")
        raise GenericError(f"no accelerator is usable ({'; '.join(reasons) or 'none is installed'})")

    def _accelerator_name(self) -> str:
        return "" if self.accelerator is None else self.accelerator.NAME

    def _view_changed(self, old: FlatView, new: FlatView) -> None:
        """Engines hold host addresses of the view: they look again while nothing executes."""
        if self.machine.state.quiet:
            self._remap()
        else:
            self.machine.owner.post(self._remap_quietly)

    def _remap(self) -> None:
        for cpu in self.cpus:
            if cpu.vcpu is not None:
                cpu.vcpu.remap()

    def _remap_quietly(self) -> None:
        with self.machine.quiesced():
            self._remap()

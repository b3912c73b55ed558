"""The bus between a transport that is a device of its own and the virtio device that a client plugs into it.

    device_add virtio-mmio id=vm0            makes the bus "vm0.0", as QEMU names it
    device_add virtio-rng-device bus=vm0.0   takes it; without `bus`, the only virtio bus that there is

The bus takes one device, and none once the machine is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ratite.core.bus import Bus, BusDevice
from ratite.core.device import MmioDevice
from ratite.core.objects.props import link
from ratite.hw.virtio.device import VirtioDevice
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.memory import Space

VIRTIO_BUS = "virtio-bus"


class VirtioBus(Bus):
    """A bus for one virtio device."""

    TYPE: ClassVar[str] = VIRTIO_BUS

    @property
    def full(self) -> bool:
        """One device is enough."""
        return bool(self.machine.tree.users_of(self))


class VirtioBusController(MmioDevice):
    """A transport with room for one virtio device; `device` is it, from its wiring on."""

    TYPE: ClassVar[str] = "virtio-bus-controller"
    ABSTRACT: ClassVar[bool] = True
    HOTPLUG: ClassVar[bool] = False

    address_space = link(
        "address-space", "memory that the device works on (default: where the transport is, or the only one)", optional=True
    )

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.device: VirtioDevice | None = None
        self._space: Space | None = None

    def make_parts(self) -> None:
        super().make_parts()
        self.add_child(VirtioBus(f"{self.id}.0"))

    @property
    def space(self) -> Space:
        """The address space that the device's memory accesses go to, from wired on; GenericError."""
        if self._space is None:
            self._space = self.address_space or self._only_space()
        return self._space

    def _only_space(self) -> Space:
        machine = self.machine
        maps = machine.assembly.mapped_in(self)
        found = {machine.tree.link_target(spec.space, "address-space") for spec in maps}
        if not found:
            found = {other for other in machine.tree.members() if other.is_a("address-space")}
        if len(found) != 1:
            names = ", ".join(sorted(f"'{other.path}'" for other in found)) or "there is none"
            raise GenericError(f"Property '{self.TYPE}.address-space' of '{self.id}' must say which is meant: {names}")
        return found.pop()  # type: ignore[return-value]  # what is_a says

    def unwire(self) -> None:
        super().unwire()
        self._space = None


class OnVirtioBus(BusDevice, VirtioDevice):
    """A virtio device on a virtio bus: what makes a `virtio-*-device` of a device."""

    TYPE: ClassVar[str] = "virtio-bus-device"
    ABSTRACT: ClassVar[bool] = True
    HOTPLUG: ClassVar[bool] = False
    BUS: ClassVar[str] = VIRTIO_BUS

    def wire(self) -> None:
        super().wire()
        if self.bus is not None:
            controller = self.bus.parent
            if controller.device is not None:
                raise GenericError(f"Bus '{self.bus.id}' is full")
            controller.device = self
            self.attach(controller)

    def unwire(self) -> None:
        if self.bus is not None and self.bus.parent.device is self:
            self.bus.parent.device = None
        self.detach()
        super().unwire()

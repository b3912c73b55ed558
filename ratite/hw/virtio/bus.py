"""The bus between a transport that is a device of its own and the virtio device that a client plugs into it.

    device_add virtio-mmio id=vm0          makes the bus: "vm0", also spelt "vm0.0" as QEMU names it
    device_add virtio-rng-device bus=vm0   takes it; without `bus`, the only virtio bus that there is

The bus takes one device, and none once the machine is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.device import MmioDevice
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import link
from ratite.hw.virtio.device import VirtioDevice
from ratite.qapi.errors import GenericError

BUS = "virtio-bus"


class DefaultLinks(Obj):
    """An object with links that, left open, mean the only object of their type."""

    TYPE: ClassVar[str] = "default-links"
    ABSTRACT: ClassVar[bool] = True
    # The properties.
    DEFAULT_LINKS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._chosen: set[str] = set()

    def resolve(self, errors: list[str]) -> None:
        """Fill what was left open, where there is just one that it may mean."""
        for name in self.DEFAULT_LINKS:
            if not self.link_texts.get(name):
                wanted = self.prop(name).link
                found = sorted(other.path for other in self.machine.tree.members() if other.is_a(wanted))
                if len(found) == 1:
                    self.link_texts[name] = found[0]
                    self._chosen.add(name)
                else:
                    errors.append(self.undecided(name, wanted, found))
        super().resolve(errors)

    def undecided(self, name: str, type_name: str, found: list[str]) -> str:
        """The error when none or several fit."""
        if not found:
            return f"{self.path}: property '{name}': there is no object of type '{type_name}'"
        return f"{self.path}: property '{name}' must say which is meant: {', '.join(map(repr, found))}"

    def unresolve(self) -> None:
        super().unresolve()
        while self._chosen:
            del self.link_texts[self._chosen.pop()]


class VirtioBus(DefaultLinks, MmioDevice):
    """A transport with room for one virtio device; `device` is it, from its wiring on."""

    TYPE: ClassVar[str] = BUS
    ABSTRACT: ClassVar[bool] = True

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.device: VirtioDevice | None = None

    @property
    def bus_name(self) -> str:
        """As QEMU names it."""
        return f"{self.id}.0"

    def plug(self, device: VirtioDevice) -> None:
        """`device` sits on the bus from now on; GenericError in QEMU's words."""
        if self.device is not None:
            raise GenericError(f"Bus '{self.bus_name}' is full")
        self.device = device

    def unplug(self, device: VirtioDevice) -> None:
        """It doesn't any more."""
        if self.device is device:
            self.device = None


class OnBus(DefaultLinks):
    """A device with a property `bus`: given by id, by path, or as QEMU spells it ("ID.0"), or the only one there is."""

    TYPE: ClassVar[str] = "on-bus"
    ABSTRACT: ClassVar[bool] = True
    DEFAULT_LINKS: ClassVar[tuple[str, ...]] = ("bus",)

    def resolve(self, errors: list[str]) -> None:
        text = self.link_texts.get("bus", "")
        if text and self.machine.tree.find(text) is None:
            if not text.endswith(".0") or self.machine.tree.find(text[:-2]) is None:
                errors.append(f"Bus '{text}' not found")
                return
            self.link_texts["bus"] = text[:-2]
        super().resolve(errors)

    def undecided(self, name: str, type_name: str, found: list[str]) -> str:
        """In QEMU's words."""
        if name == "bus" and not found:
            return f"No '{type_name}' bus found for device '{self.TYPE}'"
        return super().undecided(name, type_name, found)


class OnVirtioBus(OnBus, VirtioDevice):
    """A virtio device on a virtio bus: what makes a `virtio-*-device` of a device."""

    TYPE: ClassVar[str] = "virtio-bus-device"
    ABSTRACT: ClassVar[bool] = True
    HOTPLUG: ClassVar[bool] = False
    BUS: ClassVar[str] = BUS

    bus = link(BUS, "the transport that carries the device (default: the only one that there is)", optional=True)

    def hotplug_refusal(self, props: Mapping[str, Any]) -> str:
        """It is the bus that refuses."""
        if self.bus is not None:
            return f"Bus '{self.bus.bus_name}' does not support hotplugging"
        text = str(props.get("bus") or "")
        tree = self.machine.tree
        if text:
            found = tree.find(text) or tree.find(text.removesuffix(".0"))
            if not isinstance(found, VirtioBus):
                return f"Bus '{text}' not found"
            return f"Bus '{found.bus_name}' does not support hotplugging"
        for other in tree.members():
            if isinstance(other, VirtioBus):
                return f"Bus '{other.bus_name}' does not support hotplugging"
        return f"No '{BUS}' bus found for device '{self.TYPE}'"

    def wire(self) -> None:
        super().wire()
        if self.bus is not None:
            self.bus.plug(self)
            self.attach(self.bus)

    def unwire(self) -> None:
        if self.bus is not None:
            self.bus.unplug(self)
        self.detach()
        super().unwire()

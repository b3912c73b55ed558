"""Buses: what devices are plugged into.

A bus is an object, a part of the controller that makes it; a device that needs one names it in its property `bus`, by path
or by name.  Left out, it is taken if exactly one bus of the type is there that takes the device.

    device_add pcie-root-port id=rp0     makes the bus /machine/peripheral/rp0/rp0, "rp0" for short
    device_add … bus=rp0                 a device on it

A bus is wired before its devices, so that it can give the addresses that clients left open in an order that doesn't depend
on the order of assembly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ratite.core.device import Device
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import Prop, link
from ratite.qapi.errors import GenericError, QmpError


class Bus(Obj):
    """A bus, made by its controller as a part of it."""

    TYPE: ClassVar[str] = "bus"
    ABSTRACT: ClassVar[bool] = True
    # Whether its devices are parts of its controller to a guest: they go with it.
    PORTS: ClassVar[bool] = False

    def before(self) -> tuple[Obj, ...]:
        """The controller."""
        return () if self.parent is None else (self.parent,)

    def refusal(self, device: BusDevice) -> str:
        """Why the bus takes no device of this sort, now or ever; "": it does."""
        return ""

    def hotplug_refusal_of(self, device: BusDevice, props: Mapping[str, Any]) -> str:
        """Why the device can't be plugged with `props` while the machine is realized, in QEMU's words; "": it can."""
        return f"Bus '{self.id}' does not support hotplugging"

    @property
    def is_root(self) -> bool:
        """Whether no device on another bus of its type makes it."""
        return True

    @property
    def full(self) -> bool:
        """Whether it has no place left, however far its devices are in their life cycle."""
        return False

    def members(self) -> Iterator[BusDevice]:
        """The devices that are to be on this bus, from their resolving on, by path."""
        for obj in self.machine.tree.members():
            if isinstance(obj, BusDevice) and obj.bus is self:
                yield obj


class BusDevice(Device):
    """A device on a bus of the type that its class names in BUS."""

    TYPE: ClassVar[str] = "bus-device"
    ABSTRACT: ClassVar[bool] = True

    bus: Any = link("bus", "the bus that the device is on (default: the only one that takes it)", optional=True)

    def link_target(self, prop: Prop, text: str) -> Obj:
        """As Obj's; a bus that isn't there is an error in QEMU's words."""
        return self._bus_named(text) if prop.name == "bus" else super().link_target(prop, text)

    def resolve(self, errors: list[str]) -> None:
        """As Obj's; a bus that isn't named is chosen."""
        super().resolve(errors)
        if not self.link_texts.get("bus"):
            try:
                self.bus = self.default_bus()
            except GenericError as exc:
                errors.append(f"{self.path}: {exc.desc}")
        elif self.bus is not None and (refusal := self.bus.refusal(self)):
            errors.append(f"{self.path}: {refusal}")

    def hotplug_refusal(self, props: Mapping[str, Any]) -> str:
        """It is the bus that refuses."""
        text = props.get("bus")
        try:
            bus = self._bus_named(text) if isinstance(text, str) and text else self.default_bus()
        except QmpError as exc:
            return exc.desc
        return bus.refusal(self) or bus.hotplug_refusal_of(self, props)

    def _bus_named(self, text: str) -> Bus:
        tree = self.machine.tree
        found = [tree.find(text)] if text.startswith("/") else [obj for obj in tree.members() if obj.id == text]
        buses = [obj for obj in found if isinstance(obj, Bus)]
        fitting = [bus for bus in buses if bus.is_a(self.BUS)]
        if not buses:
            raise GenericError(f"Bus '{text}' not found")
        if not fitting:
            raise GenericError(f"Device '{self.TYPE}' can't go on {buses[0].TYPE} bus")
        if len(fitting) > 1:
            raise GenericError(f"'{text}' may mean {' or '.join(bus.path for bus in fitting)}: give the path")
        return fitting[0]

    def default_bus(self) -> Bus:
        """The bus when none is named: the only one that takes the device; GenericError."""
        fitting = self._fitting()
        if len(fitting) > 1:
            names = ", ".join(f"'{path}'" for path in sorted(bus.path for bus in fitting))
            raise GenericError(f"Property '{self.TYPE}.bus' must say which bus is meant: {names}")
        return fitting[0]

    def with_bus(self, props: Mapping[str, Any]) -> Mapping[str, Any]:
        """`props` with a bus that has room, where none is named: a root bus before others, then the newest, as QEMU's."""
        if props.get("bus"):
            return props
        try:
            fitting = self._fitting()
        except GenericError:
            # Told where the device is wired: its bus may come later.
            return props
        chosen = min(fitting, key=lambda bus: (bus.full, not bus.is_root))
        return {**props, "bus": chosen.path}

    def _fitting(self) -> list[Bus]:
        """The buses that take the device, the newest first; GenericError if there is none."""
        made = self.machine.tree.in_order_of_making()
        buses = [obj for obj in made if isinstance(obj, Bus) and obj.is_a(self.BUS)]
        fitting = [bus for bus in reversed(buses) if not bus.refusal(self)]
        if not fitting:
            raise GenericError(f"No '{self.BUS}' bus found for device '{self.TYPE}'")
        return fitting

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

    def before(self) -> tuple[Obj, ...]:
        """The controller."""
        return () if self.parent is None else (self.parent,)

    def refusal(self, device: BusDevice) -> str:
        """Why the bus takes no device of this sort, now or ever; "": it does."""
        return ""

    def hotplug_refusal_of(self, device: BusDevice, props: Mapping[str, Any]) -> str:
        """Why the device can't be plugged with `props` while the machine is realized, in QEMU's words; "": it can."""
        return f"Bus '{self.id}' does not support hotplugging"

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
        if text.startswith("/"):
            found = [tree.find(text)]
        else:
            found = [obj for obj in tree.members() if obj.id == text and obj.is_a(self.BUS)]
        buses = [obj for obj in found if isinstance(obj, Bus) and obj.is_a(self.BUS)]
        if not buses:
            raise GenericError(f"Bus '{text}' not found")
        if len(buses) > 1:
            raise GenericError(f"'{text}' may mean {' or '.join(bus.path for bus in buses)}: give the path")
        return buses[0]

    def default_bus(self) -> Bus:
        """The bus when none is named: the only one that takes the device; GenericError."""
        buses = [obj for obj in self.machine.tree.members() if isinstance(obj, Bus) and obj.is_a(self.BUS)]
        fitting = [bus for bus in buses if not bus.refusal(self)]
        if not fitting:
            raise GenericError(f"No '{self.BUS}' bus found for device '{self.TYPE}'")
        if len(fitting) > 1:
            names = ", ".join(f"'{bus.path}'" for bus in fitting)
            raise GenericError(f"Property '{self.TYPE}.bus' must say which bus is meant: {names}")
        return fitting[0]

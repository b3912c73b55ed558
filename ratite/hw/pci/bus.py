"""A PCI Express bus: functions by slot and function number, and who may be plugged when.

Addresses that clients gave are taken first, then each of the other devices gets function 0 of the first free slot, by path,
so that the order of assembly doesn't show.  Below a port there is only slot 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.assembly import READY
from ratite.core.bus import Bus, BusDevice
from ratite.core.objects.props import debug
from ratite.hw.pci.function import PciFunction
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.hw.pci.bridge import PciBridge
    from ratite.hw.pci.host import GpexPcihost

SLOTS, FUNCTIONS = 32, 8


class PcieBus(Bus):
    """PCI Express bus.  `functions` holds what is on it by slot * 8 + function."""

    TYPE: ClassVar[str] = "PCIE"

    devices: list[str] = debug("list:str", text="SLOT.FUNCTION and path of each device", getter="_device_list")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.functions: dict[int, PciFunction] = {}
        # Whether there is power: without it nobody on the bus answers.
        self.powered = True
        self._planned: dict[PciFunction, int] = {}

    def _device_list(self) -> list[str]:
        return [f"{devfn >> 3:02x}.{devfn & 7} {self.functions[devfn].path}" for devfn in sorted(self.functions)]

    # -- the way up

    @property
    def is_root(self) -> bool:
        """Whether the host bridge itself makes the bus."""
        return self.bridge is None

    @property
    def bridge(self) -> PciBridge | None:
        """The bridge that makes the bus; None for the root bus."""
        return self.parent if isinstance(self.parent, PciFunction) else None  # type: ignore[return-value]  # makers are bridges

    @property
    def host(self) -> GpexPcihost:
        """The host bridge above."""
        bus: PcieBus = self
        while (bridge := bus.bridge) is not None:
            bus = bridge.bus
        return bus.parent  # type: ignore[return-value]  # whose bus isn't a bridge's

    # -- places

    def refusal(self, device: BusDevice) -> str:
        """A port of the root complex has no place below another one."""
        if isinstance(device, PciFunction) and device.ROOT_ONLY and not self.is_root:
            return f"Device '{device.TYPE}' can't be on bus '{self.id}': it must be on a root bus"
        return ""

    def hotplug_refusal_of(self, device: BusDevice, props: Mapping[str, Any]) -> str:
        """A port decides."""
        bridge = self.bridge
        return super().hotplug_refusal_of(device, props) if bridge is None else bridge.plug_refusal()

    def wire(self) -> None:
        """Plan who goes where."""
        self.functions.clear()
        self._planned = {}
        taken: set[int] = set()
        waiting = []
        # The controller's own function first.
        for device in sorted(self.members(), key=lambda device: device.parent is not self.parent):
            assert isinstance(device, PciFunction)
            wanted = device.wanted
            if wanted is None:
                waiting.append(device)
            elif wanted not in taken:
                taken.add(wanted)
                self._planned[device] = wanted
        for device in waiting:
            free = self._free(taken)
            if free is not None:
                taken.add(free)
                self._planned[device] = free

    def unwire(self) -> None:
        """Forget them."""
        self.functions.clear()
        self._planned = {}
        super().unwire()

    def _free(self, taken: set[int]) -> int | None:
        # Slot 0 of the root bus is the host bridge's own.
        for slot in range(1, SLOTS) if self.is_root else (0,):
            if slot << 3 not in taken:
                return slot << 3
        return None

    def plug(self, function: PciFunction) -> None:
        """Give a function its place; GenericError in QEMU's words when there is none."""
        devfn = self._planned.pop(function, None)
        zero = self.functions.get(0)
        if not self.is_root and zero is not None and self.machine.phase == READY and function.wanted != 0:
            # The guest has found the slot's functions already.
            raise GenericError(
                f"PCI: slot 0 function 0 already occupied by {zero.TYPE}, new func {function.TYPE} cannot be exposed to guest."
            )
        if devfn is None:
            devfn = function.wanted
        if devfn is None:
            devfn = self._free({*self.functions, *self._planned.values()})
        if devfn is None:
            raise GenericError(f"PCI: no slot/function available for {function.TYPE}, all in use or reserved")
        slot, number = devfn >> 3, devfn & 7
        if slot and not self.is_root:
            raise GenericError(
                f"PCI: slot {slot} is not valid for {function.TYPE}, parent device only allows plugging into slot 0."
            )
        there = self.functions.get(devfn) or next((f for f, at in self._planned.items() if at == devfn), None)
        if there is not None:
            raise GenericError(
                f"PCI: slot {slot} function {number} not available for {function.TYPE}, in use by {there.spelling}"
            )
        self._check_multifunction(function, devfn)
        self.functions[devfn] = function
        function.devfn = devfn
        self.host.moved()

    def _check_multifunction(self, function: PciFunction, devfn: int) -> None:
        slot, number = devfn >> 3, devfn & 7
        zero = self.functions.get(slot << 3)
        if number and zero is not None and not zero.multifunction:
            raise GenericError(f"PCI: single function device can't be populated in function {slot:x}.{number:x}")
        if not number and not function.multifunction:
            for other in range(1, FUNCTIONS):
                if devfn + other in self.functions:
                    raise GenericError(
                        f"PCI: {slot:x}.0 indicates single function, but {slot:x}.{other:x} is already populated."
                    )

    def unplug_now(self, function: PciFunction) -> None:
        """A function leaves."""
        if self.functions.get(function.devfn) is function:
            del self.functions[function.devfn]
            host = self.host
            host.forget(function)
            host.moved()
            function.devfn = -1

    def reset_functions(self) -> None:
        """A reset that goes down the bus: everything on it and below."""
        for function in list(self.functions.values()):
            function.reset_function()

"""pcie-root-port: a port of the root complex with a slot and native hot plug.  PCI Express 4.0, sections 6.7 and 7.5.3.

    device_add    presence detect changed and attention button, power still off          guest: powers the slot on
    device_del    attention button; the device stays                                     guest: powers the slot off
    power off and power indicator off                         the device goes, DEVICE_DELETED, presence detect changed

As in QEMU: a slot that is off lets its device go at once; within 5 seconds of virtual time of a request another one is
refused, and later too while the power indicator blinks; a reset powers a slot with a device on, and one without off.
An event whose interrupt is enabled raises INTA, or MSI-X vector 0 when it comes to be.

Left out: MRL sensor, power faults, errors (AER), PME, ARI.
"""

from __future__ import annotations

from typing import ClassVar

from ratite.core.objects.props import config, state
from ratite.hw.pci.bridge import PciBridge
from ratite.hw.pci.express import LINK_X1, Express
from ratite.hw.pci.function import PciFunction
from ratite.hw.pci.regs import (
    ABP,
    AIP,
    ATTENTION_DARK,
    ATTENTION_INDICATOR,
    BUTTON,
    CAP_SUBSYSTEM,
    COMPLETED,
    EIP,
    EVENTS,
    EXP_CAPS,
    EXP_LNKCAP,
    EXP_LNKCAP2,
    EXP_LNKCTL2,
    EXP_LNKSTA,
    EXP_RTCTL,
    EXP_RTSTA,
    EXP_SLTCAP,
    EXP_SLTCTL,
    EXP_SLTSTA,
    EXT_ACS,
    HOTPLUG_INTERRUPT,
    HPC,
    HPS,
    INTERLOCK,
    INTERLOCKED,
    LINK_CHANGED,
    LINK_ENABLE,
    LNKSTA_ACTIVE,
    PCP,
    PIP,
    POWER_BLINKS,
    POWER_DARK,
    POWER_INDICATOR,
    POWER_OFF,
    POWER_ON_LIT,
    PRESENCE,
    PRESENT,
    ROOT_PORT,
)
from ratite.qapi.errors import GenericError

UNPLUG_AGAIN_NS = 5_000_000_000
LINK_16GT_X32 = 0x0204
MSIX_VECTORS = 1


class Slot(Express):
    """The capability of a port with a slot."""

    def __init__(self, port: PcieRootPort) -> None:
        super().__init__(port, ROOT_PORT, flr=False)
        config, start = self.config, self.start
        config.declare(start + EXP_CAPS, 2, 2 | ROOT_PORT << 4 | 0x100)
        # Link active reporting; 16 GT/s, 32 lanes, as what may be plugged negotiates for itself.
        config.declare(start + EXP_LNKCAP, 4, LINK_16GT_X32 | 0x100000 | port.port << 24)
        config.declare(start + EXP_LNKSTA, 2, LINK_16GT_X32)
        hotplug = HPC | HPS if port.hotplug else 0
        power = PCP if port.power_controller_present else 0
        number = port.slot & 0x1FFF
        config.declare(start + EXP_SLTCAP, 4, number << 19 | EIP | PIP | AIP | ABP | power | hotplug)
        writable = EVENTS & 0x1F | HOTPLUG_INTERRUPT | POWER_INDICATOR | ATTENTION_INDICATOR | LINK_ENABLE
        config.declare(start + EXP_SLTCTL, 2, 0, writable | (POWER_OFF if power else 0))
        config.declare(start + EXP_SLTSTA, 2, 0, 0, EVENTS)
        config.declare(start + EXP_RTCTL, 2, 0, 0xF)
        config.declare(start + EXP_RTSTA, 4, 0, 0, 0x10000)
        config.declare(start + EXP_LNKCAP2, 4, 0x1E)
        config.declare(start + EXP_LNKCTL2, 2, 4)
        self._port = port

    @property
    def control(self) -> int:
        """Slot Control."""
        return self.config.get(self.start + EXP_SLTCTL, 2)

    @property
    def status(self) -> int:
        """Slot Status."""
        return self.config.get(self.start + EXP_SLTSTA, 2)

    def set_status(self, on: int, off: int = 0) -> None:
        """Change Slot Status and tell the guest as it wants to be told."""
        self.config.put(self.start + EXP_SLTSTA, 2, self.status & ~off | on)
        self._port.update_event()

    def set_link(self, up: bool) -> None:
        """The link's state follows what is in the slot."""
        self.config.put(self.start + EXP_LNKSTA, 2, LINK_X1 | LNKSTA_ACTIVE if up else LINK_16GT_X32)

    def reset(self, occupied: bool) -> None:
        """The slot after a reset: on with a device, off without."""
        lit = POWER_ON_LIT if occupied else POWER_DARK
        off = 0 if occupied or not self._port.power_controller_present else POWER_OFF
        self.config.put(self.start + EXP_SLTCTL, 2, ATTENTION_DARK | lit | off)
        self.config.put(self.start + EXP_SLTSTA, 2, PRESENT if occupied else 0)
        self.set_link(occupied)

    def written(self, offset: int, end: int) -> None:
        super().written(offset, end)
        at = self.start + EXP_SLTCTL
        if offset < at + 2 and end > at:
            self._port.slot_control_written()
        elif offset < at + 4 and end > at + 2:
            self._port.update_event()


class PcieRootPort(PciBridge):
    """PCI Express root port with a hot-plug slot."""

    TYPE: ClassVar[str] = "pcie-root-port"
    PCI_DEVICE: ClassVar[int] = 0x000C
    ROOT_ONLY: ClassVar[bool] = True

    chassis = config("uint8", 0, "number of the chassis: with the slot's it is unique in the machine")
    slot = config("uint16", 0, "number of the slot in its chassis", maximum=0x1FFF)
    port = config("uint8", 0, "number of the port")
    hotplug = config("bool", True, "devices may be plugged and unplugged while the machine runs")
    power_controller_present = config("bool", True, "the guest switches the slot's power", name="power_controller_present")

    last_control: int = state("uint16", 0, "Slot Control before it was last written")
    event_pending: int = state("uint8", 0, "whether an event that the guest wants to hear of is pending", maximum=1)
    unplug_until: int = state("int64", -1, "until when another request to unplug is refused; -1: none is pending", unit="ns")

    # -- life cycle

    def wire(self) -> None:
        place = (self.chassis, self.slot)
        for other in self.machine.tree.members():
            if isinstance(other, PcieRootPort) and other.devfn >= 0 and (other.chassis, other.slot) == place:
                raise GenericError(
                    f"Can't add chassis slot: '{other.path}' has chassis {self.chassis} and slot {self.slot} as well"
                )
        super().wire()

    def build(self) -> None:
        """The port's capabilities."""
        super().build()
        subsystem = self.conf.add_capability(CAP_SUBSYSTEM, 8)
        self.conf.declare(subsystem + 4, 2, self.PCI_VENDOR)
        self.add_msix(MSIX_VECTORS, 0)
        self.capability = Slot(self)
        self.capabilities.append(self.capability)
        acs = self.conf.add_extended(EXT_ACS, 1, 8)
        # Devices reach no other device here, which is what these bits ask for.
        self.conf.declare(acs + 4, 2, 0x5F)
        self.conf.declare(acs + 6, 2, 0, 0x5F)

    def reset_function(self) -> None:
        super().reset_function()
        self.capability.reset(self.occupied)
        self.last_control = self.capability.control
        self.event_pending = 0
        self._power_changed()

    def post_load(self) -> None:
        super().post_load()
        # What is in the slot brings its own state along: it isn't reset.
        if self.child is not None:
            self.child.powered = self.powered
            for function in self.child.functions.values():
                function.update_line()

    # -- the slot

    @property
    def occupied(self) -> bool:
        """Whether a device is in the slot, to the guest."""
        return self.child is not None and 0 in self.child.functions

    @property
    def powered(self) -> bool:
        """Whether the slot has power."""
        return not self.capability.control & POWER_OFF

    def plug_refusal(self) -> str:
        """Why nothing can be plugged: in QEMU's words."""
        return "" if self.hotplug else super().plug_refusal()

    def plugged(self, function: PciFunction) -> None:
        """A device came into the slot while the machine is realized; the guest sees it with its function 0."""
        if not function.devfn & 7:
            self.capability.set_link(True)
            self.unplug_until = -1
            self.capability.set_status(PRESENT | PRESENCE | BUTTON)
            self._power_changed()

    def unplug_of(self, function: PciFunction) -> bool:
        """A client wants a device gone.  True: it may go now.  False: the guest was asked.  GenericError: it can't."""
        if not self.hotplug:
            raise GenericError(self.plug_refusal())
        control = self.capability.control
        if not self.powered and control & POWER_INDICATOR == POWER_DARK:
            self._leave(function)
            return True
        now = self.clock.now()
        if now < self.unplug_until:
            raise GenericError(f"Device {function.id} is already in the process of unplug")
        if control & POWER_INDICATOR == POWER_BLINKS:
            raise GenericError("Hot-unplug failed: guest is busy (power indicator blinking)")
        self.unplug_until = now + UNPLUG_AGAIN_NS
        self.capability.set_status(BUTTON)
        return False

    def slot_control_written(self) -> None:
        """The guest wrote Slot Control: power, indicators, interrupt enables."""
        capability = self.capability
        old, new = self.last_control, capability.control
        self.last_control = new
        status = COMPLETED
        off = POWER_OFF | POWER_DARK
        if new & off == off and old & off != off:
            status |= self._eject()
        self._power_changed()
        capability.set_status(status)

    def _eject(self) -> int:
        """Power is off, and so is the indicator: what is in the slot goes.  Gives what happened to the slot."""
        assert self.child is not None
        gone = list(self.child.functions.values())
        if not gone:
            return 0
        for function in gone:
            self.child.unplug_now(function)
            self.machine.let_go(function)
        self._emptied()
        return PRESENCE

    def _leave(self, function: PciFunction) -> None:
        """A device goes from a slot without power, and with it the others in the slot."""
        assert self.child is not None
        for other in list(self.child.functions.values()):
            if other is not function:
                self.child.unplug_now(other)
                self.machine.let_go(other)
        self.child.unplug_now(function)
        self._emptied()
        # The guest needn't look at the button any more.
        self.capability.set_status(PRESENCE, BUTTON)

    def _emptied(self) -> None:
        self.unplug_until = -1
        self.capability.set_link(False)
        self.capability.set_status(0, PRESENT)

    def _power_changed(self) -> None:
        child = self.child
        if child is not None and child.powered != self.powered:
            child.powered = self.powered
            for function in list(child.functions.values()):
                if self.powered:
                    function.reset_function()
                else:
                    function.update_line()
            self.moved()

    def config_write(self, offset: int, size: int, value: int) -> None:
        """The interlock's bit is a command and reads 0."""
        at = self.capability.start + EXP_SLTCTL + 1
        toggle = offset <= at < offset + size and value >> 8 * (at - offset) & INTERLOCK >> 8
        super().config_write(offset, size, value)
        if toggle:
            status = self.capability.status
            self.capability.set_status(~status & INTERLOCKED, status & INTERLOCKED)

    # -- interrupts

    def update_event(self) -> None:
        """Whether an event that the guest wants to hear of is pending; a message when it comes to be."""
        capability = self.capability
        control, status = capability.control, capability.status
        wanted = control & 0x1F | (LINK_CHANGED if control & LINK_ENABLE else 0)
        pending = 1 if control & HOTPLUG_INTERRUPT and status & wanted & EVENTS else 0
        rose = pending and not self.event_pending
        self.event_pending = pending
        if self.by_messages:
            if rose:
                self.signal(0)
            self.line(0)
        else:
            self.line(pending)

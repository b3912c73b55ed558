"""The PCI Express capability (version 2), PCI Express 4.0, section 7.5.3, and power management's three states.

Left out: everything about the physical link but its state; errors; latency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratite.hw.pci.regs import (
    CAP_EXPRESS,
    CAP_PM,
    DEVCAP_FLR,
    DEVCAP_ROLE,
    DEVCTL_FLR,
    ENDPOINT,
    EXP_CAPS,
    EXP_DEVCAP,
    EXP_DEVCTL,
    EXP_DEVSTA,
    EXP_LNKCAP,
    EXP_LNKCTL,
    EXP_LNKSTA,
    EXP_SIZE,
    ROOT_INTEGRATED,
)

if TYPE_CHECKING:
    from ratite.hw.pci.function import PciFunction

LINK_WRITABLE = 0x00CB  # ASPM, RCB, common clock, extended synch: they change nothing here
LINK_X1 = 0x0011  # 2.5 GT/s, one lane
D3 = 3


class Express:
    """The capability of an endpoint on a port or in the root complex; a port's adds to it."""

    def __init__(self, function: PciFunction, kind: int, flr: bool = True) -> None:
        config = function.conf
        self.start = start = config.add_capability(CAP_EXPRESS, EXP_SIZE)
        self.end = start + EXP_SIZE
        self.function = function
        self.config = config
        config.declare(start + EXP_CAPS, 2, 2 | kind << 4)
        config.declare(start + EXP_DEVCAP, 4, DEVCAP_ROLE | (DEVCAP_FLR if flr else 0))
        config.declare(start + EXP_DEVCTL, 2, 0, 0xF | (DEVCTL_FLR if flr else 0))
        config.declare(start + EXP_DEVSTA, 2, 0, 0, 0xF)
        if kind != ROOT_INTEGRATED:
            config.declare(start + EXP_LNKCAP, 4, LINK_X1)
            config.declare(start + EXP_LNKCTL, 2, 0, LINK_WRITABLE)
            config.declare(start + EXP_LNKSTA, 2, LINK_X1)

    def written(self, offset: int, end: int) -> None:
        """The guest wrote to the capability."""
        at = self.start + EXP_DEVCTL + 1
        if offset <= at < end and self.config.data[at] & DEVCTL_FLR >> 8:
            self.config.data[at] &= ~(DEVCTL_FLR >> 8)
            self.function.reset_function()


def endpoint(function: PciFunction) -> Express:
    """The capability of an endpoint: on the root bus it is one of the root complex's own."""
    return Express(function, ROOT_INTEGRATED if function.bus.is_root else ENDPOINT)


class Power:
    """Power management: in D3hot a function answers nothing but configuration accesses."""

    def __init__(self, function: PciFunction) -> None:
        config = function.conf
        self.start = config.add_capability(CAP_PM, 8)
        self.end = self.start + 8
        self._function = function
        self._config = config
        config.declare(self.start + 2, 2, 3)
        # No soft reset: what the function holds survives D3hot.
        config.declare(self.start + 4, 2, 8, 3)

    @property
    def off(self) -> bool:
        """Whether the function is in D3hot."""
        return self._config.data[self.start + 4] & 3 == D3

    def written(self, offset: int, end: int) -> None:
        """The guest wrote to the capability; D1 and D2 aren't there, a write of them changes to D0."""
        state = self._config.data[self.start + 4]
        if state & 3 in (1, 2):
            self._config.data[self.start + 4] = state & ~3
        self._function.moved()

"""Virtio devices on PCI by the names that say that they have no legacy interface.

All of ours have none; libvirt puts virtio devices into PCI Express slots only where it finds these names.
"""

from __future__ import annotations

from typing import ClassVar

from ratite.hw.virtio.pci import VirtioBalloonPci, VirtioBlkPci, VirtioNetPci, VirtioRngPci, VirtioSerialPci


class VirtioBalloonPciModern(VirtioBalloonPci):
    """Memory balloon on PCI, by its other name."""

    TYPE: ClassVar[str] = "virtio-balloon-pci-non-transitional"


class VirtioBlkPciModern(VirtioBlkPci):
    """Disk on PCI, by its other name."""

    TYPE: ClassVar[str] = "virtio-blk-pci-non-transitional"


class VirtioNetPciModern(VirtioNetPci):
    """Ethernet card on PCI, by its other name."""

    TYPE: ClassVar[str] = "virtio-net-pci-non-transitional"


class VirtioRngPciModern(VirtioRngPci):
    """Entropy device on PCI, by its other name."""

    TYPE: ClassVar[str] = "virtio-rng-pci-non-transitional"


class VirtioSerialPciModern(VirtioSerialPci):
    """Console device on PCI, by its other name."""

    TYPE: ClassVar[str] = "virtio-serial-pci-non-transitional"

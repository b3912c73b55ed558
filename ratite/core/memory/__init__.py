"""Memory: regions and how they are mapped, address spaces, RAM.

    regions.py  what can be mapped      mmio.py    registers as a region      ram.py     RAM, dirty and code pages
    flat.py     a tree rendered flat    space.py   accesses through a view    limits.py  what the host can give
    code.py     marks of decoded code   host.py    memory of the host
    mtree.py    maps as data            objects.py the types of the tree      access.py  attributes, bus errors
    sites.py    accesses made again and again
"""

from __future__ import annotations

from ratite.core.memory.access import Access, BusError, SiteCounter
from ratite.core.memory.flat import Clash, FlatRange, FlatView
from ratite.core.memory.mmio import MmioRegion, bswap
from ratite.core.memory.ram import RamRegion, anonymous_ram
from ratite.core.memory.regions import AliasRegion, ContainerRegion, Region
from ratite.core.memory.space import Space

# Types of this package, for the manifest.
TYPES = (
    "ratite.core.memory.objects:AddressSpace",
    "ratite.core.memory.objects:MemoryBackendMemfd",
    "ratite.core.memory.objects:MemoryBackendRam",
    "ratite.core.memory.objects:MemoryBackendFile",
)

__all__ = [
    "TYPES",
    "Access",
    "AliasRegion",
    "BusError",
    "Clash",
    "ContainerRegion",
    "FlatRange",
    "FlatView",
    "MmioRegion",
    "RamRegion",
    "Region",
    "SiteCounter",
    "Space",
    "anonymous_ram",
    "bswap",
]

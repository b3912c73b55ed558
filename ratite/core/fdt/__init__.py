"""Device trees: described by the devices of a machine as it was assembled, flattened for its guests."""

from __future__ import annotations

from ratite.core.fdt.tree import Described, DeviceTree
from ratite.qapi.fdt import Node, flatten, parse, size_of

__all__ = ("Described", "DeviceTree", "Node", "flatten", "parse", "size_of")

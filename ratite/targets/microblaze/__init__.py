"""MicroBlaze, big-endian and little-endian."""


from __future__ import annotations

from typing import Any


def _target(name: str, little: int) -> dict[str, Any]:
    """A target, with how its CPU stands in a device tree (Xilinx's binding); the rules: core/device.py."""
    rule = {
        "compatible": "xlnx,microblaze", "property": "xlnx,endianness", "value": little, "prefix": "xlnx,",
        "properties": {"version": {"text": "model", "behind": ","}},
    }  # fmt: skip
    row = {"name": name, "word-size": 32, "big-endian": not little, "default-cpu": "microblaze-cpu", "page-bits": 12}
    return {**row, "fdt": rule}


TARGETS = (_target("microblaze", 0), _target("microblazeel", 1))

# Types of this package, for the manifest.
TYPES = ("ratite.targets.microblaze.cpu:MicroblazeCpu",)

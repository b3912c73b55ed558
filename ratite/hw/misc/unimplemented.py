"""unimplemented-device: stands where a board has something that isn't modelled.

Reads answer 0, writes do nothing; both are counted, and logged once a site under the name that was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.objects.props import config


class Unimplemented(MmioDevice):
    """A named hole of `size` bytes."""

    TYPE: ClassVar[str] = "unimplemented-device"
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window("size", (1, 8))}

    name = config("str", "", "what is missing here", required=True)
    size = config("size", 0, "size of the region", unit="bytes", minimum=1, required=True)

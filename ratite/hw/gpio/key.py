"""gpio-key: a button at a line of a GPIO controller, pressed by system_powerdown.

    device_add gpio-key id=power
    wire-irq power out → gpio0 in[3]

The line is high while the button is down, `hold` of virtual time.  In a device tree the controller puts it under `gpio-keys`
(describe_keys), with `key` as linux,code, so that a kernel with that driver reports it as an input device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ratite.core.device import Device
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config

if TYPE_CHECKING:
    from ratite.core.irq import Input
    from ratite.qapi.fdt import Node

KEY_POWER, KEY_MAX = 116, 0x2FF
ACTIVE_HIGH = 0


class GpioKey(Device):
    """A button at a GPIO line."""

    TYPE: ClassVar[str] = "gpio-key"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"out": 1}

    key = config("uint16", KEY_POWER, "the key's number, as Linux counts them", minimum=1, maximum=KEY_MAX)
    label = config("str", "Power Button", "the key's name in device trees")
    hold = config("uint32", 100, "how long a press lasts, in virtual time", unit="ms", minimum=1)

    def realize(self) -> None:
        super().realize()
        self._line = self.out("out")
        self._release = self.timer(self._released)

    def reset(self) -> None:
        """Nobody's finger is on it."""
        super().reset()
        self._release.cancel()
        self._line.set(0)

    def power_button(self) -> None:
        """Down, and up again after `hold`."""
        self._line.set(1)
        self._release.arm(self.clock.now() + self.hold * 1_000_000)

    def _released(self) -> None:
        self._line.set(0)


def describe_keys(tree: DeviceTree, lines: Sequence[Input], controller: Callable[[], int]) -> None:
    """Put the keys at these lines of a controller (`controller()` is its phandle) under /gpio-keys."""
    for line in lines:
        driver = line.driver
        owner = driver.owner if driver is not None else None
        if isinstance(owner, GpioKey):
            keys: Node = tree.root.child("gpio-keys")
            keys["compatible"] = "gpio-keys"
            node = keys.child(f"key-{owner.id}")
            node["label"] = owner.label
            node["linux,code"] = owner.key
            node["gpios"] = [controller(), line.index, ACTIVE_HIGH]

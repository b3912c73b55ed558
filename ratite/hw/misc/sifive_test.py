"""riscv.sifive.test: the finisher of SiFive's test boards, by which a guest ends its run.

A write to offset 0, the lower half the command, the upper half a code:

    0x5555        pass: power off, exit code 0
    code<<16 | 0x3333   fail: power off with the exit code
    0x7777        reset the machine

Other values do nothing.  Reads answer 0.  It asks the machine and goes on: the machine acts when it comes to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.regs import Reg

PASS, FAIL, RESET = 0x5555, 0x3333, 0x7777


class SifiveTest(MmioDevice):
    """Finisher: power off or reset on a write."""

    TYPE: ClassVar[str] = "riscv.sifive.test"
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x1000, (2, 4), (2, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = ({"compatible": ["sifive,test1", "sifive,test0"]},)

    def fdt_node(self, tree: DeviceTree) -> None:
        """Its node, and what tells a guest to power off and to reset by it."""
        tree.node(self, "test", ("sifive,test1", "sifive,test0", "syscon"))
        for name, value in ("poweroff", PASS), ("reboot", RESET):
            node = tree.root.child(name)
            node["compatible"] = f"syscon-{name}"
            node["regmap"] = tree.phandle(self)
            node["offset"], node["value"] = 0, value

    FINISH = Reg(0, access="wo", saved=False, text="command and code")
    VALUE = Reg(0, access="ro", saved=False, text="always 0")

    @FINISH.on_write
    def _finish(self, value: int, old: int) -> None:
        self.FINISH = 0
        command = value & 0xFFFF
        if command == PASS:
            self.machine.request_shutdown("guest-shutdown", 0)
        elif command == FAIL:
            self.machine.request_shutdown("guest-shutdown", value >> 16)
        elif command == RESET:
            self.machine.request_reset("guest-reset")

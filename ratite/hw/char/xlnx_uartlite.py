"""xlnx.xps-uartlite: UART after Xilinx DS571 and PG142 (AXI UART Lite).

Modelled: both FIFOs of 16, status and control, the interrupt: high while received bytes wait, and a pulse when the transmit
FIFO becomes empty (the core pulses for both; holding the first serves edge and level controllers alike).  What can only be
written reads as 0, what can only be read takes no value.

Left out: the baud rate (fixed when the core is built) and parity; a full receive FIFO makes the host wait, so overrun and
frame errors never come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.device import Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state
from ratite.core.regs import Reg
from ratite.hw.char.serial import SerialDevice

FIFO = 16
RX_VALID, RX_FULL, TX_EMPTY, TX_FULL, ENABLED = 1, 2, 4, 8, 16
CTRL_RESET_TX, CTRL_RESET_RX, CTRL_ENABLE = 1, 2, 16


class XlnxUartlite(SerialDevice):
    """AXI UART Lite.  Xilinx DS571, PG142."""

    TYPE: ClassVar[str] = "xlnx.xps-uartlite"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x10, (1, 4), (4, 4), "endianness")}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["xlnx,xps-uartlite-1.00.a", "xlnx,opb-uartlite-1.00.b"],
            "properties": {"endianness": {"guest-endianness": True}},
        },
    )

    HOT_READS: ClassVar[Mapping[int, str]] = {0x0: "_rx_read", 0x8: "_stat_read"}

    endianness = config("str", "little", "byte order of the registers", values=("little", "big"))

    RX = Reg(0x0, readonly=0xFFFFFFFF, saved=False, text="receive FIFO")
    TX = Reg(0x4, saved=False, text="transmit FIFO")
    STAT = Reg(0x8, readonly=0xFFFFFFFF, saved=False, text="status")
    CTRL = Reg(0xC, saved=False, text="control")

    rx_fifo: bytearray = state("bytes", bytearray(), "received")
    tx_fifo: bytearray = state("bytes", bytearray(), "written and not yet taken by the chardev")
    interrupts: bool = state("bool", False, "interrupts enabled")

    def wire(self) -> None:
        super().wire()
        self._irq = self.out("irq")

    def fdt_node(self, tree: DeviceTree) -> None:
        node = tree.node(self, "serial", ("xlnx,xps-uartlite-1.00.a",))
        node["current-speed"] = 115200
        node["xlnx,data-bits"], node["xlnx,use-parity"], node["xlnx,odd-parity"] = 8, 0, 0
        tree.serial(node)

    def reset(self) -> None:
        super().reset()
        self.rx_fifo.clear()
        self.tx_fifo.clear()
        self.interrupts = False
        self.post_load()
        self.made_room()

    def post_load(self) -> None:
        self._irq.set(self.interrupts and bool(self.rx_fifo))

    @RX.on_read
    def _rx_read(self, value: int) -> int:
        if not self.rx_fifo:
            return 0
        value = self.rx_fifo.pop(0)
        self.post_load()
        self.made_room()
        return value

    @TX.on_write
    def _tx_written(self, value: int, old: int) -> None:
        self.TX = 0
        if len(self.tx_fifo) < FIFO:
            self.tx_fifo.append(value & 0xFF)
        self._transmit()

    @STAT.on_read
    def _stat_read(self, value: int) -> int:
        rx, tx = len(self.rx_fifo), len(self.tx_fifo)
        value = (RX_VALID if rx else 0) | (RX_FULL if rx >= FIFO else 0)
        value |= (TX_FULL if tx >= FIFO else 0) if tx else TX_EMPTY
        return value | (ENABLED if self.interrupts else 0)

    @CTRL.on_write
    def _ctrl_written(self, value: int, old: int) -> None:
        self.CTRL = 0
        if value & CTRL_RESET_TX:
            self.tx_fifo.clear()
        if value & CTRL_RESET_RX:
            self.rx_fifo.clear()
        self.interrupts = bool(value & CTRL_ENABLE)
        self.post_load()
        self.made_room()

    def _transmit(self) -> None:
        del self.tx_fifo[: self.send(bytes(self.tx_fifo))]
        if not self.tx_fifo and self.interrupts:
            self._irq.set(0)
            self._irq.set(1)
        self.post_load()

    def chr_writable(self) -> None:
        if self.tx_fifo:
            self._transmit()

    def chr_can_receive(self) -> int:
        return FIFO - len(self.rx_fifo)

    def chr_receive(self, data: bytes) -> None:
        self.rx_fifo += data
        self.post_load()

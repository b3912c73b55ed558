"""pl011: UART after ARM's PrimeCell UART (PL011) Technical Reference Manual, DDI0183 (r1p3's identification, FIFOs of 16).

Modelled: both FIFOs and the one-character mode, receive error flags, trigger levels, the receive timeout (32 bit periods
of the virtual clock), all interrupt sources with raw, masked and cleared views, the combined line and the five single
ones, loopback, break from the line.

Left out: IrDA (ILPR is kept), DMA (DMACR is kept), hardware flow control and modem signals towards the line (CTS, DSR,
DCD are always on outside loopback), integration test registers, the baud rate doesn't slow transmission.  Characters
written while the UART or its transmitter is disabled are sent nevertheless and counted: there is firmware that relies
on a loader having enabled it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.device import Window
from ratite.core.objects.props import config, debug, state
from ratite.core.regs import Reg, RegArray
from ratite.hw.char.serial import SerialDevice

FIFO = 16
FR_CTS, FR_DSR, FR_DCD, FR_BUSY, FR_RXFE, FR_TXFF, FR_RXFF, FR_TXFE, FR_RI = (1 << n for n in range(9))
CR_UARTEN, CR_LBE, CR_TXE, CR_RXE = 0x1, 0x80, 0x100, 0x200
LCR_FEN = 0x10
RI, CTS, DCD, DSR, RX, TX, RT, FE, PE, BE, OE = (1 << n for n in range(11))
# interrupts of each single line
GROUPS: Mapping[str, int] = MappingProxyType(
    {"msintr": RI | CTS | DCD | DSR, "rxintr": RX, "txintr": TX, "rtintr": RT, "eintr": FE | PE | BE | OE}
)
BREAK = 0x400  # in an entry of the receive FIFO, as in DR
LEVELS = (2, 4, 8, 12, 14, 14, 14, 14)  # entries, by IFLS's fields; reserved codes act as the last
IDENTIFICATION = (0x11, 0x10, 0x24, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
NOT_ARMED = (1 << 64) - 1


class Pl011(SerialDevice):
    """PrimeCell UART.  ARM DDI0183."""

    TYPE: ClassVar[str] = "pl011"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1, **dict.fromkeys(GROUPS, 1)}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x1000, (1, 4), (4, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = ({"compatible": ["arm,pl011"]},)

    HOT_READS: ClassVar[Mapping[int, str]] = {0x18: "_fr_read"}

    clock_frequency = config("uint32", 24_000_000, "UARTCLK", unit="Hz", minimum=1)
    disabled_writes = debug("uint64", 0, "characters written while transmission was disabled")

    DR = Reg(0x00, saved=False, text="data")
    RSR = Reg(0x04, text="receive status; any write clears it")
    FR = Reg(0x18, access="ro", saved=False, text="flags")
    ILPR = Reg(0x20, reserved=0xFFFFFF00, text="IrDA low-power counter (does nothing)")
    IBRD = Reg(0x24, reserved=0xFFFF0000, text="baud rate divisor, integer part")
    FBRD = Reg(0x28, reserved=0xFFFFFFC0, text="baud rate divisor, 64ths")
    LCR_H = Reg(0x2C, reserved=0xFFFFFF00, text="line control")
    CR = Reg(0x30, reserved=0xFFFF0078, reset=CR_TXE | CR_RXE, text="control")
    IFLS = Reg(0x34, reserved=0xFFFFFFC0, reset=0x12, text="FIFO levels for interrupts")
    IMSC = Reg(0x38, reserved=0xFFFFF800, text="interrupt mask")
    RIS = Reg(0x3C, access="ro", text="raw interrupts")
    MIS = Reg(0x40, access="ro", saved=False, text="masked interrupts")
    ICR = Reg(0x44, access="wo", saved=False, text="interrupt clear")
    DMACR = Reg(0x48, reserved=0xFFFFFFF8, text="DMA control (does nothing)")
    ID = RegArray(0xFE0, count=8, access="ro", saved=False, text="identification")

    rx_fifo: list[int] = state("list:uint16", [], "received: character and error bits, as DR shows them")
    tx_fifo: bytearray = state("bytes", bytearray(), "written and not yet taken by the chardev")
    timeout_at: int = state("uint64", NOT_ARMED, "virtual ns of the receive timeout; all ones: not armed")

    # -- life cycle

    def wire(self) -> None:
        super().wire()
        self._timer = self.timer(self._timed_out)
        self._lines = [(self.out(name), mask) for name, mask in (("irq", 0x7FF), *GROUPS.items())]

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self.rx_fifo.clear()
        self.tx_fifo.clear()
        self.timeout_at = NOT_ARMED
        self.post_load()
        self.made_room()

    def post_load(self) -> None:
        self.ID = list(IDENTIFICATION)
        self._timer.cancel()
        if self.timeout_at != NOT_ARMED:
            self._timer.arm(self.timeout_at)
        self._update()

    # -- data

    @DR.on_read
    def _dr_read(self, value: int) -> int:
        if not self.rx_fifo:
            return 0
        entry = self.rx_fifo.pop(0)
        self.RSR = entry >> 8
        self._received_changed()
        self._arm_timeout()
        self._update()
        if not self.CR & CR_LBE:
            self.made_room()
        return entry

    @DR.on_write
    def _dr_written(self, value: int, old: int) -> None:
        self.DR = 0
        if self.CR & (CR_UARTEN | CR_TXE) != CR_UARTEN | CR_TXE:
            self.disabled_writes += 1
        if self.CR & CR_LBE:
            self._push(value & 0xFF)
            self.RIS |= TX
        else:
            if len(self.tx_fifo) < self._depth():
                self.tx_fifo.append(value & 0xFF)
            self._transmit()
        self._update()

    def _transmit(self) -> None:
        before = len(self.tx_fifo)
        del self.tx_fifo[: self.send(bytes(self.tx_fifo))]
        level = LEVELS[self.IFLS & 7] if self.LCR_H & LCR_FEN else 0
        if before > level >= len(self.tx_fifo) or (before and not self.tx_fifo):
            self.RIS |= TX

    def chr_writable(self) -> None:
        if self.tx_fifo:
            self._transmit()
            self._update()

    def chr_can_receive(self) -> int:
        if self.CR & (CR_LBE | CR_UARTEN | CR_RXE) != CR_UARTEN | CR_RXE:
            return 0
        return max(0, self._depth() - len(self.rx_fifo))

    def chr_receive(self, data: bytes) -> None:
        for byte in data:
            self._push(byte)
        self._update()

    def chr_event(self, name: str) -> None:
        if name == "break" and not self.CR & CR_LBE:
            self._push(BREAK)
            self._update()

    def _depth(self) -> int:
        return FIFO if self.LCR_H & LCR_FEN else 1

    def _push(self, entry: int) -> None:
        if len(self.rx_fifo) >= self._depth():
            self.RIS |= OE
            self.RSR |= 8
            return
        self.rx_fifo.append(entry)
        if entry & BREAK:
            self.RIS |= BE
        self._received_changed()
        self._arm_timeout()

    def _received_changed(self) -> None:
        level = LEVELS[self.IFLS >> 3 & 7] if self.LCR_H & LCR_FEN else 1
        if len(self.rx_fifo) >= level:
            self.RIS |= RX
        else:
            self.RIS &= ~RX
        if not self.rx_fifo:
            self.RIS &= ~RT

    def _arm_timeout(self) -> None:
        if self.rx_fifo:
            divisor = self.IBRD << 6 | self.FBRD or 64
            self.timeout_at = self.clock.now() + 32 * divisor * 250_000_000 // self.clock_frequency
            self._timer.arm(self.timeout_at)
        else:
            self.timeout_at = NOT_ARMED
            self._timer.cancel()

    def _timed_out(self) -> None:
        self.timeout_at = NOT_ARMED
        if self.rx_fifo:
            self.RIS |= RT
            self._update()

    # -- control and status

    @RSR.on_write
    def _rsr_written(self, value: int, old: int) -> None:
        self.RSR = 0

    @FR.on_read
    def _fr_read(self, value: int) -> int:
        cr = self.CR
        if cr & CR_LBE:
            value = (cr >> 11 & 1) | (cr >> 9 & 2) | (cr >> 10 & 4) | (cr >> 5 & FR_RI)
        else:
            value = FR_CTS | FR_DSR | FR_DCD
        full = self._depth()
        if not self.rx_fifo:
            value |= FR_RXFE
        elif len(self.rx_fifo) >= full:
            value |= FR_RXFF
        if not self.tx_fifo:
            value |= FR_TXFE
        else:
            value |= FR_BUSY | (FR_TXFF if len(self.tx_fifo) >= full else 0)
        return value

    @LCR_H.on_write
    def _lcr_written(self, value: int, old: int) -> None:
        if (self.LCR_H ^ old) & LCR_FEN:  # enabling or disabling flushes
            self.rx_fifo.clear()
            self.tx_fifo.clear()
            self._arm_timeout()
        self._received_changed()
        self._update()
        self.made_room()

    @CR.on_write
    def _cr_written(self, value: int, old: int) -> None:
        self.made_room()

    @IFLS.on_write
    def _ifls_written(self, value: int, old: int) -> None:
        self._received_changed()
        self._update()

    @IMSC.on_write
    def _imsc_written(self, value: int, old: int) -> None:
        self._update()

    @MIS.on_read
    def _mis_read(self, value: int) -> int:
        return self.RIS & self.IMSC

    @ICR.on_write
    def _icr_written(self, value: int, old: int) -> None:
        self.ICR = 0
        self.RIS &= ~(value & 0x7FF)
        self._update()

    def _update(self) -> None:
        pending = self.RIS & self.IMSC
        for line, mask in self._lines:
            line.set(pending & mask)



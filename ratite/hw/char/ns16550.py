"""ns16550: UART with FIFOs, after the National Semiconductor PC16550D data sheet.

Modelled: both FIFOs of 16, the 16450 mode, receive trigger levels, the character timeout (four character times of the
virtual clock), all interrupt sources and their priorities, the divisor latch, line and modem status with error bits of
each character, loopback, break from the line, and a register spacing of 1 << regshift bytes in either byte order.

Left out: the baud rate doesn't slow transmission (THRE is set again as soon as the chardev took the byte), the DMA mode
bits are kept and do nothing, a break towards the line, modem control towards the line (CTS, DSR and DCD are always on),
PE and FE are never caused by the line.

    interrupt, by priority        IIR    cause                                     until
    receiver line status          0x06   LSR OE PE FE BI                           LSR read
    received data                 0x04   level at the trigger (or DR)              below it
    character timeout             0x0C   bytes wait, 4 character times silent      RBR read
    transmitter empty             0x02   THRE came                                 IIR read, THR write
    modem status                  0x00   MSR delta                                 MSR read
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ratite.core.device import Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state
from ratite.core.regs import Reg
from ratite.hw.char.serial import SerialDevice

FIFO = 16
TRIGGERS = (1, 4, 8, 14)

DR, OE, PE, FE, BI, THRE, TEMT, ERF = (1 << n for n in range(8))
ERRORS = OE | PE | FE | BI
IER_RX, IER_TX, IER_LINE, IER_MODEM = 1, 2, 4, 8
MCR_LOOP = 0x10
LCR_DLAB = 0x80
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
MSR_LINE = 0xB0  # DCD, DSR and CTS on, RI off: a line with nothing behind the modem signals
NOT_ARMED = (1 << 64) - 1


class Ns16550(SerialDevice):
    """16550A UART.  National Semiconductor PC16550D."""

    TYPE: ClassVar[str] = "ns16550"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(8, (1, 4), (1, 1), "endianness")}  # at regshift 0

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["ns16550a", "ns16550"],
            "properties": {
                "regshift": "reg-shift",
                "baudbase": {"cell": "clock-frequency", "divide": 16},
                "endianness": {"present": "reg-offset", "value": "big"},
            },
        },
    )

    regshift: int = config("uint8", 0, "log2 of the distance between registers", unit="bits", maximum=3)
    baudbase: int = config("uint32", 115200, "baud rate of divisor 1", unit="baud", minimum=1)
    endianness = config("str", "little", "byte order of registers wider than a byte", values=("little", "big"))

    RBR = Reg(0, size=1, access="ro", bank=0, saved=False, text="receiver buffer")
    THR = Reg(0, size=1, access="wo", bank=0, saved=False, text="transmitter holding")
    IER = Reg(1, size=1, bank=0, reserved=0xF0, fields={"erbfi": 0, "etbei": 1, "elsi": 2, "edssi": 3})
    DLL = Reg(0, size=1, bank=1, reset=1, text="divisor latch, low")
    DLM = Reg(1, size=1, bank=1, text="divisor latch, high")
    IIR = Reg(2, size=1, access="ro", saved=False, text="interrupt identification")
    FCR = Reg(2, size=1, access="wo", reserved=0x36, text="FIFO control, as it acts (command bits don't stay)")
    LCR = Reg(3, size=1, fields={"wls": (1, 0), "stb": 2, "pen": 3, "break": 6, "dlab": 7})
    MCR = Reg(4, size=1, reserved=0xE0, fields={"dtr": 0, "rts": 1, "out1": 2, "out2": 3, "loop": 4})
    LSR = Reg(5, size=1, access="ro", reset=THRE | TEMT)
    MSR = Reg(6, size=1, access="ro", reset=MSR_LINE)
    SCR = Reg(7, size=1, text="scratch")

    rx_fifo: list[int] = state("list:uint16", [], "received: character and its LSR error bits shifted left by 8")
    tx_fifo: bytearray = state("bytes", bytearray(), "written and not yet taken by the chardev")
    thr_pending: bool = state("bool", False, "transmitter empty interrupt pending")
    timeout_pending: bool = state("bool", False, "character timeout interrupt pending")
    timeout_at: int = state("uint64", NOT_ARMED, "virtual ns of the character timeout; all ones: not armed")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.reg_bank = 0
        self._stride = 1

    # -- life cycle

    def windows(self) -> Mapping[str, Window]:
        stride = 1 << self.regshift
        return {"regs": Window(8 * stride, (1, max(stride, 4)), (1, stride), self.endianness)}

    def wire(self) -> None:
        super().wire()
        self._stride = 1 << self.regshift
        self._big = self.endianness == "big"
        self._irq = self.out("irq")
        self._timer = self.timer(self._timed_out)
        self._reads = {2: self._iir_now, 5: self._lsr_now}
        self._table = self.REGISTERS["regs"]

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self.rx_fifo.clear()
        self.tx_fifo.clear()
        self.thr_pending = self.timeout_pending = False
        self._disarm()
        self.post_load()
        self.made_room()

    def post_load(self) -> None:
        self.reg_bank = self.LCR >> 7
        self._timer.cancel()
        if self.timeout_at != NOT_ARMED:
            self._timer.arm(self.timeout_at)
        self._update()

    def fdt_node(self, tree: DeviceTree) -> None:
        node = tree.node(self, "serial", ("ns16550a",))
        node["clock-frequency"] = 16 * self.baudbase
        if self.regshift:
            node["reg-shift"] = self.regshift
            if self.endianness == "big":
                node["reg-offset"] = (1 << self.regshift) - 1
        tree.serial(node)

    # -- the bus

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        if self._stride > 1:
            if not self._selects(offset, size):
                return self.unmodelled(region, offset, False)
            offset >>= self.regshift
        read = self._reads.get(offset)
        if read is not None:
            return read()
        value = self._table.read(self, offset, 1)
        return 0 if value is None else value

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        if self._stride > 1:
            if not self._selects(offset, size):
                self.unmodelled(region, offset, True)
                return
            offset >>= self.regshift
            value &= 0xFF
        if not offset | self.reg_bank:
            self._thr_written(value, 0)
        elif not self._table.write(self, offset, 1, value):
            self.unmodelled(region, offset, True)

    def mmio_reader(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[], int] | None:
        if self._stride > 1:
            if not self._selects(offset, size):
                return None
            offset >>= self.regshift
        return self._reads.get(offset) or self._table.reader(self, offset, 1)

    def mmio_writer(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[int], None] | None:
        if self._stride > 1 and not self._selects(offset, size):
            return None
        write = self._table.writer(self, offset >> self.regshift, 1)
        return write if write is None or size == 1 else lambda value: write(value & 0xFF)

    def _selects(self, offset: int, size: int) -> bool:
        """Whether an access holds the register's byte, the least significant one of its slot."""
        at = offset & (self._stride - 1)
        return at + size == self._stride if self._big else at == 0

    # -- receiving

    @RBR.on_read
    def _rbr_read(self, value: int) -> int:
        if not self.rx_fifo:
            return 0
        value = self.rx_fifo.pop(0) & 0xFF
        self.timeout_pending = False
        self._top_changed()
        self._arm_timeout()
        self._update()
        if not self.MCR & MCR_LOOP:
            self.made_room()
        return value

    def chr_can_receive(self) -> int:
        if self.MCR & MCR_LOOP:
            return 0
        return max(0, self._depth() - len(self.rx_fifo))

    def chr_receive(self, data: bytes) -> None:
        for byte in data:
            self._push(byte)
        self._update()

    def chr_event(self, name: str) -> None:
        if name == "break" and not self.MCR & MCR_LOOP:
            self._push(BI << 8)
            self._update()

    def _depth(self) -> int:
        return FIFO if self.FCR & FCR_ENABLE else 1

    def _push(self, entry: int) -> None:
        if len(self.rx_fifo) >= self._depth():
            self.LSR |= OE
            if self.FCR & FCR_ENABLE:
                return  # a full FIFO keeps what it has, the holding register is overwritten
            self.rx_fifo.clear()
        self.rx_fifo.append(entry)
        if len(self.rx_fifo) == 1:
            self._top_changed()
        elif entry >> 8:
            self.LSR |= ERF
        self._arm_timeout()

    def _top_changed(self) -> None:
        """LSR shows the character at the top of the FIFO."""
        fifo = self.rx_fifo
        lsr = self.LSR & ~(DR | ERF)
        if fifo:
            lsr |= DR | fifo[0] >> 8
            if self.FCR & FCR_ENABLE and any(entry >> 8 for entry in fifo):
                lsr |= ERF
        self.LSR = lsr

    def _arm_timeout(self) -> None:
        if self.FCR & FCR_ENABLE and self.rx_fifo:
            self.timeout_at = min(self.clock.now() + 4 * self._character_ns(), NOT_ARMED - 1)
            self._timer.arm(self.timeout_at)
        elif self.timeout_at != NOT_ARMED:
            self._disarm()

    def _disarm(self) -> None:
        self.timeout_at = NOT_ARMED
        self._timer.cancel()

    def _timed_out(self) -> None:
        self.timeout_at = NOT_ARMED
        if self.rx_fifo and self.FCR & FCR_ENABLE:
            self.timeout_pending = True
            self._update()

    def _character_ns(self) -> int:
        lcr = self.LCR
        half_bits = 2 * (1 + 5 + (lcr & 3) + (lcr >> 3 & 1))  # start, data, parity
        half_bits += 2 if not lcr & 4 else 3 if not lcr & 3 else 4  # stop
        divisor = (self.DLM << 8 | self.DLL) or 1
        return half_bits * divisor * 500_000_000 // self.baudbase

    # -- transmitting

    @THR.on_write
    def _thr_written(self, value: int, old: int) -> None:
        if not self.tx_fifo and not self.MCR & MCR_LOOP and self.send(bytes((value,))):
            if self.IER & IER_TX and self.thr_pending:
                self._irq.set(self._source() not in (0x01, 0x02))  # it falls before it comes again
            self.thr_pending = True
            self._update()
            return
        self.thr_pending = False
        if self.MCR & MCR_LOOP:
            self._push(value)
            self.thr_pending = True
        else:
            if len(self.tx_fifo) >= self._depth():
                self.tx_fifo.pop()  # the last one is overwritten
            self.tx_fifo.append(value)
            self._transmit()
        self._update()

    def _transmit(self) -> None:
        taken = self.send(bytes(self.tx_fifo))
        del self.tx_fifo[:taken]
        if self.tx_fifo:
            self.LSR &= ~(THRE | TEMT)
        else:
            self.LSR |= THRE | TEMT
            self.thr_pending = True

    def chr_writable(self) -> None:
        if self.tx_fifo:
            self._transmit()
            self._update()

    # -- control and status

    @IER.on_write
    def _ier_written(self, value: int, old: int) -> None:
        if self.IER & ~old & IER_TX and self.LSR & THRE:
            self.thr_pending = True
        self._update()

    @IIR.on_read
    def _iir_read(self, value: int) -> int:
        return self._iir_now()

    def _iir_now(self) -> int:
        source = self._source()
        if source == 0x02:
            self.thr_pending = False
            self._update()
        return source | (0xC0 if self.FCR & FCR_ENABLE else 0)

    @FCR.on_write
    def _fcr_written(self, value: int, old: int) -> None:
        if not value & FCR_ENABLE:
            self.FCR = 0  # the other bits need it to be programmed
        if (value ^ old) & FCR_ENABLE:
            value |= FCR_CLEAR_RX | FCR_CLEAR_TX
        elif not value & FCR_ENABLE:
            value = 0
        if value & FCR_CLEAR_RX:
            self.rx_fifo.clear()
            self.timeout_pending = False
            self._disarm()
            self._top_changed()
        if value & FCR_CLEAR_TX:
            self.tx_fifo.clear()
            self.thr_pending = self.thr_pending or not self.LSR & THRE
            self.LSR |= THRE | TEMT
        self._update()
        self.made_room()

    @LCR.on_write
    def _lcr_written(self, value: int, old: int) -> None:
        self.reg_bank = self.LCR >> 7

    @MCR.on_write
    def _mcr_written(self, value: int, old: int) -> None:
        mcr = self.MCR
        if mcr & MCR_LOOP:
            signals = (mcr << 3 & 0x10) | (mcr << 5 & 0x20) | (mcr << 4 & 0xC0)
        else:
            signals = MSR_LINE
        changed = (self.MSR ^ signals) & 0xF0
        delta = changed >> 4 & 0x0B
        if self.MSR & 0x40 and not signals & 0x40:
            delta |= 0x04  # trailing edge of RI
        self.MSR = signals | self.MSR & 0x0F | delta
        self._update()
        if old & ~mcr & MCR_LOOP:
            self.made_room()

    @LSR.on_read
    def _lsr_read(self, value: int) -> int:
        return self._lsr_now()

    def _lsr_now(self) -> int:
        value = self.LSR
        if value & ERRORS:
            if self.rx_fifo:
                self.rx_fifo[0] &= 0xFF
            self.LSR = value & ~ERRORS
            self._top_changed()
            self._update()
        return value

    @MSR.on_read
    def _msr_read(self, value: int) -> int:
        if value & 0x0F:
            self.MSR = value & 0xF0
            self._update()
        return value

    def _source(self) -> int:
        """IIR's low bits: the pending interrupt of the highest priority."""
        ier = self.IER
        if ier & IER_LINE and self.LSR & ERRORS:
            return 0x06
        if ier & IER_RX and self.rx_fifo:
            if not self.FCR & FCR_ENABLE or len(self.rx_fifo) >= TRIGGERS[self.FCR >> 6]:
                return 0x04
            if self.timeout_pending:
                return 0x0C
        if ier & IER_TX and self.thr_pending:
            return 0x02
        if ier & IER_MODEM and self.MSR & 0x0F:
            return 0x00
        return 0x01

    def _update(self) -> None:
        self._irq.set(self._source() != 0x01)

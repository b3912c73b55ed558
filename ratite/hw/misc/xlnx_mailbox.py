"""xlnx.mailbox: two FIFOs between two buses, after Xilinx PG114 (AXI Mailbox).

    if0 ──WRDATA──> FIFO 0 ──RDDATA──> if1          each FIFO: `depth` words
    if0 <──RDDATA── FIFO 1 <──WRDATA── if1

Each interface has the same registers (byte order of its own: `if0-endianness`, `if1-endianness`) and an interrupt line
(`irq0`, `irq1`, level: IP is not 0).

    0x00 WRDATA  w   a word into the send FIFO; when it is full the word is lost and ERROR.1 set
    0x08 RDDATA  r   a word out of the receive FIFO; when it is empty 0, and ERROR.0 set
    0x10 STATUS  r   0 receive FIFO empty, 1 send FIFO full, 2 STA: send level ≤ SIT, 3 RTA: receive level > RIT
    0x14 ERROR   r   0 empty error, 1 full error; a read clears both
    0x18 SIT     rw  send interrupt threshold            0x1C RIT     rw  receive interrupt threshold
    0x20 IS      rw  0 STI, 1 RTI, 2 EI; writing 1 clears; set when STA or RTA becomes true and when an error comes
    0x24 IE      rw  enables                             0x28 IP      r   IS and IE
    0x2C CTRL    w   0 empties the send FIFO, 1 the receive FIFO

Left out: AXI streams; the error response on the bus for a full or empty FIFO (ERROR tells).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state

EMPTY, FULL, STA, RTA = 1, 2, 4, 8
EMPTY_ERROR, FULL_ERROR = 1, 2
STI, RTI, EI = 1, 2, 4
RESET_SEND, RESET_RECEIVE = 1, 2

# offset → name, readable, writable: the methods are _read_NAME(side) and _write_NAME(side, value)
REGISTERS: Mapping[int, tuple[str, bool, bool]] = MappingProxyType(
    {
        0x00: ("wrdata", False, True),
        0x08: ("rddata", True, False),
        0x10: ("status", True, False),
        0x14: ("error", True, False),
        0x18: ("sit", True, True),
        0x1C: ("rit", True, True),
        0x20: ("is", True, True),
        0x24: ("ie", True, True),
        0x28: ("ip", True, False),
        0x2C: ("ctrl", False, True),
    }
)


class XlnxMailbox(MmioDevice):
    """AXI Mailbox.  Xilinx PG114."""

    TYPE: ClassVar[str] = "xlnx.mailbox"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq0": 1, "irq1": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {
        "if0": Window(0x1000, (1, 4), (4, 4), "if0-endianness"),
        "if1": Window(0x1000, (1, 4), (4, 4), "if1-endianness"),
    }

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["xlnx,mailbox-2.1"],
            "regions": ["if0"],
            "properties": {"if0-endianness": {"guest-endianness": True}},
        },
    )

    depth = config("uint16", 16, "words in each FIFO", minimum=2, maximum=8192)
    if0_endianness = config("str", "little", "byte order of interface 0", values=("little", "big"))
    if1_endianness = config("str", "little", "byte order of interface 1", values=("little", "big"))

    fifo0: list[int] = state("list:uint32", [], "words from interface 0 to interface 1")
    fifo1: list[int] = state("list:uint32", [], "words from interface 1 to interface 0")
    error: list[int] = state("list:uint8", [0, 0], "ERROR of each interface")
    sit: list[int] = state("list:uint16", [0, 0], "SIT of each interface")
    rit: list[int] = state("list:uint16", [0, 0], "RIT of each interface")
    pending: list[int] = state("list:uint8", [0, 0], "IS of each interface")
    enabled: list[int] = state("list:uint8", [0, 0], "IE of each interface")
    active: list[int] = state("list:uint8", [STA, STA], "STA and RTA of each interface, as in STATUS")

    # -- life cycle

    def wire(self) -> None:
        super().wire()
        self._irqs = (self.out("irq0"), self.out("irq1"))
        self._threshold_mask = (1 << (self.depth - 1).bit_length()) - 1
        self._reads: dict[str, dict[int, Callable[[], int]]] = {}
        self._writes: dict[str, dict[int, Callable[[int], None]]] = {}
        for side, window in enumerate(("if0", "if1")):
            reads, writes = self._reads.setdefault(window, {}), self._writes.setdefault(window, {})
            for offset, (name, readable, writable) in REGISTERS.items():
                if readable:
                    reads[offset] = partial(getattr(self, f"_read_{name}"), side)
                if writable:
                    writes[offset] = partial(getattr(self, f"_write_{name}"), side)

    def fdt_node(self, tree: DeviceTree) -> None:
        """A node for each interface that the guest sees, with its interrupt."""
        for window in tree.windows(self):
            node = tree.soc.child(f"mailbox@{window.address:x}")
            node["compatible"] = "xlnx,mailbox-2.1"
            node["reg"] = tree.reg((window.address, window.size))
            tree.interrupts(node, (self.out(f"irq{window.name[-1]}"),))

    def reset(self) -> None:
        super().reset()
        self.fifo0, self.fifo1 = [], []
        for values in (self.error, self.sit, self.rit, self.pending, self.enabled):
            values[:] = [0, 0]
        self.active[:] = [STA, STA]
        self.post_load()

    def post_load(self) -> None:
        self._fifos = (self.fifo0, self.fifo1)  # indexed by the side that sends
        self._update(0)
        self._update(1)

    # -- the bus

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        read = self._reads[region].get(offset)
        return read() if read is not None else self.unmodelled(region, offset, False)

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        write = self._writes[region].get(offset)
        if write is not None:
            write(value)
        else:
            self.unmodelled(region, offset, True)

    # -- what happens

    def _level_changed(self, sender: int) -> None:
        """The sender's STA and the receiver's RTA from the level of a FIFO; STI and RTI where one became true."""
        level, active, receiver = len(self._fifos[sender]), self.active, 1 - sender
        if level > self.sit[sender]:
            active[sender] &= RTA
        elif not active[sender] & STA:
            active[sender] |= STA
            self.pending[sender] |= STI
            self._update(sender)
        if level <= self.rit[receiver]:
            active[receiver] &= STA
        elif not active[receiver] & RTA:
            active[receiver] |= RTA
            self.pending[receiver] |= RTI
            self._update(receiver)

    def _fail(self, side: int, error: int) -> None:
        self.error[side] |= error
        self.pending[side] |= EI
        self._update(side)

    def _update(self, side: int) -> None:
        self._irqs[side].set(self.pending[side] & self.enabled[side])

    # -- registers

    def _write_wrdata(self, side: int, value: int) -> None:
        fifo = self._fifos[side]
        if len(fifo) >= self.depth:
            self._fail(side, FULL_ERROR)
            return
        fifo.append(value)
        self._level_changed(side)

    def _read_rddata(self, side: int) -> int:
        fifo = self._fifos[1 - side]
        if not fifo:
            self._fail(side, EMPTY_ERROR)
            return 0
        value = fifo.pop(0)
        self._level_changed(1 - side)
        return value

    def _read_status(self, side: int) -> int:
        value = self.active[side]
        if not self._fifos[1 - side]:
            value |= EMPTY
        if len(self._fifos[side]) >= self.depth:
            value |= FULL
        return value

    def _read_error(self, side: int) -> int:
        value, self.error[side] = self.error[side], 0
        return value

    def _read_sit(self, side: int) -> int:
        return self.sit[side]

    def _write_sit(self, side: int, value: int) -> None:
        self.sit[side] = value & self._threshold_mask
        self._level_changed(side)

    def _read_rit(self, side: int) -> int:
        return self.rit[side]

    def _write_rit(self, side: int, value: int) -> None:
        self.rit[side] = value & self._threshold_mask
        self._level_changed(1 - side)

    def _read_is(self, side: int) -> int:
        return self.pending[side]

    def _write_is(self, side: int, value: int) -> None:
        self.pending[side] &= ~value
        self._update(side)

    def _read_ie(self, side: int) -> int:
        return self.enabled[side]

    def _write_ie(self, side: int, value: int) -> None:
        self.enabled[side] = value & (STI | RTI | EI)
        self._update(side)

    def _read_ip(self, side: int) -> int:
        return self.pending[side] & self.enabled[side]

    def _write_ctrl(self, side: int, value: int) -> None:
        if value & RESET_SEND:
            self._fifos[side].clear()
            self._level_changed(side)
        if value & RESET_RECEIVE:
            self._fifos[1 - side].clear()
            self._level_changed(1 - side)

"""xlnx.axis-data-fifo: words on the way from one stream port to another, after Xilinx PG085 (AXI4-Stream Data FIFO).

    source, master port source-port ──> FIFO of `depth` words ──> sink, slave port sink-port

A word is 32 bits and TLAST. Both ends may be the same device. A reset of the machine empties it; a reset of an end alone
doesn't, as in hardware with separate resets.

Left out: packet mode, other widths than 32 bits, TKEEP, TSTRB, TID, TDEST and TUSER, clock conversion, data counts as
signals (`words` tells a client).
"""

from __future__ import annotations

from typing import Any, ClassVar

from ratite.core.device import Device
from ratite.core.objects.props import config, debug, link, state
from ratite.core.stream import MASTER, SLAVE, STREAM_END, StreamEnd
from ratite.qapi.errors import GenericError


class XlnxAxisDataFifo(Device):
    """AXI4-Stream Data FIFO.  Xilinx PG085."""

    TYPE: ClassVar[str] = "xlnx.axis-data-fifo"

    source: Any = link(STREAM_END, "the device whose master port gives words")
    source_port = config("uint8", 0, "number of its master port", maximum=15)
    sink: Any = link(STREAM_END, "the device whose slave port takes words")
    sink_port = config("uint8", 0, "number of its slave port", maximum=15)
    depth = config("uint16", 16, "words that fit, a power of two", minimum=16, maximum=32768)

    data: list[int] = state("list:uint32", [], "words inside, the next one first")
    control: list[int] = state("list:uint8", [], "their control bits", maximum=1)
    words = debug("uint16", text="how many words are inside", getter="_words")
    passed = debug("uint64", 0, "words that went through")

    def wire(self) -> None:
        super().wire()
        if self.depth & (self.depth - 1):
            raise GenericError(f"Property '{self.TYPE}.depth' must be a power of two, not {self.depth}")
        self.source.join_stream(MASTER, self.source_port, self)
        self.sink.join_stream(SLAVE, self.sink_port, self)

    def unwire(self) -> None:
        ends: tuple[tuple[str, StreamEnd | None, int], ...] = (
            (MASTER, self.source, self.source_port), (SLAVE, self.sink, self.sink_port))
        for role, end, port in ends:
            if end is not None:
                end.leave_stream(role, port, self)
        super().unwire()

    def reset(self) -> None:
        super().reset()
        self.data, self.control = [], []
        self.post_load()

    def post_load(self) -> None:
        self._tell_source()
        self._tell_sink()

    def _tell_source(self) -> None:
        self.source.stream_changed(MASTER, self.source_port)

    def _tell_sink(self) -> None:
        self.sink.stream_changed(SLAVE, self.sink_port)

    def _words(self) -> int:
        return len(self.data)

    # -- what the ends do (StreamLink)

    def ready(self) -> bool:
        return len(self.data) < int(self.depth)

    def push(self, word: int, control: bool) -> None:
        self.data.append(word)
        self.control.append(int(control))
        if len(self.data) == 1:
            self._tell_sink()
        if len(self.data) == self.depth:
            self._tell_source()

    def head(self) -> tuple[int, bool] | None:
        return (self.data[0], bool(self.control[0])) if self.data else None

    def pop(self) -> None:
        del self.data[0], self.control[0]
        self.passed += 1
        if not self.data:
            self._tell_sink()
        if len(self.data) == self.depth - 1:
            self._tell_source()

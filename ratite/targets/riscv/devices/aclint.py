"""riscv.aclint.mtimer and riscv.aclint.swi: timer and software interrupts, after the RISC-V ACLINT
specification (1.0-rc4).

    mtimer   timecmp-base + 8n   mtimecmp of hart n      mtip[n] is high while mtime ≥ mtimecmp[n]
             time-base           mtime                   counts `timebase-frequency` of the virtual clock, writable
    swi      4n                  msip of hart n          bit 0 is the line msip[n]
    swi with sswi=1
             4n                  setssip of hart n       writing bit 0 gives an edge on the line ssip[n]; reads 0

Registers take 4- and 8-byte accesses.  The specification leaves mtimecmp undefined after reset; here it is all ones, so that
no interrupt comes before one was asked for.

The defaults put mtime where SiFive's CLINT has it: an mtimer at CLINT+0x4000, a swi at CLINT+0.  Left out: a `hartid-base`:
hart n of a device is its n-th line.

A hart that an mtip drives shows mtime as its register `time`: it is told what mtime is ahead of the clock, and must have the
mtimer's frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree, Node
from ratite.core.irq import Input, Output
from ratite.core.objects.props import config, state
from ratite.qapi.errors import GenericError
from ratite.targets.riscv.cpu import RiscvCpu

SECOND = 1_000_000_000
ONES = (1 << 64) - 1
HARTS = 4095
FAR = 1 << 62  # virtual ns: nothing is armed beyond (146 years)


class AclintMtimer(MmioDevice):
    """Machine timer of many harts.  RISC-V ACLINT specification."""

    TYPE: ClassVar[str] = "riscv.aclint.mtimer"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"mtip": "num-harts"}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window("aperture-size", (1, 8), (4, 8))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["riscv,aclint-mtimer"],
            "joined": True,
            "properties": {
                "num-harts": {"targets": True},
                "timebase-frequency": {"cell": "timebase-frequency", "node": "/cpus"},
                "aperture-size": {"size": True},
                "time-base": {"base": 0},
                "timecmp-base": {"base": 1},
            },
        },
        {
            "compatible": ["sifive,clint0", "riscv,clint0"],
            "offset": 0x4000,
            "properties": {
                "num-harts": {"targets": True},
                "timebase-frequency": {"cell": "timebase-frequency", "node": "/cpus"},
            },
        },
    )

    num_harts: int = config("uint32", 1, "number of harts", minimum=1, maximum=HARTS)
    timebase_frequency: int = config("uint32", 10_000_000, "frequency of mtime", unit="Hz", minimum=1)
    aperture_size = config("uint32", 0x8000, "size of the region", unit="bytes", minimum=16, maximum=1 << 20)
    timecmp_base = config("uint32", 0, "offset of mtimecmp[0]", unit="bytes")
    time_base = config("uint32", 0x7FF8, "offset of mtime", unit="bytes")

    mtimecmp: list[int] = state("list:uint64", [], "mtimecmp of each hart")
    time_delta: int = state("uint64", 0, "mtime minus the ticks of the virtual clock, modulo 2^64")

    def wire(self) -> None:
        self._check_layout()
        super().wire()
        self._lines = self.outputs["mtip"]
        self._timer = self.timer(self._update)
        self._compare_end = self.timecmp_base + 8 * self.num_harts
        self.mtimecmp = [ONES] * self.num_harts

    def fdt_node(self, tree: DeviceTree) -> None:
        # Each up to the other or the end: firmware protects whole pages, and joins neighbours.
        at, time, compare = tree.windows(self)[0].address, self.time_base, self.timecmp_base
        size = self.aperture_size
        reg = [(at + low, (other if other > low else size) - low) for low, other in ((time, compare), (compare, time))]
        node = tree.node(self, "mtimer", ("riscv,aclint-mtimer",), reg=reg)
        _as_local(tree, self, node)

    def _check_layout(self) -> None:
        low, end, at = self.timecmp_base, self.timecmp_base + 8 * self.num_harts, self.time_base
        fits = end <= self.aperture_size and at + 8 <= self.aperture_size
        if low % 8 or at % 8 or not fits or low < at + 8 <= end + 7:
            raise GenericError(
                f"'{self.path}': mtimecmp at {low:#x}-{end - 1:#x} and mtime at {at:#x} must be multiples of 8, "
                f"not overlap and be inside aperture-size {self.aperture_size:#x}"
            )

    def unrealize(self) -> None:
        self._timer.cancel()
        super().unrealize()

    def reset(self) -> None:
        super().reset()
        self.mtimecmp = [ONES] * self.num_harts
        self.time_delta = -self._ticks() & ONES
        self.post_load()

    def post_load(self) -> None:
        for line in self._lines:
            self.connected(line)
        self._update()

    def check_peer(self, output: Output, peer: Input) -> None:
        """A hart's time runs as mtime does."""
        hart = peer.owner
        if isinstance(hart, RiscvCpu) and hart.timebase_frequency != self.timebase_frequency:
            raise GenericError(
                f"timebase-frequency of '{self.path}' is {self.timebase_frequency} Hz, that of the hart '{hart.path}' is "
                f"{hart.timebase_frequency} Hz: they must be equal"
            )

    def connected(self, output: Output) -> None:
        """The hart behind a line shows mtime as its time."""
        if output.peer is not None and isinstance(output.peer.owner, RiscvCpu):
            output.peer.owner.set_time_delta(self.time_delta)

    def _ticks(self) -> int:
        return self.clock.now() * self.timebase_frequency // SECOND

    def mtime(self) -> int:
        """The counter now."""
        return self._ticks() + self.time_delta & ONES

    def _update(self) -> None:
        """Every line, and when the first of them will change."""
        now, nearest = self.mtime(), FAR
        for line, compare in zip(self._lines, self.mtimecmp, strict=True):
            high = now >= compare
            line.set(high)
            # until mtime reaches mtimecmp, or wraps round and is below it
            nearest = min(nearest, (ONES + 1 if high else compare) - now)
        # from the raw ticks, not from now: a fraction of a tick has passed already
        deadline = -(-(self._ticks() + nearest) * SECOND // self.timebase_frequency)
        if deadline < FAR:
            self._timer.arm(deadline)
        else:
            self._timer.cancel()

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        at = offset - self.time_base
        if at & ~7 == 0:
            value = self.clock.now() * self.timebase_frequency // SECOND + self.time_delta & ONES
        elif self.timecmp_base <= offset < self._compare_end:
            at = offset - self.timecmp_base
            value = self.mtimecmp[at >> 3]
        else:
            return self.unmodelled(region, offset, False)
        return value if size == 8 else value >> 8 * (at & 4) & 0xFFFFFFFF

    def mmio_reader(self, region: str, offset: int, size: int, access: Any = None) -> Callable[[], int] | None:
        if offset != self.time_base or size != 8:
            return None
        now, frequency = self.clock.now, self.timebase_frequency
        return lambda: now() * frequency // SECOND + self.time_delta & ONES

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        at = offset - self.time_base
        if at & ~7 == 0:
            new = _merged(self.mtime(), at, size, value)
            self.time_delta = new - self._ticks() & ONES
            self.post_load()
        elif self.timecmp_base <= offset < self._compare_end:
            at = offset - self.timecmp_base
            self.mtimecmp[at >> 3] = _merged(self.mtimecmp[at >> 3], at, size, value)
            self._update()
        else:
            self.unmodelled(region, offset, True)


def _merged(old: int, at: int, size: int, value: int) -> int:
    """`old` after `size` bytes at the offset `at` were written."""
    if size == 8:
        return value
    shift = 8 * (at & 4)
    return old & ~(0xFFFFFFFF << shift) | value << shift


def _as_local(tree: DeviceTree, device: MmioDevice, node: Node) -> None:
    """What its harts hear is always written for each of them."""
    for name in "interrupt-parent", "interrupts":
        node[name] = False
    node["interrupts-extended"] = tree.extended(device.all_outputs())


class AclintSwi(MmioDevice):
    """Software interrupts of many harts.  RISC-V ACLINT specification (MSWI, SSWI)."""

    TYPE: ClassVar[str] = "riscv.aclint.swi"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"msip": "num-harts", "ssip": "num-harts"}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x4000, (1, 8), (4, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"compatible": ["riscv,aclint-mswi"], "properties": {"num-harts": {"targets": True}}},
        {"compatible": ["riscv,aclint-sswi"], "properties": {"num-harts": {"targets": True}, "sswi": {"const": 1}}},
        {
            "compatible": ["sifive,clint0", "riscv,clint0"],
            "properties": {"num-harts": {"targets": True}},
        },
    )

    num_harts: int = config("uint32", 1, "number of harts", minimum=1, maximum=HARTS)
    sswi: int = config("uint32", 0, "1: interrupts of supervisor mode, else of machine mode", maximum=1)
    msip: list[int] = state("list:uint8", [], "bit 0 of msip of each hart")

    def line_counts(self, table: Mapping[str, int | str]) -> dict[str, int]:
        gone = "msip" if self.sswi else "ssip"
        return {name: count for name, count in super().line_counts(table).items() if name != gone}

    def wire(self) -> None:
        super().wire()
        self._lines = self.outputs["ssip" if self.sswi else "msip"]
        self.msip = [0] * self.num_harts

    def fdt_node(self, tree: DeviceTree) -> None:
        name = "sswi" if self.sswi else "mswi"
        node = tree.node(self, name, (f"riscv,aclint-{name}",))
        node["interrupt-controller"] = True
        node["#interrupt-cells"] = 0
        _as_local(tree, self, node)

    def reset(self) -> None:
        super().reset()
        self.msip = [0] * self.num_harts
        self.post_load()

    def post_load(self) -> None:
        for line, level in zip(self._lines, self.msip, strict=True):
            line.set(level)

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        hart = offset >> 2
        return self.msip[hart] if hart < self.num_harts else self.unmodelled(region, offset, False)

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        hart = offset >> 2
        if hart >= self.num_harts:
            self.unmodelled(region, offset, True)
        elif not self.sswi:
            self.msip[hart] = value & 1
            self._lines[hart].set(value & 1)
        elif value & 1:
            # The bit is kept in the hart's own mip.SSIP, where software clears it.
            self._lines[hart].pulse()

"""What the manager keeps of its regions: requests, what they were made from, what is installed, and counts."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from ratite.core.accel.base import RamBlock
from ratite.core.engine.block import STRIPE_SIZE, STRIPES, heat_slot
from ratite.core.engine.native import NativeIsa
from ratite.core.engine.pages import CodePage, Frame
from ratite.core.engine.region.arena import Placed

if TYPE_CHECKING:
    from ratite.core.engine.vcpu import NativeVcpu


class Piece:
    """Code bytes of a region in one RAM page."""

    __slots__ = ("at", "code", "host", "page", "ram")

    def __init__(self, ram: RamBlock, page: int, host: int, at: int, code: bytes) -> None:
        self.ram = ram
        self.page = page  # number in ``ram``
        self.host = host  # address of the page's first byte
        self.at = at
        self.code = code

    def unchanged(self) -> bool:
        return ctypes.string_at(self.host + self.at, len(self.code)) == self.code


class Installed:
    """A compiled region. ``entries``: (RAM page key, parcel, address); ``offsets``: the same as distances from the page of the
    place that was asked for."""

    def __init__(self, native: NativeIsa, tier: int, placed: Placed, entries: list[tuple[tuple[int, int], int, int]],
                 offsets: list[int], pieces: list[Piece], count: int, request: Request) -> None:
        self.native = native
        self.tier = tier
        self.placed = placed
        self.entries = entries
        self.offsets = offsets
        self.pieces = pieces
        self.count = count
        self.pc = request.pc  # where it was asked for
        self.calls = request.calls
        self.window: bool = request.window
        self.mode = request.mode
        self.promoted = False
        self.alive = True
        self._stat = (ctypes.c_uint64 * (STRIPES * STRIPE_SIZE // 8)).from_address(placed.symbols["stat"])

    @property
    def heat(self) -> int:
        """Instructions executed in it."""
        return sum(self._stat[::STRIPE_SIZE // 8])

    @property
    def deopts(self) -> int:
        return sum(self._stat[1::STRIPE_SIZE // 8])

    def pages(self) -> set[tuple[int, int]]:
        """RAM pages that it was made from."""
        return {(id(p.ram), p.page) for p in self.pieces}


class TierCounters:
    """What ``query-jit`` tells of a tier."""

    def __init__(self) -> None:
        self.regions = 0
        self.compiled = 0
        self.cached = 0
        self.bytes = 0
        self.source_instructions = 0
        self.compile_ns = 0
        self.failures = 0
        self.invalidations = 0
        self.evictions = 0
        self.deopts = 0  # of regions that are gone
        self.executed = 0


Snapshot = tuple[Frame, bytes]  # a page, and its bytes as they were compared or the worker got them


class Request:
    """A place that became hot."""

    __slots__ = ("calls", "cpu", "mode", "offset", "page", "pc", "replaces", "slot", "tier", "view", "window")

    def __init__(self, cpu: NativeVcpu, page: CodePage, offset: int, pc: int, replaces: Installed | None = None,
                 calls: bool = False) -> None:
        self.cpu = cpu
        self.page = page
        self.offset = offset
        self.pc = pc
        self.replaces = replaces  # of tier 1, by one of tier 2
        self.calls = calls
        self.window: bool = replaces.window if replaces is not None else cpu.windowed
        self.mode: int = replaces.mode if replaces is not None else cpu.code_mode  # in which ``pc`` became hot
        self.view = -1
        shape = cpu.native.shape
        self.slot = heat_slot(page.base + shape.records + 8 * (offset // cpu.native.isa.parcel))
        self.tier = 2 if replaces is not None else 1

    @property
    def kind(self) -> str:
        """What sets its region apart from others of the same code on disk."""
        return f"{self.tier}{'w' if self.window else ''}"

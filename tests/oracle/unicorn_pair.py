"""A native RISC-V CPU and unicorn, each with a RAM of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import unicorn
from unicorn import riscv_const

from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.pair import BUILDER, CODE_LIMIT, OraclePort, Span
from tests.oracle.tiers import Tier

START = 0x10000


class UnicornPair:
    """``config``: of the ISA; ``size``: bytes of RAM at START; ``tier``: of the native CPU."""

    def __init__(self, config: Mapping[str, object], library: NativeLibrary, size: int, tier: int = 0) -> None:
        native = library.get(BUILDER, config)
        self.isa, self.xlen, self.size = native.isa, native.isa.word, size
        self.tier = Tier(tier)
        self.ram, self.judge_ram = ToyRam(size), ToyRam(size)
        port = OraclePort(BUILDER, config, self.ram, [Span(START, size, 0)])
        self.cpu = NativeVcpu(native, port, BusError, CODE_LIMIT, self.tier.manager)  # type: ignore[arg-type]
        self.uc = unicorn.Uc(
            unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64 if self.xlen == 64 else unicorn.UC_MODE_RISCV32)
        self.uc.mem_map_ptr(START, size, unicorn.UC_PROT_ALL, self.judge_ram.address)

    def both(self, image: Mapping[int, bytes]) -> None:
        """The same bytes into both RAMs, by offset."""
        for ram in (self.ram, self.judge_ram):
            for at, data in image.items():
                ram.map[at:at + len(data)] = data

    def judge(self, pc: int, until: int, count: int = 0) -> str:
        """Unicorn runs; what it complained of."""
        try:
            self.uc.emu_start(pc, until, count=count)
        except unicorn.UcError as error:
            return f"unicorn: {error} at {self.uc.reg_read(riscv_const.UC_RISCV_REG_PC):#x}"
        return ""

    def native_state(self) -> str:
        """Where the native CPU is, for messages."""
        names = ("pc", "mcause", "mepc", "mtval")
        return f"tier {self.tier.number}: " + ", ".join(f"{name} {self.cpu.get(name):#x}" for name in names)

    def first_difference(self) -> int | None:
        """The first offset at which the RAMs differ."""
        ours, theirs = self.ram.map[:], self.judge_ram.map[:]
        if ours == theirs:
            return None
        return next(k for k in range(self.size) if ours[k] != theirs[k])

    def close(self) -> None:
        self.cpu.close()


def smallest(items: list[bytes], run: Callable[[list[bytes]], str], pair: UnicornPair) -> str:
    """Bisects: as few of the items as still tell a difference under ``run``, as text."""
    if not run(items):
        return "the same program tells none when it runs again: something before it matters"
    step = len(items)
    while step := step // 2:
        at = 0
        while at < len(items):
            fewer = items[:at] + items[at + step:]
            items, at = (fewer, at) if run(fewer) else (items, at + step)
    rows = [row[2] for item in items[:20] for row in pair.isa.disassemble(0, item)]
    return f"{run(items)}: " + "; ".join(rows)

"""A toy ISA, large enough to use every part of the toolkit: two lengths, contexts, faults, interrupts, atomics."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ratite.core.accel.base import RamRange
from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.operands import Operands
from ratite.core.isa.pattern import Field
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.core.memory import BusError
from ratite.core.memory.code import CodeMarks

FIELDS = {
    "rd": Field("a", 3, file="r", dest=True), "rs": Field("b", 3, file="r"), "rt": Field("c", 3, file="r"),
    "imm": Field("imm", 16, signed=True), "low": Field("imm", 7, signed=True, operand="imm"),
}


def build(config: Mapping[str, object]) -> Isa:
    """``config``: "big" (bool), "word" (32 or 64)."""
    word = int(config["word"])  # type: ignore[call-overload]
    isa = Isa(
        f"toy{word}{'be' if config['big'] else 'le'}", word=word, big_endian=bool(config["big"]), fields=FIELDS,
        state=[StateField("r", word, 8, zero=True), StateField("cause", word), StateField("epc", word),
               StateField("vector", word), StateField("enable", 1), StateField("prefix", 16), StateField("target", word)],
        parcel=2, default_length=2, lengths=((1, 1, 4),), contexts=("slot", "wide"))

    def reg(e: Emitter, index: V) -> V:
        return e.reg("r", index)

    def imm(e: Emitter, i: Operands) -> V:
        return (e.get("prefix").zext(word) << 16) | (i.imm & 0xFFFF) if e.ctx == "wide" else i.imm

    def done(e: Emitter) -> None:
        if e.ctx == "slot":
            e.jump(e.get("target"))
        elif e.ctx:
            e.next_in("")

    def trap(e: Emitter, cause: V, epc: V) -> None:
        e.set("cause", cause)
        e.set("epc", epc)
        e.set("enable", 0)
        e.clear_reservation()
        e.trap_jump(e.get("vector"))

    isa.routine("trap")(trap)
    isa.routine("illegal")(lambda e, w: e.routine("trap", 1, e.pc()))
    isa.routine("fault")(lambda e, kind, addr: e.routine("trap", kind + 16, addr))

    def interrupt(e: Emitter) -> None:
        pending = e.get("irq_lines").ne(0) & e.get("enable")
        e.if_(pending, lambda: e.routine("trap", 64, e.pc()))

    isa.routine("interrupt")(interrupt)
    isa.routine("wake")(lambda e: e.get("irq_lines").ne(0))

    @isa.insn("addi", "imm rs rd 000000 0001", "{rd}, {rs}, {imm}")
    def addi(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, reg(e, i.rs) + imm(e, i))
        done(e)

    @isa.insn("add", "000 rd rs rt 0010", "{rd}, {rs}, {rt}")
    def add(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, reg(e, i.rs) + reg(e, i.rt))
        done(e)

    @isa.insn("mul", "001 rd rs rt 0010", "{rd}, {rs}, {rt}")
    def mul(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, reg(e, i.rs) * reg(e, i.rt))
        done(e)

    @isa.insn("lw", "imm rs rd 000001 0001", "{rd}, {imm}({rs})")
    def lw(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, e.load(reg(e, i.rs) + imm(e, i), 4).zext(word))
        done(e)

    @isa.insn("lb", "imm rs rd 000011 0001", "{rd}, {imm}({rs})")
    def lb(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, e.load(reg(e, i.rs) + imm(e, i), 1).sext(word))
        done(e)

    @isa.insn("sw", "imm rs rt 000010 0001", "{rt}, {imm}({rs})")
    def sw(e: Emitter, i: Operands) -> None:
        e.store(reg(e, i.rs) + imm(e, i), reg(e, i.rt).trunc(32))
        done(e)

    @isa.insn("bne", "imm rs rt 000100 0001", "{rs}, {rt}, {imm}", contexts=("",), relative="imm")
    def bne(e: Emitter, i: Operands) -> None:
        e.branch(reg(e, i.rs).ne(reg(e, i.rt)), i)

    @isa.insn("jmpd", "imm rs 000 000101 0001", "{imm}({rs})", contexts=("",))
    def jmpd(e: Emitter, i: Operands) -> None:
        e.set("target", reg(e, i.rs) + i.imm)
        e.next_in("slot")

    @isa.insn("wide", "imm 000000 000110 0001", "{imm}", contexts=("",))
    def wide(e: Emitter, i: Operands) -> None:
        e.set("prefix", i.imm.trunc(16))
        e.next_in("wide")

    @isa.insn("jr", "010 000 rs 000 0010", "{rs}", contexts=("",))
    def jr(e: Emitter, i: Operands) -> None:
        e.jump(reg(e, i.rs))

    @isa.insn("sleep", "011 000 000 000 0010", contexts=("",))
    def sleep(e: Emitter, i: Operands) -> None:
        e.halt()

    @isa.insn("sync", "011 000 000 001 0010", contexts=("",))
    def sync(e: Emitter, i: Operands) -> None:
        e.flush_code()

    @isa.insn("on", "011 000 000 010 0010", contexts=("",))
    def on(e: Emitter, i: Operands) -> None:
        e.set("enable", 1)
        e.poll()

    @isa.insn("relax", "011 000 000 011 0010", contexts=("",))
    def relax(e: Emitter, i: Operands) -> None:
        e.relax()

    @isa.insn("ll", "100 rd rs 000 0010", "{rd}, {rs}", contexts=("",))
    def ll(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, e.load_reserved(reg(e, i.rs), 4).zext(word))

    @isa.insn("sc", "101 rd rs rt 0010", "{rd}, {rt}, {rs}", contexts=("",))
    def sc(e: Emitter, i: Operands) -> None:
        e.set_reg("r", i.rd, e.store_conditional(reg(e, i.rs), reg(e, i.rt).trunc(32)).zext(word))

    if not config["big"]:
        @isa.insn("amoadd", "110 rd rs rt 0010", "{rd}, {rt}, {rs}", contexts=("",))
        def amoadd(e: Emitter, i: Operands) -> None:
            e.set_reg("r", i.rd, e.amo("add", reg(e, i.rs), reg(e, i.rt).trunc(32)).zext(word))

    return isa


class ToyRam:
    """RAM with the marks that an engine keeps on it."""

    def __init__(self, size: int) -> None:
        self.map = mmap.mmap(-1, size)
        self.size = size
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.code = CodeMarks(size)


class ToyPort:
    """A CPU with RAM at 0x1000 and one register that counts at 0xF0000."""

    ISA = "tests.engine.toy:build"

    def __init__(self, ram: ToyRam, *, big: bool = False, word: int = 32, start: int = 0x1000) -> None:
        self.ram = ram
        self.config = {"big": big, "word": word}
        self.start = start
        self.log: list[tuple[int, int, int]] = []

    def isa_config(self) -> Mapping[str, object]:
        return self.config

    def ram_ranges(self) -> Sequence[RamRange]:
        return [RamRange(self.start, self.ram.size, self.ram.address, self.ram, 0, False)]  # type: ignore[arg-type]

    def clock_offset(self) -> int | None:
        """There is no clock."""
        return None

    def load_site(self, addr: int, size: int) -> Callable[[], int] | None:
        return partial(self.mmio_load, addr, size) if addr & ~7 == 0xF0000 else None

    def store_site(self, addr: int, size: int) -> Callable[[int], None] | None:
        return partial(self.mmio_store, addr, size) if addr & ~7 == 0xF0000 else None

    def mmio_load(self, addr: int, size: int) -> int:
        if addr & ~7 != 0xF0000:
            raise BusError("unmapped", addr)
        self.log.append((addr, size, -1))
        return len(self.log)

    def on_ask(self, number: int, value: int) -> int:
        self.log.append((number, 0, value))
        return len(self.log) * 0x9E3779B97F4A7C15 & (1 << 64) - 1  # any bit may be set

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        if addr & ~7 != 0xF0000:
            raise BusError("unmapped", addr)
        self.log.append((addr, size, value))

"""Decoded pages: eviction, aliases of one RAM, read-only and partial pages."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ratite.core.accel.base import Exit, RamRange
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyPort, ToyRam

CONFIG = {"big": False, "word": 32}
PAGE = 0x1000


class SplitPort(ToyPort):
    """RAM as the given (guest address, offset, size, read-only) pieces."""

    def __init__(self, ram: ToyRam, pieces: Sequence[tuple[int, int, int, bool]]) -> None:
        super().__init__(ram)
        self.pieces = pieces

    def ram_ranges(self) -> Sequence[RamRange]:
        return [RamRange(start, size, self.ram.address + offset, self.ram, offset, ro)  # type: ignore[arg-type]
                for start, offset, size, ro in self.pieces]

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        self.log.append((addr, size, value))


def test_pages_are_evicted_and_come_back(library: NativeLibrary) -> None:
    """Seven pages of code that jump to each other, with room for two."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(8 * PAGE)
    for page in range(7):
        target = 0x1000 + (page + 1) % 7 * PAGE
        code = (isa.assemble("addi", rd=1, rs=1, imm=1) + isa.assemble("addi", rd=2, rs=0, imm=target)
                + isa.assemble("jr", rs=2))
        ram.map[page * PAGE:page * PAGE + len(code)] = code
    small = NativeVcpu(native, ToyPort(ram), BusError, 2 * native.shape.records)
    small.reset(0x1000)
    done, ended = small.advance(3000)
    assert (small.get("r", 1), ended.kind) == (-(-done // 3), Exit.BUDGET)
    assert small.evictions > 100
    small.close()


def test_a_store_by_another_name_reaches_the_code(library: NativeLibrary) -> None:
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(2 * PAGE)
    port = SplitPort(ram, [(0x10000, 0, 2 * PAGE, False), (0x80000, 0, 2 * PAGE, False)])
    cpu = NativeVcpu(native, port, BusError, 1 << 20)
    new = isa.assemble("addi", rd=2, rs=0, imm=7)
    code = (isa.assemble("sw", rs=4, rt=5, imm=4) + isa.assemble("addi", rd=2, rs=0, imm=1)
            + isa.assemble("bne", rs=2, rt=0, imm=-8))
    ram.map[:len(code)] = code
    cpu.reset(0x10000)
    cpu.set("r", 0x90000, 4)  # somewhere else first: the line is decoded as it stands
    cpu.step(3)
    assert cpu.get("r", 2) == 1
    cpu.set("r", 0x80000, 4)
    cpu.set("r", int.from_bytes(new, "little"), 5)
    cpu.step(2)
    assert cpu.get("r", 2) == 7
    cpu.close()


def test_a_read_only_page_sends_stores_to_the_bus(library: NativeLibrary) -> None:
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(2 * PAGE)
    port = SplitPort(ram, [(0x10000, 0, PAGE, False), (0x20000, PAGE, PAGE, True)])
    cpu = NativeVcpu(native, port, BusError, 1 << 20)
    code = isa.assemble("lw", rs=4, rd=3, imm=0) + isa.assemble("sw", rs=4, rt=5, imm=0)
    ram.map[:len(code)] = code
    ram.map[PAGE:PAGE + 4] = b"\x11\x22\x33\x44"
    cpu.reset(0x10000)
    cpu.set("r", 0x20000, 4)
    cpu.set("r", 0xAB, 5)
    cpu.step(2)
    assert cpu.get("r", 3) == 0x44332211
    assert port.log == [(0x20000, 4, 0xAB)]
    assert ram.map[PAGE:PAGE + 4] == b"\x11\x22\x33\x44"
    cpu.close()


def test_nothing_is_fetched_from_part_of_a_page(library: NativeLibrary) -> None:
    native = library.get(ToyPort.ISA, CONFIG)
    ram = ToyRam(2 * PAGE)
    port = SplitPort(ram, [(0x10000, 0, PAGE, False), (0x11000, PAGE, 0x800, False)])
    cpu = NativeVcpu(native, port, BusError, 1 << 20)
    cpu.reset(0x11000)
    cpu.set("vector", 0x10000)
    cpu.step()
    assert (cpu.get("pc"), cpu.get("cause")) == (0x10000, 16 + 3)
    cpu.close()


def test_data_beside_code_gets_fast_again(library: NativeLibrary) -> None:
    """A page whose code is no longer run, but written often, counts as data; nothing goes wrong on the way."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(2 * PAGE)
    cpu = NativeVcpu(native, SplitPort(ram, [(0x10000, 0, 2 * PAGE, False)]), BusError, 1 << 20)
    ram.map[PAGE:PAGE + 2] = isa.assemble("jr", rs=7)
    loop = (isa.assemble("sw", rs=4, rt=1, imm=0x100) + isa.assemble("addi", rd=1, rs=1, imm=1)
            + isa.assemble("bne", rs=1, rt=6, imm=-8))
    ram.map[:len(loop)] = loop
    cpu.reset(0x11000)
    for register, value in ((4, 0x11000), (6, 100000), (7, 0x10000)):
        cpu.set("r", value, register)
    cpu.advance(3 * 99999)
    assert int.from_bytes(ram.map[PAGE + 0x100:PAGE + 0x104], "little") in (99998, 99999)
    assert ram.code.pages[1] == 0
    cpu.close()


def test_fresh_code_keeps_what_nobody_can_have_changed(library: NativeLibrary) -> None:
    """Code of a page that only this CPU can write is exact at any time: asking for fresh code drops nothing."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(2 * PAGE)
    cpu = NativeVcpu(native, ToyPort(ram), BusError, 1 << 20)
    code = isa.assemble("addi", rd=1, rs=1, imm=1) + isa.assemble("sync") + isa.assemble("jr", rs=2)
    ram.map[:len(code)] = code
    cpu.reset(0x1000)
    cpu.set("r", 0x1000, 2)
    cpu.advance(20)
    page = cpu.pages.by_phys[0x1000]
    before = ctypes.string_at(page.base, native.shape.records)
    cpu.advance(20)
    assert cpu.pages.by_phys[0x1000] is page
    assert ctypes.string_at(page.base, native.shape.records) == before
    cpu.close()


def test_fresh_code_sees_a_store_past_an_entry_that_was_to_go(library: NativeLibrary) -> None:
    """The other CPU could still write the page unseen while this one decoded it."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(2 * PAGE)
    cpu, other = (NativeVcpu(native, ToyPort(ram), BusError, 1 << 20) for _ in range(2))
    other._outside = False  # as if it ran
    code = isa.assemble("addi", rd=1, rs=0, imm=1) + isa.assemble("jr", rs=2)
    ram.map[:len(code)] = code
    ram.map[0x100:0x104] = isa.assemble("sync") + isa.assemble("jr", rs=2)
    cpu.reset(0x1000)
    cpu.set("r", 0x1000, 2)

    def seen(value: int, fresh: bool) -> int:
        ram.map[:4] = isa.assemble("addi", rd=1, rs=0, imm=value)  # as a store past the check does
        cpu.set("pc", 0x1100 if fresh else 0x1000)
        cpu.advance(8)
        return cpu.get("r", 1)

    assert [seen(1, False), seen(2, False), seen(3, True), seen(4, True)] == [1, 1, 3, 4]
    other._service()
    assert [seen(5, True), seen(6, True)] == [5, 5]
    assert not cpu._young
    for each in (cpu, other):
        each.close()


def fill_code(isa: Isa, ram: ToyRam) -> None:
    """A page of code that ends in a jump to r7, behind one that clears from r4 to r6 and sleeps."""
    old = isa.assemble("addi", rd=2, rs=2, imm=1)
    ram.map[PAGE:2 * PAGE - 2] = (old * (PAGE // len(old)))[:PAGE - 2]
    ram.map[2 * PAGE - 4:2 * PAGE] = isa.assemble("jr", rs=7) + isa.assemble("jr", rs=7)
    loop = (isa.assemble("sw", rs=4, rt=1, imm=0) + isa.assemble("addi", rd=4, rs=4, imm=4)
            + isa.assemble("bne", rs=4, rt=6, imm=-8) + isa.assemble("sleep"))
    ram.map[:len(loop)] = loop


def test_a_page_of_code_that_is_filled_anew_costs_little(library: NativeLibrary) -> None:
    """Freed code is overwritten word by word: after some of them the page is written past the check."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(3 * PAGE)
    cpu = NativeVcpu(native, SplitPort(ram, [(0x10000, 0, 3 * PAGE, False)]), BusError, 1 << 20)
    fill_code(isa, ram)
    told = []
    ram.code.on_write.append(lambda offset, size: told.append(offset))
    cpu.reset(0x11000)
    for register, value in ((4, 0x11000), (6, 0x12000), (7, 0x10000)):
        cpu.set("r", value, register)
    assert cpu.run().kind == Exit.HALT
    assert ram.map[PAGE:2 * PAGE] == bytes(PAGE)
    assert 4 < len(told) < 16
    cpu.close()


def test_what_a_sleeping_cpu_had_decoded_is_filled_anew(library: NativeLibrary) -> None:
    """It need not wake up for the other to write past the check."""
    native = library.get(ToyPort.ISA, CONFIG)
    isa = native.isa
    ram = ToyRam(3 * PAGE)
    cpu, asleep = (NativeVcpu(native, ToyPort(ram, start=0x10000), BusError, 1 << 20) for _ in range(2))
    fill_code(isa, ram)
    asleep.reset(0x11000)
    asleep.set("r", 0x1000C, 7)  # the other's last instruction
    assert asleep.run().kind == Exit.HALT and ram.code.pages[1] == 1
    told = []
    ram.code.on_write.append(lambda offset, size: told.append(offset))
    cpu.reset(0x10000)
    for register, value in ((4, 0x11000), (6, 0x12000)):
        cpu.set("r", value, register)
    assert cpu.run().kind == Exit.HALT
    assert ram.map[PAGE:2 * PAGE] == bytes(PAGE)
    assert ram.code.pages[1] == 0 and 0 < len(told) < 64
    ram.map[PAGE:PAGE + 4] = isa.assemble("addi", rd=3, rs=0, imm=5)
    asleep.set("pc", 0x11000)
    asleep.step()
    assert asleep.get("r", 3) == 5
    for each in (cpu, asleep):
        each.close()

"""Reservations: what breaks one, from whichever side it comes, also where the memory ends up as it was."""

from __future__ import annotations

import pytest

from ratite.core.accel.interp import EvalVcpu
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.memory import BusError
from ratite.core.memory.reserve import Reservations
from tests.engine.toy import ToyPort, ToyRam

CONFIG = {"big": False, "word": 32}
DATA = 0x1800


class Two:
    """A CPU with a reservation at DATA, and others that share its RAM."""

    def __init__(self, library: NativeLibrary, *, kind: str = "jit") -> None:
        self.native = library.get(ToyPort.ISA, CONFIG)
        self.isa = self.native.isa
        self.ram = ToyRam(0x2000)
        self.cpu = self.make(kind)
        self.run(self.cpu, "ll", rd=1, rs=3)

    def make(self, kind: str = "jit", big: bool = False) -> NativeVcpu | EvalVcpu:
        port = ToyPort(self.ram)
        cpu = EvalVcpu(self.isa, port, BusError) if kind == "interp" else NativeVcpu(self.native, port, BusError, 1 << 20)
        cpu.reset(0x1000)
        cpu.set("r", DATA, 3)
        return cpu

    def run(self, cpu: NativeVcpu | EvalVcpu, name: str, **operands: int) -> None:
        code = self.isa.assemble(name, **operands)
        self.ram.map[:len(code)] = code
        cpu.invalidate(self.ram, 0, len(code))  # type: ignore[arg-type]
        cpu.set("pc", 0x1000)
        cpu.step()

    def conditional(self) -> bool:
        """Whether the store-conditional of 7 succeeds."""
        self.cpu.set("r", 7, 4)
        self.run(self.cpu, "sc", rd=5, rs=3, rt=4)
        return bool(self.cpu.get("r", 5))


@pytest.mark.parametrize("kind", ["jit", "interp"])
def test_an_undisturbed_one_holds(library: NativeLibrary, kind: str) -> None:
    two = Two(library, kind=kind)
    assert two.conditional()
    assert two.ram.map[DATA - 0x1000] == 7
    assert not two.conditional()


def test_code_beside_the_word_does_not_matter(library: NativeLibrary) -> None:
    """In its line or elsewhere in its page; the code is fresh afterwards."""
    for at in (DATA + 32, DATA + 0x200):
        two = Two(library)
        code = two.isa.assemble("addi", rd=2, rs=0, imm=5)
        two.ram.map[at - 0x1000:at - 0x1000 + len(code)] = code
        for _ in range(3):
            two.cpu.set("pc", at)
            two.cpu.step(2)
            two.run(two.cpu, "ll", rd=1, rs=3)
            assert two.conditional()
    for _ in range(2):  # the word is an instruction itself
        two.run(two.cpu, "ll", rd=1, rs=3)
        two.cpu.set("r", int.from_bytes(two.isa.assemble("addi", rd=2, rs=0, imm=9), "little"), 4)
        two.run(two.cpu, "sc", rd=5, rs=3, rt=4)
        assert two.cpu.get("r", 5)
        two.cpu.set("r", 0, 2)
        two.cpu.set("pc", DATA)
        two.cpu.step()
        assert two.cpu.get("r", 2) == 9


@pytest.mark.parametrize("kind", ["jit", "interp"])
@pytest.mark.parametrize("other", ["jit", "interp"])
@pytest.mark.parametrize(("name", "at", "lost"), [
    ("sw", DATA, True), ("sw", DATA + 60, True), ("sw", DATA - 4, False), ("sw", DATA + 64, False),
    ("sw", DATA - 2, True), ("sw", DATA + 62, True), ("sc", DATA + 8, True), ("amoadd", DATA + 16, True)])
def test_a_store_of_another_cpu_breaks_it(
    library: NativeLibrary, kind: str, other: str, name: str, at: int, lost: bool,
) -> None:
    """The value that is stored is the one that was there (0)."""
    two = Two(library, kind=kind)
    second = two.make(other)
    for _ in range(2):  # the second time past the TLB's miss
        two.run(two.cpu, "ll", rd=1, rs=3)
        second.set("r", at, 2)
        if name == "sw":
            two.run(second, "sw", rs=2, rt=0, imm=0, rd=0)
        elif name == "sc":
            two.run(second, "ll", rd=1, rs=2)
            two.run(second, "sc", rd=5, rs=2, rt=0)
            assert second.get("r", 5)
        else:
            two.run(second, "amoadd", rd=1, rs=2, rt=0)
        assert two.conditional() is not lost
        two.ram.map[0x7C0:0x880] = bytes(0xC0)


@pytest.mark.parametrize("kind", ["jit", "interp"])
def test_a_write_of_the_host_breaks_it(library: NativeLibrary, kind: str) -> None:
    two = Two(library, kind=kind)
    two.ram.code.written(DATA - 0x1000, 4)
    assert not two.conditional()


def test_a_reservation_of_another_cpu_does_not(library: NativeLibrary) -> None:
    two = Two(library)
    second = two.make()
    two.run(second, "ll", rd=1, rs=3)
    assert two.conditional()
    two.run(second, "sc", rd=5, rs=3, rt=0)
    assert not second.get("r", 5)


def test_words_move_on_and_wrap() -> None:
    words = Reservations(0x1000)
    seen = set()
    for _ in range(1 << 15):
        word = words.take(0x40)
        seen.add(word)
        words.written(0x40, 1)
        assert not words.give(0x40, word)
    assert len(seen) == 1 << 15
    word = words.take(0x40)
    words.written(0x0, 0x40)
    assert words.give(0x40, word)
    word = words.take(0xFC0)
    words.written(0, 0x1000)
    assert not words.give(0xFC0, word)

"""Register tables: masks, hooks, banks, arrays, partial accesses, what isn't modelled."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import ClassVar

import pytest

from ratite.core.device import MmioDevice, Window
from ratite.core.memory import Access
from ratite.core.regs import Reg, RegArray


class Chip(MmioDevice):
    """A chip."""

    TYPE = "chip"
    REGIONS: ClassVar = {"regs": Window(0x100)}
    UNMODELLED = 0xDEAD
    A = Reg(0x0, fields={"en": 0, "mode": (3, 1)}, reserved=0xFFFF0000, readonly=0x100, w1c=0x200, reset=0x305)
    RX = Reg(0x4, access="ro")
    TX = Reg(0x4, access="wo")
    D0 = Reg(0x8, bank=0)
    D1 = Reg(0x8, bank=1)
    WIDE = RegArray(0x10, count=2, size=8, reset=1)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.log: list[tuple[object, ...]] = []
        self.reg_bank = 0

    @A.on_write
    def _a(self, value: int, old: int) -> None:
        self.log.append(("A", value, old))

    @RX.on_read
    def _rx(self, value: int) -> int:
        return 0x1_0000_0041

    @WIDE.on_write
    def _wide(self, index: int, value: int, old: int) -> None:
        self.log.append(("WIDE", index, value, old))


def test_a_write_obeys_the_masks_and_the_hook_sees_what_was_written() -> None:
    chip = Chip("c")
    chip.mmio_write("regs", 0, 4, 0xFFFFFFFF)
    assert chip.A == 0xFFFF & ~0x200 | 0x100
    assert chip.log == [("A", 0xFFFFFFFF, 0x305)]
    assert Chip.A.field("mode", chip.A) == 7 and Chip.A.bit("mode") == 0xE
    chip.reset()
    assert chip.A == 0x305 and chip.WIDE == [1, 1]


def test_direction_and_bank_select_the_register() -> None:
    chip = Chip("c")
    assert chip.mmio_read("regs", 4, 4) == 0x41
    chip.mmio_write("regs", 4, 4, 9)
    assert (chip.TX, chip.RX) == (9, 0)
    chip.mmio_write("regs", 8, 4, 1)
    chip.reg_bank = 1
    chip.mmio_write("regs", 8, 4, 2)
    assert (chip.D0, chip.D1, chip.mmio_read("regs", 8, 4)) == (1, 2, 2)


@pytest.mark.parametrize(("big", "value"), [(False, 0x1122334400000001), (True, 0x11223344)])
def test_a_piece_of_a_register_is_the_bytes_it_covers(big: bool, value: int) -> None:
    chip = Chip("c")
    chip.regions = {"regs": SimpleNamespace(big=big)}
    chip.mmio_write("regs", 0x1C, 4, 0x11223344)
    assert [1, value] == chip.WIDE
    assert chip.log == [("WIDE", 1, value, 1)]
    assert chip.mmio_read("regs", 0x1C, 4) == 0x11223344
    assert chip.mmio_read("regs", 0x18 + (4 if not big else 7), 1) == 0x44


def test_what_is_not_modelled_is_counted_and_answered() -> None:
    chip = Chip("c")
    chip.mmio_write("regs", 0x80, 4, 1)
    for _ in range(3):
        assert chip.mmio_read("regs", 0x80, 4) == 0xDEAD
    assert chip.unmodelled_accesses == 4


def test_register_values_are_state() -> None:
    chip = Chip("c")
    chip.mmio_write("regs", 0x10, 8, 5)
    lines: dict[str, object] = {"output-levels": []}
    assert chip.save_state() == lines | {"a": 0x305, "rx": 0, "tx": 0, "d0": 0, "d1": 0, "wide": [5, 1]}
    assert Chip.PROPERTIES["wide"].type == "list:uint64"


def test_overlapping_registers_are_the_authors_error() -> None:
    with pytest.raises(TypeError, match="A and B overlap at offset 0x0"):

        class Bad(MmioDevice):
            """Bad."""

            TYPE = "bad"
            A = Reg(0)
            B = Reg(0)


def test_a_hook_can_be_overridden() -> None:
    class Sub(Chip):
        """A chip with another hook."""

        TYPE = "sub-chip"

        def _a(self, value: int, old: int) -> None:
            self.log.append(("sub", value))

    chip = Sub("s")
    chip.mmio_write("regs", 0, 4, 0)
    assert chip.log == [("sub", 0)]


def test_what_is_looked_up_beforehand_does_the_same() -> None:
    rng = random.Random(7)
    plain, ahead = Chip("c"), Chip("c")
    places = [(0, 4), (0, 2), (4, 4), (8, 4), (0x10, 8), (0x18, 8), (0x18, 4), (0x80, 4)]
    loads = {place: ahead.mmio_reader("regs", *place) for place in places}
    stores = {place: ahead.mmio_writer("regs", *place) for place in places}
    assert [p for p in places if loads[p] is None] == [(0, 2), (8, 4), (0x18, 4), (0x80, 4)] == [
        p for p in places if stores[p] is None]
    for _ in range(300):
        place = rng.choice([p for p in places if loads[p] is not None])
        load, store = loads[place], stores[place]
        assert load is not None and store is not None
        plain.reg_bank = ahead.reg_bank = rng.randrange(2)
        value = rng.getrandbits(8 * place[1])
        plain.mmio_write("regs", *place, value)
        store(value)
        if rng.random() < 0.1:
            plain.reset()
            ahead.reset()
        assert plain.mmio_read("regs", *place) == load()
        assert plain.log == ahead.log and plain.save_state() == ahead.save_state()


def test_a_class_that_overrides_an_access_is_asked_for_it() -> None:
    class Other(Chip):
        """Reads in its own way."""

        def mmio_read(self, region: str, offset: int, size: int, access: object = None) -> int:
            return 0x77

    class Knows(Other):
        """Says so."""

        def mmio_reader(self, region: str, offset: int, size: int, access: object = None) -> object:
            return lambda: 0x78

    for cls, value in (Chip, 0x305), (Other, 0x77), (Knows, 0x78):
        chip = cls("c")
        chip.make_lines()
        chip.wire()
        read, write = (make(0, 4, Access()) for make in (chip.regions["regs"].reader, chip.regions["regs"].writer))
        assert read() == value
        write(0)
        assert chip.A == 0x300

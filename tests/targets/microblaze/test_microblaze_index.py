"""What comes between an entry's look-up and its use: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.memory import BusError
from ratite.targets.microblaze.kit import MSR_IE
from tests.engine.toy import ToyPort, ToyRam

BASE, DEVICE = 0x1000, 0xF0000
CONFIG: dict[str, object] = {"big": True, "use-mmu": 3, "mmu-tlb-access": 3}


class Port(ToyPort):
    """A store to the device raises the interrupt line."""

    ISA = "ratite.targets.microblaze.isa:build"
    cpu: NativeVcpu

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        self.cpu.set_line(0, True)


@pytest.mark.parametrize("register", [0x1002, 0x1005])
def test_no_interrupt_comes_behind_a_write_of_the_index(cache_home: Path, register: int) -> None:
    """mts rtlbsx, mfs rtlbx, mts rtlbhi is how an entry is flushed; a handler's own TLB miss would leave another index."""
    native = NativeLibrary().get(Port.ISA, CONFIG)
    isa, ram = native.isa, ToyRam(0x2000)
    port = Port(ram, big=True)
    port.cpu = cpu = NativeVcpu(native, port, BusError, 1 << 20)
    mts = 0x9400C000 | 5 << 16 | register
    mfs = 0x94008000 | 6 << 21 | 0x1002
    code = [isa.assemble("swi", rs=0, ra=4, imm=0), mts.to_bytes(4, "big"), mfs.to_bytes(4, "big"),
            isa.assemble("addik", rd=7, ra=0, imm=1), isa.assemble("bri", imm=0)]
    ram.map[:20] = b"".join(code)
    cpu.reset(BASE)
    cpu.set("r", DEVICE, 4)
    cpu.set("r", 9, 5)
    cpu.set("msr", MSR_IE)
    cpu.advance(6)
    assert cpu.get("r", 14) == BASE + 16  # at the branch
    assert cpu.get("r", 7) == 1
    cpu.close()

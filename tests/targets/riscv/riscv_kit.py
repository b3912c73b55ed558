"""A hart in the evaluator with a little memory, for tests of instructions."""

from __future__ import annotations

from functools import cache

from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.core.isa.isa import Isa
from ratite.targets.riscv.isa import build

BASE, SIZE, DATA = 0x1000, 0x2000, 0x2000
HANDLER = 0x1800


@cache
def isa_of(xlen: int, without: str = "") -> Isa:
    """The ISA, built once; ``without``: extensions left out."""
    return build({"word-size": xlen, **dict.fromkeys(without, False)})


class Memory:
    """RAM of SIZE bytes at BASE and nothing else."""

    def __init__(self) -> None:
        self.ram = bytearray(SIZE)

    def _at(self, addr: int, size: int) -> int:
        if not BASE <= addr <= BASE + SIZE - size:
            raise MemoryFault
        return addr - BASE

    def load(self, addr: int, size: int) -> int:
        at = self._at(addr, size)
        return int.from_bytes(self.ram[at:at + size], "little")

    def store(self, addr: int, size: int, value: int) -> None:
        at = self._at(addr, size)
        self.ram[at:at + size] = value.to_bytes(size, "little")

    def fetch(self, addr: int, size: int) -> bytes:
        at = self._at(addr, size)
        return bytes(self.ram[at:at + size])

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        return BASE <= addr <= BASE + SIZE - size

    def reserve(self, addr: int) -> int:
        return 0

    def reserved(self, addr: int, token: int) -> bool:
        return True


class Hart(Evaluator):
    """``memory`` is at hand; registers by number; the trap vector is HANDLER."""

    memory: Memory

    def __init__(self, xlen: int, without: str = "", **registers: int) -> None:
        super().__init__(isa_of(xlen, without), Memory())
        self.pc_value = BASE
        self.state["mtvec"] = [HANDLER]
        for name, value in registers.items():
            self[name] = value

    def __setitem__(self, name: str, value: int) -> None:
        names = self.fields["x"].names
        if name in names:
            self.state["x"][names.index(name)] = value & self.mask
        else:
            self.state[name] = [value & (1 << self.fields[name].width) - 1]

    def __getitem__(self, name: str) -> int:
        names = self.fields["x"].names
        return self.state["x"][names.index(name)] if name in names else self.state[name][0]

    def put(self, code: bytes, at: int = BASE) -> None:
        self.memory.ram[at - BASE:at - BASE + len(code)] = code

    def asm(self, name: str, **fields: int | str) -> bytes:
        """One instruction; registers by name."""
        names = self.fields["x"].names
        values = {f: v if isinstance(v, int) else names.index(v) for f, v in fields.items()}
        return self.isa.assemble(name, **values)

    def do(self, name: str, **fields: int | str) -> str:
        """Executes one instruction where pc is; the outcome."""
        self.put(self.asm(name, **fields), self.pc_value)
        return self.step()

    def trap(self) -> tuple[int, int, int]:
        """(mcause, mtval, mepc) of a trap that was just taken."""
        assert self.trapped and self.pc_value == HANDLER, f"no trap: pc {self.pc_value:#x}"
        return self["mcause"], self["mtval"], self["mepc"]

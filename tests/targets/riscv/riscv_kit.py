"""A hart in the evaluator with a little memory, for tests of instructions."""

from __future__ import annotations

from functools import cache

from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.core.isa.isa import Isa
from ratite.targets.riscv.isa import build

BASE, SIZE, DATA = 0x1000, 0x2000, 0x2000
HANDLER = 0x1800


#: extensions that are off in a configuration unless told
MORE = ("s", "u", "zba", "zbb", "zbs", "zicond", "zicbom", "zicboz", "svinval", "svpbmt", "svnapot", "sstc", "svadu", "sv32",
        "sv39", "sv48", "sv57", "pmp")
TABLES = 0x10000
V, R, W, X, U, G, A, D = (1 << k for k in range(8))
RWX = V | R | W | X | A | D
#: satp's MODE and the levels of its tables
SV32, SV39, SV48, SV57 = (1, 2), (8, 3), (9, 4), (10, 5)


@cache
def isa_of(xlen: int, without: str = "") -> Isa:
    """The ISA, built once; ``without``: extensions left out."""
    return build({"word-size": xlen, **dict.fromkeys(without, False)})


@cache
def modes_isa(xlen: int, without: str = "") -> Isa:
    """The ISA with all that there is but the extensions named in ``without``, and a clock of 10 MHz."""
    config = {"word-size": xlen, **dict.fromkeys(MORE, True), "timebase-frequency": 10_000_000}
    return build({**config, **dict.fromkeys(without.split(), False)})


class Memory:
    """RAM of ``size`` bytes at BASE and nothing else."""

    def __init__(self, size: int = SIZE) -> None:
        self.ram = bytearray(size)
        self.ns = 0
        self.notes: list[tuple[int, int]] = []

    def clock(self) -> int:
        return self.ns

    def notify(self, number: int, value: int) -> None:
        self.notes.append((number, value))

    def _at(self, addr: int, size: int) -> int:
        if not BASE <= addr <= BASE + len(self.ram) - size:
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
        return BASE <= addr <= BASE + len(self.ram) - size

    def reserve(self, addr: int) -> int:
        return 0

    def reserved(self, addr: int, token: int) -> bool:
        return True


class Hart(Evaluator):
    """``memory`` is at hand; registers by number; the trap vector is HANDLER."""

    memory: Memory

    def __init__(
        self, xlen: int, without: str = "", isa: Isa | None = None, size: int = SIZE, **registers: int,
    ) -> None:
        super().__init__(isa or isa_of(xlen, without), Memory(size))
        self.pc_value = BASE
        self.state["mtvec"] = [HANDLER]
        for name, value in registers.items():
            self[name] = value

    def __setitem__(self, name: str, value: int) -> None:
        self.changed()
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

    def csr(self, number: int, value: int | None = None) -> int:
        """What a register reads, or the old value and ``value`` is written; by an instruction that must not trap."""
        self["t6"] = 0 if value is None else value
        self.do("csrrw" if value is not None else "csrrs", rd="t5", csr=number, rs1="t6" if value is not None else "zero")
        assert not self.trapped, f"CSR {number:#x}: cause {self['mcause']}"
        return self["t5"]


class ModesHart(Hart):
    """All extensions but ``without``, in machine mode, PMP open, with memory for page tables from TABLES on."""

    def __init__(self, xlen: int, without: str = "", **registers: int) -> None:
        self.next_table = TABLES
        super().__init__(xlen, isa=modes_isa(xlen, without), size=0x3F000)
        if "pmpcfg" in self.fields:
            self.csr(0x3B0, -1)
            self.csr(0x3A0, 0x1F)
        self.pc_value = BASE
        if "stvec" in self.fields:
            self["stvec"] = HANDLER
        for name, value in registers.items():
            self[name] = value

    def entry(self, at: int) -> int:
        """The page table entry at ``at``."""
        return self.memory.load(at, self.word // 8)

    def set_entry(self, at: int, value: int) -> None:
        self.memory.store(at, self.word // 8, value & self.mask)

    def root(self, mode: tuple[int, int]) -> None:
        """satp: an empty table of that mode."""
        self["satp"] = mode[0] << (60 if self.word == 64 else 31) | self.table() >> 12
        self.levels = mode[1]

    def table(self) -> int:
        self.next_table += 0x1000
        return self.next_table - 0x1000

    def map(self, va: int, pa: int, flags: int, level: int = 0) -> int:
        """Maps a page of that level; where its entry is."""
        bits, size = (9, 8) if self.word == 64 else (10, 4)
        at = (self["satp"] & (1 << 22) - 1) << 12
        for k in range(self.levels - 1, -1, -1):
            at += (va >> 12 + bits * k & (1 << bits) - 1) * size
            if k == level:
                break
            if not self.entry(at):
                self.set_entry(at, self.table() >> 2 | V)
            at = self.entry(at) >> 10 << 12
        self.set_entry(at, pa >> 2 | flags)
        return at

    def cause(self) -> tuple[str, int, int]:
        """("m" or "s", cause, tval) of a trap that was just taken."""
        assert self.trapped, f"no trap: pc {self.pc_value:#x}"
        mode = "m" if self["priv"] == 3 else "s"
        return mode, self[mode + "cause"], self[mode + "tval"]

"""A MicroBlaze on the evaluator with a little memory, for tests."""

from __future__ import annotations

from typing import Any

from ratite.core.isa.evaluator import Evaluator, MemoryFault
from ratite.targets.microblaze.isa import build

EXCEPTIONS: dict[str, object] = dict.fromkeys((
    "unaligned-exceptions", "dopb-bus-exception", "iopb-bus-exception", "ill-opcode-exception", "div-zero-exception"), True)
CODE, DATA, HOLE = 0x1000, 0x2000, 0x20000000
EE, EIP, BIP, IE, C, DZO = 0x100, 0x200, 0x8, 0x2, 0x4, 0x40


class Memory:
    """16 KiB from 0."""

    def __init__(self, order: Any) -> None:
        self.bytes = bytearray(0x4000)
        self.order = order

    def _check(self, addr: int, size: int) -> None:
        if addr + size > len(self.bytes):
            raise MemoryFault

    def load(self, addr: int, size: int) -> int:
        self._check(addr, size)
        return int.from_bytes(self.bytes[addr:addr + size], self.order)

    def store(self, addr: int, size: int, value: int) -> None:
        self._check(addr, size)
        self.bytes[addr:addr + size] = value.to_bytes(size, self.order)

    def fetch(self, addr: int, size: int) -> bytes:
        self._check(addr, size)
        return bytes(self.bytes[addr:addr + size])

    def is_ram(self, addr: int, size: int, for_write: bool) -> bool:
        return addr + size <= len(self.bytes)

    def reserve(self, addr: int) -> int:
        return 0

    def reserved(self, addr: int, token: int) -> bool:
        return True


class Machine:
    """``run`` executes encodings from CODE on; registers by number, special ones by name."""

    def __init__(self, big: bool = True, **config: object) -> None:
        self.isa = build({**{name.replace("_", "-"): value for name, value in config.items()}, "big": big})
        self.memory = Memory("big" if big else "little")
        self.cpu = Evaluator(self.isa, self.memory)
        self.cpu.pc_value = CODE

    def asm(self, name: str, **operands: int) -> bytes:
        return self.isa.assemble(name, **operands)

    def set(self, **values: int) -> None:
        for name, value in values.items():
            if name[0] == "r" and name[1:].isdigit():
                self.cpu.state["r"][int(name[1:])] = value & 0xFFFFFFFF
            else:
                self.cpu.state[name][0] = value

    def __getitem__(self, name: str) -> int:
        if name[0] == "r" and name[1:].isdigit():
            return self.cpu.state["r"][int(name[1:])]
        return self.cpu.pc_value if name == "pc" else self.cpu.state[name][0]

    def run(self, *code: bytes, steps: int = 0) -> str:
        """Executes ``code`` (or ``steps`` of it); the last step's outcome."""
        self.memory.bytes[CODE:CODE + 4 * len(code)] = b"".join(code)
        outcome = ""
        for _ in range(steps or len(code)):
            outcome = self.cpu.step()
        return outcome

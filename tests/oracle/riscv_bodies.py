"""Random RISC-V code that ends: forward jumps and short loops, only aligned or mapped addresses, no trap.

A body is made of items from a pool. Three registers (sp, one of x8…x15, one more) hold addresses in the middle of a data
area and are never written. An item is one instruction, or a few that belong together: an atomic operation behind the
computation of its address, a jump over other items, a loop of a few rounds, a call, a return from an imagined trap.
"""

from __future__ import annotations

import random
from collections.abc import Container

from ratite.core.isa.isa import Insn, Isa
from tests.oracle.riscv_floats import Floats, is_float
from tests.oracle.streams import random_word

LOADS = frozenset(("lb", "lh", "lw", "ld", "lbu", "lhu", "lwu"))
STORES = frozenset(("sb", "sh", "sw", "sd"))
BRANCHES = frozenset(("beq", "bne", "blt", "bge", "bltu", "bgeu"))
APART = BRANCHES | LOADS | STORES | {"jal", "jalr", "ecall", "ebreak", "mret", "wfi", "fence.i"}
CSRS = (0x342, 0x343)  # mcause, mtval: every bit is kept
MEPC, MSTATUS = 0x341, 0x300


class Bodies:
    """Items and bodies for ``isa`` from ``rng``. ``bases``: the registers that hold addresses; ``floats``: the share of items
    of floating point."""

    status: int | None = MSTATUS  # the CSR with FS

    def __init__(self, isa: Isa, rng: random.Random, size: int, floats: float = 0.0) -> None:
        self.isa = isa
        self.rng = rng
        self.bases = (2, rng.randrange(8, 16), rng.choice([k for k in range(3, 32) if k not in range(8, 16)]))
        self.free = [k for k in range(1, 32) if k not in self.bases]
        kinds: dict[str, list[Insn]] = {}
        for insn in isa.insns:
            if not insn.like.startswith("csr") and not is_float(insn):
                kinds.setdefault(insn.like, []).append(insn)
        self.amos = [n for like, many in kinds.items() if like.startswith("amo") for n in many]
        self.reserve = [n for like, many in kinds.items() if like.startswith("lr.") for n in many]
        self.memory = [kinds[like] for like in kinds if like in LOADS | STORES]
        self.branches = [kinds[like] for like in kinds if like in BRANCHES]
        self.simple = [many for like, many in kinds.items()
                       if like not in APART and not like.startswith(("amo", "lr.", "sc."))]
        self.floats = floats
        self.fp = Floats(self, self.status) if floats else None
        self.pool = [self.item() for _ in range(size)]

    def body(self, count: int) -> bytes:
        """``count`` items from the pool."""
        return b"".join(self.rng.choices(self.pool, k=count))

    def item(self) -> bytes:
        rng = self.rng
        if self.fp is not None and rng.random() < self.floats:
            return self.fp.item()
        kind = rng.random()
        if kind < 0.56:
            return self.plain()
        if kind < 0.74:
            return self.access()
        if kind < 0.76:
            return self.loop()
        if kind < 0.78:
            return self.call()
        if kind < 0.88:
            return self.jump()
        if kind < 0.92 and self.amos:
            return self.atomic()
        if kind < 0.95 and self.amos:
            return self.reserved()
        if kind < 0.985:
            return self.csr()
        if kind < 0.998:
            return self.ret()
        return self.isa.assemble("fence.i")

    def a(self, name: str, **fields: int) -> bytes:
        return self.isa.assemble(name, **fields)

    def any_register(self) -> int:
        return self.rng.randrange(32)

    def target(self) -> int:
        """A destination: any register but the bases, sometimes x0."""
        return self.rng.choice(self.free) if self.rng.random() < 0.97 else 0

    def valid(self, groups: list[list[Insn]]) -> tuple[Insn, int, dict[str, int]]:
        """A random encoding of an instruction of one of the groups that leaves the bases alone."""
        rng = self.rng
        while True:
            insn = rng.choice(rng.choice(groups))
            word = random_word(rng, insn)
            found = self.isa.decode(word, insn.length)
            if found is not None and found[0].like == insn.like and not self.writes(found, self.bases):
                return found[0], word, found[1]

    @staticmethod
    def writes(found: tuple[Insn, dict[str, int]], registers: Container[int]) -> bool:
        """Whether it writes one of these x registers."""
        insn, fields = found
        return fields.get("rd") in registers and not insn.operands.get("rd", "").startswith("f")

    def plain(self) -> bytes:
        insn, word, _ = self.valid(self.simple)
        return self.isa.to_bytes(word, insn.length)

    def access(self) -> bytes:
        """A load or store from a base."""
        return self.based(*self.valid(self.memory))

    def based(self, insn: Insn, word: int, _: object) -> bytes:
        """That access, its address a base."""
        pieces = insn.pattern.pieces
        for field, base in (("rs1", self.rng.choice(self.bases)), ("rs1'", self.bases[1] - 8)):
            if field in pieces:
                high, low, _ = pieces[field][0]
                word = word & ~((1 << high - low + 1) - 1 << low) | base << low
        return self.isa.to_bytes(word, insn.length)

    def address(self, size: int) -> tuple[int, bytes]:
        """(register, code that makes an aligned address in it)."""
        at = self.rng.choice(self.free)
        code = self.a("andi", rd=at, rs1=self.any_register(), imm=0x7F8 | (4 if size == 4 else 0))
        return at, code + self.a("add", rd=at, rs1=at, rs2=self.rng.choice(self.bases))

    def atomic(self) -> bytes:
        insn = self.rng.choice(self.amos)
        at, code = self.address(8 if ".d" in insn.name else 4)
        return code + self.a(insn.name, rd=self.target(), rs1=at, rs2=self.any_register())

    def reserved(self) -> bytes:
        """lr and sc, sometimes to another address, or an sc alone, which fails."""
        rng = self.rng
        name = rng.choice(self.reserve).name
        at, code = self.address(8 if ".d" in name else 4)
        seen = rng.choice([k for k in self.free if k != at])
        if rng.random() < 0.85:
            code += self.a(name, rd=seen, rs1=at)
        if rng.random() < 0.15:
            code += self.a("addi", rd=at, rs1=at, imm=8)
        for _ in range(rng.choice((1, 1, 1, 2))):
            into = rng.choice([k for k in self.free if k != at])
            code += self.a(name.replace("lr", "sc", 1), rd=into, rs1=at, rs2=self.any_register())
        return code

    def csr(self) -> bytes:
        rng, rd, number = self.rng, self.target(), self.rng.choice(CSRS)
        name = rng.choice(("csrrw", "csrrs", "csrrc"))
        if rng.random() < 0.1:
            return self.a("csrrs", rd=rd, csr=MEPC, rs1=0)
        if rng.random() < 0.4:
            return self.a(name + "i", rd=rd, csr=number, zimm=rng.randrange(32))
        return self.a(name, rd=rd, csr=number, rs1=self.any_register())

    def ret(self) -> bytes:
        """mret to behind what follows it, and on by a jump at which compiled code can begin again. MPP is set first, since a
        judge with user mode would go there."""
        rng = self.rng
        at, over = rng.choice(self.free), self.filler()
        tail = self.a("csrrw", rd=0, csr=MEPC, rs1=at) + self.a("lui", rd=at, upper=0x2000) + \
            self.a("addi", rd=at, rs1=at, imm=-0x800) + self.a("csrrs", rd=0, csr=MSTATUS, rs1=at) + self.a("mret")
        distance = 8 + len(tail) + len(over)
        return self.a("auipc", rd=at, upper=0) + self.a("addi", rd=at, rs1=at, imm=distance) + tail + over + self.hop(at)

    def hop(self, at: int) -> bytes:
        """A computed jump to what follows."""
        return self.a("auipc", rd=at, upper=0) + self.a("jalr", rd=0, rs1=at, imm=8)

    def filler(self) -> bytes:
        return b"".join(self.plain() if self.rng.random() < 0.8 else self.access() for _ in range(self.rng.randrange(1, 5)))

    def sparing(self, register: int) -> bytes:
        """A filler that does not write ``register``."""
        while True:
            code = self.filler()
            at, spared = 0, True
            while at < len(code) and spared:
                word, length = self.isa.word_at(code[at:])
                found = self.isa.decode(word, length)
                assert found is not None
                spared = not self.writes(found, (register,))
                at += length
            if spared:
                return code

    def loop(self) -> bytes:
        """A few rounds."""
        at = self.rng.choice(self.free)
        inner = self.sparing(at) + self.a("addi", rd=at, rs1=at, imm=-1)
        name = "c.bnez" if 8 <= at < 16 and "c.bnez" in self.isa.by_name and self.rng.random() < 0.5 else "bne"
        fields = {"rs1'": at} if name == "c.bnez" else {"rs1": at, "rs2": 0}
        return self.a("addi", rd=at, rs1=0, imm=self.rng.randrange(1, 6)) + inner + \
            self.a(name, **fields, imm=-len(inner))

    def call(self) -> bytes:
        """A function, called once or twice from before it."""
        if 1 in self.bases:
            return self.jump()
        inner = self.sparing(1) + self.a("jalr", rd=0, rs1=1, imm=0)
        over = self.filler()
        if self.rng.random() < 0.5:
            return self.a("jal", rd=1, imm=4 + len(over) + 4) + over + self.a("jal", rd=0, imm=4 + len(inner)) + inner
        first = self.a("jal", rd=1, imm=4 + len(over) + 4 + 4)
        return first + over + self.a("jal", rd=1, imm=8) + self.a("jal", rd=0, imm=4 + len(inner)) + inner

    def jump(self) -> bytes:
        """A branch or jump over a few instructions."""
        rng, over = self.rng, self.filler()
        kind = rng.random()
        if kind < 0.7:
            insn = rng.choice(rng.choice(self.branches))
            fields = {f: (rng.choice(range(8, 16)) if f.endswith("'") else self.any_register())
                      for f in insn.pattern.pieces if f != "imm"}
            return self.a(insn.name, **fields, imm=insn.length + len(over)) + over
        if kind < 0.8:
            return self.a("jal", rd=self.target(), imm=4 + len(over)) + over
        if kind < 0.85:
            name = "c.j" if self.isa.word == 64 or rng.random() < 0.5 or 1 in self.bases else "c.jal"
            if name in self.isa.by_name:
                return self.a(name, imm=2 + len(over)) + over
        at = rng.choice(self.free)
        here = self.a("auipc", rd=at, upper=0)
        if kind < 0.95 or "c.jr" not in self.isa.by_name:
            odd = rng.getrandbits(1) if self.isa.parcel == 2 else 0
            return here + self.a("jalr", rd=self.target(), rs1=at, imm=8 + len(over) | odd) + over
        name = rng.choice(("c.jr", "c.jalr")) if 1 not in self.bases else "c.jr"
        return here + self.a("addi", rd=at, rs1=at, imm=10 + len(over)) + self.a(name, rs1=at) + over

"""States for random bodies: a table in the guest's memory, a row each, and the code around a body that goes over it.

    row: 0: not 0 where there is a row; n·k: x1…x31; 0x100: f0…f31; 0x200: x1…x31 afterwards, behind them CSRs; 0x340: fcsr,
         and afterwards behind it; 0x400: f0…f31 afterwards

n: bytes of an x register. Even f registers hold singles, odd ones doubles (see riscv_floats).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from functools import partial

from ratite.core.isa.isa import Isa
from tests.oracle.fp_operands import operand
from tests.oracle.riscv_bodies import Bodies
from tests.oracle.streams import numbers

ROW, X_IN, F_IN, X_OUT, FCSR_IN, FCSR_OUT, F_OUT = 0x500, 0, 0x100, 0x200, 0x340, 0x348, 0x400
DATA = 0x2000  # bytes of the data area
KEPT = 600  # rows that are made at once and used many times
FCSR, MSCRATCH, MEPC, MCAUSE, MTVAL = 3, 0x340, 0x341, 0x342, 0x343


def room(states: int) -> int:
    """Bytes for so many rows and the end behind them, in pages."""
    return -(-(states * ROW + 8) // 4096) * 4096


class Program:
    """The code around a body of M: mscratch points to the row. ``pointer``: where a pointer is in memory instead, for modes
    that have no mscratch; ``csrs``: what is kept besides the registers."""

    def __init__(self, bodies: Bodies, pointer: int | None = None, csrs: Sequence[int] = (MEPC, MCAUSE, MTVAL)) -> None:
        a, word = bodies.a, bodies.isa.word
        load, store, n = ("ld", "sd", 8) if word == 64 else ("lw", "sw", 4)
        if pointer is None:
            row = a("csrrs", rd=31, csr=MSCRATCH, rs1=0)
            swap = a("csrrw", rd=31, csr=MSCRATCH, rs1=31)
            last = a("csrrs", rd=1, csr=MSCRATCH, rs1=0)
            to_next = a("csrrw", rd=0, csr=MSCRATCH, rs1=31)
        else:
            row = a(load, rd=31, rs1=0, imm=pointer)
            swap = a(store, rs1=0, rs2=31, imm=pointer + n) + row
            last = a(load, rd=1, rs1=0, imm=pointer + n)
            to_next = a(store, rs1=0, rs2=31, imm=pointer)
        self.n = n
        head = row
        if bodies.floats:
            head += b"".join(a("fld", fd=k, rs1=31, imm=F_IN + 8 * k) for k in range(32))
            head += a(load, rd=1, rs1=31, imm=FCSR_IN) + a("csrrw", rd=0, csr=FCSR, rs1=1)
        self.head = head + b"".join(a(load, rd=k, rs1=31, imm=n * k) for k in range(1, 32))
        out = swap + b"".join(a(store, rs1=31, rs2=k, imm=X_OUT + n * k) for k in range(1, 31))
        out += last + a(store, rs1=31, rs2=1, imm=X_OUT + n * 31)
        for k, csr in enumerate(csrs):
            out += a("csrrs", rd=1, csr=csr, rs1=0) + a(store, rs1=31, rs2=1, imm=X_OUT + n * (32 + k))
        if bodies.floats:
            out += a("csrrs", rd=1, csr=FCSR, rs1=0) + a(store, rs1=31, rs2=1, imm=FCSR_OUT)
            out += b"".join(a("fsd" if k & 1 else "fsw", fs2=k, rs1=31, imm=F_OUT + 8 * k) for k in range(32))
        out += a("addi", rd=31, rs1=31, imm=ROW) + to_next
        self.tail = out + a(load, rd=1, rs1=31, imm=0) + a("beq", rs1=1, rs2=0, imm=8)
        self.back, self.stop = partial(a, "jal", rd=0), a("wfi" if pointer is None else "ecall")
        self.nop = a("addi", rd=0, rs1=0, imm=0)
        self.overhead = len(self.head) // 4 + len(self.tail) // 4 + 1  # instructions per state besides the body

    def around(self, body: bytes) -> tuple[bytes, int]:
        """(program, offset of its end). No page begins there: who stops before the last instruction does not fetch it."""
        code = self.head + body + self.tail
        if (len(code) + 4) % 4096 in (0, 4094):
            code = self.head + body + self.nop + self.tail
        code += self.back(imm=-len(code))
        return code + self.stop, len(code)


class States:
    """Tables of ``count`` rows for ``bodies``; a body's rows are next to one another in a longer table that lives as long as
    this."""

    def __init__(self, rng: random.Random, bodies: Bodies, count: int) -> None:
        self.rng, self.bodies, self.count = rng, bodies, count
        self.n = n = bodies.isa.word // 8
        values = [numbers(rng, 8 * n) for _ in range(2000)]
        floats = [operand(64, rng) if k & 1 else operand(32, rng) | 0xFFFFFFFF << 32 for k in range(4000)]
        kind = "Q" if n == 8 else "I"
        rows = []
        self.kept = KEPT + count
        for _ in range(self.kept):
            row = array(kind, [1, *rng.choices(values, k=31)]).tobytes().ljust(F_IN, b"\0")
            pairs = (rng.choice(floats) for _ in range(32))
            f = array("Q", [v if (v >> 32 == 0xFFFFFFFF) != bool(k & 1) else floats[k] for k, v in enumerate(pairs)])
            fcsr = rng.randrange(5) << 5 | rng.getrandbits(5)
            rows.append((row + f.tobytes()).ljust(FCSR_IN, b"\0") + fcsr.to_bytes(8, "little") + bytes(ROW - FCSR_IN - 8))
        self.rows = array(kind, b"".join(rows))

    def table(self, addresses: Sequence[int]) -> bytes:
        """A table with these ``addresses`` in the bases, in any order, padded to whole pages."""
        rng, step = self.rng, ROW // self.n
        at = rng.randrange(self.kept - self.count) * step
        rows = self.rows[at:at + self.count * step]
        mask = (1 << 8 * self.n) - 1
        for base in self.bodies.bases:
            rows[base::step] = array(rows.typecode, [
                v + 0x800 + 8 * rng.randrange(0x10) & mask for v in rng.choices(addresses, k=self.count)])
        return rows.tobytes().ljust(room(self.count), b"\0")


def describe(isa: Isa, count: int, ours: bytes, theirs: bytes) -> str:
    """The first row that differs in two tables, "" for none."""
    if ours == theirs:
        return ""
    n = isa.word // 8
    slots = [(X_OUT + n * k, n, name) for k, name in enumerate(isa.layout["x"].names)]
    slots += [(X_OUT + n * (32 + k), n, f"csr {k}") for k in range(3)] + [(FCSR_OUT, n, "fcsr")]
    slots += [(F_OUT + 8 * k, 8, f"f{k}") for k in range(32)]
    for row in range(count):
        bad = []
        for offset, size, name in slots:
            at = row * ROW + offset
            a, b = (int.from_bytes(m[at:at + size], "little") for m in (ours, theirs))
            if a != b:
                bad.append(f"{name} {a:#x} / {b:#x}")
        if bad:
            return f"state {row}: " + "; ".join(bad)
    at = next(k for k, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    return f"state {at // ROW} at {at % ROW:#x}: {ours[at:at + 8].hex()} / {theirs[at:at + 8].hex()}"

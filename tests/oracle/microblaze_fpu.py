"""Soak: every floating-point instruction of MicroBlaze on directed operands, native code against QEMU or the evaluator.

    python -m tests.oracle.microblaze_fpu --judge reference --count 1000000 --ledger soak.jsonl
    python -m tests.oracle.microblaze_fpu --judge qemu --count 100000 --ledger soak.jsonl

As ``riscv_fp``: a program goes over a table of operands and writes results and FSR into its rows. ``--count``: operations
per instruction. Both byte orders take turns (QEMU: big-endian). What QEMU does otherwise than UG984 is in
docs/oracles-microblaze.md and left out by ``judged``.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from array import array
from functools import partial

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.evaluator import Evaluator
from ratite.core.isa.fp import FORMATS
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from ratite.targets.microblaze.isa import build
from tests.engine.toy import ToyRam
from tests.oracle.fp_operands import operand, related
from tests.oracle.ledger import Chunk, Ledger, soak
from tests.oracle.microblaze_rsp import PC, Qemu
from tests.oracle.pair import CODE_LIMIT, OraclePort, Span

BUILDER = "ratite.targets.microblaze.isa:build"
TABLE, ROW, ROWS = 0x1000, 16, 16384
NAMES = ("fadd", "frsub", "fmul", "fdiv", "fcmp.un", "fcmp.lt", "fcmp.eq", "fcmp.le", "fcmp.gt", "fcmp.ne", "fcmp.ge", "flt",
         "fint", "fsqrt")
FSR = 7
REVERSED = ("fcmp.le", "fcmp.ge")  # in QEMU, so it judges neither


def program(isa: Isa, name: str) -> bytes:
    """r10: the table, r11: its end. A row: operands for ra and rb, then result and FSR."""
    def a(name: str, **values: int) -> bytes:
        return isa.to_bytes(isa.by_name[name].pattern.encode(values, isa.fields), 4)

    fields = isa.by_name[name].pattern.pieces
    code = a("lwi", rd=5, ra=10, imm=0) + a("lwi", rd=6, ra=10, imm=4) + a("addik", rd=7, ra=0, imm=0x55)
    code += a("mts", ra=0, number=FSR) + a(name, **{k: v for k, v in {"rd": 7, "ra": 5, "rb": 6}.items() if k in fields})
    code += a("mfs", rd=8, number=FSR) + a("swi", rs=7, ra=10, imm=8) + a("swi", rs=8, ra=10, imm=12)
    code += a("addik", rd=10, ra=10, imm=ROW) + a("cmpu", rd=9, ra=11, rb=10)
    return code + a("bnei", ra=9, imm=-len(code)) + a("mbar", kind=16)


def table(rows: int, rng: random.Random) -> array[int]:
    """Rows of four words, drawn from a pool, in which pairs are related."""
    at = array("I", bytes(ROW * rows))
    pool = [operand(32, rng) if rng.random() < 0.9 else rng.getrandbits(rng.randrange(1, 33)) for _ in range(rows // 2)]
    pairs = [(a, related(32, a, rng)) for a in pool[:rows // 4]]
    at[0::4], at[1::4] = (array("I", rng.choices(pool, k=rows)) for _ in range(2))
    for k in range(0, rows, 2):
        at[4 * k], at[4 * k + 1] = rng.choice(pairs)
    return at


def judged(name: str, a: int, b: int, result: int, fsr: int) -> bool:
    """Whether QEMU, which gave ``result`` and ``fsr``, computes these as UG984 says."""
    f = FORMATS[32]
    operands = (a,) if name in ("flt", "fint", "fsqrt") else (a, b)
    if name in REVERSED:
        return False
    if name == "fint":  # it rounds to nearest, and NaNs and large numbers become others
        return (a & f.sign - 1) < f.bias + 31 << f.p - 1 and float(int(_number(a))) == _number(a)
    if name != "flt" and any(0 < n & f.sign - 1 < 1 << f.p - 1 for n in operands):  # it computes with denormals
        return False
    if name.startswith("fcmp") or name == "flt":
        return True
    size = result & f.sign - 1
    small = 0 < size < 1 << f.p - 1 or fsr & 2  # and denormals are results
    return not small and size <= f.infinity  # NaNs propagate


def _number(a: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", a))[0])


class Judged:
    """Native code of one byte order and its judges."""

    def __init__(self, big: bool, rows: int = ROWS) -> None:
        config: dict[str, object] = {"big": big}
        native = NativeLibrary().get(BUILDER, config)
        self.isa = native.isa
        self.big = big
        self.base = 0x90000000 if big else 0x50000000
        self.rows = rows
        self.size = -(-(TABLE + ROW * rows) // 4096) * 4096
        self.ram = ToyRam(self.size)
        port = OraclePort(BUILDER, config, self.ram, [Span(self.base, self.size, 0)])
        self.cpu = NativeVcpu(native, port, BusError, CODE_LIMIT)
        self.evaluator = Evaluator(build(config), None)  # type: ignore[arg-type]  # it touches no memory
        self.qemu: Qemu | None = None

    def _bytes(self, rows: array[int]) -> bytes:
        swapped = array("I", rows)
        if self.big:
            swapped.byteswap()
        return swapped.tobytes()

    def native(self, code: bytes, rows: array[int]) -> array[int]:
        self.ram.map[:len(code)] = code
        self.cpu.invalidate(self.ram, 0, TABLE)  # type: ignore[arg-type]
        self.ram.map[TABLE:TABLE + ROW * self.rows] = self._bytes(rows)
        self.cpu.reset(self.base)
        self.cpu.set("r", self.base + TABLE, 10)
        self.cpu.set("r", self.base + TABLE + ROW * self.rows, 11)
        assert self.cpu.run().kind == Exit.HALT
        return self._rows(self.ram.map[TABLE:TABLE + ROW * self.rows])

    def _rows(self, data: bytes) -> array[int]:
        rows = array("I", data)
        if self.big:
            rows.byteswap()
        return rows

    def by_qemu(self, code: bytes, rows: array[int]) -> array[int]:
        if self.qemu is None:
            self.qemu = Qemu("be" if self.big else "le")
            self.rest = self.qemu.registers()[PC + 1:]
            self.qemu.breakpoint(self.base + len(code) - 4)
        q = self.qemu
        data = self._bytes(rows)
        q.write(self.base, code)
        for at in range(0, len(data), 1800):
            q.write(self.base + TABLE + at, data[at:at + 1800])
        registers = [0] * 32
        registers[10], registers[11] = self.base + TABLE, self.base + TABLE + len(data)
        q.set_registers([*registers, self.base, *self.rest])
        q.run()
        start = self.base + TABLE
        return self._rows(b"".join(q.read(start + at, min(1024, len(data) - at)) for at in range(0, len(data), 1024)))

    def by_reference(self, name: str, code: bytes, rows: array[int]) -> array[int]:
        """Rows as the evaluator would leave them; it executes the instruction alone."""
        e, out = self.evaluator, array("I", rows)
        semantics, operands = e._prepare(code[16:20])
        r, fsr = e.state["r"], e.state["fsr"]
        for at in range(0, len(out), 4):
            r[5], r[6], r[7], fsr[0] = out[at], out[at + 1], 0x55, 0
            semantics(e, operands)
            out[at + 2], out[at + 3] = r[7], fsr[0]
        return out

    def chunk(self, name: str, judge: str, seed: int, count: int) -> Chunk:
        """One table."""
        rows = table(self.rows, random.Random(f"{name} {seed}"))
        code = program(self.isa, name)
        got = self.native(code, rows)
        want = self.by_qemu(code, rows) if judge == "qemu" else self.by_reference(name, code, rows)
        bad, count = [], 0
        for at in range(0, len(got), 4):
            if judge == "qemu" and not judged(name, *want[at:at + 4]):
                continue
            count += 1
            if got[at:at + 4] != want[at:at + 4]:
                texts = (" ".join(map(hex, part)) for part in (got[at:at + 2], want[at + 2:at + 4], got[at + 2:at + 4]))
                bad.append("{}: {}: judge {}, native {}".format(name, *texts))
        return Chunk(count, 0, bad)

    def close(self) -> None:
        self.cpu.close()
        if self.qemu is not None:
            self.qemu.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", choices=("reference", "qemu"), default="reference")
    parser.add_argument("--count", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", default=None)
    args = parser.parse_args(argv)
    bad = 0
    for big in (True, False)[:1 if args.judge == "qemu" else 2]:
        both = Judged(big)
        for name in NAMES:
            if args.judge == "qemu" and name in REVERSED:
                continue
            config = f"microblaze{'' if big else 'el'} {name}"
            ledger = Ledger(args.ledger, f"fp {args.judge}", config)
            left = args.count - ledger.total("count")
            if left > 0:
                print(config, end=": ")
                bad += soak(ledger, args.seed, left, partial(both.chunk, name, args.judge), ROWS)
        both.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

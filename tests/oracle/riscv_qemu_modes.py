"""Modes, translation and traps against a recent qemu-system-riscv64: what unicorn lacks or can't show.

    python -m tests.oracle.riscv_qemu_modes --count 50000 --qemu PATH [--ledger soak.jsonl]

A seed is a program as riscv_qemu's: probes one after another, each one instruction in M, S or U under Sv39, Sv48 or Sv57, with
an entry of any bits at any level (reserved ones, Svnapot, Svpbmt), delegation, interrupts pending and enabled, Sstc,
environment registers, counter enables, TVM, TSR, a PMP entry that may be locked and may lie over the page tables. Compared are
mcause, mtval, mepc, mstatus, scause, stval, sepc, what was loaded and the entry.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from ratite.targets.riscv.counters import NOTE_STIMECMP
from tests.engine.toy import ToyRam
from tests.oracle.driver import Job, command
from tests.oracle.ledger import Chunk
from tests.oracle.pair import BUILDER, CODE_LIMIT, Span
from tests.oracle.riscv_qemu import A0, A1, A2, ECALL, MACHINE, S2, START, T0, T1, SerialPort, Writer, run_qemu

SIZE, OPERANDS, LOG, PLAY, SNIPPETS, TABLES = (
    0x400000, START + 0x180000, START + 0x240000, START + 0x300000, START + 0x340000, START + 0x350000)
PROBES = 400
PARTS = ("f", "d", "s", "u", "sv39", "sv48", "sv57", "pmp", "sstc", "svinval", "svpbmt", "svnapot", "svadu", "zicbom", "zicboz",
         "zba", "zbb", "zbs")
MODEL = "rv64,h=false,v=false,zfa=false,zawrs=false,zicond=false,sstc=true,svinval=true,svpbmt=true,svnapot=true,svadu=true," \
        "svade=true,zicbom=true,zicboz=true,sv57=true,priv_spec=v1.12.0"
STCE, NEVER = 1 << 63, (1 << 64) - 1
V, R, W, X, U, G, A, D = (1 << k for k in range(8))
S3 = 19
RESULTS = ("mcause", "mtval", "mepc", "mstatus", "scause", "stval", "sepc", "a1", "entry")
LOGGED = (0x342, 0x343, 0x341, 0x300, 0x142, 0x143, 0x141)
COUNTERS = (0xC00, 0xC01, 0xC02)  # cycle, time, instret
MSTATUS = (1 << 1, 1 << 5, 1 << 7, 1 << 8, 1 << 18, 1 << 19, 1 << 20, 1 << 22, 3 << 13)  # bits that are set now and then
LINES = (1 << 1, 1 << 5, 1 << 9)
STORE_FAULTS = (7, 15)
INSNS = ("lw", "sw", "ld", "sd", "jalr", "lr.w", "amoor.w", "cbo.zero", "cbo.clean", "cbo.flush", "cbo.inval", "csr", "write",
         "sfence.vma", "sinval.vma", "sret", "mret", "ebreak", "ecall", "illegal")


class ModeWriter(Writer):
    """Writes the program of one seed."""

    layout = (SIZE, OPERANDS, LOG)

    def __init__(self, isa: Isa, rng: random.Random) -> None:
        super().__init__(isa, rng, [])
        self.snippets = bytearray()
        self.locked = False

    def program(self) -> bytes:
        self.begin()
        trap = self.handler()
        self.address(T0, START + trap)
        self.csr(0x305, T0)
        self.set(0x105, 3 << 12)  # stvec: the page that only calls
        for k in range(PROBES):
            self.probe(k)
        self.send()
        image = self.image()
        image[PLAY - START:SNIPPETS - START] = ECALL.to_bytes(4, "little") * ((SNIPPETS - PLAY) // 4)
        image[SNIPPETS - START:SNIPPETS - START + len(self.snippets)] = self.snippets
        image[SNIPPETS - START + 0x3000:SNIPPETS - START + 0x3004] = ECALL.to_bytes(4, "little")
        for level in range(5):
            at = TABLES - START + (level << 12)
            if level:
                image[at:at + 8] = (TABLES + (level - 1 << 12) >> 2 | V).to_bytes(8, "little")
            else:
                for k, flags in ((1, X | R | A), (2, X | R | U | A), (3, X | A)):
                    page = SNIPPETS + (0x3000 if k == 3 else 0)
                    image[at + 8 * k:at + 8 * k + 8] = (page >> 2 | V | flags).to_bytes(8, "little")
        return bytes(image)

    def csr(self, number: int, register: int) -> None:
        self.put("csrrw", rd=0, csr=number, rs1=register)

    def set(self, number: int, value: int) -> None:
        self.operand(T0, value)
        self.csr(number, T0)

    def handler(self) -> int:
        """Where traps go in M: all is logged, and it goes on at s2."""
        at = len(self.code)
        self.put("jal", rd=0, imm=0)  # over the handler, see below
        start = len(self.code)
        for csr in LOGGED:
            self.put("csrrs", rd=T1, csr=csr, rs1=0)
            self.result(T1)
        self.result(A1)
        self.put("ld", rd=T1, rs1=S3, imm=0)
        self.result(T1)
        self.put("jalr", rd=0, rs1=S2, imm=0)
        self.results -= len(RESULTS)
        self.code[at:at + 4] = self.isa.assemble("jal", rd=0, imm=len(self.code) - at)
        return start

    def instruction(self) -> tuple[str, bytes]:
        rng, a = self.rng, self.isa.assemble
        name = rng.choice(INSNS) if rng.random() < 0.5 else rng.choice(INSNS[:7])
        if name in ("lw", "ld"):
            return name, a(name, rd=A1, rs1=A0, imm=0)
        if name in ("sw", "sd"):
            return name, a(name, rs1=A0, rs2=A2, imm=0)
        if name == "jalr":
            return name, a(name, rd=0, rs1=A0, imm=0)
        if name == "lr.w":
            return name, a(name, rd=A1, rs1=A0)
        if name == "amoor.w":
            return name, a(name, rd=A1, rs1=A0, rs2=A2)
        if name.startswith("cbo"):
            return name, a(name, rs1=A0)
        if name.endswith("vma"):
            return name, a(name, rs1=A0, rs2=0)
        if name == "csr":
            number = rng.choice((*COUNTERS, 0x14D, 0x180, 0x10A, 0x106, 0x100, 0x104, 0x144, 0x30A))
            return f"read {number:#x}", a("csrrs", rd=0 if number in (*COUNTERS, 0x100) else A1, csr=number, rs1=0)
        if name == "write":
            number = rng.choice((0x14D, 0x10A, 0x106, 0x104, 0x140, 0xC01))
            return f"write {number:#x}", a("csrrw", rd=0, csr=number, rs1=0)
        return name, bytes(4) if name == "illegal" else a(name)

    def entry(self, level: int) -> int:
        rng = self.rng
        flags = V | R | W | X | A | D
        kind = rng.random()
        if kind < 0.3:
            flags ^= rng.choice((V, R, W, X, A, D, A | D, R | W, G))
        elif kind < 0.5:
            flags = rng.getrandbits(8)
        flags |= rng.choice((0, U))
        page = (PLAY >> 12) + rng.randrange(16) if not level else START >> 12 if level < 3 else 0
        if level and not flags & (R | W | X):  # it points on: to a table, not to code
            page = (TABLES >> 12) + level - 1
        elif level and rng.random() < 0.1:
            page += 1 << rng.randrange(9 * level)
        if not level and rng.random() < 0.15:  # 64 KiB at once, or nearly so
            page = page & ~15 | rng.choice((8, 8, 4, 0))
            flags |= 1 << 63
        if rng.random() < 0.15:
            flags |= rng.choice((1 << 63, 1 << 61, 1 << 62, 1 << rng.randrange(54, 61)))
        return page << 10 | flags

    def probe(self, number: int) -> None:
        rng = self.rng
        mode = rng.choice((8, 9, 10))
        level = rng.choice((0, 0, rng.randrange(mode - 5)))
        priv = rng.choice((0, 1, 1, 1, 3))
        inside = rng.randrange(0x10000) & -8 if level else rng.randrange(0x1000) & -8
        offset = inside if not level else PLAY - START + inside if level < 3 else PLAY + inside
        where = (5 << 12 + 9 * level) + offset
        if priv == 3:
            where = PLAY + inside
        elif rng.random() < 0.03:
            where = rng.getrandbits(64) & -8
        name, code = self.instruction()
        at = len(self.snippets)
        self.snippets += code + ECALL.to_bytes(4, "little")
        assert len(self.snippets) <= 0x1000
        entry = self.entry(level)
        self.address(S3, TABLES + (level << 12) + 40)
        self.operand(T0, entry)
        self.put("sd", rs1=S3, rs2=T0, imm=0)
        self.texts.append(f"{number}: {name} at {where:#x} in mode {priv}, satp {mode}, level {level}, entry {entry:#x}")
        self.set(0x180, mode << 60 | TABLES + (mode - 6 << 12) >> 12)
        self.put("sfence.vma", rs1=0, rs2=0)
        self.environment()
        self.protection()
        status = sum(rng.choice((0, 0, 0, bit)) for bit in MSTATUS) | priv << 11
        self.operand(T0, status)
        self.csr(0x300, T0)
        for csr in (0x142, 0x143, 0x141):
            self.set(csr, 0)
        self.operand(A0, where)
        self.put("addi", rd=A1, rs1=0, imm=0)
        self.operand(A2, ECALL | ECALL << 32)
        self.set(0x341, SNIPPETS + at if priv == 3 else (0x1000 if priv else 0x2000) + at)
        self.address(S2, START + len(self.code) + 12)
        self.put("mret")
        self.results += len(RESULTS)
        self.set(0x304, 0)  # quiet again

    def environment(self) -> None:
        """Who may do what, and which interrupts there are."""
        rng = self.rng
        # no fetch that PMP forbids: that of the handler's own would come again and again
        self.set(0x302, rng.getrandbits(16) & 0xB1FD if rng.random() < 0.6 else 0)
        menvcfg = sum(rng.choice((0, bit)) for bit in (STCE, 1 << 62, 1 << 61, 1 << 7, 1 << 6)) | rng.choice((0, 1, 3)) << 4
        self.set(0x30A, menvcfg)
        self.set(0x10A, sum(rng.choice((0, bit)) for bit in (1 << 7, 1 << 6)) | rng.choice((0, 1, 3)) << 4)
        self.set(0x306, rng.getrandbits(3))
        self.set(0x106, rng.getrandbits(3))
        quiet = rng.random() < 0.7
        # without STCE a write of stimecmp reaches mip there, so then the timer is never due
        stimecmp = NEVER if quiet or not menvcfg & STCE else rng.choice((0, NEVER))
        pending, delegated = (sum(rng.choice((0, line)) for line in LINES) for _ in range(2))
        enabled = rng.choice(LINES)  # of several QEMU takes the one with the lowest number first
        self.set(0x14D, stimecmp)
        self.set(0x303, delegated)
        self.set(0x344, 0 if quiet else pending)
        self.set(0x304, 0 if quiet else enabled)
        self.texts[-1] += f", menvcfg {menvcfg:#x}, stimecmp {stimecmp:#x}"
        if not quiet:
            self.texts[-1] += f", mip {pending:#x}, mie {enabled:#x}, mideleg {delegated:#x}"

    def protection(self) -> None:
        """Entry 0 over a page of data or of tables, entry 1 over all; late in a program an entry is locked once."""
        rng = self.rng
        page = rng.choice(((PLAY >> 12) + rng.randrange(16), (TABLES >> 12) + rng.randrange(5)))
        lock = not self.locked and len(self.texts) > 0.9 * PROBES and page < TABLES >> 12  # M needs the tables
        self.set(0x3B0, page << 10 | 0x1FF)
        self.set(0x3B1, (1 << 54) - 1)
        rights = (0, 1, 3, 4, 5, 7) if page < TABLES >> 12 else (0, 3, 4, 7)  # QEMU writes A and D where PMP lets it read
        first = (rng.choice((0x18, 0x18, 0x10)) | rng.choice(rights)) if rng.random() < 0.3 else 0
        if first and lock:
            first, self.locked = first | 0x80, True
        self.set(0x3A0, 0x1F00 | first)


class Port(SerialPort):
    """With a clock, and a timer that is due at once or never."""

    cpu: NativeVcpu

    def on_notify(self, number: int, value: int) -> None:
        if number == NOTE_STIMECMP:
            self.cpu.set_line(5, value == 0)

    def clock_ns(self) -> int:
        return time.monotonic_ns()

    def clock_offset(self) -> int | None:
        return None


def judged(row: list[int], text: str) -> list[int]:
    """A probe's results without what the two do differently and may."""
    row = list(row)
    for cause, value in ((0, 1), (4, 5)):
        if row[cause] == 2:  # mtval may be 0, and what QEMU has there is not always this instruction
            row[value] = 0
        elif " cbo." in text:  # the address or the block's
            row[value] &= -64
    if row[-1] >> 63 and row[-1] >> 10 & 15 != 8:  # Svnapot that isn't: QEMU sets A and D before it faults
        row[-1] &= ~(A | D)
    if " read 0x144 " in text and " in mode 3" in text:  # STIP in sip comes and goes there
        row[7] &= ~LINES[1]
    if " amoor.w " in text and (row[0] in STORE_FAULTS or row[4] in STORE_FAULTS):  # which may set A and does there
        row[-1] &= ~A
    return row


def either(text: str, rows: list[list[int]]) -> bool:
    """Whether a store that translation and PMP both forbid, as it were a load or not, failed by either."""
    causes = {row[4] or row[0] for row in rows}
    return causes == set(STORE_FAULTS) and (" amoor.w " in text or " cbo." in text)


class Peers:
    """The native CPU, and the QEMU at ``qemu``."""

    def __init__(self, library: NativeLibrary, qemu: str) -> None:
        self.qemu = qemu
        config: dict[str, object] = {"word-size": 64, "timebase-frequency": 10_000_000, **dict.fromkeys(PARTS, True)}
        native = library.get(BUILDER, config)
        self.isa = native.isa
        self.ram = ToyRam(SIZE)
        self.port = Port(BUILDER, config, self.ram, [Span(START, SIZE, 0)])
        self.cpu = self.port.cpu = NativeVcpu(native, self.port, BusError, CODE_LIMIT)

    def ours(self, image: bytes) -> bytes:
        self.ram.map[:] = image
        self.cpu.invalidate(self.ram, 0, SIZE)  # type: ignore[arg-type]
        self.cpu.reset(START)
        self.port.sent = b""
        _, ended = self.cpu.advance(10_000_000)
        assert ended.kind == Exit.HALT, (ended, hex(self.cpu.get("pc")))
        return self.port.sent

    def compare(self, seed: int) -> tuple[int, list[str]]:
        """(probes compared, those that differ)."""
        writer = ModeWriter(self.isa, random.Random(seed))
        image = writer.program()
        ours, theirs = self.ours(image), run_qemu(self.qemu, MODEL, image)
        bad = []
        for k in range(PROBES):
            at = 8 * k * len(RESULTS)
            rows = [judged([int.from_bytes(sent[n:n + 8], "little") for n in range(at, at + 8 * len(RESULTS), 8)],
                           writer.texts[k]) for sent in (ours, theirs)]
            found = [f"{name} {a:#x} / {b:#x}" for name, a, b in zip(RESULTS, *rows, strict=True) if a != b]
            if found and not either(writer.texts[k], rows):
                bad.append(f"{writer.texts[k]}: " + ", ".join(found))
        return PROBES, bad or ([] if len(ours) == len(theirs) else [f"{len(ours)} bytes / {len(theirs)}"])

    def chunk(self, seed: int, _: int) -> Chunk:
        count, bad = self.compare(seed)
        return Chunk(count, 0, bad)

    def close(self) -> None:
        self.cpu.close()


def knows(qemu: str) -> bool:
    """Whether that QEMU has all that is asked of it."""
    trial = [qemu, *MACHINE, "-cpu", MODEL, "-monitor", "stdio", "-S"]
    return not subprocess.run(trial, input=b"quit\n", capture_output=True, check=False, timeout=60).returncode


def job(args: Namespace) -> Job | str:
    qemu = args.qemu or shutil.which("qemu-system-riscv64")
    if not qemu or not knows(qemu):
        return "riscv-qemu-modes: no qemu-system-riscv64 of version 10"
    peers = Peers(NativeLibrary(), qemu)
    return Job("riscv-qemu-modes", peers.isa.name, peers.chunk, peers)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--qemu", help="where it is")


if __name__ == "__main__":
    sys.exit(command(__doc__, job, more=_options, count=PROBES, chunk=PROBES))

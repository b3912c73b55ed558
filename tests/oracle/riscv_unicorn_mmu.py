"""Soak: native code against unicorn on random RISC-V code under translation, in S and U mode.

    python -m tests.oracle.riscv_unicorn_mmu --count 100000000 --seed 1 --xlen 64 --ledger soak.jsonl [--tier 2]

Streams are those of riscv_unicorn, run at virtual addresses: code, table of states and data are mapped at random places in
Sv32, Sv39, Sv48 or Sv57, data several times, its pages in any order, some of it by large pages, A and D set or not. What is
compared is also the page tables, in which both set A and D.

Between them come probes: one load, store, fetch or atomic operation through a page table entry with any flags, at any level,
under any MPRV, SUM, MXR and mode. Compared is whether it works, else the cause, and memory.

Unicorn checks no reserved bit of an entry, so none is set here; it has no PMP. See docs/oracles.md.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace

import unicorn
from unicorn import riscv_const, unicorn_const

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.isa.isa import Isa
from tests.oracle.driver import Job, command
from tests.oracle.ledger import Chunk
from tests.oracle.riscv_bodies import Bodies
from tests.oracle.riscv_rows import DATA as DATA_SIZE
from tests.oracle.riscv_rows import Program, States, describe, room
from tests.oracle.riscv_unicorn import FLOATS, FS_INITIAL, POOL, POOL_LIFE, STATES
from tests.oracle.unicorn_pair import START, UnicornPair, smallest

DATA, STOP, SCRATCH, TABLES, PAGES = 0x4000, 0x8000, 0x9000, 0xA000, 64  # offsets: data behind code, where traps go, the
ROWS = TABLES + (PAGES << 12)  # page at VA 0, page tables, states
TABLE_LIFE = 20  # programs run on one set of tables
PROBES = 60  # between two sets of tables
V, R, W, X, U, G, A, D = (1 << k for k in range(8))
SUM, MXR, MPRV = 1 << 18, 1 << 19, 1 << 17
MODES = {32: ((1, 2),), 64: ((8, 3), (9, 4), (10, 5))}  # satp's MODE, levels
SEPC, SSTATUS, SCAUSE, STVAL = 0x141, 0x100, 0x142, 0x143


class ModeBodies(Bodies):
    """Bodies for S or U: registers and returns are supervisor's, or there are none."""

    def __init__(self, isa: Isa, rng: random.Random, size: int, floats: float, supervisor: bool) -> None:
        self.supervisor = supervisor
        self.status = SSTATUS if supervisor else None
        super().__init__(isa, rng, size, floats)

    def simple_only(self, name: str) -> bool:
        return name not in ("sret", "sfence.vma")

    def plain(self) -> bytes:
        while True:
            code = super().plain()
            word, length = self.isa.word_at(code)
            found = self.isa.decode(word, length)
            if found is not None and self.simple_only(found[0].like):
                return code

    def csr(self) -> bytes:
        if not self.supervisor:
            return self.plain()
        rng, rd, number = self.rng, self.target(), self.rng.choice((SCAUSE, STVAL))
        name = rng.choice(("csrrw", "csrrs", "csrrc"))
        if rng.random() < 0.1:
            return self.a("csrrs", rd=rd, csr=SEPC, rs1=0)
        if rng.random() < 0.15:
            return self.a("sfence.vma", rs1=rng.choice((0, *self.bases)), rs2=0)
        if rng.random() < 0.4:
            return self.a(name + "i", rd=rd, csr=number, zimm=rng.randrange(32))
        return self.a(name, rd=rd, csr=number, rs1=self.any_register())

    def ret(self) -> bytes:
        """As Bodies', by sret, in S."""
        if not self.supervisor:
            return self.plain()
        at, over = self.rng.choice(self.free), self.filler()
        tail = self.a("csrrw", rd=0, csr=SEPC, rs1=at) + self.a("addi", rd=at, rs1=0, imm=0x100) + \
            self.a("csrrs", rd=0, csr=SSTATUS, rs1=at) + self.a("sret")
        distance = 8 + len(tail) + len(over)
        return self.a("auipc", rd=at, upper=0) + self.a("addi", rd=at, rs1=at, imm=distance) + tail + over + self.hop(at)


class Tables:
    """Page tables of one mode, in memory from START + TABLES on. An intermediate page that is shared is made once."""

    def __init__(self, rng: random.Random, xlen: int) -> None:
        self.rng, self.xlen = rng, xlen
        self.mode, self.levels = rng.choice(MODES[xlen])
        self.bits, self.size = (9, 8) if xlen == 64 else (10, 4)
        self.bytes = bytearray(PAGES << 12)
        self.used = 1

    @property
    def satp(self) -> int:
        return self.mode << (60 if self.xlen == 64 else 31) | START + TABLES >> 12

    def get(self, at: int) -> int:
        return int.from_bytes(self.bytes[at:at + self.size], "little")

    def put(self, at: int, value: int) -> None:
        self.bytes[at:at + self.size] = value.to_bytes(self.size, "little")

    def slot(self, va: int, level: int) -> int | None:
        """Where the entry of that level for ``va`` is; None where a large page or lack of room is in the way."""
        page = 0
        for k in range(self.levels - 1, -1, -1):
            at = (page << 12) + (va >> 12 + self.bits * k & (1 << self.bits) - 1) * self.size
            if k == level:
                return at
            entry = self.get(at)
            if not entry:
                if self.used == PAGES:
                    return None
                entry = START + TABLES + (self.used << 12) >> 2 | V
                self.used += 1
                self.put(at, entry)
            if entry & 0xE:
                return None
            page = (entry >> 10 << 12) - START - TABLES >> 12
        return None

    def map(self, va: int, pa: int, flags: int, level: int = 0) -> bool:
        """Whether there was room."""
        at = self.slot(va, level)
        if at is None or self.get(at):
            return False
        self.put(at, pa >> 2 | flags)
        return True

    def somewhere(self, pages: int, level: int = 0) -> int:
        """A canonical address, aligned to a page of that level, with ``pages`` small pages behind it."""
        top = 12 + self.bits * self.levels
        va = self.rng.getrandbits(top) if self.rng.random() < 0.5 else self.rng.getrandbits(12 + self.bits * 2)
        va = va >> 12 + self.bits * level << 12 + self.bits * level
        va = max(0x1000, min(va, (1 << top) - (pages + 1 << 12)))
        if (self.xlen == 64 and va >> top - 1 & 1) or (self.xlen == 64 and va + (pages << 12) >> top - 1 & 1):
            va = va % (1 << top) | (1 << 64) - (1 << top - 1)
        return va & (1 << self.xlen) - 1


class Layout:
    """Where a program's parts are mapped. ``rows``: bytes of the table of states."""

    def __init__(self, rng: random.Random, xlen: int, supervisor: bool, rows: int) -> None:
        self.tables = t = Tables(rng, xlen)
        user = 0 if supervisor else U

        def place(offset: int, pages: int, flags: int) -> int:
            while True:
                if rng.random() < 0.2:  # what lies from physical 0 on, at once
                    level = rng.randrange(1, t.levels - 1) if t.levels > 2 else 1
                    va = t.somewhere(1 << t.bits * level, level)
                    fits = START + offset + (pages << 12) <= 1 << 12 + t.bits * level
                    if fits and va >> 12 + t.bits * level << 12 + t.bits * level == va and t.map(va, 0, flags | A | D, level):
                        return va + START + offset
                    continue
                va = t.somewhere(pages)
                steps = range(0, pages << 12, 4096)
                if all(t.map(va + at, START + offset + at, flags | rng.choice((0, A, A | D))) for at in steps):
                    return va

        t.map(0, START + SCRATCH, V | R | W | user)
        self.code = place(0, 4, V | X | user | rng.choice((0, R)))
        self.rows = place(ROWS, rows >> 12, V | R | W | user | rng.choice((0, X, G)))
        self.data: list[int] = []
        for _ in range(rng.randrange(3, 8)):
            both = user if not supervisor else rng.choice((0, 0, U))
            if rng.random() < 0.3:
                self.data.append(place(DATA, 2, V | R | W | both))
                continue
            va = t.somewhere(2)
            if all(t.map(va + (k << 12), START + DATA + rng.choice((0, 0x1000)), V | R | W | both | rng.choice((0, A, A | D)))
                   for k in (0, 1)):
                self.data.append(va)
        if not self.data:
            self.data.append(place(DATA, 2, V | R | W | user))


class Probe:
    """One access: its page table, state, address and instruction."""

    def __init__(self, rng: random.Random, xlen: int) -> None:
        self.tables = t = Tables(rng, xlen)
        level = rng.choice((0, 0, rng.randrange(t.levels)))
        code, data = t.somewhere(2), t.somewhere(2, level)
        self.priv = rng.choice((0, 1, 1, 3))
        self.pc = START if self.priv == 3 else code
        self.status = rng.choice((0, SUM)) | rng.choice((0, MXR)) | rng.choice((0, 1)) << 11
        self.status |= MPRV if self.priv == 3 else rng.choice((0, 0, MPRV))
        flags = rng.choice((V | R, V | R | W, V | R | X, V | X, V | R | W | X)) | rng.choice((0, U)) | rng.choice((0, A, A | D))
        if rng.random() < 0.5:
            flags = rng.getrandbits(8)
        t.map(code, START, V | R | X | A | (0 if self.priv else U))
        if flags & 0xE or flags & V == 0 or level == 0:
            pa = START + DATA if not level else 0 if rng.random() < 0.8 else 0x1000 << rng.randrange(t.bits * level)
            t.map(data, pa, flags, level)
        addr = data + (rng.randrange(0x1000) if not level else START + DATA + rng.randrange(0x1000))
        if rng.random() < 0.1:
            addr = rng.getrandbits(xlen)
        names = ["lb", "lw", "sb", "sw", "jalr", "amoadd.w", "lr.w"]
        self.name = rng.choice(names if xlen == 32 else [*names, "ld", "sd"])
        self.addr = addr & (1 << xlen) - 1 & -{"b": 1, "w": 4, "d": 8, "r": 2}[self.name[-1]]
        self.text = f"{self.name} at {self.addr:#x}, mode {t.mode}, level {level}, flags {flags:#x}, priv {self.priv}, " \
                    f"status {self.status:#x}"


class Judged(UnicornPair):
    """Programs and probes under translation."""

    def __init__(self, xlen: int, library: NativeLibrary, tier: int = 0) -> None:
        parts = ("f", "d", "s", "u", "sv32", "sv39", "sv48", "sv57")
        self.states = STATES[tier]
        super().__init__({"word-size": xlen, **dict.fromkeys(parts, True)}, library, ROWS + room(self.states), tier)
        self.cause, self.kept = -1, b""
        self.uc.hook_add(unicorn_const.UC_HOOK_INTR, self._trapped)
        self.fresh = self.uc.context_save()
        self.both({STOP: self.isa.assemble("wfi")})

    def _trapped(self, uc: unicorn.Uc, number: int, _: object) -> None:
        self.cause = number
        self.kept = self.judge_ram.map[TABLES:ROWS]  # unicorn looks for code once more, wherever, before it stops
        uc.emu_stop()

    def begin(self, image: dict[int, bytes], satp: int, priv: int, status: int, pc: int, registers: dict[int, int]) -> None:
        """The same memory and state for both; whoever traps goes to STOP."""
        self.both(image)
        for at, data in image.items():
            if at < STOP:  # nobody fetches behind it
                self.cpu.invalidate(self.ram, at, len(data))
        self.cpu.reset(pc)
        for name, value in (("satp", satp), ("priv", priv), ("mstatus", self.cpu.get("mstatus") | status),
                            ("mtvec", START + STOP)):
            self.cpu.set(name, value)
        uc = self.uc
        uc.context_restore(self.fresh)
        uc.ctl_flush_tb()
        uc.ctl(unicorn_const.UC_CTL_TLB_FLUSH, unicorn_const.UC_CTL_IO_WRITE)
        uc.reg_write(riscv_const.UC_RISCV_REG_SATP, satp)
        uc.reg_write(riscv_const.UC_RISCV_REG_MSTATUS, status)
        uc.reg_write(riscv_const.UC_RISCV_REG_PRIV, priv)
        for k, value in registers.items():
            self.cpu.set("x", value, k)
            uc.reg_write(riscv_const.UC_RISCV_REG_X0 + k, value)
        self.cause, self.kept = -1, b""

    def judge(self, pc: int, until: int, count: int = 0) -> str:
        problem = super().judge(pc, until, count)
        if self.kept and not problem:
            self.judge_ram.map[TABLES:ROWS] = self.kept
        return problem

    def run(self, layout: Layout, program: bytes, end: int, data: bytes, rows: bytes, supervisor: bool) -> str:
        """What went wrong, "" for nothing."""
        scratch = layout.rows.to_bytes(self.xlen // 8, "little").ljust(16, b"\0")
        image = {0: program, DATA: data, SCRATCH: scratch, TABLES: bytes(layout.tables.bytes), ROWS: rows}
        self.begin(image, layout.tables.satp, int(supervisor), SUM | FS_INITIAL, layout.code, {})
        finish = layout.code + end & (1 << self.xlen) - 1
        problem = self.judge(layout.code, finish)
        if self.cause >= 0:
            problem = f"unicorn: cause {self.cause} at {self.uc.reg_read(riscv_const.UC_RISCV_REG_PC):#x}"
        _, ended = self.cpu.advance(100_000_000)
        if ended.kind != Exit.HALT or self.cpu.get("mcause") != 8 + supervisor or self.cpu.get("mepc") != finish:
            problem += f"; {ended!r}, {self.native_state()}"
        return problem or self.memory_differs()

    def memory_differs(self) -> str:
        at = self.first_difference()
        if at is None:
            return ""
        ours, theirs = self.ram.map, self.judge_ram.map
        if at >= ROWS:
            return describe(self.isa, self.states, ours[ROWS:], theirs[ROWS:])
        at &= -8
        where = "table" if at >= TABLES else "data"
        return f"{where} at {at:#x}: {ours[at:at + 8].hex()} / {theirs[at:at + 8].hex()}"

    def probe(self, rng: random.Random) -> str:
        """One access; what went wrong."""
        p = Probe(rng, self.xlen)
        a, name = self.isa.assemble, p.name
        insn = (a("jalr", rd=0, rs1=10, imm=0) if name == "jalr" else
                a(name, rd=11, rs1=10) if name == "lr.w" else a(name, rd=11, rs1=10, rs2=12) if name == "amoadd.w" else
                a(name, rs1=10, rs2=12, imm=0) if name[0] == "s" else a(name, rd=11, rs1=10, imm=0))
        image = {0: insn, TABLES: bytes(p.tables.bytes), DATA: b"\x13\0\0\0" * (DATA_SIZE // 4)}
        self.begin(image, p.tables.satp, p.priv, p.status, p.pc, {10: p.addr, 12: 0x1234_5678})
        problem = self.judge(p.pc, 1, 2 if name == "jalr" else 1)
        ours = -1
        for _ in range(2 if name == "jalr" else 1):
            self.cpu.step()
            if self.cpu.get("pc") == START + STOP:
                ours = self.cpu.get("mcause")
                break
        if problem:  # memory that isn't there stops unicorn: an access fault
            self.cause, problem = (ours if ours in (1, 5, 7) else -2), ""
        if name == "amoadd.w" and self.cause == 13:
            self.cause = 15  # its faults are a store's (Unprivileged 20191213 §8.4)
        if ours != self.cause:
            problem = f"cause {ours} / {self.cause}"
        elif ours < 0 and name[0] in "la":
            theirs = self.uc.reg_read(riscv_const.UC_RISCV_REG_X11)
            if theirs != self.cpu.get("x", 11):
                problem = f"value {self.cpu.get('x', 11):#x} / {theirs:#x}"
        if name != "amoadd.w" or ours < 0:  # unicorn's reads first, which sets A, where it can't write
            problem = problem or self.memory_differs()
        return problem and f"probe {p.text}: {problem}"


def run_chunk(judged: Judged, seed: int, count: int) -> Chunk:
    """Compares ``count`` instructions of bodies or a little more; probes count as one."""
    rng = random.Random(seed)
    judged.tier.reseed(seed)
    done = made = 0
    differences: list[str] = []
    compiled = judged.cpu.compiled_instructions
    judged.both({0: bytes(STOP), SCRATCH: bytes(judged.size - SCRATCH)})
    while done < count and not differences:
        if made % POOL_LIFE == 0:
            supervisor = rng.random() < 0.6
            bodies = ModeBodies(judged.isa, rng, POOL, FLOATS * (seed + made // POOL_LIFE & 1), supervisor)
            program = Program(bodies, 0, (SEPC, SCAUSE, STVAL) if supervisor else ())
            states = States(rng, bodies, judged.states)
        if made % TABLE_LIFE == 0:
            layout = Layout(rng, judged.xlen, supervisor, room(judged.states))
            for _ in range(PROBES):
                done += 1
                problem = judged.probe(rng)
                if problem:
                    return Chunk(done, 0, [problem])
        made += 1
        items = rng.choices(bodies.pool, k=rng.randrange(70, 600))
        case = Case(judged, layout, program, rng.randbytes(DATA_SIZE), states.table(layout.data), supervisor)
        before = judged.cpu.instructions
        problem = case.run(items)
        done += judged.cpu.instructions - before - program.overhead * judged.states
        if problem:
            differences.append(f"body {made}, mode {layout.tables.mode}, {'S' if supervisor else 'U'}: {problem}\n"
                               f"{smallest(items, case.run, judged)}")
    return Chunk(done, 0, differences, judged.cpu.compiled_instructions - compiled)


class Case:
    """A body's surroundings."""

    def __init__(
        self, judged: Judged, layout: Layout, program: Program, data: bytes, rows: bytes, supervisor: bool,
    ) -> None:
        self.judged, self.layout, self.program = judged, layout, program
        self.data, self.rows, self.supervisor = data, rows, supervisor

    def run(self, items: list[bytes]) -> str:
        """What went wrong with these."""
        code, end = self.program.around(b"".join(items))
        return self.judged.run(self.layout, code, end, self.data, self.rows, self.supervisor)


def job(args: Namespace) -> Job:
    judged = Judged(args.xlen, NativeLibrary(), args.tier)
    return Job(judged.tier.named("riscv-unicorn-mmu"), judged.isa.name, lambda seed, count: run_chunk(judged, seed, count),
               judged)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, xlen=True, tier=True, count=1_000_000, chunk=20_000_000))

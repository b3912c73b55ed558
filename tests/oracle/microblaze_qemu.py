"""Native code against QEMU, MicroBlaze: `python -m tests.oracle.microblaze_qemu --count N --endian be|le [--mmu] [--tier 2]`.

Over QEMU's gdbstub: registers, code and data are written, QEMU runs to a breakpoint, and r0–r31, pc, MSR (bits 1 to 9), EAR,
BTR and the data are compared with what the native CPU made of the same; the handler sums the ESRs up in r16, so they count too.
A batch is a program of random
instructions that runs forward, some rounds of it: branches go forward, exceptions come back behind the faulting instruction
by way of a handler, so every batch ends at its last word.
What the judge can't judge is left out here and listed in docs/oracles-microblaze.md.
"""

from __future__ import annotations

import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from ratite.core.accel.base import RamRange
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Insn, Isa
from ratite.core.memory import BusError
from ratite.targets.microblaze.isa import build
from tests.engine.toy import ToyPort, ToyRam
from tests.oracle.driver import Job, command
from tests.oracle.ledger import Chunk
from tests.oracle.microblaze_gen import Maker, number
from tests.oracle.microblaze_rsp import BTR, EAR, MSR, PC, Qemu, missing
from tests.oracle.tiers import Tier

ISA = "ratite.targets.microblaze.isa:build"
EXCEPTIONS = ("unaligned-exceptions", "dopb-bus-exception", "iopb-bus-exception", "ill-opcode-exception",
              "div-zero-exception")
_CODE, _DATA, _DATA_SIZE, _SIZE = 0x1000, 0x8000, 0x1000, 0xA000
_WORDS = 1000  # words
_ROUNDS = (16, 128, 128)  # of a batch's program by tier, each on what the one before left

#: not among the instructions taken at random: those placed with care, sleeping, and what the judge can't judge
_LEFT_OUT = frozenset((
    "br", "brd", "brld", "bra", "brad", "brald", "brk", "brki", "brai", "braid", "bralid", "beq", "bne", "blt", "ble", "bgt",
    "bge", "beqd", "bned", "bltd", "bled", "bgtd", "bged", "rtsd", "rtid", "rtbd", "rted", "mts", "mbar", "mfs", "msrset",
    "msrclr", "idiv", "imm"))


_FORWARD = ("bri", "brid", "brlid", *(f"b{c}i{d}" for c in ("eq", "ne", "lt", "le", "gt", "ge") for d in ("", "d")))


class Port(ToyPort):
    """The judge's RAM: its first bytes as vectors at 0 and all of it at its own address."""

    ISA = ISA

    def __init__(self, ram: ToyRam, config: Mapping[str, object], base: int) -> None:
        super().__init__(ram)
        self.config = config
        self.base = base

    def ram_ranges(self) -> Sequence[RamRange]:
        host = self.ram.address
        return [RamRange(0, 0x1000, host + _SIZE, self.ram, _SIZE, False),  # type: ignore[arg-type]
                RamRange(self.base, _SIZE, host, self.ram, 0, False)]  # type: ignore[arg-type]

    def mmio_load(self, addr: int, size: int) -> int:
        raise BusError("unmapped", addr)

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        raise BusError("unmapped", addr)


_BY_REGISTER = (
    "br", "brd", "brld", "bra", "brad", "brald", "brk", "rtsd", "rtid", "rtbd", "rted",
    *(f"b{c}{d}" for c in ("eq", "ne", "lt", "le", "gt", "ge") for d in ("", "d")))


def _is_access(insn: Insn) -> bool:
    return insn.pattern.match >> 30 == 3


class Program:
    """A random batch: ``words`` with its end at the last one, state and data."""

    def __init__(self, isa: Isa, rng: random.Random, base: int, size: int, rounds: int = _ROUNDS[0]) -> None:
        self.isa = isa
        self.rng = rng
        self.base = base
        self.words: list[int] = []
        self.maker = Maker(isa, rng, 4, lambda insn: insn.name in _LEFT_OUT)
        self.places: Sequence[int] = (base + _DATA + 0x100, base + _DATA + 0x800, base + _DATA + 0xF00)
        self._prologue()
        first = len(self.words)
        while len(self.words) < size - 8:
            self._more(size)
        nop = isa.by_name["or"].pattern.encode({"rd": 0, "ra": 0, "rb": 0}, isa.fields)
        self.words += [nop] * (size - len(self.words) - 4)
        back = -4 * (len(self.words) + 1 - first)
        self.words += [self._encode("addik", rd=25, ra=25, imm=-1), self._encode("bneid", ra=25, imm=back), nop, self._last()]
        self.registers = [0] + [number(rng, self.places) for _ in range(31)]
        for n in range(28, 32):  # addresses of data
            self.registers[n] = rng.choice(self.places) + 4 * rng.randrange(-32, 32) & 0xFFFFFFFF
        self.registers[25] = self.rounds = rounds
        self.registers[27] = 0x20000000  # nothing is there
        self.registers[26] = rng.randrange(-32, 32) * rng.choice((1, 4)) & 0xFFFFFFFF
        self.msr = (rng.getrandbits(11) & 0x0F4) | 0x100
        self.data = rng.randbytes(_DATA_SIZE)

    def _prologue(self) -> None:
        """What comes before the rounds."""

    def _last(self) -> int:
        """The last word."""
        return self._encode("or", rd=0, ra=0, rb=0)

    def _encode(self, name: str, **values: int) -> int:
        return self.isa.by_name[name].pattern.encode(values, self.isa.fields)

    def _more(self, size: int) -> None:
        kind, rng = self.rng.random(), self.rng
        if kind < 0.06:
            self._prefixed()
        elif kind < 0.10:
            self.words.append(self._encode("mfs", rd=self._register(), number=rng.choice((0, 1, 3, 0xB))))
        elif kind < 0.13:
            name = rng.choice(("msrset", "msrclr"))
            self.words.append(self._encode(name, rd=self._register(), bits=rng.getrandbits(15) & 0x0F4))
        elif kind < 0.15:
            self.words.append(self._encode("idiv", rd=self._register(), ra=rng.choice((0, self._register())), rb=0))
        elif kind < 0.26:
            self._branch(size)
        elif kind < 0.30:
            self._register_branch(size)
        else:
            self.words.append(self._plain(lambda n: not n.relative))

    def _prefixed(self) -> None:
        """A prefix and an instruction that takes it, or one that doesn't; an access by its address alone."""
        rng = self.rng
        if rng.random() < 0.3:
            addr = self.base + _DATA + rng.randrange(0x10, _DATA_SIZE - 0x10)
            name = rng.choice(("lbui", "lhui", "lwi", "sbi", "shi", "swi"))
            high, low = ((part ^ 0x8000) - 0x8000 for part in (addr >> 16, addr & 0xFFFF))
            values = {"ra": 0, "imm": low, "rd" if name[0] == "l" else "rs": self._register()}
            self.words += [self._encode("imm", imm=high), self._encode(name, **values)]
            return
        self.words.append(self._encode("imm", imm=rng.randrange(-0x8000, 0x8000)))
        self.words.append(self._plain(lambda n: not n.relative and not _is_access(n)))

    def _register(self) -> int:
        return self.rng.choice((*range(16), *range(20, 24)))

    def _plain(self, fits: object) -> int:
        """A random instruction that stays in its place; r16–r19 and r24–r31 are no destinations."""
        while True:
            insn: Insn = self.rng.choice(self.maker.insns)
            if not fits(insn):  # type: ignore[operator]
                continue
            values = {name: self.maker.operand(insn, name) for name in insn.pattern.pieces}
            if "rd" in values:
                values["rd"] = self._register()
            if _is_access(insn):
                values["ra"] = self.rng.choice((28, 29, 30, 31)) if self.rng.random() < 0.95 else 27
                if "rb" in values:
                    values["rb"] = 0 if self.rng.random() < 0.5 else 26
                if "imm" in values:
                    values["imm"] = self.rng.randrange(-64, 64) * self.rng.choice((1, 2, 4, 4))
            if insn.name in ("sra", "src", "srl"):
                values["rd"] = values["rd"] or 5
            if insn.name == "swx":
                values["rs"] = values["rs"] or 5
            if insn.name == "bsefi" and (values["width"] == 0 or values["width"] + values["amount"] > 32):
                continue
            return insn.pattern.encode(values, self.isa.fields)

    def _branch(self, size: int) -> None:
        """A branch forward; one in four has a delay slot that an exception or another branch may be in."""
        rng = self.rng
        name = rng.choice(_FORWARD)
        distance = 4 * rng.randrange(2, 6)
        if len(self.words) + 16 >= size:
            return
        values = {"imm": distance}
        if name == "brlid":
            values["rd"] = self._register()
        elif name not in ("bri", "brid"):
            values["ra"] = rng.randrange(32)
        self.words.append(self._encode(name, **values))
        if name.endswith("d"):
            self.words.append(self._encode("bri", imm=8) if rng.random() < 0.03 else self._plain(lambda n: not n.relative))

    def _register_branch(self, size: int) -> None:
        """A branch forward by r24, which is loaded with the distance or, for absolute ones and returns, the address."""
        rng, name = self.rng, self.rng.choice(_BY_REGISTER)
        if len(self.words) + 24 >= size:
            return
        nop = self._encode("or", rd=0, ra=0, rb=0)
        self.words += [nop] * 5  # no branch reaches over them into the middle
        distance, at = 4 * rng.randrange(2, 6), len(self.words) + 2
        absolute = name[:3] in ("bra", "brk") or name[0] == "r"
        value = self.base + _CODE + 4 * at + distance if absolute else distance
        offset = 4 * rng.randrange(-8, 8) if name[0] == "r" else 0
        high, low = (((value - offset) >> n & 0xFFFF ^ 0x8000) - 0x8000 for n in (16, 0))
        self.words += [self._encode("imm", imm=high), self._encode("addik", rd=24, ra=0, imm=low)]
        values = {"ra": 24, "imm": offset} if name[0] == "r" else {"rb": 24}
        if name in ("brld", "brald", "brk"):
            values["rd"] = self._register()
        elif name[1] != "r" and name[0] == "b":
            values["ra"] = rng.randrange(32)
        self.words.append(self._encode(name, **values))
        if name[-1] == "d":  # an exception behind rtid, rtbd or rted ends the judge
            calm = name in ("rtid", "rtbd", "rted")
            self.words.append(self._plain(lambda n: not n.relative and not (calm and (_is_access(n) or n.name == "idivu"))))


def handler(isa: Isa) -> list[int]:
    """The exception handler at 0x20: counts in r18, sums ESR up in r16, goes on behind the instruction or, from a delay
    slot, at BTR."""
    def encode(name: str, **values: int) -> int:
        return isa.by_name[name].pattern.encode(values, isa.fields)

    return [
        encode("addik", rd=18, ra=18, imm=1),
        encode("mfs", rd=19, number=5),
        encode("addk", rd=16, ra=16, rb=19),
        encode("andi", rd=19, ra=19, imm=0x1000),
        encode("beqi", ra=19, imm=8),
        encode("mfs", rd=17, number=0xB),
        encode("rted", ra=17, imm=0),
        encode("or", rd=0, ra=0, rb=0),
    ]


class Judge:
    """One QEMU and one native CPU."""

    EXTRA: Mapping[str, object] = MappingProxyType({})  # configuration besides the exceptions
    PROGRAM: type[Program] = Program
    MSR = 0x3FE

    def __init__(self, library: NativeLibrary, endian: str, tier: int = 0) -> None:
        self.endian = endian
        self.tier = Tier(tier)
        self.order = "big" if endian == "be" else "little"
        config: dict[str, object] = {**dict.fromkeys(EXCEPTIONS, True), "big": endian == "be", **self.EXTRA, "use-fpu": 0}
        self.isa = build(config)
        self.qemu = Qemu(endian, [f"{name}=on" for name in EXCEPTIONS])
        self.base = self.qemu.ram
        self.ram = ToyRam(_SIZE + 0x1000)
        self.cpu = NativeVcpu(library.get(ISA, config), Port(self.ram, config, self.base), BusError, 8 << 20,
                              self.tier.manager)
        self.vectors = self._bytes(self.handler())
        self.qemu.write(0x20, self.vectors)
        self.ram.map[_SIZE + 0x20:_SIZE + 0x20 + len(self.vectors)] = self.vectors
        self.end = 0

    def handler(self) -> list[int]:
        """The words from 0x20 on."""
        return handler(self.isa)

    def end_of(self, code: bytes) -> int:
        """Where a program ends: the judge has its breakpoint there, the native CPU sleeps."""
        return self.base + _CODE + len(code) - 4

    def _bytes(self, words: Sequence[int]) -> bytes:
        return b"".join(w.to_bytes(4, self.order) for w in words)  # type: ignore[arg-type]

    def close(self) -> None:
        self.qemu.close()
        self.cpu.close()

    def batch(self, program: Program) -> tuple[int, list[str]]:
        """Both run it; (instructions and traps, differences)."""
        code = self._bytes(program.words)
        end = self.end_of(code)
        self._start_qemu(program, code, end)
        count = self._run_native(program, code, end)
        self.qemu.run()
        return count, self._compare(program)

    def _start_qemu(self, program: Program, code: bytes, end: int) -> None:
        q = self.qemu
        for at in range(0, len(code), 1800):
            q.write(self.base + _CODE + at, code[at:at + 1800])
        for at in range(0, _DATA_SIZE, 1024):
            q.write(self.base + _DATA + at, program.data[at:at + 1024])
        values = [*program.registers, self.base + _CODE, program.msr, 0, 0, 0, 0]
        if not hasattr(self, "rest"):
            self.rest = q.registers()[len(values):]
        q.set_registers([*values, *self.rest])
        if end != self.end:
            q.breakpoint(end)
            self.end = end

    def _run_native(self, program: Program, code: bytes, end: int) -> int:
        cpu = self.cpu
        for offset, data in ((_CODE, code), (_DATA, program.data)):
            self.ram.map[offset:offset + len(data)] = data
            cpu.invalidate(self.ram, offset, len(data))  # type: ignore[arg-type]
        at = end - self.base if end >= self.base else _SIZE + end
        self.ram.map[at:at + 4] = self.isa.assemble("mbar", kind=16)
        cpu.reset(self.base + _CODE)
        for n, value in enumerate(program.registers):
            cpu.set("r", value, n)
        cpu.set("msr", program.msr)
        before = cpu.instructions + cpu.traps
        cpu.advance(100 * program.rounds * len(program.words))
        return cpu.instructions + cpu.traps - before - 1

    def _compare(self, program: Program) -> list[str]:
        cpu, g = self.cpu, self.qemu.registers()
        bad = [f"r{n}: judge {g[n]:#x}, native {cpu.get('r', n):#x}" for n in range(32) if g[n] != cpu.get("r", n)]
        pairs = [("pc", g[PC] + 4, cpu.get("pc")), ("ear", g[EAR], cpu.get("ear")), ("btr", g[BTR], cpu.get("btr")),
                 ("msr", g[MSR] & self.MSR, cpu.get("msr") & self.MSR)]
        bad += [f"{name}: judge {a:#x}, native {b:#x}" for name, a, b in pairs if a != b]
        data = b"".join(self.qemu.read(self.base + _DATA + at, 1024) for at in range(0, _DATA_SIZE, 1024))
        mine = self.ram.map[_DATA:_DATA + _DATA_SIZE]
        bad += [f"data+{k:#x}: judge {data[k]:#x}, native {mine[k]:#x}" for k in range(_DATA_SIZE) if data[k] != mine[k]][:4]
        return bad


class Run:
    """Batches of one byte order; a judge that dies is replaced."""

    def __init__(self, library: NativeLibrary, endian: str, kind: type[Judge] = Judge, tier: int = 0) -> None:
        self._make = partial(kind, library, endian, tier)
        self.judge = self._make()

    def batch(self, seed: int | str) -> tuple[int, list[str]]:
        """See Judge.batch; (0, []) where the judge died of it."""
        judge = self.judge
        judge.tier.reseed(seed)
        program = judge.PROGRAM(judge.isa, random.Random(seed), judge.base, _WORDS, _ROUNDS[judge.tier.number])
        try:
            return judge.batch(program)
        except (ConnectionError, TimeoutError):  # it crashed or hangs: a batch that isn't counted, and a new one
            print(f"{seed}: the judge died", flush=True)
            judge.close()
            self.judge = self._make()
            return 0, []

    def chunk(self, seed: int, count: int) -> Chunk:
        """At least ``count`` instructions and traps."""
        done = traps = compiled = number = 0
        differences: list[str] = []
        while done < count and not differences:
            cpu = self.judge.cpu
            before = cpu.traps, cpu.compiled_instructions
            n, found = self.batch(f"{seed}:{number}")
            done, number = done + n, number + 1
            if n:
                traps, compiled = traps + cpu.traps - before[0], compiled + cpu.compiled_instructions - before[1]
            differences = [f"batch {number - 1}: {text}" for text in found]
        return Chunk(done, traps, differences, compiled)

    def close(self) -> None:
        self.judge.close()


def job(args: Namespace) -> Job | str:
    reason = missing(args.endian)
    if reason:
        return f"microblaze-qemu: {reason}"
    kind: type[Judge] = Judge
    if args.mmu:
        from tests.oracle.microblaze_qemu_mmu import MmuJudge as kind
    run = Run(NativeLibrary(), args.endian, kind, args.tier)
    name = run.judge.tier.named("microblaze-qemu-mmu" if args.mmu else "microblaze-qemu")
    return Job(name, args.endian, run.chunk, run)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--mmu", action="store_true", help="programs in virtual mode")


if __name__ == "__main__":
    sys.exit(command(__doc__, job, endian=True, tier=True, more=_options, count=100_000, chunk=500_000))

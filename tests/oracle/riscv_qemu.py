"""What unicorn lacks, against qemu-system-riscv64 or -riscv32: Zba, Zbb, Zbs, Zicond, and physical memory protection.

    python -m tests.oracle.riscv_qemu --seeds 100 --xlen 64 [--qemu PATH]

A seed is a program for QEMU's machine `virt` (-bios): instructions over random operands, then loads, stores and fetches of M,
S and U under random PMP entries of whole pages. It writes what came out into memory, sends that to the serial line and powers
off. Tier 0 runs the same image; what both sent is compared. Zicond is left out where that QEMU does not know it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ratite.core.accel.base import Exit
from ratite.core.engine.native import NativeLibrary
from ratite.core.engine.vcpu import NativeVcpu
from ratite.core.isa.isa import Isa
from ratite.core.memory import BusError
from tests.engine.toy import ToyRam
from tests.oracle.pair import BUILDER, CODE_LIMIT, OraclePort, Span
from tests.oracle.streams import numbers

START, SIZE = 0x80000000, 0x200000
OPERANDS, LOG, PLAY, UART, FINISHER = 0x80080000, 0x80100000, 0x80140000, 0x10000000, 0x100000
SECTIONS = ("zba", "zbb", "zbs", "zicond")
VECTORS, PROBES = 1500, 250
ECALL = 0x73
MACHINE = ("-M", "virt", "-m", "16", "-nodefaults", "-display", "none")
S0, S1, S2, A0, A1, A2, T0, T1 = 8, 9, 18, 10, 11, 12, 5, 6


class Writer:
    """Writes the program of one seed."""

    layout = (SIZE, OPERANDS, LOG)

    def __init__(self, isa: Isa, rng: random.Random, names: list[str]) -> None:
        self.isa, self.rng, self.names = isa, rng, names
        self.n = isa.word // 8
        self.load, self.store = ("ld", "sd") if self.n == 8 else ("lw", "sw")
        self.code = bytearray()
        self.operands: list[int] = []
        self.results = 0
        self.texts: list[str] = []

    def put(self, name: str, **fields: int) -> None:
        self.code += self.isa.assemble(name, **fields)

    def address(self, rd: int, at: int) -> None:
        """rd = START-relative address, position independent: both sides run it at START."""
        here = START + len(self.code)
        delta = at - here
        low = (delta + 0x800 & 0xFFF) - 0x800
        self.put("auipc", rd=rd, upper=(delta - low & 0xFFFFFFFF) - (1 << 32 if delta - low & 0x80000000 else 0))
        self.put("addi", rd=rd, rs1=rd, imm=low)

    def operand(self, rd: int, value: int) -> None:
        self.put(self.load, rd=rd, rs1=S1, imm=0)
        self.put("addi", rd=S1, rs1=S1, imm=self.n)
        self.operands.append(value & (1 << self.isa.word) - 1)

    def result(self, rs: int) -> None:
        self.put(self.store, rs1=S0, rs2=rs, imm=0)
        self.put("addi", rd=S0, rs1=S0, imm=self.n)
        self.results += 1

    def program(self) -> bytes:
        """The whole image."""
        self.begin()
        for _ in range(VECTORS):
            self.vector()
        trap = self.handler()
        self.address(T0, START + trap)
        self.put("csrrw", rd=0, csr=0x305, rs1=T0)
        for _ in range(PROBES):
            self.probe()
        self.send()
        image = self.image()
        image[PLAY - START:] = ECALL.to_bytes(4, "little") * ((SIZE - (PLAY - START)) // 4)
        return bytes(image)

    def begin(self) -> None:
        """s0: the log, s1: the operands."""
        _, operands, log = self.layout
        self.address(S0, log)
        self.address(S1, operands)

    def image(self) -> bytearray:
        """Code and operands in their places."""
        size, operands, log = self.layout
        image = bytearray(size)
        table = b"".join(v.to_bytes(self.n, "little") for v in self.operands)
        assert START + len(self.code) <= operands and operands + len(table) <= log
        image[:len(self.code)] = self.code
        image[operands - START:operands - START + len(table)] = table
        return image

    def vector(self) -> None:
        rng, insn = self.rng, self.isa.by_name[self.rng.choice(self.names)]
        fields = {"rd": A0, "rs1": A1}
        first = len(self.operands)
        self.operand(A1, numbers(rng, self.isa.word))
        if "rs2" in insn.pattern.pieces:
            self.operand(A2, numbers(rng, self.isa.word))
            fields["rs2"] = A2
        if "shamt" in insn.pattern.pieces:
            fields["shamt"] = rng.randrange(32 if self.isa.word == 32 or insn.name.endswith("w") else 64)
        self.put(insn.name, **fields)
        self.result(A0)
        self.texts.append(f"{insn.name} {', '.join(map(hex, self.operands[first:]))} {fields.get('shamt', '')}")

    def handler(self) -> int:
        """Where traps go: cause, value and pc are logged, and it goes on at s2."""
        self.put("jal", rd=0, imm=4 * 11)
        at = len(self.code)
        for csr in (0x342, 0x343, 0x341):
            self.put("csrrs", rd=T1, csr=csr, rs1=0)
            self.result(T1)
        self.put("jalr", rd=0, rs1=S2, imm=0)
        self.results -= 3
        assert len(self.code) - at == 4 * 10
        return at

    def probe(self) -> None:
        """Four entries, then one access in M, S or U."""
        rng = self.rng
        config = 0
        for k in range(4):
            page = (PLAY >> 12) + rng.randrange(16)
            kind = rng.choice((0, 1, 3, 3))
            value = page << 10 | ((1 << rng.randrange(9, 14)) - 1 if kind == 3 else 0)
            # with no entry on, QEMU's mret itself is the access fault that the fetch behind it should be
            if k == 3 and (rng.random() < 0.8 or not config & 0x181818):
                kind, value = 3, (1 << 54) - 1
            config |= (kind << 3 | rng.choice((0, 1, 3, 4, 5, 7, 7))) << 8 * k
            self.operand(T0, value)
            self.put("csrrw", rd=0, csr=0x3B0 + k, rs1=T0)
        self.operand(T0, config)
        self.put("csrrw", rd=0, csr=0x3A0, rs1=T0)
        priv, name = rng.choice((0, 1, 1, 3)), rng.choice(("lw", "sw", "fetch"))
        where = PLAY + (rng.randrange(18) << 12) + rng.randrange(1024) * 4
        self.texts.append(f"{name} at {where:#x} in mode {priv}")
        self.operand(A0, where)
        self.put("lui", rd=T0, upper=0x2000)
        self.put("addi", rd=T0, rs1=T0, imm=-0x800)  # MPP
        self.put("csrrc", rd=0, csr=0x300, rs1=T0)
        self.operand(T0, priv << 11)
        self.put("csrrs", rd=0, csr=0x300, rs1=T0)
        inner = self.isa.assemble("sw", rs1=A0, rs2=A2, imm=0) if name == "sw" else \
            self.isa.assemble("lw", rd=A1, rs1=A0, imm=0)
        self.put("addi", rd=A2, rs1=0, imm=ECALL)
        behind = START + len(self.code) + 16 + 8
        self.address(S2, behind + 8)
        self.address(T0, behind)
        if name == "fetch":
            self.put("csrrw", rd=0, csr=0x341, rs1=A0)
        else:
            self.put("csrrw", rd=0, csr=0x341, rs1=T0)
        self.put("mret")
        assert START + len(self.code) == behind
        self.code += inner
        self.put("ecall")
        self.results += 3

    def send(self) -> None:
        """The log to the serial line, byte by byte, then off."""
        log = self.layout[2]
        self.address(S0, log)
        self.operand(S1, log + (self.results - 1) * self.n)  # which moves on
        self.put("lui", rd=T0, upper=UART)
        self.put("lbu", rd=T1, rs1=S0, imm=0)
        self.put("sb", rs1=T0, rs2=T1, imm=0)
        self.put("addi", rd=S0, rs1=S0, imm=1)
        self.put("bne", rs1=S0, rs2=S1, imm=-12)
        self.put("lui", rd=T0, upper=FINISHER)
        self.put("lui", rd=T1, upper=0x5000)
        self.put("addi", rd=T1, rs1=T1, imm=0x555)
        self.put("sw", rs1=T0, rs2=T1, imm=0)
        self.put("wfi")


class SerialPort(OraclePort):
    """RAM, and a serial line that keeps what is sent."""

    sent = b""

    def mmio_store(self, addr: int, size: int, value: int) -> None:
        if addr == UART:
            self.sent += bytes((value,))
        elif addr != FINISHER:
            raise BusError("unmapped", addr)


def run_qemu(qemu: str, cpu: str, image: bytes) -> bytes:
    """What a program sends there."""
    with tempfile.TemporaryDirectory() as folder:
        program, out = Path(folder, "program"), Path(folder, "serial")
        program.write_bytes(image)
        subprocess.run(
            [qemu, *MACHINE, "-cpu", cpu, "-monitor", "none", "-serial", f"file:{out}", "-bios", str(program)],
            check=True, timeout=120, capture_output=True)
        return out.read_bytes()


class Peers:
    """Tier 0, and the QEMU at ``qemu``. ``further``: extensions that ours has besides."""

    def __init__(self, xlen: int, library: NativeLibrary, qemu: str, further: tuple[str, ...] = ()) -> None:
        self.xlen, self.qemu = xlen, qemu
        self.cpu_name = f"rv{xlen}"
        trial = [qemu, *MACHINE, "-cpu", f"rv{xlen},zicond=true", "-monitor", "stdio", "-S"]
        self.sections = list(SECTIONS)
        if subprocess.run(trial, input=b"quit\n", capture_output=True, check=False, timeout=60).returncode:
            self.sections.remove("zicond")
        else:
            self.cpu_name += ",zicond=true"
        config: dict[str, object] = {"word-size": xlen, **dict.fromkeys((*SECTIONS, "s", "u", "pmp", *further), True)}
        native = library.get(BUILDER, config)
        self.isa = native.isa
        self.ram = ToyRam(SIZE)
        self.port = SerialPort(BUILDER, config, self.ram, [Span(START, SIZE, 0)])
        self.cpu = NativeVcpu(native, self.port, BusError, CODE_LIMIT)
        self.names = [name for section in self.sections for name in self._own(library, config, section)]
        if "zicond" not in self.sections and xlen == 64:
            self.names.remove("ctzw")  # that of QEMU 7.2 counts beyond the word: 50 for bit 50; that of 10.0 does not

    def _own(self, library: NativeLibrary, config: dict[str, object], section: str) -> list[str]:
        from ratite.targets.riscv.isa import build

        return sorted(set(self.isa.by_name) - set(build({**config, section: False}).by_name))

    def theirs(self, image: bytes) -> bytes:
        return run_qemu(self.qemu, self.cpu_name, image)

    def ours(self, image: bytes) -> bytes:
        self.ram.map[:] = image
        self.cpu.invalidate(self.ram, 0, SIZE)  # type: ignore[arg-type]
        self.cpu.reset(START)
        self.port.sent = b""
        _, ended = self.cpu.advance(10_000_000)
        assert ended.kind == Exit.HALT, (ended, hex(self.cpu.get("pc")))
        return self.port.sent

    def compare(self, seed: int) -> tuple[int, str]:
        """(results compared, the first that differs)."""
        writer = Writer(self.isa, random.Random(seed), self.names)
        image = writer.program()
        ours, theirs, n = self.ours(image), self.theirs(image), writer.n
        for k in range(writer.results):
            a, b = ours[k * n:k * n + n], theirs[k * n:k * n + n]
            if a != b:
                what = writer.texts[k] if k < VECTORS else f"probe {writer.texts[VECTORS + (k - VECTORS) // 3]}"
                return k, f"{what}: {a[::-1].hex()} / {b[::-1].hex()}"
        return writer.results, "" if ours == theirs else f"{len(ours)} bytes / {len(theirs)}"


def qemu_of(args: argparse.Namespace) -> str:
    """The judge's path: what ``--qemu`` says, else the one in PATH for ``--xlen``; FileNotFoundError."""
    program = f"qemu-system-riscv{args.xlen}"
    found: str | None = args.qemu or shutil.which(program)
    if not found:
        raise FileNotFoundError(f"there is no {program}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--xlen", type=int, choices=(32, 64), default=64)
    parser.add_argument("--qemu")
    args = parser.parse_args()
    try:
        peers = Peers(args.xlen, NativeLibrary(), qemu_of(args))
    except FileNotFoundError as error:
        parser.error(str(error))
    total = bad = 0
    for seed in range(args.seed, args.seed + args.seeds):
        count, text = peers.compare(seed)
        total += count
        if text:
            bad += 1
            print(f"DIFFERENCE seed {seed}: {text}")
    print(f"{total} results over {', '.join(peers.sections)} and PMP, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

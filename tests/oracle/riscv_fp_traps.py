"""Every instruction of F and D in every state of mstatus.FS, with every rounding mode there is or is not, against
qemu-system-riscv64 or -riscv32: whether it is illegal, and what FS and SD are behind it.

    python -m tests.oracle.riscv_fp_traps --xlen 64 [--qemu PATH]

One program tries all of it, there is nothing random in it.
"""

from __future__ import annotations

import argparse
import random
import sys

from ratite.core.engine.native import NativeLibrary
from ratite.core.isa.isa import Insn, Isa
from tests.oracle.riscv_fp import DYN
from tests.oracle.riscv_qemu import A0, PLAY, START, T0, T1, Peers, Writer, qemu_of, run_qemu

SP, FS_SHIFT, FP_CSRS = 2, 13, (1, 2, 3)
LEGAL_MODES, MODES = range(5), (0, 1, 2, 3, 4, 5, 6, DYN)


def flags_alone(insn: Insn) -> bool:
    """Whether it may raise flags and writes no f register: then FS is Dirty behind it here, whatever was raised. A hart may
    also keep FS (Privileged 1.12 §3.1.6.6), as QEMU does."""
    return "rd" in insn.pattern.pieces and insn.name.startswith(("fcvt", "feq", "flt", "fle"))


class TrapWriter(Writer):
    """``cases``: what was tried, in order; each leaves cause, and FS with SD above it."""

    def __init__(self, isa: Isa) -> None:
        super().__init__(isa, random.Random(0), [])
        self.cases: list[tuple[Insn, str]] = []

    def program(self) -> bytes:
        self.begin()
        for base in (A0, SP):
            self.address(base, PLAY)
        self.put("jal", rd=0, imm=4 * 5)
        trap = START + len(self.code)
        self.put("csrrs", rd=T1, csr=0x341, rs1=0)
        self.put("addi", rd=T1, rs1=T1, imm=4)
        self.put("csrrw", rd=0, csr=0x341, rs1=T1)
        self.put("mret")
        self.address(T0, trap)
        self.put("csrrw", rd=0, csr=0x305, rs1=T0)
        for insn in self.isa.insns:
            pieces = insn.pattern.pieces
            if any(self.isa.fields[p].file == "f" for p in pieces):
                for rm in MODES if "rm" in pieces else (None,):
                    for frm in MODES if rm == DYN else (0,):
                        self._states(insn, rm, frm)
        csr = self.isa.by_name["csrrs"]
        for number in FP_CSRS:
            self._states(csr, None, 0, number)
        self.send()
        return bytes(self.image())

    def _states(self, insn: Insn, rm: int | None, frm: int, csr: int = 0) -> None:
        for fs in range(4):
            self._case(insn, rm, frm, fs, csr)
            self.cases.append((insn, f"{insn.name} rm {rm} frm {frm} FS {fs} csr {csr}"))

    def _case(self, insn: Insn, rm: int | None, frm: int, fs: int, csr: int) -> None:
        values = {"rd": T0, "rs1": 0 if csr else A0, "rs1'": A0, "fd": 1, "fd'": 9, "fs1": 2, "fs2": 3, "fs2'": 9, "fs3": 4,
                  "rm": rm, "csr": csr}
        self.put("lui", rd=T0, upper=3 << FS_SHIFT)
        self.put("csrrs", rd=0, csr=0x300, rs1=T0)
        self.put("csrrwi", rd=0, csr=2, zimm=frm)
        self.put("csrrc", rd=0, csr=0x300, rs1=T0)
        if fs:
            self.put("lui", rd=T0, upper=fs << FS_SHIFT)
            self.put("csrrs", rd=0, csr=0x300, rs1=T0)
        self.put("csrrwi", rd=0, csr=0x342, zimm=0)
        fields = {p: values.get(p) for p in insn.pattern.pieces}
        self.put(insn.name, **{p: 0 if v is None else v for p, v in fields.items()})
        if insn.length == 2:
            self.put("c.nop", imm=0)
        self.put("csrrs", rd=T1, csr=0x342, rs1=0)
        self.result(T1)
        self.put("csrrs", rd=T1, csr=0x300, rs1=0)
        self.put("srli", rd=T1, rs1=T1, shamt=FS_SHIFT)
        self.put("andi", rd=T0, rs1=T1, imm=3)
        self.put("srli", rd=T1, rs1=T1, shamt=self.isa.word - 1 - FS_SHIFT)
        self.put("slli", rd=T1, rs1=T1, shamt=2)
        self.put("or", rd=T1, rs1=T1, rs2=T0)
        self.result(T1)
        self.operands.clear()


def compare(xlen: int, qemu: str) -> tuple[int, list[str]]:
    """(cases, differences)."""
    peers = Peers(xlen, NativeLibrary(), qemu, ("f", "d"))
    writer = TrapWriter(peers.isa)
    image = writer.program()
    ours, theirs, n = peers.ours(image), run_qemu(qemu, f"rv{xlen}", image), writer.n
    assert len(ours) == len(theirs) == 2 * n * len(writer.cases)
    bad = []
    for k, (insn, text) in enumerate(writer.cases):
        a, b = ([int.from_bytes(side[n * at:n * at + n], "little") for at in (2 * k, 2 * k + 1)] for side in (ours, theirs))
        if a[0] != b[0] or (a != b and not flags_alone(insn)):
            bad.append(f"{text}: cause {a[0]} / {b[0]}, FS {a[1]} / {b[1]}")
    return len(writer.cases), bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xlen", type=int, choices=(32, 64), default=64)
    parser.add_argument("--qemu")
    args = parser.parse_args()
    try:
        qemu = qemu_of(args)
    except FileNotFoundError as error:
        parser.error(str(error))
    count, bad = compare(args.xlen, qemu)
    print("\n".join([*bad, f"{count} cases, {len(bad)} differences"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

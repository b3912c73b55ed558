"""Supervisor and user mode: traps, delegation, returns, registers (Privileged ISA 1.12 §3.1, §3.3, §4.1), in the evaluator."""

from __future__ import annotations

import pytest

from ratite.core.isa.evaluator import Evaluator
from ratite.targets.riscv.isa import build
from tests.targets.riscv.riscv_kit import BASE, DATA, HANDLER, Hart, ModesHart

BOTH = pytest.mark.parametrize("xlen", [32, 64])
ONES = -1
SIE, MIE, SPIE, MPIE, SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8
MPRV, SUM, MXR, TVM, TW, TSR = (1 << k for k in range(17, 23))
S_HANDLER = 0x1C00


@BOTH
@pytest.mark.parametrize(("priv", "cause"), [(0, 8), (1, 9), (3, 11)])
@pytest.mark.parametrize("medeleg", [0, 0xB3FF])
def test_ecall(xlen: int, priv: int, cause: int, medeleg: int) -> None:
    """§3.3.1, §3.1.8: a trap from M never goes down."""
    hart = ModesHart(xlen, priv=priv, medeleg=medeleg, stvec=S_HANDLER, mstatus=SIE | MIE)
    hart.do("ecall")
    if priv < 3 and medeleg:
        assert (hart["scause"], hart["sepc"], hart["priv"], hart.pc_value) == (cause, BASE, 1, S_HANDLER)
        assert hart["mstatus"] == SPIE | MIE | (SPP if priv else 0)
    else:
        assert (hart["mcause"], hart["mepc"], hart["priv"], hart.pc_value) == (cause, BASE, 3, HANDLER)
        assert hart["mstatus"] == SIE | MPIE | priv << 11


@BOTH
@pytest.mark.parametrize("mpp", [0, 1, 3])
def test_mret(xlen: int, mpp: int) -> None:
    """§3.1.6.1, §3.1.6.3: MPRV is cleared on the way below M."""
    hart = ModesHart(xlen, mepc=BASE + 0x100, mstatus=mpp << 11 | MPIE | MPRV)
    hart.do("mret")
    assert (hart["priv"], hart.pc_value) == (mpp, BASE + 0x100)
    assert hart["mstatus"] == MIE | MPIE | (MPRV if mpp == 3 else 0)


@BOTH
@pytest.mark.parametrize("spp", [0, 1])
@pytest.mark.parametrize("priv", [1, 3])
def test_sret(xlen: int, spp: int, priv: int) -> None:
    hart = ModesHart(xlen, priv=priv, sepc=BASE + 0x100, mstatus=(SPP if spp else 0) | SPIE | MPRV)
    hart.do("sret")
    assert (hart["priv"], hart.pc_value, hart["mstatus"]) == (spp, BASE + 0x100, SIE | SPIE)


@BOTH
@pytest.mark.parametrize(("name", "priv", "status", "legal"), [
    ("mret", 3, 0, True), ("mret", 1, 0, False), ("mret", 0, 0, False), ("sret", 3, TSR, True), ("sret", 1, 0, True),
    ("sret", 1, TSR, False), ("sret", 0, 0, False), ("wfi", 3, TW, True), ("wfi", 1, 0, True), ("wfi", 1, TW, False),
    ("wfi", 0, 0, False),
])
def test_where_they_are_legal(xlen: int, name: str, priv: int, status: int, legal: bool) -> None:
    """§3.1.6.5, §3.3.2, §3.3.3."""
    hart = ModesHart(xlen, priv=priv, mstatus=status)
    outcome = hart.do(name)
    assert hart.trapped != legal
    if not legal:
        assert hart.cause() == ("m", 2, int.from_bytes(hart.asm(name), "little"))
    elif name == "wfi":
        assert outcome == Evaluator.HALTED


LINES = {11: 11, 3: 3, 7: 7, 9: 9, 1: 1, 5: 5}


@BOTH
def test_priorities(xlen: int) -> None:
    """§3.1.9: MEI, MSI, MTI, SEI, SSI, STI."""
    order = [11, 3, 7, 9, 1, 5]
    for k in range(6):
        hart = ModesHart(xlen, mstatus=MIE, mie=0xAAA, mip=sum(1 << n for n in order[k:] if n in (1, 5, 9)))
        hart.irq_lines = sum(1 << n for n in order[k:] if n in (3, 7, 11))
        hart.step()
        assert hart.cause() == ("m", 1 << xlen - 1 | order[k], 0)


@BOTH
@pytest.mark.parametrize(("priv", "status", "mideleg", "goes"), [
    (3, 0, 0, ""), (3, MIE, 0, "m"), (3, MIE, 0x222, ""), (3, SIE, 0x222, ""), (1, 0, 0, "m"), (1, 0, 0x222, ""),
    (1, SIE, 0x222, "s"), (0, 0, 0x222, "s"), (0, 0, 0, "m"),
])
def test_where_interrupts_go(xlen: int, priv: int, status: int, mideleg: int, goes: str) -> None:
    """§3.1.6.1, §3.1.8: those of a higher mode are always on, those of a lower one off."""
    hart = ModesHart(xlen, priv=priv, mstatus=status, mideleg=mideleg, mie=0x222, mip=0x200, stvec=S_HANDLER | 1)
    hart.do("addi", rd="a0", rs1="a0", imm=1)
    assert hart.trapped == bool(goes)
    if goes:
        assert hart.cause() == (goes, 1 << xlen - 1 | 9, 0)
        assert hart.pc_value == (S_HANDLER + 36 if goes == "s" else HANDLER)


@BOTH
def test_software_makes_interrupts_pending(xlen: int) -> None:
    """A write of mip or sip is followed at once."""
    hart = ModesHart(xlen, priv=1, mstatus=SIE, mideleg=0x222, mie=0x222)
    hart.do("csrrsi", rd="zero", csr=0x144, zimm=2)
    hart.step()
    assert hart.cause() == ("s", 1 << xlen - 1 | 1, 0)
    hart = ModesHart(xlen, mstatus=MIE, mie=0x222)
    hart.do("csrrsi", rd="zero", csr=0x344, zimm=2)
    hart.step()
    assert hart.cause() == ("m", 1 << xlen - 1 | 1, 0)


@BOTH
def test_enabling_lets_them_through(xlen: int) -> None:
    for code in (("csrrsi", {"rd": "zero", "csr": 0x100, "zimm": 2}), ("sret", {})):
        hart = ModesHart(xlen, priv=1, mideleg=0x222, mie=0x222, mip=2, mstatus=SPIE | SPP, sepc=BASE + 4)
        hart.step()
        hart.trapped, hart["priv"] = False, 1
        hart.pc_value = BASE
        hart.do(code[0], **code[1])
        hart.step()
        assert hart.cause() == ("s", 1 << xlen - 1 | 1, 0)


@BOTH
def test_what_wakes(xlen: int) -> None:
    """§3.3.3: pending and enabled, delegated or not, whatever the modes say."""
    hart = ModesHart(xlen, priv=1, mie=0x20, mideleg=0x20)
    assert hart.do("wfi") == Evaluator.HALTED
    hart["mip"] = 2
    assert not hart.wakes()
    hart["mip"] = 0x20
    assert hart.wakes()


@BOTH
def test_a_supervisor_line_is_ored_with_the_bit(xlen: int) -> None:
    """§3.1.9: what software wrote alone is set and cleared; reads show both."""
    hart = ModesHart(xlen)
    hart.irq_lines = 1 << 9
    hart["a0"] = 0x200
    hart.do("csrrs", rd="a1", csr=0x344, rs1="zero")
    assert (hart["a1"], hart["mip"]) == (0x200, 0)
    hart.do("csrrsi", rd="a1", csr=0x344, zimm=2)
    assert hart["mip"] == 2  # SEIP was read as 1 and not set
    hart.do("csrrs", rd="a1", csr=0x344, rs1="a0")
    hart.irq_lines = 0
    assert hart.csr(0x344) == 0x202
    hart.csr(0x344, 0)
    assert hart.csr(0x344) == 0


@BOTH
def test_a_rising_line_stands_for_ssip(xlen: int) -> None:
    """ACLINT 1.0-rc4, SSWI: taken back through sip or mip, of which the host is told."""
    for number, priv in ((0x144, 1), (0x344, 3)):
        hart = ModesHart(xlen, priv=priv, mideleg=0x222)
        hart.irq_lines = 2
        assert hart.csr(number) == 2
        hart.do("csrrsi", rd="zero", csr=number, zimm=16)
        assert hart.memory.notes == []
        hart.do("csrrci", rd="zero", csr=number, zimm=2)
        assert hart.memory.notes == [(1, 0)]


# -- registers

S64 = 2 << 32
WARL = [
    (64, 0x300, ONES, SIE | MIE | SPIE | MPIE | SPP | 3 << 11 | MPRV | SUM | MXR | TVM | TW | TSR | 0xA << 32),
    (32, 0x300, ONES, SIE | MIE | SPIE | MPIE | SPP | 3 << 11 | MPRV | SUM | MXR | TVM | TW | TSR),
    (64, 0x100, ONES, SIE | SPIE | SPP | SUM | MXR | S64), (32, 0x100, ONES, SIE | SPIE | SPP | SUM | MXR),
    (64, 0x302, ONES, 0xB3FF), (64, 0x303, ONES, 0x222), (64, 0x304, ONES, 0xAAA), (64, 0x344, ONES, 0x222),
    (64, 0x306, ONES, 7), (64, 0x106, ONES, 7), (64, 0x30A, ONES, 0xE000_0000_0000_00F1), (32, 0x30A, ONES, 0xF1),
    (32, 0x31A, ONES, 0xA000_0000), (64, 0x10A, ONES, 0xF1), (64, 0x30A, 2 << 4, 0), (64, 0x105, ONES, -3),
    (64, 0x141, ONES, -2),
    (64, 0x140, ONES, ONES), (64, 0x142, ONES, ONES), (64, 0x143, ONES, ONES), (64, 0x104, ONES, 0), (64, 0x144, ONES, 0),
    (32, 0x310, ONES, 0),
]


@pytest.mark.parametrize(("xlen", "number", "value", "want"), WARL)
def test_what_registers_keep(xlen: int, number: int, value: int, want: int) -> None:
    hart = ModesHart(xlen)
    hart.csr(number, value)
    assert hart.csr(number) == want & hart.mask


@BOTH
def test_mpp_holds_modes_there_are(xlen: int) -> None:
    """§3.1.6.1: 2 is none; where it is written the old one stays."""
    hart = ModesHart(xlen)
    for write, want in ((1, 1), (2, 1), (3, 3), (2, 3), (0, 0), (2, 0)):
        hart.csr(0x300, write << 11)
        assert hart["mstatus"] >> 11 & 3 == want
    user = ModesHart(xlen, "s sstc svinval svpbmt svnapot svadu sv32 sv39 sv48 sv57")
    for write, want in ((0, 0), (1, 0), (3, 3), (1, 3), (0, 0)):
        user.csr(0x300, write << 11)
        assert user["mstatus"] >> 11 & 3 == want


@BOTH
def test_sstatus_is_a_part(xlen: int) -> None:
    """§4.1.1: what it does not show it leaves alone."""
    rest = MIE | MPIE | 1 << 11 | MPRV | TVM | TW | TSR
    hart = ModesHart(xlen, priv=1, mstatus=rest)
    hart.csr(0x100, ONES)
    assert hart["mstatus"] & rest == rest
    hart.csr(0x100, 0)
    assert hart["mstatus"] & ~(0xF << 32) == rest


@BOTH
def test_sie_and_sip_are_parts(xlen: int) -> None:
    """§4.1.3: bits that are not delegated read 0 and stay."""
    hart = ModesHart(xlen, priv=1, mideleg=0x22, mie=0x888, mip=0x200)
    hart.irq_lines = 1 << 9
    hart.csr(0x104, ONES)
    assert (hart["mie"], hart.csr(0x104), hart.csr(0x144)) == (0x8AA, 0x22, 0)
    hart.csr(0x144, ONES)
    assert hart["mip"] == 0x202
    hart.csr(0x104, 0)
    assert hart["mie"] == 0x888


@BOTH
@pytest.mark.parametrize(("number", "least"), [
    (0x100, 1), (0x180, 1), (0x106, 1), (0x300, 3), (0x344, 3), (0xF14, 3), (0xB00, 3),
    (0xB03, 3), (0x3B0, 3), (0x30A, 3), (0x200, 4), (0x280, 4), (0x600, 4),
])
def test_registers_belong_to_modes(xlen: int, number: int, least: int) -> None:
    """§2.1: bits 9 and 8 of the number."""
    for priv in (0, 1, 3):
        hart = ModesHart(xlen, priv=priv)
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart.trapped == (priv < least)


@BOTH
def test_counters_by_mode(xlen: int) -> None:
    """§3.1.11, §4.1.5: mcounteren for S, that and scounteren for U."""
    for bit, number in ((0, 0xC00), (1, 0xC01), (2, 0xC02)):
        for priv, m, s, works in ((3, 0, 0, True), (1, 0, 1, False), (1, 1, 0, True), (0, 1, 0, False), (0, 0, 1, False),
                                  (0, 1, 1, True)):
            hart = ModesHart(xlen, priv=priv, mcounteren=m << bit, scounteren=s << bit)
            hart.do("csrrs", rd="a0", csr=number, rs1="zero")
            assert hart.trapped != works


@BOTH
def test_time(xlen: int) -> None:
    """§3.2.1: the machine's clock in ticks, and the delta."""
    hart = ModesHart(xlen)
    hart.memory.ns = 123_456_789_012_345_678
    hart["time_delta"] = 5
    low, high = hart.csr(0xC01), hart.csr(0xC81) if xlen == 32 else 0
    assert low | high << 32 == 1_234_567_890_123_456 + 5


def test_time_at_an_odd_frequency() -> None:
    """No product overflows."""
    from ratite.core.isa.evaluator import Evaluator
    from ratite.targets.riscv.isa import build
    from tests.targets.riscv.riscv_kit import Memory

    for frequency in (1, 32768, 4_294_967_295):
        memory = Memory()
        memory.ns = 4_000_000_000_999_999_999
        hart = Evaluator(build({"word-size": 64, "timebase-frequency": frequency}), memory)
        memory.ram[:4] = hart.isa.assemble("csrrs", rd=10, csr=0xC01, rs1=0)
        hart.pc_value = BASE
        hart.step()
        assert hart.state["x"][10] == memory.ns * frequency // 1_000_000_000 & (1 << 64) - 1


@BOTH
def test_stimecmp(xlen: int) -> None:
    """Sstc 1.0: the host hears of it; S needs STCE and TM; STIP is the line's while STCE is set."""
    hart = ModesHart(xlen, menvcfg=1 << 63)
    hart.csr(0x14D, 0x1234)
    if xlen == 32:
        hart.csr(0x15D, 1)
    assert hart.memory.notes[-1] == (0, 0x1_0000_1234 if xlen == 32 else 0x1234)
    for env, counters, works in ((1 << 63, 2, True), (0, 2, False), (1 << 63, 0, False)):
        hart = ModesHart(xlen, priv=1, menvcfg=env, mcounteren=counters)
        hart.do("csrrs", rd="a0", csr=0x14D, rs1="zero")
        assert hart.trapped != works
    hart = ModesHart(xlen, mip=0x20)
    assert hart.csr(0x344) == 0x20
    hart["menvcfg"] = 1 << 63
    assert hart.csr(0x344) == 0
    hart.csr(0x344, 0)
    hart.irq_lines = 0x20
    assert hart.csr(0x344) == 0x20
    hart["menvcfg"] = 0
    assert hart.csr(0x344) == 0x20  # what software had written is still there


def test_misa() -> None:
    assert ModesHart(64).csr(0x301) == 2 << 62 | 0x141107
    assert ModesHart(32, "c a zbs").csr(0x301) == 1 << 30 | 0x141100


# -- cache blocks (CMO 1.0.1)

CBO = {"cbo.inval": (3 << 4, 1 << 4), "cbo.clean": (1 << 6, 1 << 6), "cbo.flush": (1 << 6, 1 << 6),
       "cbo.zero": (1 << 7, 1 << 7)}


@BOTH
@pytest.mark.parametrize("name", CBO)
def test_cache_blocks_by_mode(xlen: int, name: str) -> None:
    """§2.6 (table 3): menvcfg for S, and senvcfg for U."""
    for bits in CBO[name]:
        for priv, m, s, works in ((3, 0, 0, True), (1, 0, bits, False), (1, bits, 0, True), (0, bits, 0, False),
                                  (0, 0, bits, False), (0, bits, bits, True)):
            hart = ModesHart(xlen, priv=priv, menvcfg=m, senvcfg=s, a0=DATA + 5)
            hart.do(name, rs1="a0")
            assert hart.trapped != works
            assert works or hart.cause() == ("m", 2, int.from_bytes(hart.asm(name, rs1="a0"), "little"))


@BOTH
def test_cbo_zero(xlen: int) -> None:
    hart = ModesHart(xlen, a0=DATA + 0x7F)
    hart.memory.ram[DATA - BASE:DATA - BASE + 0x100] = b"\xFF" * 0x100
    hart.do("cbo.zero", rs1="a0")
    assert hart.memory.ram[DATA - BASE:DATA - BASE + 0x100] == b"\xFF" * 0x40 + bytes(0x40) + b"\xFF" * 0x80


@BOTH
@pytest.mark.parametrize("name", CBO)
def test_cache_blocks_fault_as_stores(xlen: int, name: str) -> None:
    """§2.5.2."""
    hart = ModesHart(xlen, a0=0x7FF0000)
    hart.do(name, rs1="a0")
    assert hart.cause() == ("m", 7, 0x7FF0000)


@BOTH
@pytest.mark.parametrize(("version", "there"), [("v1.10.0", 0), ("v1.11.0", 1), ("v1.12.0", 2)])
def test_versions_of_the_specification(xlen: int, version: str, there: int) -> None:
    """The prefaces of Privileged 1.11 and 1.12: which registers came with them; §3.1.6.3: MPRV since 1.12."""
    isa = build({"word-size": xlen, "s": True, "u": True, "sv39": True, "priv-spec": version})
    for number, since in ((0x320, 1), (0x30A, 2), (0x10A, 2), (0xF15, 2), (0x300, 0), (0x306, 0)):
        hart = Hart(xlen, isa=isa)
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart.trapped == (there < since)
    hart = Hart(xlen, isa=isa, mstatus=MPRV)
    hart.do("mret")
    assert bool(hart["mstatus"] & MPRV) == (there < 2)


def test_without_zicntr() -> None:
    isa = build({"word-size": 64, "zicntr": False, "timebase-frequency": 1000})
    for number, works in ((0xC00, False), (0xC01, False), (0xC02, False), (0xB00, True)):
        hart = Hart(64, isa=isa)
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart.trapped != works

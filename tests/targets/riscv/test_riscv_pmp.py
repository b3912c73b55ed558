"""Physical memory protection (Privileged ISA 1.12 §3.7), in the evaluator: 16 entries, grain 4 KiB."""

from __future__ import annotations

import random

import pytest

from tests.oracle.riscv_mmu import pmp_range
from tests.targets.riscv.riscv_kit import BASE, RWX, SV39, ModesHart

BOTH = pytest.mark.parametrize("xlen", [32, 64])
TOR, NA4, NAPOT, LOCK = 8, 16, 24, 128
PAGE = 0x5000


def access(hart: ModesHart, priv: int) -> str:
    """Which of load, store and fetch at PAGE work."""
    works = ""
    for name in "rwx":
        hart["priv"], hart.pc_value, hart.trapped = priv, BASE, False
        hart["a0"] = PAGE
        if name == "x":
            hart.memory.store(PAGE, 4, 0x13)
            hart.pc_value = PAGE
            hart.step()
        else:
            hart.do("lw", rd="a1", rs1="a0", imm=0) if name == "r" else hart.do("sw", rs2="a1", rs1="a0", imm=0)
        if not hart.trapped:
            works += name
        else:
            assert hart.cause()[1:] == ({"r": 5, "w": 7, "x": 1}[name], PAGE)
    hart["priv"], hart.pc_value = 3, BASE
    return works


@BOTH
@pytest.mark.parametrize(("config", "s", "m"), [
    (NAPOT | 7, "rwx", "rwx"), (NAPOT | 0, "", "rwx"), (NAPOT | 1, "r", "rwx"), (NAPOT | 4, "x", "rwx"),
    (NAPOT | 3, "rw", "rwx"),
    (NAPOT | 5, "rx", "rwx"), (NAPOT | LOCK | 1, "r", "r"), (NAPOT | LOCK, "", ""), (NAPOT | 2, "", "rwx"), (0, "rwx", "rwx"),
    (NA4, "rwx", "rwx"),
])
def test_rights(xlen: int, config: int, s: str, m: str) -> None:
    """§3.7.1.2, §3.7.1.3: M is bound by locked entries alone. NA4 can't be had with this grain, W without R is no right."""
    hart = ModesHart(xlen)
    hart.csr(0x3B1, -1)
    hart.csr(0x3B0, PAGE >> 2 | 0x1FF)
    hart.csr(0x3A0, config | 0x1F00)
    assert access(hart, 1) == s
    assert access(hart, 0) == s
    assert access(hart, 3) == m


@BOTH
def test_nothing_matches(xlen: int) -> None:
    """§3.7.1.3: M may, the others may not."""
    hart = ModesHart(xlen)
    hart.csr(0x3B0, BASE >> 2 | 0x1FF)
    assert (access(hart, 3), access(hart, 1), access(hart, 0)) == ("rwx", "", "")


@BOTH
def test_the_first_entry_that_matches(xlen: int) -> None:
    hart = ModesHart(xlen)
    hart.csr(0x3B0, PAGE >> 2)  # off, the start of the next
    hart.csr(0x3B1, PAGE + 0x1000 >> 2)
    hart.csr(0x3B2, -1)
    hart.csr(0x3A0, (NAPOT | 7) << 16 | (TOR | 1) << 8)
    assert access(hart, 1) == "r"
    hart.csr(0x3B1, PAGE >> 2)  # empty: it matches nothing
    assert access(hart, 1) == "rwx"


@BOTH
def test_locked_entries_stay(xlen: int) -> None:
    """§3.7.1.2: with a TOR entry the address before it is locked too."""
    hart = ModesHart(xlen)
    hart.csr(0x3B0, 0x4000)
    hart.csr(0x3B1, 0x8000)
    hart.csr(0x3A0, (LOCK | TOR | 7) << 8 | NAPOT | 7)
    hart.csr(0x3B0, 0xC000)
    hart.csr(0x3B1, 0xC000)
    hart.csr(0x3A0, 0)
    assert (hart.reg("pmpaddr", 0).ref, hart.reg("pmpaddr", 1).ref) == (0x4000, 0x8000)
    assert hart.csr(0x3A0) == (LOCK | TOR | 7) << 8
    hart.csr(0x3B2, 0xC000)
    assert hart.csr(0x3B2) == 0xC000


@BOTH
def test_the_grain_shows(xlen: int) -> None:
    """§3.7.1.1: G - 1 low bits read as ones with NAPOT, G as zeros otherwise, and nothing is lost."""
    hart = ModesHart(xlen)
    hart.csr(0x3B3, 0x12345)
    assert hart.csr(0x3B3) == 0x12000
    hart.csr(0x3A0, hart.csr(0x3A0) | NAPOT << 24)
    assert hart.csr(0x3B3) == 0x12345 | 0x1FF
    hart.csr(0x3A0, 0)
    hart.csr(0x3B4, -1)
    assert hart.csr(0x3B4) == ((1 << 54 if xlen == 64 else 1 << 32) - 1) & ~0x3FF
    hart.csr(0x3A0, NA4 | 7)
    assert hart.csr(0x3A0) == 7


@BOTH
def test_which_registers_there_are(xlen: int) -> None:
    for number, there in ((0x3A0, True), (0x3A1, xlen == 32), (0x3A2, True), (0x3A3, xlen == 32), (0x3A4, False),
                          (0x3BF, True), (0x3C0, False)):
        hart = ModesHart(xlen)
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart.trapped != there
        hart = ModesHart(xlen, priv=1)
        hart.do("csrrs", rd="a0", csr=number, rs1="zero")
        assert hart.trapped


@BOTH
def test_ranges_are_those_of_the_words(xlen: int) -> None:
    """What a write makes of an entry and its neighbours, against the specification's words."""
    rng, hart = random.Random(xlen), ModesHart(xlen)
    for _ in range(300):
        hart.pc_value = BASE
        if rng.random() < 0.6:
            low = rng.getrandbits(rng.randrange(2, 33))
            value = low | (1 << rng.randrange(0, 31)) - 1 if rng.random() < 0.5 else low
            hart.csr(0x3B0 + rng.randrange(16), value)
        else:
            hart.csr(0x3A0 + rng.randrange(0, 4, xlen // 32), rng.getrandbits(xlen) & 0x7F7F7F7F7F7F7F7F & hart.mask)
        configs, addresses = hart.state["pmpcfg"], hart.state["pmpaddr"]
        for k in range(16):
            want = pmp_range(configs[k], addresses[k], addresses[k - 1] if k else 0)
            have = hart.state["pmp_low"][k], hart.state["pmp_size"][k]
            assert have[1] == want[1] and (have == want or not want[1])
        assert hart["pmp_count"] == max((k + 1 for k in range(16) if configs[k] >> 3 & 3), default=0)


def test_page_tables_are_protected() -> None:
    """§3.7.2: a walk reads and writes as S does; a refusal is an access fault of the original kind."""
    for config, works in ((NAPOT | 0, ""), (NAPOT | 1, "old"), (NAPOT | 3, "old new")):
        hart = ModesHart(64)
        hart.root(SV39)
        for page, flags in ((BASE, RWX), (PAGE, RWX), (0x6000, RWX & ~0xC0)):
            hart.map(page, page, flags)
        hart.csr(0x3B1, -1)
        hart.csr(0x3B0, 0x10000 >> 2 | 0x1FFF)  # the tables
        hart.csr(0x3A0, config | (NAPOT | 7) << 8)
        for page, name in ((PAGE, "old"), (0x6000, "new")):
            hart["priv"], hart.pc_value, hart["a0"] = 3, BASE, page
            hart["mstatus"] = 1 << 17 | 1 << 11
            hart.do("lw", rd="a1", rs1="a0", imm=0)
            assert hart.trapped != (name in works)
            assert not hart.trapped or hart.cause() == ("m", 5, page)

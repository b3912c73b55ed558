"""Translation (Privileged ISA 1.12 §4.3–§4.6; Svnapot, Svpbmt chapters 5, 6; Svadu 1.0), in the evaluator."""

from __future__ import annotations

import pytest

from tests.targets.riscv.riscv_kit import (
    BASE,
    HANDLER,
    RWX,
    SV32,
    SV39,
    SV48,
    SV57,
    TABLES,
    A,
    D,
    G,
    ModesHart,
    R,
    U,
    V,
    W,
    X,
)

PAGE = 0x5000  # where the data page is
FETCH, LOAD, STORE = 12, 13, 15
MODES = pytest.mark.parametrize(("xlen", "mode"), [(32, SV32), (64, SV39), (64, SV48), (64, SV57)])
VA = 0x2345000
SUM, MXR, MPRV = 1 << 18, 1 << 19, 1 << 17


def paged(xlen: int = 64, mode: tuple[int, int] = SV39, priv: int = 1, without: str = "", **registers: int) -> ModesHart:
    """A hart in S mode (or ``priv``) whose code page is mapped where it is."""
    hart = ModesHart(xlen, without, **registers)
    hart.root(mode)
    hart.map(BASE, BASE, RWX | (U if priv == 0 else 0))
    hart["priv"] = priv
    hart["a0"] = VA
    hart.memory.store(PAGE + 8, 8, 0x1122334455667788)
    return hart


def load(hart: ModesHart, addr: int = VA + 8) -> int | tuple[str, int, int]:
    hart["a0"] = addr
    hart.pc_value = BASE
    hart.do("lw", rd="a1", rs1="a0", imm=0)
    return hart.cause() if hart.trapped else hart["a1"] & 0xFFFFFFFF


def store(hart: ModesHart, addr: int = VA + 8) -> tuple[str, int, int] | None:
    hart["a0"] = addr
    hart.pc_value = BASE
    hart.do("sw", rs2="a1", rs1="a0", imm=0)
    return hart.cause() if hart.trapped else None


def fetch(hart: ModesHart, addr: int = VA) -> tuple[str, int, int] | None:
    hart.memory.store(PAGE, 4, 0x13)
    hart.pc_value = addr
    hart.step()
    return hart.cause() if hart.trapped else None


@MODES
def test_a_page_is_found(xlen: int, mode: tuple[int, int]) -> None:
    """§4.3.2: every level's index, the page's offset."""
    hart = paged(xlen, mode)
    for va in (VA, (1 << (32 if xlen == 32 else 9 * mode[1] + 11)) - 0x1000):
        hart.map(va, PAGE, RWX)
        assert load(hart, va + 8) == 0x55667788
        assert store(hart, va + 12) is None
        assert fetch(hart, va) is None


@MODES
def test_an_absent_page(xlen: int, mode: tuple[int, int]) -> None:
    for at in range(mode[1]):
        hart = paged(xlen, mode)
        va = VA + (1 << 12 + 9 * at if xlen == 64 else 0)
        hart.map(va, PAGE, RWX & ~V, level=at)
        assert load(hart, va + 8) == ("m", LOAD, va + 8)
        hart["priv"] = 1
        assert store(hart, va + 8) == ("m", STORE, va + 8)
        hart["priv"] = 1
        assert fetch(hart, va) == ("m", FETCH, va)
        assert hart["mepc"] == va


@pytest.mark.parametrize(("mode", "bits"), [(SV39, 39), (SV48, 48), (SV57, 57)])
def test_addresses_are_sign_extended(mode: tuple[int, int], bits: int) -> None:
    """§4.4.1, §4.5.1, §4.6.1."""
    hart = paged(64, mode)
    high = (1 << 64) - (1 << bits - 1)
    hart.map(high, PAGE, RWX)
    assert load(hart, high + 8) == 0x55667788
    for bad in (1 << bits - 1, high ^ 1 << 63, high ^ 1 << bits, 1 << 63):
        hart["priv"] = 1
        assert load(hart, bad + 8) == ("m", LOAD, bad + 8)


@MODES
def test_large_pages(xlen: int, mode: tuple[int, int]) -> None:
    """§4.3.2: the rest of the address is the offset; a page that isn't aligned to its size faults."""
    bits = 9 if xlen == 64 else 10
    for level in range(1, mode[1]):
        hart = paged(xlen, mode)
        va = 1 << 12 + bits * level
        if va >> xlen:
            continue
        hart.map(va, 0, RWX, level)
        assert load(hart, va + PAGE + 8) == 0x55667788
        for low in (0, bits * level - 1):
            hart.map(va, 0x1000 << low, RWX, level)
            hart["priv"] = 1
            assert load(hart, va + PAGE + 8) == ("m", LOAD, va + PAGE + 8)


@pytest.mark.parametrize("flags", [W, W | X, 0])
def test_reserved_rights(flags: int) -> None:
    """Table 4.5: W without R is reserved; a pointer is none at level 0."""
    hart = paged()
    hart.map(VA, PAGE, V | A | D | flags)
    assert load(hart) == ("m", LOAD, VA + 8)


@pytest.mark.parametrize(("flags", "works"), [(R, "l"), (R | W, "ls"), (X, "f"), (R | X, "lf"), (R | W | X, "lsf")])
def test_rights(flags: int, works: str) -> None:
    hart = paged()
    hart.map(VA, PAGE, V | A | D | flags)
    for name, access in (("l", load), ("s", store), ("f", fetch)):
        hart["priv"] = 1
        access(hart)
        assert hart.trapped == (name not in works)
        assert not hart.trapped or hart["mcause"] in (FETCH, LOAD, STORE)


def test_user_pages() -> None:
    """§4.3.1: U alone may use them; S reads and writes them with SUM and never runs them."""
    hart = paged()
    hart.map(VA, PAGE, RWX | U)
    assert load(hart) == ("m", LOAD, VA + 8)
    hart["priv"] = 1
    hart["mstatus"] = SUM
    assert load(hart) == 0x55667788
    assert store(hart) is None
    assert fetch(hart) == ("m", FETCH, VA)
    hart = paged(priv=0)
    hart.map(VA, PAGE, RWX | U)
    assert load(hart) == 0x55667788
    assert fetch(hart) is None
    hart.map(VA, PAGE, RWX | G)
    assert load(hart) == ("m", LOAD, VA + 8)
    hart["priv"] = 0
    assert fetch(hart) == ("m", FETCH, VA)


def test_mxr() -> None:
    """§3.1.6.3: what can be executed can be read."""
    hart = paged()
    hart.map(VA, PAGE, V | X | A | D)
    assert load(hart) == ("m", LOAD, VA + 8)
    hart["priv"] = 1
    hart["mstatus"] = MXR
    assert load(hart) == 0x55667788
    assert store(hart) == ("m", STORE, VA + 8)


def test_mprv() -> None:
    """§3.1.6.3: data of M goes as MPP says, fetches don't."""
    hart = paged(priv=3)
    hart.map(VA, PAGE, RWX | U)
    hart.map(VA + 0x1000, PAGE, RWX)
    hart["mstatus"] = MPRV | 0 << 11
    assert load(hart) == 0x55667788
    assert load(hart, VA + 0x1008) == ("m", LOAD, VA + 0x1008)
    hart["mstatus"] = MPRV | 1 << 11
    assert load(hart, VA + 0x1008) == 0x55667788
    hart["mstatus"] = MPRV | 3 << 11
    assert load(hart, PAGE + 8) == 0x55667788
    hart["mstatus"] = MPRV | 1 << 11
    hart["priv"] = 1
    hart["mstatus"] = MPRV | 3 << 11  # below M it says nothing
    assert load(hart, VA + 0x1008) == 0x55667788


@MODES
def test_accessed_and_dirty_by_hardware(xlen: int, mode: tuple[int, int]) -> None:
    """§4.3.1, Svadu: menvcfg.ADUE is set out of reset."""
    hart = paged(xlen, mode)
    at = hart.map(VA, PAGE, V | R | W | X)
    assert load(hart) == 0x55667788
    assert hart.entry(at) & 0xFF == V | R | W | X | A
    assert store(hart) is None
    assert hart.entry(at) & 0xFF == RWX
    hart.map(VA, PAGE, V | R | X | A)
    assert store(hart) == ("m", STORE, VA + 8)
    assert hart.entry(at) & 0xFF == V | R | X | A
    hart["priv"] = 1
    hart.map(VA, PAGE, V | R | X)
    assert fetch(hart) is None
    assert hart.entry(at) & A


def test_accessed_and_dirty_by_fault() -> None:
    hart = paged(menvcfg=0)
    at = hart.map(VA, PAGE, V | R | W | X)
    assert load(hart) == ("m", LOAD, VA + 8)
    hart["priv"] = 1
    assert fetch(hart) == ("m", FETCH, VA)
    hart.map(VA, PAGE, V | R | W | X | A)
    hart["priv"] = 1
    assert load(hart) == 0x55667788
    assert store(hart) == ("m", STORE, VA + 8)
    assert hart.entry(at) & 0xFF == V | R | W | X | A


@pytest.mark.parametrize("bit", range(54, 64))
def test_reserved_bits_of_a_leaf(bit: int) -> None:
    """§4.4.1; chapters 5 and 6: without Svnapot and Svpbmt, and with PBMTE clear, their bits are reserved too."""
    hart = paged(without="svnapot svpbmt")
    hart.map(VA, PAGE, RWX | 1 << bit)
    assert load(hart) == ("m", LOAD, VA + 8)
    hart = paged()
    hart.map(VA, PAGE, RWX | 1 << bit)
    assert load(hart) == ("m", LOAD, VA + 8)


@pytest.mark.parametrize("bits", [A, D, U, 1 << 54, 1 << 60, 1 << 61, 1 << 62, 1 << 63])
def test_reserved_bits_of_a_pointer(bits: int) -> None:
    hart = paged(menvcfg=1 << 62)
    hart.map(VA, PAGE, RWX)
    at = TABLES  # the root's only entry
    hart.set_entry(at, hart.entry(at) | bits)
    hart["priv"] = 3
    hart["mstatus"] = MPRV | 1 << 11
    assert load(hart) == ("m", LOAD, VA + 8)


def test_memory_types() -> None:
    """Svpbmt: PMA, NC and IO are one here; 3 is reserved."""
    for kind in (0, 1, 2):
        hart = paged(menvcfg=1 << 62)
        hart.map(VA, PAGE, RWX | kind << 61)
        assert load(hart) == 0x55667788
    hart = paged(menvcfg=1 << 62)
    hart.map(VA, PAGE, RWX | 3 << 61)
    assert load(hart) == ("m", LOAD, VA + 8)


def test_napot() -> None:
    """Svnapot: 16 pages at once; other sizes are reserved."""
    hart = paged()
    for k in range(16):
        hart.map(0x40000 + (k << 12), 0x8000, RWX | 1 << 63)
    hart.memory.store(0x5008, 4, 0x1234)
    assert load(hart, 0x45008) == 0x1234
    hart.map(0x45000, 0x4000, RWX | 1 << 63)
    assert load(hart, 0x45008) == ("m", LOAD, 0x45008)
    hart["priv"] = 1
    hart.map(0x200000, 0, RWX | 1 << 63, level=1)
    assert load(hart, 0x200008) == ("m", LOAD, 0x200008)


@MODES
def test_a_table_where_there_is_no_ram(xlen: int, mode: tuple[int, int]) -> None:
    """§4.3.2 step 2: an access fault of the original kind."""
    hart = paged(xlen, mode, stvec=HANDLER)
    hart.map(0x800000, 0x7FF0000, V, level=1)
    assert load(hart, 0x800008) == ("m", 5, 0x800008)
    hart["priv"] = 1
    assert store(hart, 0x800008) == ("m", 7, 0x800008)
    hart["priv"] = 1
    assert fetch(hart, 0x800000) == ("m", 1, 0x800000)


def test_a_page_where_there_is_no_ram() -> None:
    hart = paged()
    hart.map(VA, 0x7FF0000, RWX)
    assert load(hart) == ("m", 5, VA + 8)


def test_accesses_over_the_end_of_a_page() -> None:
    """The fault's address is where the second page begins."""
    hart = paged()
    hart.map(VA, PAGE, RWX)
    assert load(hart, VA + 0xFFE) == ("m", LOAD, VA + 0x1000)
    hart["priv"] = 1
    assert store(hart, VA + 0xFFE) == ("m", STORE, VA + 0x1000)
    hart["priv"] = 1
    hart.map(VA + 0x1000, 0x7000, RWX)
    hart["a1"] = 0x12345678
    assert store(hart, VA + 0xFFE) is None
    assert (hart.memory.load(PAGE + 0xFFE, 2), hart.memory.load(0x7000, 2)) == (0x5678, 0x1234)
    assert load(hart, VA + 0xFFE) == 0x12345678
    hart.memory.store(PAGE + 0xFFE, 2, 0x0013)
    hart.memory.store(0x7000, 2, 0)
    hart.pc_value = VA + 0xFFE
    hart.step()
    assert not hart.trapped and hart.pc_value == VA + 0x1002
    hart.map(VA + 0x1000, 0x7000, 0)
    hart.pc_value = VA + 0xFFE
    hart.step()
    assert hart.cause() == ("m", FETCH, VA + 0x1000)
    assert hart["mepc"] == VA + 0xFFE


def test_atomics_need_the_right_to_write() -> None:
    """§3.3.1 of the A extension's faults: an AMO's are those of a store."""
    hart = paged()
    hart.map(VA, PAGE, V | R | A)
    hart.do("amoadd.w", rd="a1", rs1="a0", rs2="a1")
    assert hart.cause() == ("m", STORE, VA)
    hart["priv"], hart.pc_value = 1, BASE
    hart.do("lr.w", rd="a1", rs1="a0")
    assert not hart.trapped
    hart["priv"], hart.pc_value = 1, BASE
    hart.do("sc.w", rd="a1", rs1="a0", rs2="a1")
    assert hart.cause() == ("m", STORE, VA)


@pytest.mark.parametrize(("xlen", "values"), [(64, ((8, True), (9, True), (10, True), (11, False), (1, False), (15, False))),
                                              (32, ((1, True),))])
def test_satp_keeps_what_there_is(xlen: int, values: tuple[tuple[int, bool], ...]) -> None:
    """§4.1.11: a mode that isn't there has no effect; all ASID bits are there."""
    top = 60 if xlen == 64 else 31
    for mode, kept in values:
        hart = ModesHart(xlen, satp=0)
        value = mode << top | (1 << top) - 1
        hart.csr(0x180, value)
        assert hart.csr(0x180) == (value if kept else 0)
    hart = ModesHart(64, "sv57 sv48")
    hart.csr(0x180, 9 << 60 | 5)
    assert hart.csr(0x180) == 0


def test_fences_and_their_traps() -> None:
    """§3.1.6.5, §4.2.1; Svinval chapter 7."""
    for name, fields in (("sfence.vma", {"rs1": "a0", "rs2": "a1"}), ("sinval.vma", {"rs1": "a0", "rs2": "zero"})):
        for priv, tvm, traps in ((3, 1, False), (1, 0, False), (1, 1, True), (0, 0, True)):
            hart = ModesHart(64, priv=priv, mstatus=tvm << 20)
            hart.do(name, **fields)
            assert hart.trapped == traps
            assert not traps or hart.cause() == ("m", 2, int.from_bytes(hart.asm(name, **fields), "little"))
    for name in ("sfence.w.inval", "sfence.inval.ir"):
        for priv, traps in ((3, False), (1, False), (0, True)):
            hart = ModesHart(64, priv=priv, mstatus=1 << 20)
            hart.do(name)
            assert hart.trapped == traps
    for priv, tvm, traps in ((3, 1, False), (1, 0, False), (1, 1, True)):
        hart = ModesHart(64, priv=priv, mstatus=tvm << 20)
        hart.do("csrrs", rd="a0", csr=0x180, rs1="zero")
        assert hart.trapped == traps

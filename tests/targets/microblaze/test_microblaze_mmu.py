"""The MMU: registers, translation, zones, modes, its exceptions. UG984, "Virtual-Memory Management", "Privileged
Instructions"."""

from __future__ import annotations

import pytest

from ratite.core.engine.idle_proof import Prover
from tests.engine.toy import ToyPort, ToyRam
from tests.targets.microblaze.microblaze_kit import BIP, CODE, DATA, EE, EIP, IE, Machine

UM, UMS, VM, VMS = 0x800, 0x1000, 0x2000, 0x4000
PID, ZPR, TLBX, TLBLO, TLBHI, TLBSX = range(0x1000, 0x1006)
V, EX, WR, G = 0x40, 0x200, 0x100, 1
VIRT = 0x40000000  # where CODE is mapped


class Mmu(Machine):
    """``map``: the next TLB entry, as state; virtual code at VIRT maps CODE's page for both modes."""

    def __init__(self, **config: object) -> None:
        super().__init__(**{"use_mmu": 3, "pvr": 0, **config})  # type: ignore[arg-type]
        self.count = 0
        self.map(VIRT + CODE, CODE, EX)
        self.cpu.state["zpr"][0] = 0x40000000

    def map(self, virt: int, phys: int, access: int, size: int = 1, zone: int = 0, tid: int = 0) -> None:
        cpu, n = self.cpu, self.count
        cpu.state["tlbhi"][n] = virt | size << 7 | V
        cpu.state["tlblo"][n] = phys | access | zone << 4
        cpu.state["tlbtid"][n] = tid
        self.count += 1

    def virtual(self, *code: bytes, steps: int = 0, user: bool = False, msr: int = 0) -> str:
        self.cpu.pc_value = VIRT + CODE
        self.set(msr=msr | VM | (UM if user else 0))
        return self.run(*code, steps=steps)


def move(m: Machine, number: int, value: int) -> None:
    m.cpu.pc_value = CODE
    m.set(r3=value)
    m.run(m.asm("mts", ra=3, number=number))


def get(m: Machine, number: int) -> int:
    m.cpu.pc_value = CODE
    m.run(m.asm("mfs", rd=4, number=number))
    return m["r4"]


@pytest.mark.parametrize("size", range(8))
def test_page_sizes(size: int) -> None:
    """Every size, at its last word: 1 KiB to 16 MiB."""
    m, bits = Mmu(), 10 + 2 * size
    page = 0x83000000 & -1 << bits
    m.map(page, 0, WR, size)
    inside = (1 << min(bits, 12)) - 4
    m.memory.store(inside, 4, 0x12345678)
    m.set(r5=page)
    m.virtual(m.asm("lwi", rd=6, ra=5, imm=inside), m.asm("swi", rs=6, ra=5, imm=inside - 4))
    assert (m["r6"], m.memory.load(inside - 4, 4), m.cpu.traps) == (0x12345678, 0x12345678, 0)
    m.set(r5=page + (1 << bits))
    m.virtual(m.asm("lwi", rd=6, ra=5, imm=0))
    assert (m["esr"], m["ear"], m["r17"]) == (0x12, page + (1 << bits), VIRT + CODE)


def test_registers_of_an_entry() -> None:
    m = Mmu()
    move(m, PID, 0x1A5)
    move(m, TLBX, 0xFFFFFFC5)
    move(m, TLBLO, 0xFFFFFFFF)
    move(m, TLBHI, 0xFFFFFFFF)
    assert (m["pid"], m["tlbx"]) == (0xA5, 5)
    cpu = m.cpu
    assert (cpu.state["tlblo"][5], cpu.state["tlbhi"][5], cpu.state["tlbtid"][5]) == (0xFFFFFFFD, 0xFFFFFFC0, 0xA5)
    move(m, PID, 1)
    assert (get(m, TLBLO), get(m, TLBX), get(m, PID), get(m, TLBSX)) == (0xFFFFFFFD, 5, 1, 0)
    assert (get(m, TLBHI), get(m, PID)) == (0xFFFFFFC0, 0xA5)  # reading the tag takes its process over


def test_protection_has_no_physical_page_numbers() -> None:
    m = Mmu(use_mmu=2)
    move(m, TLBLO, 0xFFFFFFFF)
    assert get(m, TLBLO) == 0x3FD
    m.map(CODE, 0, EX)
    m.map(DATA, 0, WR)
    m.set(r5=DATA, r6=7, msr=VM)
    m.cpu.pc_value = CODE
    m.run(m.asm("swi", rs=6, ra=5, imm=0))
    assert m.memory.load(DATA, 4) == 7


def test_search() -> None:
    m = Mmu()
    m.map(0x83000000, 0, WR, 3, tid=7)
    move(m, TLBSX, 0x8300FFFF)
    assert m["tlbx"] == 0x80000000
    move(m, PID, 7)
    move(m, TLBSX, 0x8300FFFF)
    assert m["tlbx"] == 1
    move(m, TLBSX, 0x83010000)
    assert m["tlbx"] == 0x80000001
    move(m, TLBX, 3)
    assert m["tlbx"] == 3


@pytest.mark.parametrize(("access", "reads", "writes"), [
    (0, set(), {TLBX, TLBLO, TLBHI}), (1, {TLBX, TLBLO, TLBHI, PID, ZPR}, {TLBX, TLBLO, TLBHI}),
    (2, {TLBX}, {TLBX, TLBLO, TLBHI, PID, ZPR}), (3, {TLBX, TLBLO, TLBHI, PID, ZPR}, {TLBX, TLBLO, TLBHI, PID, ZPR}),
])
def test_access_to_registers(access: int, reads: set[int], writes: set[int]) -> None:
    rows = {PID: "pid", ZPR: "zpr", TLBX: "tlbx", TLBLO: "tlblo", TLBHI: "tlbhi"}
    for number, name in rows.items():
        m = Mmu(mmu_tlb_access=access)
        m.cpu.state[name][0] = m.cpu.state["tlbtid"][0] = 1
        m.cpu.state["tlbx"][0] = int(name == "tlbx")
        assert get(m, number) == (1 if number in reads else 0)
        m.cpu.state["tlbx"][0] = 0
        move(m, number, 0x40)
        wrote = m.cpu.state[name][0] == (0 if number == TLBX else 0x40)
        assert wrote == (number in writes or number == TLBX)


def test_processes() -> None:
    """TID 0 belongs to all of them."""
    for tid, found in ((0, True), (5, True), (6, False)):
        m = Mmu()
        m.map(0x83000000, DATA & -0x1000, 0, tid=tid)
        m.set(r5=0x83000000, pid=5)
        m.virtual(m.asm("lwi", rd=6, ra=5, imm=0))
        assert m.cpu.traps == int(not found)


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("zone", range(4))
@pytest.mark.parametrize("access", [0, WR, EX, WR | EX, EX | G])
def test_zones(user: bool, zone: int, access: int) -> None:
    """Which of load, store and fetch a page allows, and how a refusal is told."""
    shut = user and zone == 0
    free = zone == 3 or (zone == 2 and not user)
    allowed = {"lwi": not shut, "swi": not shut and (free or bool(access & WR)),
               "": not shut and (free or bool(access & EX)) and not access & G}
    for name, fine in allowed.items():
        m = Mmu()
        m.map(0x83000000, DATA & -0x1000, access, zone=5)
        m.cpu.state["zpr"][0] = 0x40000000 | zone << 20
        m.set(r5=0x83000000)
        if name:
            m.virtual(m.asm(name, ra=5, imm=0, **{"rs" if name == "swi" else "rd": 6}), user=user)
        else:
            m.memory.bytes[DATA:DATA + 4] = m.asm("addk", rd=7, ra=0, rb=0)
            m.virtual(m.asm("bra", rb=5), steps=2, user=user)
        esr = {"lwi": 0x10, "swi": 0x410, "": 0x11}[name] | (0x800 if shut else 0)
        assert m.cpu.traps == int(not fine), name
        if not fine:
            assert (m["esr"], m["ear"], m["pc"]) == (esr, 0x83000000, 0x20)
            assert m["r17"] == (VIRT + CODE if name else 0x83000000)
            assert m["msr"] == EIP | VMS | (UMS if user else 0)


def test_a_zone_that_is_not_there_allows_everything() -> None:
    m = Mmu(mmu_zones=5)
    m.map(0x83000000, DATA & -0x1000, 0, zone=5)
    m.set(r5=0x83000000)
    move(m, ZPR, 0xFFFFFFFF)
    assert m["zpr"] == 0xFFC00000
    m.cpu.state["zpr"][0] = 0x40000000
    m.virtual(m.asm("swi", rs=6, ra=5, imm=0), user=True)
    assert m.cpu.traps == 0


@pytest.mark.parametrize("code", [[], ["imm"], ["brid"], ["imm", "brid"], ["rtid"]])
@pytest.mark.parametrize("kind", ["load", "store", "fetch"])
def test_return_address(code: list[str], kind: str) -> None:
    """r17 leads back to the prefix or the branch; a slot sets DS and BTR. MMU exceptions need no MSR[EE]."""
    m = Mmu()
    rows = {"imm": m.asm("imm", imm=0), "brid": m.asm("brid", imm=0x40), "rtid": m.asm("rtid", ra=8, imm=0x44)}
    bad = m.asm("lwi" if kind == "load" else "swi", ra=5, imm=0, **{"rd" if kind == "load" else "rs": 6})
    start = VIRT + CODE + (0x1000 - 4 * len(code) if kind == "fetch" else 0)
    words = [*(rows[name] for name in code), bad]
    at = (start & 0xFFF) + CODE
    m.memory.bytes[at:at + 4 * len(words)] = b"".join(words)
    m.set(r5=0x83000000, r8=start + 4 * len(code) - 8, msr=VM)
    m.cpu.pc_value = start
    for _ in words:
        m.cpu.step()
    assert m["r17"] == start and m["pc"] == 0x20
    slot = code and code[-1] != "imm"
    assert m["esr"] == {"load": 0x12, "store": 0x412, "fetch": 0x13}[kind] | (0x1000 if slot else 0)
    assert m["ear"] == (0x83000000 if kind != "fetch" else VIRT + CODE + 0x1000)
    if slot:
        assert m["btr"] == start + 4 * len(code) - 4 + 0x40


@pytest.mark.parametrize(("name", "operands"), [
    ("mts", {"ra": 3, "number": 1}), ("msrset", {"rd": 3, "bits": 2}), ("msrclr", {"rd": 3, "bits": 6}),
    ("brk", {"rd": 3, "rb": 4}), ("brki", {"rd": 3, "imm": 0x60}), ("rtid", {"ra": 3, "imm": 0}),
    ("rtbd", {"ra": 3, "imm": 0}), ("rted", {"ra": 3, "imm": 0}), ("wic", {"ra": 3, "rb": 0}), ("wdc", {"ra": 3, "rb": 0}),
    ("wdc.flush", {"ra": 3, "rb": 0}), ("wdc.clear", {"ra": 3, "rb": 0}), ("mbar", {"kind": 16}), ("mbar", {"kind": 8}),
    ("mbar", {"kind": 24}),
])
@pytest.mark.parametrize("mmu", [1, 3])
def test_privileged_instructions(name: str, operands: dict[str, int], mmu: int) -> None:
    m = Machine(use_mmu=mmu, pvr=0)
    m.set(msr=UM | EE, r3=77)
    m.run(m.asm(name, **operands))
    assert (m["pc"], m["esr"], m["r17"], m["r3"], m["msr"]) == (0x20, 7, CODE + 4, 77, UMS | EIP)
    m = Machine(pvr=0)
    m.run(m.asm(name, **operands))
    assert m.cpu.traps == 0


@pytest.mark.parametrize(("name", "operands"), [
    ("msrset", {"rd": 3, "bits": 4}), ("msrclr", {"rd": 3, "bits": 4}), ("mbar", {"kind": 1}), ("mfs", {"rd": 3, "number": 1}),
    ("rtsd", {"ra": 3, "imm": 0}),
])
def test_instructions_for_users(name: str, operands: dict[str, int]) -> None:
    m = Mmu()
    m.virtual(m.asm(name, **operands), user=True)
    assert m.cpu.traps == 0 and m["msr"] & ~4 == UM | VM


@pytest.mark.parametrize(("vector", "bip"), [(0x8, BIP), (0x18, 0)])
def test_software_break_leaves_user_mode(vector: int, bip: int) -> None:
    m = Mmu()
    m.virtual(m.asm("brki", rd=14, imm=vector), user=True)
    assert (m["pc"], m["r14"], m["msr"]) == (vector, VIRT + CODE, bip | UMS | VMS)


def test_user_vector_leaves_user_mode() -> None:
    m = Mmu()
    m.virtual(m.asm("bralid", rd=15, imm=8), m.asm("addik", rd=4, ra=0, imm=1), user=True)
    assert (m["pc"], m["r15"], m["r4"], m["msr"]) == (8, VIRT + CODE, 1, UMS | VMS)
    m.virtual(m.asm("bralid", rd=15, imm=16), m.asm("addik", rd=4, ra=0, imm=1), user=True)
    assert m["msr"] == UM | VM


@pytest.mark.parametrize(("line", "vector", "link", "msr"), [(1, 0x10, "r14", 0), (2, 0x18, "r16", BIP | IE)])
def test_interrupts_and_breaks_leave_user_mode(line: int, vector: int, link: str, msr: int) -> None:
    m = Mmu()
    m.cpu.irq_lines = line
    m.virtual(m.asm("addik", rd=4, ra=0, imm=1), user=True, msr=IE)
    assert (m["pc"], m[link], m["msr"]) == (vector, VIRT + CODE, msr | UMS | VMS)


@pytest.mark.parametrize(("name", "msr"), [("rtid", IE), ("rtbd", 0), ("rted", EE)])
@pytest.mark.parametrize("saved", [0, UMS, VMS, UMS | VMS])
def test_returns_restore_modes(name: str, msr: int, saved: int) -> None:
    m = Mmu()
    m.set(r5=VIRT + CODE, msr=saved)
    m.run(m.asm(name, ra=5, imm=0x100), m.asm("mfs", rd=6, number=1))
    assert (m["pc"], m["msr"], m["r6"]) == (VIRT + CODE + 0x100, msr | saved | saved >> 1, saved)


def test_user_mode_alone_has_no_virtual_mode() -> None:
    m = Machine(use_mmu=1, pvr=0)
    move(m, 1, 0xFFFFFBFF)
    assert m["msr"] & 0x7800 == UM | UMS
    m = Machine(pvr=0)
    move(m, 1, 0xFFFFFBFF)
    assert m["msr"] & 0x7800 == 0


def test_exclusive_access_to_a_page_that_is_gone() -> None:
    """A swx whose page was taken away fails by exception, and again by its carry when it is tried once more."""
    m = Mmu()
    m.map(0x83000000, DATA & -0x1000, 0)
    m.set(r5=0x83000000)
    m.virtual(m.asm("lwx", rd=6, ra=5, rb=0), m.asm("swx", rs=6, ra=5, rb=0))
    assert (m["esr"], m["r17"], m["reservation"]) == (0x410, VIRT + CODE + 4, 0)


def test_a_proof_of_an_idle_loop_follows_a_change_of_process() -> None:
    """One virtual address, which the loop reads as two processes; translations are remembered while a proof is made."""
    m, ram = Mmu(), ToyRam(0x4000)
    for process, phys in (1, DATA), (2, DATA + 0x400):
        m.map(0x80000000, phys, WR, 0, tid=process)
    code = [
        m.asm("mts", ra=5, number=PID), m.asm("lwi", rd=3, ra=4, imm=0), m.asm("mts", ra=6, number=PID),
        m.asm("lwi", rd=3, ra=4, imm=0), m.asm("bri", imm=-16),
    ]
    ram.map[CODE:CODE + 20] = b"".join(code)
    ram.code.on_made.append(lambda page, generation: None)  # as the CPU that runs from it
    m.set(r4=0x80000000, r5=1, r6=2, msr=VM, pid=2)
    prover = Prover(m.isa, ToyPort(ram, start=0).ram_ranges())
    proof = prover.prove(VIRT + CODE, 0, m.cpu.state, 0)
    assert proof is not None and proof.holds(m.cpu.state, 0)
    for each in (proof, *prover.around().values()):
        read = {host - ram.address: data for host, data in each.memory}
        assert read == {CODE: b"".join(code), DATA: bytes(4), DATA + 0x400: bytes(4)}
        assert {(name, index) for name, index, _ in each.registers} >= {("tlbhi", n) for n in range(3)}

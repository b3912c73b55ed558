"""Delay slots, prefixes, exceptions, interrupts and breaks. UG984, "Branches", "Reset, Interrupts, Exceptions, and Break"."""

from __future__ import annotations

import pytest

from tests.targets.microblaze.microblaze_kit import BIP, CODE, DATA, DZO, EE, EIP, EXCEPTIONS, HOLE, IE, Machine


def machine(**config: object) -> Machine:
    return Machine(**{**{n.replace("-", "_"): v for n, v in EXCEPTIONS.items()}, **config})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 5, -5])
@pytest.mark.parametrize("condition", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_conditions(condition: str, value: int) -> None:
    taken = {
        "eq": value == 0, "ne": value != 0, "lt": value < 0, "le": value <= 0, "gt": value > 0, "ge": value >= 0}[condition]
    for name, operands in ((f"b{condition}i", {"imm": 0x20}), (f"b{condition}", {"rb": 3})):
        m = Machine()
        m.set(r2=value, r3=0x20)
        m.run(m.asm(name, ra=2, **operands))
        assert m["pc"] == (CODE + 0x20 if taken else CODE + 4)
        m = Machine()
        m.set(r2=value, r3=0x20)
        m.run(m.asm(f"{name}d", ra=2, **operands), m.asm("addik", rd=4, ra=0, imm=1))
        assert (m["pc"], m["r4"]) == (CODE + 0x20 if taken else CODE + 8, 1)


@pytest.mark.parametrize(("name", "operands", "target", "link"), [
    ("br", {"rb": 3}, CODE + 0x40, False), ("brd", {"rb": 3}, CODE + 0x40, False),
    ("brld", {"rb": 3, "rd": 5}, CODE + 0x40, True),
    ("bra", {"rb": 3}, 0x40, False), ("brad", {"rb": 3}, 0x40, False), ("brald", {"rb": 3, "rd": 5}, 0x40, True),
    ("bri", {"imm": -8}, CODE - 8, False), ("brid", {"imm": -8}, CODE - 8, False),
    ("brlid", {"imm": 8, "rd": 5}, CODE + 8, True),
    ("brai", {"imm": 0x40}, 0x40, False), ("braid", {"imm": 0x40}, 0x40, False), ("bralid", {"imm": 0x40, "rd": 5}, 0x40, True),
    ("rtsd", {"ra": 3, "imm": 8}, 0x48, False),
])
def test_branches(name: str, operands: dict[str, int], target: int, link: bool) -> None:
    m = Machine()
    m.set(r3=0x40)
    slot = name.endswith("d")
    m.run(m.asm(name, **operands), m.asm("addik", rd=4, ra=5, imm=1), steps=2 if slot else 1)
    assert m["pc"] == target
    assert m["r5"] == (CODE if link else 0)
    assert m["r4"] == (m["r5"] + 1 if slot else 0)


def test_prefix() -> None:
    m = Machine()
    m.run(m.asm("imm", imm=0x1234), m.asm("ori", rd=3, ra=0, imm=-1), m.asm("addik", rd=4, ra=0, imm=-1),
          m.asm("imm", imm=5), m.asm("addk", rd=5, ra=0, rb=0), m.asm("addik", rd=6, ra=0, imm=1),
          m.asm("imm", imm=1), m.asm("imm", imm=2), m.asm("addik", rd=7, ra=0, imm=3))
    assert [m[f"r{n}"] for n in range(3, 8)] == [0x1234FFFF, 0xFFFFFFFF, 0, 1, 0x20003]
    m = Machine()
    m.run(m.asm("imm", imm=1), m.asm("brlid", rd=15, imm=8), m.asm("addik", rd=3, ra=0, imm=-1))
    assert (m["pc"], m["r15"], m["r3"]) == (CODE + 4 + 0x10008, CODE + 4, 0xFFFFFFFF)


def test_control_in_a_delay_slot_does_nothing() -> None:
    for name, operands in (("brid", {"imm": 0x20}), ("brlid", {"rd": 5, "imm": 0x20}), ("imm", {"imm": 5}),
                           ("brki", {"rd": 5, "imm": 0x20}), ("beqi", {"ra": 0, "imm": 0x20}), ("rtsd", {"ra": 0, "imm": 4})):
        m = Machine()
        m.run(m.asm("brid", imm=0x10), m.asm(name, **operands))
        assert (m["pc"], m["r5"], m.cpu.ctx) == (CODE + 0x10, 0, ""), name


#: what fails, as (name, operands), and ESR and EAR of it
FAILURES = [
    ("lwi", {"rd": 9, "ra": 2, "imm": 1}, 0x921, DATA + 1), ("swi", {"rs": 9, "ra": 2, "imm": 2}, 0xD21, DATA + 2),
    ("lhui", {"rd": 9, "ra": 2, "imm": 1}, 0x121, DATA + 1), ("shi", {"rs": 9, "ra": 2, "imm": 1}, 0x521, DATA + 1),
    ("lbui", {"rd": 9, "ra": 3, "imm": 1}, 4, HOLE + 1), ("swi", {"rs": 9, "ra": 3, "imm": 4}, 4, HOLE + 4),
    ("lwx", {"rd": 9, "ra": 3, "rb": 0}, 4, HOLE), ("idiv", {"rd": 9, "ra": 0, "rb": 2}, 5, 0),
    ("idivu", {"rd": 9, "ra": 0, "rb": 2}, 5, 0), ("idiv", {"rd": 9, "ra": 4, "rb": 5}, 0x805, 0),
    ("", {}, 2, 0),
]


@pytest.mark.parametrize(("name", "operands", "esr", "ear"), FAILURES)
@pytest.mark.parametrize("where", ["", "imm", "slot"])
def test_exceptions(name: str, operands: dict[str, int], esr: int, ear: int, where: str) -> None:
    """ESR, EAR, BTR, r17 and MSR of each, in the open, behind a prefix and in a delay slot; rD stays."""
    m = machine()
    bad = m.asm(name, **operands) if name else b"\xff\xff\xff\xff"
    m.set(r2=DATA, r3=HOLE, r4=-1, r5=0x80000000, r9=77, msr=EE | IE, btr=1)
    if where == "imm":
        m.run(m.asm("imm", imm=0), bad)
    elif where == "slot":
        m.run(m.asm("brid", imm=0x40), bad)
    else:
        m.run(bad)
    at = CODE + (4 if where else 0)
    assert (m["pc"], m["esr"], m["ear"]) == (0x20, esr | (0x1000 if where == "slot" else 0), ear)
    assert (m["r9"], m["r17"], m["btr"]) == (77, at + 4, CODE + 0x40 if where == "slot" else 1)
    assert m["msr"] == EIP | IE | (DZO if name[:4] == "idiv" else 0)
    assert m.cpu.traps == 1


@pytest.mark.parametrize(("name", "operands", "esr", "ear"), FAILURES)
def test_nothing_is_raised_while_exceptions_are_off(name: str, operands: dict[str, int], esr: int, ear: int) -> None:
    m = machine()
    m.set(r2=DATA, r3=HOLE, r4=-1, r5=0x80000000)
    m.run(m.asm(name, **operands) if name else b"\xff\xff\xff\xff")
    assert (m["pc"], m["esr"], m["ear"], m.cpu.traps) == (CODE + 4, 0, 0, 0)


def test_fetch_from_nowhere() -> None:
    m = machine()
    m.set(r3=HOLE, msr=EE)
    m.run(m.asm("bra", rb=3), steps=2)
    assert (m["pc"], m["esr"], m["ear"], m["r17"]) == (0x20, 3, HOLE, HOLE + 4)
    m = Machine()
    m.set(r3=HOLE)
    m.run(m.asm("bra", rb=3), steps=3)
    assert (m["pc"], m.cpu.executed) == (HOLE + 8, 3)


def test_stack_protection() -> None:
    m = machine(use_stack_protection=True)
    m.set(r1=DATA, slr=DATA, shr=DATA + 0x100, msr=EE)
    m.run(m.asm("lwi", rd=3, ra=1, imm=0), m.asm("swi", rs=3, ra=1, imm=-4))
    assert (m["pc"], m["esr"], m["r17"]) == (0x20, 7, CODE + 8)


def test_opcode_zero() -> None:
    m = machine(opcode_0x0_illegal=True)
    m.set(msr=EE)
    m.run(bytes(4))
    assert (m["pc"], m["esr"]) == (0x20, 2)


@pytest.mark.parametrize(("name", "before", "after"), [
    ("rtid", 0, IE), ("rtbd", BIP, 0), ("rted", EIP, EE),
])
def test_returns_change_status_behind_their_slot(name: str, before: int, after: int) -> None:
    m = Machine(pvr=0)
    m.set(r2=DATA, msr=before, esr=5)
    m.run(m.asm(name, ra=2, imm=4), m.asm("mfs", rd=3, number=1))
    assert (m["pc"], m["r3"], m["msr"], m["esr"]) == (DATA + 4, before, after, 0 if name == "rted" else 5)


def test_interrupt() -> None:
    m = Machine(pvr=0)
    m.cpu.irq_lines = 1
    m.set(msr=IE)
    m.run(m.asm("addik", rd=3, ra=0, imm=1))
    assert (m["pc"], m["r14"], m["msr"], m["r3"], m.cpu.traps) == (0x10, CODE, 0, 0, 1)
    for masked in (BIP | IE, EIP | IE, 0):
        m = Machine(pvr=0)
        m.cpu.irq_lines = 1
        m.set(msr=masked)
        m.run(m.asm("addik", rd=3, ra=0, imm=1))
        assert (m["pc"], m["r3"]) == (CODE + 4, 1)


def test_no_interrupt_in_a_delay_slot_or_behind_a_prefix() -> None:
    for first, target in (("brid", CODE + 16), ("imm", CODE + 8)):
        m = Machine(pvr=0)
        m.set(msr=IE)
        m.run(m.asm(first, imm=16), m.asm("addk", rd=3, ra=0, rb=0), steps=1)
        m.cpu.irq_lines = 1
        m.cpu.step()
        assert m["pc"] == target
        m.cpu.step()
        assert (m["pc"], m["r14"]) == (0x10, target)


def test_breaks() -> None:
    m = Machine(pvr=0)
    m.run(m.asm("brki", rd=16, imm=0x60))
    assert (m["pc"], m["r16"], m["msr"]) == (0x60, CODE, BIP)
    m = Machine(pvr=0)
    m.run(m.asm("brki", rd=16, imm=0x18))
    assert (m["pc"], m["msr"]) == (0x18, 0)
    m = Machine(pvr=0)
    m.cpu.irq_lines = 2
    m.run(m.asm("addik", rd=3, ra=0, imm=1))
    assert (m["pc"], m["r16"], m["msr"]) == (0x18, CODE, BIP)
    m = Machine(pvr=0)
    m.cpu.irq_lines = 4
    m.set(msr=BIP | EIP)
    m.run(m.asm("addik", rd=3, ra=0, imm=1))
    assert (m["pc"], m["r16"], m["nmbreak"]) == (0x18, CODE, 1)

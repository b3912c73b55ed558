"""MicroBlaze, 32 bits, both byte orders. Xilinx UG984, MicroBlaze Processor Reference Guide (v10, v11).

The whole integer set, floating point, the MMU and streams; not here: 64 bits, extended addresses.
What the guide leaves open is settled in docs/oracles-microblaze.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField
from ratite.targets.microblaze import fpu, mmu, stream
from ratite.targets.microblaze.config import Config
from ratite.targets.microblaze.kit import DS, FIELDS, HELD, IMM, MSR_PVR, RDS, Kit


def _state(c: Config) -> list[StateField]:
    hidden = [
        StateField("btarget", 32, text="where the branch before the delay slot goes", hidden=True, private=True),
        StateField("immhi", 32, text="upper half of the next immediate", hidden=True, private=True),
        StateField("rset", 32, text="bits that a return sets behind its delay slot", hidden=True),
        StateField("rclear", 32, text="bits that a return clears behind its delay slot", hidden=True),
        StateField("reservation", 1, text="reservation bit of lwx and swx", hidden=True),
        StateField("nmbreak", 1, text="a non-maskable break is in progress", hidden=True),
    ]
    stack = [
        StateField("slr", 32, text="stack low register"),
        StateField("shr", 32, text="stack high register", reset=0xFFFFFFFF),
    ] if c.use_stack_protection else []
    return [
        StateField("r", 32, 32, zero=True, text="general purpose register"),
        StateField("msr", 32, text="machine status register", reset=MSR_PVR if c.pvr else 0, private=True),
        *hidden[:2],
        StateField("ear", 32, text="exception address register"),
        StateField("esr", 32, text="exception status register"),
        StateField("btr", 32, text="branch target register"),
        StateField("fsr", 32, text="floating point status register"),
        StateField("edr", 32, text="exception data register"),
        *stack,
        *hidden[2:],
        *mmu.state(c),
        *stream.state(c),
    ]


def build(config: Mapping[str, object]) -> Isa:
    """The ISA in one configuration; ``config`` by the names of ``config.DEFAULTS``."""
    c = Config(config)
    return Isa(
        f"microblaze{'' if c.big else 'el'}", word=32, big_endian=c.big, fields=FIELDS, state=_state(c), parcel=4,
        default_length=4, contexts=(IMM, DS, RDS, *((HELD,) if c.fsl_links else ())),
        misaligned="fault", mmu_modes=mmu.modes(c), smallest_page=mmu.smallest(c), fp=fpu.context(c),
        declare=partial(_declare, c), polls=True)  # Linux doesn't sleep by mbar


def _declare(c: Config, isa: Isa) -> None:
    from ratite.targets.microblaze import arith, branch, logic, memory, special, traps

    k = Kit(isa, c)
    for group in (arith, logic, memory, branch, special, fpu, stream, traps, mmu):
        group.declare(k)

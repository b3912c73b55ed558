"""Physical memory protection: 16 entries, grain 4 KiB (RISC-V Privileged ISA 1.12 §3.7).

G is 10: NA4 can't be chosen (it reads back as OFF) and every page is matched as a whole, so that a translation of a page
needs no more than one look. What software may not write together, W without R, loses its W. An entry's range is kept as page
numbers in ``pmp_low`` (first) and ``pmp_size`` (how many), so that a look is short; ``pmp_count`` is one more than the
highest entry that is not OFF.
"""

from __future__ import annotations

from functools import partial

from ratite.core.isa.emitter import Emitter
from ratite.core.isa.isa import Isa
from ratite.core.isa.state import StateField
from ratite.core.isa.value import V
from ratite.targets.riscv.csrs import CsrRange

ENTRIES = 16
GRAIN = 10
R, W, X, LOCK = 1, 2, 4, 0x80
OFF, TOR, NA4, NAPOT = 0, 1, 2, 3  # of a configuration's field A, bits 4:3


def state_fields(xlen: int) -> list[StateField]:
    """Configurations, addresses, and what is made of them."""
    return [
        StateField("pmpaddr", xlen, ENTRIES, text="address of a protected range"),
        StateField("pmp_low", 64, ENTRIES, hidden=True),
        StateField("pmp_size", 64, ENTRIES, hidden=True),
        StateField("pmpcfg", 8, ENTRIES, text="permissions of a protected range"),
        StateField("pmp_count", 8, hidden=True),
    ]


def declare(isa: Isa) -> None:
    """The function ``pmp(addr, machine)``: what the physical page of an address allows (1 read, 2 write, 4 execute);
    ``machine``: 1 for accesses of M mode. ``pmp_locked()``: not 0 where an entry holds for M mode too."""
    isa.function("pmp", 2)(_allowed)
    isa.function("pmp_locked", 0)(_locked)


def _allowed(e: Emitter, addr: V, machine: V) -> None:
    page, count, in_m = addr >> 12, e.get("pmp_count"), machine.ne(0)
    default = e.select(in_m, R | W | X, e.const(0, 64))
    for k in range(ENTRIES):
        e.if_(count.ule(k), lambda: e.answer(default))

        def matched(k: int) -> None:
            config = e.reg("pmpcfg", k).zext(64)
            free = in_m & (config & LOCK).eq(0)
            e.answer(e.select(free, R | W | X, config & (R | W | X)))

        e.if_((page - e.reg("pmp_low", k)).ult(e.reg("pmp_size", k)), partial(matched, k))
    e.answer(default)


def _locked(e: Emitter) -> None:
    configs = e.const(0, 8)
    for k in range(ENTRIES):
        configs = configs | e.reg("pmpcfg", k)
    e.answer((configs & LOCK).zext(64))


def csr_ranges(xlen: int) -> list[CsrRange]:
    """pmpcfg0…3 (the even ones alone on RV64) and pmpaddr0…15."""
    step = 1 if xlen == 32 else 2
    rows = [CsrRange(0x3A0 + n, 0x3A0 + n, partial(_read_config, 4 * n), partial(_write_config, 4 * n), "refetch")
            for n in range(0, 4, step)]
    return [*rows, CsrRange(0x3B0, 0x3B0 + ENTRIES - 1, _read_address, _write_address, "refetch")]


def _read_config(first: int, e: Emitter, number: V) -> V:
    value = e.const(0)
    for k in range(e.word // 8):
        value = value | e.reg("pmpcfg", first + k).zext(e.word) << 8 * k
    return value


def _mode(config: V) -> V:
    return config.bits(4, 3)


def _write_config(first: int, e: Emitter, number: V, value: V) -> None:
    for k in range(e.word // 8):
        old, new = e.reg("pmpcfg", first + k), (value >> 8 * k).trunc(8) & (LOCK | 3 << 3 | R | W | X)
        new = e.select(_mode(new).eq(NA4), new & ~(3 << 3), new)
        new = e.select((new & (R | W)).eq(W), new & ~W, new)
        e.set_reg("pmpcfg", first + k, e.select((old & LOCK).ne(0), old, new))
    for k in range(e.word // 8):
        _derive(e, e.const(first + k, 32))
    count = e.const(0, 8)
    for k in range(ENTRIES):
        count = e.select(_mode(e.reg("pmpcfg", k)).ne(OFF), k + 1, count)
    e.set("pmp_count", count)
    if e.isa.mmu_modes:
        e.flush_tlb()


def _read_address(e: Emitter, number: V) -> V:
    """The low bits read as the grain makes them: ones with NAPOT (but for the highest of them), else zeros."""
    k = (number & (ENTRIES - 1)).trunc(32)
    value = e.reg("pmpaddr", k)
    napot = _mode(e.reg("pmpcfg", k)).uge(NA4)
    return e.select(napot, value | (1 << GRAIN - 1) - 1, value & ~((1 << GRAIN) - 1))


def _write_address(e: Emitter, number: V, value: V) -> None:
    """Locked is an entry that says so or whose follower does as the end of its range."""
    k = (number & (ENTRIES - 1)).trunc(32)
    after = (k + 1) & (ENTRIES - 1)
    follower = e.reg("pmpcfg", after)
    pinned = k.ne(ENTRIES - 1) & (follower & LOCK).ne(0) & _mode(follower).eq(TOR)
    locked = (e.reg("pmpcfg", k) & LOCK).ne(0) | pinned

    def write() -> None:
        e.set_reg("pmpaddr", k, value if e.word == 32 else value & (1 << 54) - 1)
        _derive(e, k)
        _derive(e, after)
        e.flush_tlb()

    e.if_(locked ^ 1, write)


def _derive(e: Emitter, k: V) -> None:
    """The range of entry ``k`` (a register index), §3.7.1: TOR starts where the entry before it ends."""
    mode = _mode(e.reg("pmpcfg", k))
    address = e.reg("pmpaddr", k).zext(64)
    before = e.select(k.eq(0), 0, e.reg("pmpaddr", (k - 1) & (ENTRIES - 1)).zext(64))
    low, high = before >> GRAIN, address >> GRAIN
    size = e.select(high.ugt(low), high - low, 0)
    ones = address | (1 << GRAIN - 1) - 1
    span = ones ^ (ones + 1)  # 2^(trailing ones + 1) - 1: the range in words, less 1
    napot = mode.uge(NA4)
    e.set_reg("pmp_low", k, e.select(napot, (ones & ~span) >> GRAIN, low))
    e.set_reg("pmp_size", k, e.select(napot, (span + 1) >> GRAIN, e.select(mode.eq(TOR), size, 0)))

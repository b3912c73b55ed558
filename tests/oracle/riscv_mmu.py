"""Soak: the evaluator against native code on random RISC-V code in all modes, with translation and PMP, state compared after
every instruction.

    python -m tests.oracle.riscv_mmu --count 10000000 --seed 1 --xlen 64 --ledger soak.jsonl [--tier 2]

As riscv_evaluator, but that code runs in M, S and U with random page tables, delegation, PMP entries and environment
registers. Most pages are mapped where they are, so that code goes on whatever the mode; large pages and a second table show the
same memory elsewhere. Nothing maps the tables, since a stale translation would be right in one executor and not in the
other; only A and D change in them.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial

from ratite.core.engine.native import NativeLibrary
from ratite.targets.riscv.features import Features
from ratite.targets.riscv.isa import csr_table
from tests.oracle import riscv_evaluator
from tests.oracle.driver import Job, command
from tests.oracle.pair import Pair, Span, paired
from tests.oracle.riscv_evaluator import KNOWN, Stream, numbers

TABLES, TABLE_PAGES = 0x62340000, 16
SPANS = (*riscv_evaluator.SPANS, Span(TABLES, TABLE_PAGES << 12, riscv_evaluator.SIZE))
EVERYTHING = ("m", "a", "f", "d", "c", "s", "u", "zba", "zbb", "zbs", "zicond", "zicbom", "zicboz", "svinval", "svpbmt",
              "svnapot", "sstc", "svadu", "sv32", "sv39", "sv48", "sv57", "pmp")
V, R, W, X, U, G, A, D = (1 << k for k in range(8))
GOOD = V | R | W | X | A | D
LARGE = (0x20_0000, 0x4000_0000, 0x80_0000_0000)  # where large pages of level 1, 2, 3 show what lies at 0
TELLING = (0x100, 0x104, 0x10A, 0x144, 0x180, 0x300, 0x302, 0x303, 0x304, 0x30A, 0x344)  # registers that much depends on
LINES = tuple(1 << k for k in (1, 3, 5, 7, 9, 11))


def config_of(xlen: int, without: str = "") -> dict[str, object]:
    """All extensions but those named."""
    return {"word-size": xlen, **dict.fromkeys(EVERYTHING, True), **dict.fromkeys(without.split(), False)}


def pmp_range(config: int, address: int, before: int) -> tuple[int, int]:
    """(first page, pages) of an entry, by the words of Privileged 1.12 §3.7.1 with G = 10."""
    mode = config >> 3 & 3
    if mode == 1:
        low, high = before >> 10, address >> 10
        return low, max(0, high - low)
    if mode < 2:
        return before >> 10, 0
    ones = 0
    value = address | 0x1FF
    while value >> ones & 1:
        ones += 1
    size = 8 << ones
    return (value >> ones << ones) * 4 // size * size >> 12, size >> 12


class MmuStream(Stream):
    """See the module's head."""

    lines_used = LINES
    longest = 24

    def __init__(self, pair: Pair, seed: int, config: dict[str, object]) -> None:
        super().__init__(pair, seed)
        self.features = Features(config)
        self.csrs = [*csr_table(self.features), *range(0x3A0, 0x3A4), *range(0x3B0, 0x3C0), *TELLING * 6]
        self.wide = self.features.xlen == 64
        self.shows = [0, *(LARGE[:3] if self.wide else (0x40_0000,)), 0x1_0000]  # the last: 64 KiB at once

    def image(self) -> bytes:
        return super().image() + self.tables()

    # -- page tables: page 0 is the root of each mode, the way down to the code shares the pages after it. Those of an image are
    # for U or for S, with exceptions; where they are for U, the large ones are for S, which has its handler there

    def flags(self, user: bool) -> int:
        rng = self.rng
        flags = GOOD | (U if user ^ (rng.random() < 0.1) else 0)
        if rng.random() < 0.2:
            flags ^= rng.choice((V, R, W, X, A, D, D, A | D, U, W | D, R | W, R | W, R | W, G))
        return flags

    def odd(self) -> int:
        """Bits above the address, rarely."""
        if not self.wide or self.rng.random() < 0.9:
            return 0
        return self.rng.choice((1 << 63, 1 << 61, 1 << 62, 3 << 61, 1 << self.rng.randrange(54, 61)))

    def entry(self, page: int, flags: int) -> int:
        return page << 10 | flags | self.odd()

    def tables(self) -> bytes:
        self.user = user = self.rng.random() < 0.5
        size, count = (8, 512) if self.wide else (4, 1024)
        pages = [[0] * count for _ in range(TABLE_PAGES)]
        first = TABLES >> 12
        levels = 5 if self.wide else 2
        # page k (from 0): the table of level k, for roots of any mode; each points at the next below at index 0
        for level in range(levels):
            table = pages[level]
            if level:
                table[0] = (first + level - 1) << 10 | V | (self.rng.choice((A, D, U, 0)) if self.rng.random() < 0.02 else 0)
                table[-1] = table[0]  # the high half shows the same
                for k in (1, 2):
                    misplaced = self.rng.randrange(1 << 9) if self.rng.random() < 0.1 else 0
                    table[k] = self.entry(misplaced, self.flags(not user)) if level < 4 else table[0]
        low = pages[0]
        for k in range(0x08, 0x20):
            page = k if self.rng.random() < 0.9 else self.rng.randrange(0x10, 0x1D)
            low[k] = self.entry(page, self.flags(user))
            low[(k - 0x20) % count] = self.entry(page, self.flags(user))
        if self.rng.random() < 0.5:  # 64 KiB at once
            for k in range(0x20, 0x30):
                low[k] = 0x18 << 10 | self.flags(user) | (1 << 63 if self.wide else 0)
        return b"".join(v.to_bytes(size, "little") for table in pages for v in table)

    # -- states

    def anywhere(self, at: int) -> int:
        return at + (self.rng.choice(self.shows) if self.rng.random() < 0.15 else 0)

    def address(self) -> int:
        return self.anywhere(super().address())

    def state(self) -> dict[tuple[str, int], int]:
        rng, state = self.rng, super().state()
        for k in self.bases:
            state["x", k] = self.anywhere(state["x", k])
        state["priv", 0] = rng.choice((self.lower(), self.lower(), self.lower(), 3))
        status = 0
        for bit, odds in ((1, 0.5), (3, 0.5), (5, 0.5), (7, 0.5), (8, 0.5), (17, 0.3), (18, 0.5), (19, 0.3), (20, 0.3),
                          (21, 0.2), (22, 0.2)):
            status |= (rng.random() < odds) << bit
        state["mstatus", 0] = status | rng.choice((0, 1, 3)) << 11 | (0xA << 32 if self.wide else 0) | self.fs()
        for name in ("mie", "mip", "mideleg"):
            state[name, 0] = sum(rng.choice((0, line)) for line in LINES)
        state["mie", 0] *= rng.random() < 0.5  # in U those for M are always taken
        state["mideleg", 0] &= 0x222
        state["mip", 0] &= 0x222
        state["medeleg", 0] = rng.choice((0xB3FF, 0xB3FF, rng.getrandbits(16) & 0xB3FF, 0))
        state["stvec", 0] = self.code_address() & -4 | rng.getrandbits(1)
        if self.user and rng.random() < 0.8:
            state["stvec", 0] += self.shows[1]
        state["sepc", 0] = self.code_address() & -2
        for name in ("scause", "stval", "sscratch"):
            state[name, 0] = numbers(rng, self.isa.word)
        state["menvcfg", 0] = rng.getrandbits(64) & (0xE000_0000_0000_00F1) & ~(1 << 5)
        state["senvcfg", 0] = rng.getrandbits(8) & 0xD1
        state["mcounteren", 0], state["scounteren", 0] = rng.getrandbits(3) & 5, rng.getrandbits(3) & 5
        state["satp", 0] = self.satp()
        self.protect(state)
        return state

    def lines(self) -> int:
        return super().lines() if self.rng.random() < 0.3 else 0

    def lower(self) -> int:
        """A mode below M: mostly the one that most pages are for."""
        return int(self.user ^ (self.rng.random() < 0.8))

    def between(self, pair: Pair) -> None:
        """Traps lead up, and little leads back."""
        now, lower = pair.left.get("priv"), self.lower()
        if lower < now and self.rng.random() < 0.7:
            for cpu in (pair.left, pair.right):
                cpu.set("priv", lower)

    def satp(self) -> int:
        rng = self.rng
        if rng.random() < 0.2:
            return 0
        if not self.wide:
            return 1 << 31 | rng.getrandbits(9) << 22 | (TABLES >> 12) + 1
        mode = rng.choice((8, 9, 10))
        return mode << 60 | rng.getrandbits(16) << 44 | (TABLES >> 12) + mode - 6

    def protect(self, state: dict[tuple[str, int], int]) -> None:
        """PMP: the last entry opens all, some before it don't."""
        rng = self.rng
        configs, addresses = [0] * 16, [0] * 16
        last = rng.choice((2, 3, 3, 4, 15))  # the evaluator looks at one after another, which takes most of its time
        if rng.random() < 0.95:
            configs[last], addresses[last] = 0x1F, (1 << self.isa.word) - 1 if not self.wide else (1 << 54) - 1
        if rng.random() < 0.4:
            for k in rng.sample(range(last), rng.randrange(1, min(4, last))):
                table = rng.random() < 0.5
                rights = rng.choice((0, 1, 1, 1, 3, 7)) if table else rng.choice((0, 1, 3, 4, 5, 7, 7, 7))
                configs[k] = rng.choice((0x18, 0x08, 0x00)) | rights | rng.choice((0, 0, 0, 0x80))
                page = (TABLES >> 12) + rng.choice((0, 0, 0, 1, 2, 3, 4, 5)) if table else rng.randrange(0x8, 0x20)
                addresses[k] = page << 10 | rng.choice((0x1FF, 0x3FF, 0x1FF, 0, rng.getrandbits(10)))
        for k in range(16):
            if not self.features.has("pmp"):
                return
            state["pmpcfg", k], state["pmpaddr", k] = configs[k], addresses[k]
            low, size = pmp_range(configs[k], addresses[k], addresses[k - 1] if k else 0)
            state["pmp_low", k], state["pmp_size", k] = low, size
        state["pmp_count", 0] = max((k + 1 for k in range(16) if configs[k] >> 3 & 3), default=0)


def make(
    xlen: int, library: NativeLibrary, without: str = "", tier: int = 0, *, plain: bool = False,
) -> tuple[Pair, dict[str, object]]:
    """The pair of executors and its configuration."""
    config = config_of(xlen, without)
    return paired(config, SPANS, library, tier, None if plain else KNOWN), config


def job(args: Namespace) -> Job:
    pair, config = make(args.xlen, NativeLibrary(), args.without, args.tier, plain=args.plain)
    name = f"{pair.isa.name} all" + (f" but {args.without}" if args.without else "")
    stream = partial(MmuStream, config=config)
    return Job(pair.tier.named("riscv-mmu"), name, lambda *chunk: riscv_evaluator.run_chunk(pair, *chunk, stream), pair)


if __name__ == "__main__":
    sys.exit(command(__doc__, job, xlen=True, tier=True, more=riscv_evaluator.more, count=100_000, chunk=200_000))

"""The programs of ``microblaze_qemu`` in virtual mode: `python -m tests.oracle.microblaze_qemu --mmu …`.

A prologue in real mode fills the TLB by mts and returns into privileged or user virtual mode. Code is mapped where it lies;
data by eight entries of random size, access, zone and process, each in 16 MiB of its own, so that no two overlap. Programs
change the entries, PID and ZPR (which is a privileged instruction exception in user mode) and jump to where nothing is fetched.
They end by `brki r24, 8`, in real mode. Left out is what docs/oracles-microblaze.md says of the judge's MMU.
"""

from __future__ import annotations

from types import MappingProxyType

from tests.oracle.microblaze_qemu import _CODE, _DATA, Judge, Program

_FIRST, _COUNT, _REGION, _AWAY = 16, 8, 0x40000000, 0x7000000C
_PID, _ZPR, _TLBX, _TLBLO, _TLBHI, _TLBSX = range(0x1000, 0x1006)


def _high(value: int) -> tuple[int, int]:
    """A word as the operands of imm and the instruction behind it."""
    high, low = ((value >> n & 0xFFFF ^ 0x8000) - 0x8000 for n in (16, 0))
    return high, low


class MmuProgram(Program):
    """A random batch in virtual mode."""

    def _put(self, register: int, value: int) -> None:
        high, low = _high(value)
        self.words += [self._encode("imm", imm=high), self._encode("addik", rd=register, ra=0, imm=low)]

    def _move(self, number: int, value: int) -> None:
        self._put(3, value)
        self.words.append(self._encode("mts", ra=3, number=number))

    def _entry(self, n: int) -> tuple[int, int]:
        """(TLBHI, TLBLO) for entry ``n``; its tag is that of an address that programs use."""
        rng = self.rng
        size = rng.randrange(1, 8)
        mask = -1 << 10 + 2 * size & 0xFFFFFFFF
        phys = self.base + _DATA + rng.randrange(0, 0x1000)
        virt = _REGION + (n << 24) + (phys & 0xFFFFFF)
        high = (virt & mask) | size << 7 | (0x40 if rng.random() < 0.9 else 0)
        low = (phys & mask) | rng.choice((0x300, 0x300, 0x100, 0x200, 0)) | rng.randrange(15) << 4
        return high, low

    def _zones(self) -> int:
        """ZPR; that of code, the last one, stays."""
        value = 0
        for _ in range(15):
            value = value << 2 | self.rng.choice((1, 1, 1, 2, 3))
        return value << 2 | 1

    def _prologue(self) -> None:
        rng = self.rng
        pids = (0, 5, 5, 5, 9)
        self._move(_ZPR, self._zones())
        self._move(_PID, 0)
        self._move(_TLBX, 0)
        self._move(_TLBLO, self.base & ~0xFFFF | 0x3F0)  # code and data where they lie, in zone 15
        self._move(_TLBHI, self.base & ~0xFFFF | 3 << 7 | 0x40)
        places = []
        for n in range(_COUNT):
            high, low = self._entry(n)
            self._move(_PID, rng.choice(pids))
            self._move(_TLBX, _FIRST + n)
            self._move(_TLBLO, low)
            self._move(_TLBHI, high)
            page = (1 << 10 + 2 * (high >> 7 & 7)) - 1
            inside = rng.randrange(0x80, 0x380) & -4
            at = inside if page < 0x1000 else (self.base + _DATA + inside + 0x400 * rng.randrange(4)) & page
            places.append(high & ~page & 0xFFFFFC00 | at)
        self._move(_PID, 5)
        self.places = places
        user = rng.random() < 0.5
        self._move(1, 0x100 | rng.choice((0, 4, 0x84)) | 0x4000 | (0x1000 if user else 0))
        at = self.base + _CODE + 4 * (len(self.words) + 4)
        self._put(24, at)
        self.words += [self._encode("rted", ra=24, imm=0), self._encode("or", rd=0, ra=0, rb=0)]

    def _last(self) -> int:
        return self._encode("brki", rd=24, imm=8)

    def _more(self, size: int) -> None:
        rng = self.rng
        if rng.random() > 0.04:
            super()._more(size)
            return
        if len(self.words) + 24 >= size:
            return
        self.words += [self._encode("or", rd=0, ra=0, rb=0)] * 5  # no branch reaches into the middle
        kind = rng.random()
        if kind < 0.3:
            self._jump_away()
        elif kind < 0.6:
            n = rng.randrange(_COUNT)
            high, low = self._entry(n)
            self._move(_TLBX, _FIRST + n)
            self._move(_TLBLO, low)
            self._move(_TLBHI, high)
        elif kind < 0.75:
            self._move(_PID, rng.choice((5, 5, 5, 9)))
        elif kind < 0.85:
            self._move(_ZPR, self._zones())
        elif kind < 0.92:
            self._move(_TLBSX, rng.choice((*self.places, _AWAY)))
        else:
            self._move(_TLBX, _FIRST + rng.randrange(_COUNT))
        if rng.random() < 0.3:
            self._read(rng.choice((_PID, _ZPR, _TLBX, _TLBLO)), self._register())

    def _read(self, number: int, register: int) -> None:
        """By mfs. The judge never clears TLBX[MISS]."""
        self.words.append(self._encode("mfs", rd=register, number=number))
        if number == _TLBX:
            self.words.append(self._encode("andi", rd=register, ra=register, imm=0x3F))

    def _jump_away(self) -> None:
        self._put(23, _AWAY)
        self.words += [self._encode("brald", rd=24, rb=23), self._plain(lambda n: n.name in ("addk", "xor", "muli"))]


class MmuJudge(Judge):
    """One QEMU and one native CPU, both with a whole MMU."""

    EXTRA = MappingProxyType({"use-mmu": 3})
    PROGRAM = MmuProgram
    MSR = 0x7BFE

    def handler(self) -> list[int]:
        """Counts in r18, sums ESR, EAR and r17 up in r16, goes on behind the instruction; from a delay slot at BTR; from a
        fetch that failed behind the branch that left its address in r24."""
        def encode(name: str, **values: int) -> int:
            return self.isa.by_name[name].pattern.encode(values, self.isa.fields)

        def add(register: int) -> list[int]:
            return [encode("mfs", rd=19, number=register), encode("addk", rd=16, ra=16, rb=19)]

        return [
            encode("addik", rd=18, ra=18, imm=1),
            *add(5), *add(3), encode("addk", rd=16, ra=16, rb=17),
            encode("mfs", rd=19, number=5), encode("andi", rd=19, ra=19, imm=0x1F),
            encode("addik", rd=19, ra=19, imm=-17), encode("beqi", ra=19, imm=4 * 12),
            encode("addik", rd=19, ra=19, imm=-2), encode("beqi", ra=19, imm=4 * 10),
            encode("mfs", rd=19, number=5), encode("andi", rd=19, ra=19, imm=0x10), encode("beqi", ra=19, imm=8),
            encode("addik", rd=17, ra=17, imm=4),  # of the MMU: r17 led to the instruction itself
            encode("mfs", rd=19, number=5), encode("andi", rd=19, ra=19, imm=0x1000), encode("beqi", ra=19, imm=8),
            encode("mfs", rd=17, number=0xB),
            encode("bri", imm=8),
            encode("addik", rd=17, ra=24, imm=8),
            encode("rted", ra=17, imm=0), encode("or", rd=0, ra=0, rb=0),
        ]

    def end_of(self, code: bytes) -> int:
        return 8

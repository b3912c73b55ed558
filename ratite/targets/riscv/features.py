"""What one hart has: the configuration of an ISA, checked and with names."""

from __future__ import annotations

from collections.abc import Mapping

#: extensions and parts of them: (configuration key, whether it is there where nothing is told, what it is). Where nothing is
#: told, a hart is a plain RV32IMAC or RV64IMAC one of machine mode
FLAGS: tuple[tuple[str, bool, str], ...] = (
    ("m", True, "multiplication and division"),
    ("a", True, "atomic instructions"),
    ("f", False, "single-precision floating point"),
    ("d", False, "double-precision floating point"),
    ("c", True, "compressed instructions"),
    ("s", False, "supervisor mode"),
    ("u", False, "user mode"),
    ("zicsr", True, "control and status registers"),
    ("zicntr", True, "cycle, instret and, with a frequency, time"),
    ("zifencei", True, "fence.i"),
    ("zba", False, "address generation"),
    ("zbb", False, "basic bit manipulation"),
    ("zbs", False, "single-bit instructions"),
    ("zicond", False, "conditional zero"),
    ("zicbom", False, "cache block management, blocks of 64 bytes"),
    ("zicboz", False, "cache block zero, blocks of 64 bytes"),
    ("mmu", True, "translation, as the sv… say"),
    ("svinval", False, "fine-grained invalidation of translations"),
    ("svpbmt", False, "memory types in page tables"),
    ("svnapot", False, "64 KiB translations"),
    ("sstc", False, "stimecmp"),
    ("svade", False, "an accessed or dirty bit that is clear is a page fault (with svadu: until ADUE is set)"),
    ("svadu", False, "accessed and dirty bits are set by the hart while menvcfg.ADUE is set"),
    ("sv32", False, "32-bit virtual addresses"),
    ("sv39", False, "39-bit virtual addresses"),
    ("sv48", False, "48-bit virtual addresses"),
    ("sv57", False, "57-bit virtual addresses"),
    ("pmp", False, "physical memory protection, 16 entries"),
)
#: versions of the privileged specification: 1.11 brings mcountinhibit, 1.12 menvcfg, senvcfg, mconfigptr, mstatush and an
#: mret and sret that clear MPRV
PRIV_SPECS = ("v1.10.0", "v1.11.0", "v1.12.0")

#: the single-letter extensions in the order of misa's name
LETTERS = "imafdcsu"


class Features:
    """``has("zba")``; ``xlen``: 32 or 64; ``letters``: as in "imac"; ``frequency`` of ``time`` in Hz, 0: there is none;
    ``version``: of the privileged specification, 10 to 12.

    Raises ValueError for a word size that isn't there or extensions that can't be without another."""

    __slots__ = ("_set", "frequency", "letters", "version", "xlen")

    def __init__(self, config: Mapping[str, object]) -> None:
        self.xlen = int(str(config["word-size"]))
        if self.xlen not in (32, 64):
            raise ValueError(f"word-size must be 32 or 64, not {self.xlen}")
        chosen = {name for name, default, _ in FLAGS if config.get(name, default)}
        chosen -= {"sv39", "sv48", "sv57", "svpbmt", "svnapot"} if self.xlen == 32 else {"sv32"}
        if "mmu" not in chosen:
            chosen -= {"sv32", "sv39", "sv48", "sv57"}
        self.frequency = int(str(config.get("timebase-frequency", 0)))
        self.version = 10 + PRIV_SPECS.index(str(config.get("priv-spec", PRIV_SPECS[-1])))
        self._set = frozenset(chosen)
        for name, needs in REQUIRES:
            if name in chosen and needs not in chosen:
                raise ValueError(f"extension '{name}' needs '{needs}'")
        for name in NEEDS_ENVCFG:
            if name in chosen and self.version < 12:
                raise ValueError(f"extension '{name}' needs priv-spec '{PRIV_SPECS[2]}'")
        self.letters = "".join(letter for letter in LETTERS if letter == "i" or letter in chosen)

    def has(self, name: str) -> bool:
        """Whether the hart has the extension of that name."""
        return name in self._set

    @property
    def mmu_modes(self) -> int:
        """How many ways there are to translate an address; see ``mmu``."""
        if self.has("s"):
            return 4
        if self.has("pmp"):
            return 2 if self.has("u") else 1
        return 0


#: (extension, what it can't be without)
REQUIRES: tuple[tuple[str, str], ...] = (
    ("d", "f"), ("s", "u"), ("f", "zicsr"), ("s", "zicsr"), ("u", "zicsr"), ("sstc", "s"), ("svinval", "s"),
    ("svpbmt", "s"), ("svnapot", "s"), ("svadu", "s"), ("svade", "s"), ("sv32", "s"), ("sv39", "s"), ("sv48", "sv39"),
    ("sv57", "sv48"),
)
#: extensions that menvcfg rules
NEEDS_ENVCFG = ("zicbom", "zicboz", "svpbmt", "sstc", "svadu")

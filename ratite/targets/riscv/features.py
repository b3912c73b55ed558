"""What one hart has: the configuration of an ISA, checked and with names."""

from __future__ import annotations

from collections.abc import Mapping

#: configuration keys that are extensions or parts of them, and what holds where nothing is told: a plain RV32IMAC or RV64IMAC
#: hart of machine mode
DEFAULTS: tuple[tuple[str, bool], ...] = (
    ("m", True), ("a", True), ("c", True), ("f", False), ("d", False), ("s", False), ("u", False),
    ("zicsr", True), ("zifencei", True), ("zba", False), ("zbb", False), ("zbs", False), ("zicond", False),
    ("zicbom", False), ("zicboz", False), ("svinval", False), ("svpbmt", False), ("svnapot", False), ("sstc", False),
    ("svade", False), ("svadu", False), ("sv32", False), ("sv39", False), ("sv48", False), ("sv57", False), ("pmp", False),
)

#: the single-letter extensions in the order of misa's name
LETTERS = "imafdcsu"


class Features:
    """``has("zba")``; ``xlen``: 32 or 64; ``letters``: as in "imac"; ``frequency`` of ``time`` in Hz, 0: there is none.

    Raises ValueError for a word size that isn't there or extensions that can't be without another."""

    __slots__ = ("_set", "frequency", "letters", "xlen")

    def __init__(self, config: Mapping[str, object]) -> None:
        self.xlen = int(str(config["word-size"]))
        if self.xlen not in (32, 64):
            raise ValueError(f"word-size must be 32 or 64, not {self.xlen}")
        chosen = {name for name, default in DEFAULTS if config.get(name, default)}
        chosen -= {"sv39", "sv48", "sv57", "svpbmt", "svnapot"} if self.xlen == 32 else {"sv32"}
        self.frequency = int(str(config.get("timebase-frequency", 0)))
        self._set = frozenset(chosen)
        for name, needs in REQUIRES:
            if name in chosen and needs not in chosen:
                raise ValueError(f"extension '{name}' needs '{needs}'")
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

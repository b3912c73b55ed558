"""Native CPUs for oracles: interpreted, or in compiled regions wherever a jump goes.

Which instructions a region has, and which of its two ways of dealing with the unlikely, is drawn for each: a chunk that
begins with ``reseed`` makes the same regions every time.
"""

from __future__ import annotations

import random

from ratite.core.engine.region.manager import RegionManager
from tests.engine.lockstep import Eager


class Varied(Eager):
    """Regions of any size, of what was decoded or of all that can be reached, with calls or without, by windows where
    the CPU has them or not."""

    def __init__(self, tier: int) -> None:
        super().__init__(tier)
        self.threshold = 2  # one round to decode something
        self.seconds = 900.0  # soaks run when nobody else wants the processor
        self.rng = random.Random(0)

    def limits(self, tier: int, *, calls: bool = False, window: bool = False) -> dict[str, object]:
        rng = self.rng
        return {
            **super().limits(tier), "instructions": rng.choice((16, 48, 200, 600, 600)), "eager": rng.random() < 0.8,
            "calls": rng.random() < 0.4, "loop_entries": rng.random() < 0.8, "window": window and rng.random() < 0.8}


class Loops(Varied):
    """Regions of one short loop each, all alike."""

    def limits(self, tier: int, *, calls: bool = False, window: bool = False) -> dict[str, object]:
        return {**super().limits(tier), "instructions": 24, "eager": False, "calls": False, "loop_entries": True,
                "window": False}


class Tier:
    """How one native CPU executes. ``manager`` is for its constructor, and goes with the CPU. ``policy``: what regions are
    like, for tier 1 or 2."""

    def __init__(self, number: int, policy: type[Varied] = Varied) -> None:
        self.number = number
        self._policy = policy(number) if number else None
        self.manager = RegionManager(self._policy) if self._policy else None

    def reseed(self, seed: int | str) -> None:
        """From here on regions are what ``seed`` makes them."""
        if self._policy:
            self._policy.rng = random.Random(f"regions {seed}")

    def named(self, oracle: str) -> str:
        """Of the oracle with this tier, for its ledger."""
        return f"{oracle}-tier{self.number}" if self.number else oracle

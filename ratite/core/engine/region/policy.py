"""When code is compiled, and how much of it: every number of tiers 1 and 2 that was chosen by measuring."""

from __future__ import annotations


class Limits:
    """Of one region. ``instructions``, ``pages``: at the most; ``reach``: bytes around a computed jump in which its targets are
    looked for; ``likely``: times a target was reached; ``targets``: so many of them; ``loop_entries``: whether loops inside
    can be entered by themselves; ``calls``: see RegionEmitter; ``eager``: take what
    was not decoded too (tests)."""

    def __init__(self, *, instructions: int = 600, pages: int = 8, reach: int = 1024, likely: int = 100, targets: int = 24,
                 loop_entries: bool = True, calls: bool = False, eager: bool = False) -> None:
        self.instructions = instructions
        self.pages = pages
        self.reach = reach
        self.likely = likely
        self.targets = targets
        self.loop_entries = loop_entries
        self.calls = calls
        self.eager = eager


class Policy:
    """Of a manager. ``threshold``: arrivals that make a place hot; ``synchronous``: the CPU waits for its regions (tests);
    ``attempts``: to compile one place; ``seconds``: a worker may take for one; ``idle_seconds``: after which workers end;
    ``leave_seconds``: CPUs may take to leave regions that must go; ``code_size``: bytes of compiled code."""

    def __init__(self, *, threshold: int = 1000, synchronous: bool = False, code_size: int = 64 << 20) -> None:
        self.threshold = threshold
        self.synchronous = synchronous
        self.code_size = code_size
        self.attempts = 4
        self.seconds = 30.0
        self.idle_seconds = 20.0
        self.leave_seconds = 0.2

    def limits(self, tier: int) -> dict[str, object]:
        """Keywords of Limits."""
        return {"likely": max(1, self.threshold // 8), "calls": tier == 2}

    def passes(self, tier: int) -> str:
        """See Compiler.compile."""
        return "2+O2" if tier == 2 else "2+sroa+simplify_cfg"

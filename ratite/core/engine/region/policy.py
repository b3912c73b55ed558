"""When code is compiled, and how much of it: every number of tiers 1 and 2 that was chosen by measuring."""

from __future__ import annotations


class Limits:
    """Of one region. ``instructions``, ``pages``: at the most; ``targets``: so many of a computed jump; ``loop_entries``:
    whether loops inside can be entered by themselves; ``calls``, ``lazy``, ``window``: see RegionEmitter; ``eager``: take what
    was not decoded too (tests)."""

    def __init__(self, *, instructions: int = 600, pages: int = 8, targets: int = 24, loop_entries: bool = True,
                 calls: bool = False, lazy: bool = False, window: bool = False, eager: bool = False) -> None:
        self.instructions = instructions
        self.pages = pages
        self.targets = targets
        self.loop_entries = loop_entries
        self.calls = calls
        self.lazy = lazy
        self.window = window
        self.eager = eager


class Policy:
    """Of a manager. ``threshold``: arrivals that make a place hot; ``synchronous``: the CPU waits for its regions (tests);
    ``code_size``: bytes of compiled code. The rest is explained where it is set."""

    def __init__(self, *, threshold: int = 1000, synchronous: bool = False, code_size: int = 64 << 20) -> None:
        self.threshold = threshold
        self.synchronous = synchronous
        self.code_size = code_size
        self.persistent = not synchronous  # regions are kept on disk
        # Bytes of all compiled code on disk; held to when so long nothing was compiled, when a 16th was added, and at the end.
        self.disk = 256 << 20
        self.lull_seconds = 1.0
        self.covered = 2  # times that a place inside of a region must become hot again before it gets one of its own
        self.attempts = 4  # to compile one place whose code keeps changing
        # Between two readings of the counters of arrivals, at the least; and at the most, while what they say isn't enough.
        self.count_seconds, self.choice_seconds = 0.05, 2.0
        # Arrivals a second at a place that is to be compiled. What a boot alone made hot is not: a guest that has nothing to
        # do leaves its host alone, and the places wait.
        self.pressing = 1000
        # While CPUs have every core, what is compiled takes one from them. Some 50 ms for some 40 ns an arrival: this many a
        # second bring that back within five seconds, and are compiled at once. Else a worker rests so many times as long as it
        # has just worked.
        self.worth = 250_000
        self.rest = 15
        self.seconds = 30.0  # a worker may take for one region
        self.fail_seconds = 0.1, 60.0  # without asking after a failure: first, doubled with each one in a row; at the most
        self.workers = 3  # at the most; each is a process of some 100 MB
        self.idle_seconds = 20.0  # without work, after which workers end
        self.leave_seconds = 0.2  # CPUs may take to leave regions that must go
        # Tier 2: a region that executed so many instructions will execute as many again. At 2 ns each that is 100 ms, and
        # compiling it anew, with the paths that were decoded meanwhile, takes some 20 to 200 ms of another core.
        self.promote_heat = 50_000_000
        self.look_seconds = (0.1, 2.0)  # between two looks at heat, at the least and at the most
        self.look_heat = 5_000_000  # instructions in regions that are to lie between two looks: a look takes milliseconds
        # A region that gives up once in so few instructions (devices, a working set beyond the TLB) gets calls instead
        self.deopt_distance = 2000

    def limits(self, tier: int, *, calls: bool = False, window: bool = False) -> dict[str, object]:
        """Keywords of Limits. Registers are kept in the host's and written back at exits: a tenth faster than writing
        through, and no slower to compile."""
        return {"calls": calls, "lazy": True, "window": window}

    def passes(self, tier: int) -> str:
        """See Compiler.compile. Code generation is two thirds of the time of tier 1 whatever is left out of it; O2 measured no
        better than O1."""
        return "2+O1" if tier == 2 else "2+sroa+instruction_combine+simplify_cfg"

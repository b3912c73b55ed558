"""Guests that idle by polling: a loop that can do nothing but go round is recognised, and its CPU sleeps instead.

Some kernels have no instruction to sleep by (Linux on MicroBlaze) and poll a flag in memory.  From time to time, at a
backward branch or jump, a CPU that has run for a while is looked at:

    run ──slice used up──> look ─┬─ the loop is known and its proof holds ──────────> sleep, then as long as a tick takes
                                 ├─ the same registers twice within a few looks,
                                 │  with no trap in between ────────────────────────> prove, and go on meanwhile
                                 └─ neither ────────────────────────────────────────> a slice, and then one twice as long

The *proof* is an evaluator's run on a copy of the registers and an overlay of memory.  It ends well if it comes back to
where it began, while all that it read before it wrote it (registers, memory, code) is what it was, memory that it wrote
holds what it held, and it met no device, no clock, no counter, no trap and no reservation: then it would go round
like this for ever, and only an interrupt or somebody else's store can change that.  Memory that another CPU runs from counts as
memory that others may poll too, and proves nothing.  The proof is kept, with those for the loop's other places that follow
from it, and holds again wherever what it read is the same.
The CPU sleeps until something is asked of it, and only for a moment (core.cpu.thread), because devices may
write memory without an interrupt.

Everything here runs on the vCPU's thread, but for the proof, which takes milliseconds: a guest that measures how long its
loops take must not stand still for it.  It is a statement about registers and memory as it read them, whatever happens to
them while it is made, and holds where they are found like that.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from ratite.core.accel.base import RamRange
    from ratite.core.engine.idle_proof import Prover
    from ratite.core.isa.isa import Isa

# Instructions between looks: after sleep, within these bounds what timer ticks take as it turns out, so that one look is enough
# for most of them: a tick that took longer makes it a quarter longer, others a little shorter. And where slices stop to grow:
# at this much of the thread's time, in seconds (the looks in a row take some 500 us).
_SHORT, _SHORT_LEAST, _SHORT_MOST = 10_000, 2_000, 100_000
_LONG_S = 0.2
_LOOK_FROM = 4_000_000  # shorter slices end in a look only where a known loop is near
_LOOKS = 64  # places in a row at which registers are compared
_KEPT, _PLACES = 4, 1024  # proofs at one place, places
# Proving takes milliseconds of a thread: this many times as long passes before the next.
_REST_FAILED, _REST_PROVED, _REST_DISTURBED = 50, 10, 5
# Instructions between looks while a proof is made, whose end is told: coming out of native code the CPU would wait for the
# interpreter, which the proof has.
_PROVING = 4_000_000
_PACE_S, _DOZING = 0.5, 5_000_000  # seconds over which it is measured how fast a guest executes; instructions a second
_RESTING = 4_000_000  # and at the most until the next proof may be made


class Proof:
    """What must be as it was for a loop to go round for ever: (field, index, value) of registers, (host address, bytes) of
    memory.  ``places``: where the loop comes by."""

    __slots__ = ("_there", "_wanted", "lines", "memory", "places", "registers")

    def __init__(
        self, registers: Sequence[tuple[str, int, int]], memory: Sequence[tuple[int, bytes]], lines: int,
        places: frozenset[int],
    ) -> None:
        self.registers = registers
        self.memory = memory
        self._there = [(ctypes.c_char * len(data)).from_address(host) for host, data in memory]
        self._wanted = [data for _, data in memory]
        self.lines = lines
        self.places = places

    def holds(self, arrays: Mapping[str, Any], lines: int) -> bool:
        """Whether the CPU, which is where the proof began, goes round."""
        if lines != self.lines:
            return False
        for name, index, value in self.registers:  # no all(): asked at each tick, and this takes half as long
            if arrays[name][index] != value:
                return False
        return [there.raw for there in self._there] == self._wanted


class Watched(Protocol):
    """The CPU, outside of generated code."""

    def place(self) -> tuple[int, int]:
        """(pc, context)."""

    def registers(self) -> bytes:
        """All of them."""

    @property
    def arrays(self) -> Mapping[str, Any]:
        """By field."""

    def lines(self) -> int:
        """The input lines' levels."""

    def ranges(self) -> Sequence[RamRange]:
        """Its memory."""

    @property
    def traps(self) -> int:
        """How many it has taken."""

    def look_again(self) -> None:
        """Has it come out of native code soon; on any thread."""


def prepare(isa: Isa) -> None:
    """Makes what proves ready before a guest starts that will surely want it. Done beside the guest it holds up the ticks by
    which a Linux calibrates its delays, which then begins anew: a fifth of its boot, in the median."""
    from ratite.core.engine import idle_proof
    from ratite.core.isa import folder

    del idle_proof, folder
    isa.complete()


class IdleWatch:
    """Of one vCPU.  ``left``: instructions until the next look; the CPU's loop counts them down and calls ``look``, at once
    where it is ``told`` of a proof's end."""

    def __init__(self, isa: Isa, cpu: Watched) -> None:
        self.left = self._slice = _LOOK_FROM
        self.told = False
        self._short = _SHORT
        self._late = False  # the CPU was not in its loop yet when it was looked at
        self.proofs = 0  # so many were found
        self._isa = isa
        self._cpu = cpu
        self._prover: Prover | None = None
        self._known: dict[tuple[int, int], list[Proof]] = {}
        self._near: frozenset[int] = frozenset()  # where known loops come by
        # Registers by place, as of the last looks with no trap in between: an interrupt's handler leaves them as they were.
        self._seen: dict[tuple[int, int], bytes] = {}
        self._seen_traps = 0
        self._looks = 0  # how many are left of those in a row
        # Of the proof that is being made: where it began, and how many traps the CPU had taken.
        self._place, self._traps = (0, 0), 0
        self._proving: threading.Thread | None = None
        self._result: tuple[dict[tuple[int, int], Proof], float] | None = None  # what it found, seconds it took; its last act
        self._since = self._not_before = 0.0  # by the thread's clock
        if isa.polls:
            prepare(isa)
        # When, and how many instructions there were; how many a second.
        self._paced, self._pace = (time.monotonic(), 0), math.inf

    def forget(self) -> None:
        """The view of memory changed, or goes: nothing here looks at it any more."""
        if self._proving is not None:
            self._proving.join()
        self._proving = self._result = None
        self.told = False
        self._known.clear()
        self._near = frozenset()
        self._prover = None

    def dozes(self, executed: int) -> bool:
        """Whether the CPU, which has just napped and executed so many instructions so far, has had next to nothing to do:
        what a timer's ticks take."""
        then, before = self._paced
        now = time.monotonic()
        if now - then >= _PACE_S:
            self._paced, self._pace = (now, executed), (executed - before) / (now - then)
        return self._pace < _DOZING

    def look(self) -> bool:
        """Whether the CPU may sleep; the slice is used up."""
        self._take_result()
        cpu = self._cpu
        place = cpu.place()
        known = self._known.get(place)
        if known is not None:
            lines, arrays = cpu.lines(), cpu.arrays
            for proof in reversed(known):
                if proof.holds(arrays, lines):
                    return self._sleep()
        if self._proving is not None:
            self.left = _PROVING
            return False
        if time.thread_time() < self._not_before:
            self._rest()
            return False
        near = place[0] in self._near
        if not self._looks:
            if self._slice < _LOOK_FROM and not near:
                self._go_on()
                return False
            self._looks = _LOOKS
        self._looks -= 1
        if near and (known is None or self._pace >= _DOZING):
            # In a known loop, at another of its jumps: the next time that is to be enough. A guest that has nothing else to do
            # is, at one of those that are known, in its first round, before it has stored what it stores in each.
            proving = True
        else:
            registers = cpu.registers()
            if self._seen_traps != cpu.traps:
                self._seen.clear()
                self._seen_traps = cpu.traps
            proving = self._seen.get(place) == registers
            self._seen[place] = registers
        if proving:
            self._prove(place)
            self._seen.clear()
            self._looks = 0
            self.left = _PROVING
        elif self._looks:
            self.left = 1
        else:
            self._go_on()
        return False

    def _sleep(self) -> bool:
        self._seen.clear()
        self._looks = 0
        if self._late:
            self._short = min(self._short * 5 // 4, _SHORT_MOST)
        else:
            self._short = max(self._short * 31 // 32, _SHORT_LEAST)
        self._late = False
        self.left, self._slice = self._short, self._short // 8
        return True

    def _rest(self) -> None:
        """Nothing can be proved yet: no looks in a row, and the next not only after a long slice."""
        self._seen.clear()
        self._looks = 0
        self._late = True
        self._slice = max(self._slice, min(2 * self._slice, _RESTING))
        self.left = min(self._slice, _RESTING)

    def _go_on(self) -> None:
        self._seen.clear()
        self._looks = 0
        self._late = True
        now = time.thread_time()
        if now - self._since < _LONG_S:
            self._slice *= 2
        elif self._slice > _LOOK_FROM:
            self._slice //= 2
        self.left, self._since = self._slice, now

    def _prove(self, place: tuple[int, int]) -> None:
        """Begins a proof that the CPU, as it is now, goes round."""
        cpu = self._cpu
        arrays = {name: list(values) for name, values in cpu.arrays.items()}
        self._place, self._traps = place, cpu.traps
        self._proving = threading.Thread(
            target=self._work, args=(place, arrays, cpu.lines(), cpu.ranges()), name="idle-proof", daemon=True)
        self._proving.start()

    def _work(
        self, place: tuple[int, int], arrays: Mapping[str, Any], lines: int, ranges: Sequence[RamRange],
    ) -> None:
        """The proof's thread."""
        started = time.thread_time()
        proofs: dict[tuple[int, int], Proof] = {}
        try:
            if self._prover is None:
                from ratite.core.engine.idle_proof import Prover  # the evaluator, which most guests never need

                self._prover = Prover(self._isa, ranges)
            proof = self._prover.prove(*place, arrays, lines)
            if proof is not None:
                proofs = {**self._prover.around(), place: proof}
        finally:
            self._result = proofs, time.thread_time() - started
            self.told = True
            self._cpu.look_again()

    def _take_result(self) -> None:
        """What a proof that has ended came to."""
        self.told = False
        if self._result is None:
            return
        (proofs, seconds), self._proving, self._result = self._result, None, None
        if not proofs:
            # An interrupt meanwhile wrote what the proof read: that tells nothing.
            rest = _REST_FAILED if self._traps == self._cpu.traps else _REST_DISTURBED
        else:
            rest = _REST_PROVED
        self._not_before = time.thread_time() + seconds * rest
        if not proofs:
            return
        self.proofs += 1
        self._slice = self._short  # it may be in its loop no more, but comes back
        if len(self._known) + len(proofs) > _PLACES:
            self._known.clear()
            self._near = frozenset()
        for place, proof in proofs.items():
            rows = self._known.setdefault(place, [])
            rows.append(proof)
            del rows[:-_KEPT]
            self._near |= proof.places


def byte_order(isa: Isa) -> Literal["big", "little"]:
    """As `int.from_bytes` takes it."""
    return "big" if isa.big_endian else "little"

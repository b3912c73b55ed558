"""What a disk did, counted as `query-blockstats` shows it (BlockDeviceStats).

A request that was done counts with its bytes and the time it took; one that the host failed counts as failed, with the time;
one that could not be (beyond the end, say) as invalid.  One that is done again after the machine stood counts once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

READ, WRITE, FLUSH, UNMAP = "rd", "wr", "flush", "unmap"
_KINDS = (READ, WRITE, "zone_append", FLUSH, UNMAP)

#: what an operation of a request counts as
KIND_OF: Mapping[str, str] = MappingProxyType({
    "read": READ, "write": WRITE, "write-zeroes": WRITE, "flush": FLUSH, "discard": UNMAP,
})


class Account:
    """The counters of one disk; all of it under the machine lock."""

    __slots__ = ("_bytes", "_done", "_failed", "_invalid", "_last", "_time")

    def __init__(self) -> None:
        self._bytes = dict.fromkeys(_KINDS, 0)
        self._done = dict.fromkeys(_KINDS, 0)
        self._failed = dict.fromkeys(_KINDS, 0)
        self._invalid = dict.fromkeys(_KINDS, 0)
        self._time = dict.fromkeys(_KINDS, 0)
        self._last = 0  # when the last request ended

    @staticmethod
    def now() -> int:
        """Nanoseconds of the host's clock, for the start of a request."""
        return time.monotonic_ns()

    def done(self, kind: str, size: int, start: int) -> None:
        """A request that began at `start` was done."""
        self._last = self.now()
        self._bytes[kind] += 0 if kind == FLUSH else size
        self._done[kind] += 1
        self._time[kind] += self._last - start

    def failed(self, kind: str, start: int) -> None:
        """The host failed it, and the guest is told."""
        self._last = self.now()
        self._failed[kind] += 1
        self._time[kind] += self._last - start

    def invalid(self, kind: str) -> None:
        """It could not be."""
        self._last = self.now()
        self._invalid[kind] += 1

    def stats(self, wr_highest_offset: int) -> dict[str, Any]:
        """BlockDeviceStats."""
        found = stats_of_a_node(wr_highest_offset)
        for kind in _KINDS:
            if kind != FLUSH:
                found[f"{kind}_bytes"] = self._bytes[kind]
            found[f"{kind}_operations"] = self._done[kind]
            found[f"{kind}_total_time_ns"] = self._time[kind]
            found[f"failed_{kind}_operations"] = self._failed[kind]
            found[f"invalid_{kind}_operations"] = self._invalid[kind]
        found["account_invalid"] = found["account_failed"] = True
        if self._last:
            found["idle_time_ns"] = self.now() - self._last
        return found


def stats_of_a_node(wr_highest_offset: int) -> dict[str, Any]:
    """BlockDeviceStats of a node, which counts nothing else; requests are never merged."""
    found: dict[str, Any] = {"wr_highest_offset": wr_highest_offset, "timed_stats": []}
    for kind in _KINDS:
        names = [f"{kind}_operations", f"{kind}_total_time_ns", f"failed_{kind}_operations", f"invalid_{kind}_operations"]
        found |= dict.fromkeys(names if kind == FLUSH else [*names, f"{kind}_bytes", f"{kind}_merged"], 0)
    return {**found, "account_invalid": False, "account_failed": False}

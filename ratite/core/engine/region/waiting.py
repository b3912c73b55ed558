"""Places that wait to be compiled: which is the hottest now.

Arrivals at places that are hot already are counted by the CPU (``NativeVcpu.arrivals``), each in one of some counters that
places share. A place's *heat* is how many come there in a second, as of the last tenth of one. Where nobody comes any more,
what became hot last is first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.core.engine.region.records import Request

if TYPE_CHECKING:
    from ratite.core.engine.vcpu import NativeVcpu

_WORD = (1 << 32) - 1
_SPAN = 0.1  # seconds


class Waiting:
    """Requests of tier 1. Not thread-safe."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._seen: dict[NativeVcpu, array[int]] = {}
        self._heat: dict[NativeVcpu, list[float]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def append(self, request: Request) -> None:
        """``request`` is the newest."""
        self._requests.append(request)
        if request.cpu not in self._seen:
            self._seen[request.cpu] = request.cpu.arrivals()

    def keep(self, wanted: Callable[[Request], bool]) -> None:
        """Drops what is not ``wanted``, and what is known of CPUs that nothing waits for."""
        self._requests = [request for request in self._requests if wanted(request)]
        self._cpus()

    def _cpus(self) -> set[NativeVcpu]:
        """Those that something waits for; others are forgotten."""
        cpus = {request.cpu for request in self._requests}
        for known in (self._seen, self._heat):
            for cpu in known.keys() - cpus:
                del known[cpu]
        return cpus

    def count(self, seconds: float) -> None:
        """Reads the counters, as has been done ``seconds`` ago."""
        kept = max(0.0, 1 - seconds / _SPAN)
        each = (1 - kept) / seconds
        for cpu in self._cpus():
            now = cpu.arrivals()
            before = self._seen[cpu]
            heat = self._heat.get(cpu, [0.0] * len(now))
            self._heat[cpu] = [h * kept + (n - b & _WORD) * each for h, n, b in zip(heat, now, before, strict=True)]
            self._seen[cpu] = now

    def take(self, least: int = 0) -> Request | None:
        """The hottest, as of the last reading; None where none has a heat of ``least``."""
        best, most = -1, float(least)
        for k in range(len(self._requests) - 1, -1, -1):
            request = self._requests[k]
            heat = self._heat.get(request.cpu)
            here = heat[request.slot] if heat is not None else 0.0
            if here > most or (best < 0 and here == most):
                best, most = k, here
        return self._requests.pop(best) if best >= 0 else None

"""Places that wait to be compiled: which is the hottest now.

Arrivals at places that are hot already are counted by the CPU (``NativeVcpu.arrivals``), each in one of some counters that
places share. What counts is how many came since the last choice, and ever less those before; where nobody comes any more, what
became hot last is first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from ratite.core.engine.region.records import Request

if TYPE_CHECKING:
    from ratite.core.engine.vcpu import NativeVcpu

_FADING = 2  # what came before the last choice counts so many times less
_WORD = (1 << 32) - 1


class Waiting:
    """Requests of tier 1. Not thread-safe."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._seen: dict[NativeVcpu, array[int]] = {}
        self._heat: dict[NativeVcpu, list[int]] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def append(self, request: Request) -> None:
        """``request`` is the newest."""
        self._requests.append(request)

    def keep(self, wanted: Callable[[Request], bool]) -> None:
        """Drops what is not ``wanted``, and what is known of CPUs that nothing waits for."""
        self._requests = [request for request in self._requests if wanted(request)]
        left = {request.cpu for request in self._requests}
        for known in (self._seen, self._heat):
            for cpu in known.keys() - left:
                del known[cpu]

    def take(self, least: int = 0) -> Request | None:
        """The hottest; None where none has had ``least`` arrivals."""
        for cpu in {request.cpu for request in self._requests}:
            now = cpu.arrivals()
            before = self._seen.get(cpu, now)
            heat = self._heat.get(cpu, [0] * len(now))
            self._heat[cpu] = [h // _FADING + (n - b & _WORD) for h, n, b in zip(heat, now, before, strict=True)]
            self._seen[cpu] = now
        best, most = -1, least - 1
        for k in range(len(self._requests) - 1, -1, -1):
            request = self._requests[k]
            heat_here = self._heat[request.cpu][request.slot]
            if heat_here > most:
                best, most = k, heat_here
        return self._requests.pop(best) if best >= 0 else None

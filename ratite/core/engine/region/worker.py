"""A worker: forms regions and compiles them, in a process of its own because a fatal error of LLVM ends its process.

Run as ``python -P worker.py``; talks on stdin and stdout (see ``wire``). The first message says which ISA; each further one
asks for a region and is answered by one, after questions for further pages if need be.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.core.engine.region.form import Former, Region

_ADDRESS_SPACE = 4 << 30  # bytes; a region takes a small part


class _Page:
    """See form.PageView."""

    def __init__(self, head: dict[str, Any], blobs: list[bytes]) -> None:
        import array

        self.code = blobs[0]
        self.decoded = []
        for fresh, column in zip(head["fresh"], blobs[1:], strict=True):
            self.decoded.append(bytes(h != fresh for h in array.array("Q", column)))
        self.jumps: dict[int, list[int]] = head["jumps"]


class Worker:
    """The loop."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self._former: Former | None = None
        self._compiler: Any = None

    def exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = os.read(self.source, min(count, 1 << 20))
            if not part:
                sys.exit(0)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def run(self) -> None:
        from ratite.core.engine.region import wire

        while True:
            head, blobs = wire.read(self.exactly)
            if head["ask"] == "isa":
                self._begin(head)
            else:
                answer, body = self._region(head, blobs)
                self._send(wire.pack(answer, body))

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.sink, data):]

    def _begin(self, head: dict[str, Any]) -> None:
        from importlib import import_module

        from ratite.core.engine.region.compile import Compiler
        from ratite.core.engine.region.form import Former

        module, _, function = head["builder"].partition(":")
        isa = getattr(import_module(module), function)(head["config"])
        self._former = Former(isa, {name: k for k, name in enumerate(head["names"])})
        self._compiler = Compiler()

    def _page(self, number: int) -> _Page | None:
        from ratite.core.engine.region import wire

        self._send(wire.pack({"need": number}))
        head, blobs = wire.read(self.exactly)
        return _Page(head, blobs) if blobs else None

    def _region(self, head: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        from ratite.core.engine.region.policy import Limits

        assert self._former is not None
        first = _Page(head, blobs)
        started = time.perf_counter()
        region: Region | None = self._former.form(
            head["entry"], lambda number: self._page(number) if number else first, Limits(**head["limits"]),
            head["wanted"])
        if region is None:
            return {"none": "nothing was formed"}, []
        formed = time.perf_counter()
        body = self._compiler.compile(region.text, head["level"])
        return {
            "entries": region.entries, "pages": region.pages, "ranges": region.ranges, "count": region.count,
            "seconds": [formed - started, time.perf_counter() - formed]}, [body]


def _main() -> None:
    import ctypes
    import resource
    import signal

    if sys.platform != "linux":
        sys.exit("native code runs on Linux")
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with the daemon
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    sink = os.dup(1)
    os.dup2(2, 1)  # nothing but messages on the pipe
    Worker(0, sink).run()


if __name__ == "__main__":
    _main()

"""The parent's side of one worker: started when needed, asked one thing at a time, killed when it does not answer."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ratite.core.engine.native import NativeIsa
from ratite.core.engine.region import wire

if TYPE_CHECKING:
    import subprocess

Blobs = tuple[dict[str, Any], list[bytes]]


class WorkerFailed(Exception):
    """The worker died, hung or talked nonsense; the text says which."""


class Client:
    """One worker process for one ISA. Not thread-safe."""

    def __init__(self, native: NativeIsa) -> None:
        self._native = native
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = 0.0
        self._killed = False

    @property
    def running(self) -> bool:
        return self._process is not None

    def ask(self, head: Mapping[str, Any], blobs: list[bytes], more: Callable[[int], Blobs], seconds: float) -> Blobs:
        """The answer to one request; ``more`` gives further pages. Raises WorkerFailed, and the next request starts a new
        worker."""
        self._deadline = time.monotonic() + seconds
        try:
            if self._process is None:
                self._start()
            self._send(wire.pack(head, blobs))
            while True:
                answer, body = wire.read(self._exactly)
                if "need" not in answer:
                    return answer, body
                self._send(wire.pack(*more(int(answer["need"]))))
        except (OSError, ValueError, wire.Broken) as error:
            self.close()
            raise WorkerFailed(str(error)) from None

    def _start(self) -> None:
        # In our session: where Linux groups sessions to share its cores (autogroup), one of its own would take as much as all
        # CPUs together, however nice it is. A process group of its own: a terminal's signals are not for it.
        import subprocess

        file = os.path.join(os.path.dirname(__file__), "worker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", file, os.pathsep.join(p for p in sys.path if p)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, bufsize=0, process_group=0)
        if self._killed:  # meanwhile
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            if sys.platform != "win32":
                os.set_blocking(pipe.fileno(), False)
        native = self._native
        self._send(wire.pack({"ask": "isa", "builder": native.builder, "config": dict(native.config), "names": native.names}))

    def _wait(self, fd: int, *, write: bool) -> None:
        if sys.platform == "win32":
            raise wire.Broken("native code runs on Linux")
        left = self._deadline - time.monotonic()
        poller = select.poll()
        poller.register(fd, select.POLLOUT if write else select.POLLIN)
        if left <= 0 or not poller.poll(left * 1000):
            raise wire.Broken("no answer in time")

    def _send(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        fd = self._process.stdin.fileno()
        view = memoryview(data)
        while view:
            self._wait(fd, write=True)
            view = view[os.write(fd, view[:1 << 16]):]

    def _exactly(self, count: int) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        fd = self._process.stdout.fileno()
        parts = []
        while count:
            self._wait(fd, write=False)
            part = os.read(fd, min(count, 1 << 20))
            if not part:
                raise wire.Broken("it ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def kill(self) -> None:
        """Makes ``ask`` fail soon, and whatever is asked later; from any thread."""
        self._killed = True
        self.interrupt()

    def interrupt(self) -> None:
        """Makes the ``ask`` under way fail soon; from any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Ends the worker."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

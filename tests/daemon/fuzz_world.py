"""A daemon with a machine in this process, for inputs by the million: real sessions, dispatcher, loop and owner thread.

    World(KINDS[n]) ──monitor(view)──> FuzzMonitor ──ask(bytes, fds)──> every answer, once nothing is under way any more

What its machine may touch of the host is one temporary folder; programs, networks and terminals are not permitted.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ratite.core.hostfiles import ConfinedFiles, Root
from ratite.core.log import taken_by
from ratite.daemon import commands
from ratite.daemon.daemon import Daemon
from ratite.daemon.loop import EventLoop
from ratite.daemon.options import parse
from ratite.daemon.qmp.monitor import Monitor
from ratite.daemon.qmp.session import READY, Session
from ratite.daemon.views import QEMU, RATITE, View, Views

# So many seconds after which an answer is lost; those in which the whole process had no turn don't count.
PATIENCE = 60
RAM_LIMIT = 96 << 20

Command = tuple[str, dict[str, Any]]


def _cluster(target: str, cpu: str, at: int, **more: Any) -> list[Command]:
    return [
        ("object-add", {"qom-type": "address-space", "id": f"{target}-view"}),
        ("map-region", {"space": f"{target}-view", "region": "ram", "offset": at}),
        ("object-add", {"qom-type": "cpu-cluster", "id": target, "target": target, "address-space": f"{target}-view",
                        "accel": "interp"}),
        ("device_add", {"driver": cpu, "id": f"{target}-cpu", "cluster": target, **more}),
    ]  # fmt: skip


RAM: list[Command] = [("machine-create", {}), ("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20})]
ONE = _cluster("riscv64", "rv64-riscv-cpu", 0x80000000, **{"image-raw": "t/sleep", "image-addr": 0x80000000})
OTHER = _cluster("microblaze", "microblaze-cpu", 0, **{"start-powered-off": True})
AROUND: list[Command] = [
    ("chardev-add", {"id": "con", "backend": {"type": "ringbuf", "data": {"size": 4096}}}),
    ("chardev-add", {"id": "void", "backend": {"type": "null", "data": {}}}),
    ("device_add", {"driver": "ns16550", "id": "uart", "chardev": "con"}),
    ("map-region", {"space": "riscv64-view", "region": "uart/regs", "offset": 0x10000000}),
    ("wire-irq", {"from": "uart", "output": "irq", "to": "riscv64-cpu", "input": "meip"}),
    ("blockdev-add", {"driver": "file", "node-name": "disk", "filename": "t/disk"}),
    ("device_add", {"driver": "irq-source", "id": "source"}),
]  # fmt: skip

# What was done before the fuzzing begins.  The guest sleeps: an evaluator that computes would only slow down the rest.
KINDS: dict[str, list[Command]] = {
    "none": [],
    "created": RAM + ONE + OTHER + AROUND,
    "initialized": RAM + ONE + AROUND + [("machine-wire", {})],
    "paused": RAM + ONE + OTHER + AROUND + [("x-exit-preconfig", {}), ("stop", {})],
    "running": RAM + ONE + OTHER + AROUND + [("x-exit-preconfig", {})],
}
VIEWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (RATITE, ()), (RATITE, ("riscv64",)), (RATITE, ("microblaze", "riscv64")), (QEMU, ("riscv64",)), (QEMU, ("microblaze",)),
)  # fmt: skip


class Said:
    """A log that remembers what went wrong inside, and takes the core's nowhere."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        """Nothing to remember."""

    debug = warning = info

    def error(self, event: str, **fields: Any) -> None:
        """A fault of ours."""
        self.errors.append(f"{event} {fields}")

    def callback_failed(self, error: Exception) -> None:
        """A callback of the loop raised it."""
        self.error("a callback failed inside", exc_info=error)

    def take_core(self) -> None:
        """The core says what it says to Python's logging, whoever had its lines before."""
        taken_by(None)


class FuzzMonitor(Monitor):
    """A monitor whose client takes everything at once."""

    def __init__(self, world: World, view: View, oob: bool) -> None:
        daemon = world.daemon
        super().__init__(daemon.new_session(), world.loop, daemon.log, daemon.execute, daemon.closed)
        self.lines: list[bytes] = []
        self._world = world
        self._more = False
        daemon.serve(self)
        enable = ["oob"] if oob else []
        self.session.receive(json.dumps({"execute": "qmp_capabilities", "arguments": {"enable": enable}}).encode())
        self.pump()
        assert self.session.state == READY
        self.session.pinned = "riscv64" if view.personality == RATITE and view.targets else None
        daemon.select_view(self.session, view)
        self.lines.clear()

    @property
    def open(self) -> bool:
        """Whether it still serves."""
        return not self._over

    def _send(self, data: memoryview) -> int:
        self.lines.append(bytes(data))
        return len(data)

    def _watch(self, read: bool, write: bool) -> None:
        if self.session.idle or (read and self._more):
            self._world.loop.stop()

    def _shut(self) -> None:
        self._world.loop.stop()

    def ask(self, data: bytes, fds: tuple[int, ...] = ()) -> list[Any]:
        """The answers to `data`, without events; AssertionError if one doesn't come."""
        return self.exchange([data], fds)

    def exchange(self, pieces: Sequence[bytes], fds: tuple[int, ...] = ()) -> list[Any]:
        """The answers to all pieces, each given as soon as the session would read it, descriptors with the first."""
        session = self.session
        for number, piece in enumerate(pieces):
            if self.closing:
                # Nothing is read any more, and what nobody has read is the kernel's to close.
                for fd in fds:
                    os.close(fd)
                break
            self.received(piece, fds)
            fds = ()
            self._more = number + 1 < len(pieces)
            while not (session.idle or (self._more and session.wants_input) or self._over):
                self._world.run(piece)
        text, self.lines = b"".join(self.lines), []
        assert not text or text.endswith(b"\r\n")
        answers = [json.loads(line) for line in text.split(b"\r\n")[:-1]]
        return [answer for answer in answers if "event" not in answer]


class _Patience:
    """Gives a world up after PATIENCE seconds, unless cancelled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._left = PATIENCE
        self._wait()

    def _wait(self) -> None:
        self._timer = self._world.loop.call_later(1, self._tick)

    def _tick(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._world.give_up()
        else:
            self._wait()

    def cancel(self) -> None:
        """What was waited for has come."""
        self._timer.cancel()


class World:
    """A daemon with a machine of a kind; the commands that made it were executed, or it is an AssertionError."""

    def __init__(self, kind: str, views: Views | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ratite-fuzz-")
        folder = Path(self._folder.name)
        (folder / "sleep").write_bytes(bytes.fromhex("730050106ff0dfff"))  # wfi; j .-4
        (folder / "disk").write_bytes(bytes(1 << 16))
        self.kind = kind
        self.log = Said()
        self.loop = EventLoop(self.log.callback_failed)
        self.over = False
        self.lost = False
        root = Root("t", str(folder), True, os.open(folder, os.O_PATH | os.O_DIRECTORY))
        self._root_fd = root.fd
        options = parse(["--qmp", "unix:/nowhere"])
        self.daemon = Daemon(
            options, self.loop, self.log, [], commands.MODULES, ended=self._ended,  # type: ignore[arg-type]
            files=ConfinedFiles([root], ()), limits={"ram": RAM_LIMIT, "vcpus": 4},
        )  # fmt: skip
        if views is not None:
            # The tables of views take longer to make than the rest, and are the same for all.
            self.daemon.views = views
        first = self.monitor((RATITE, ()), False)
        for name, arguments in KINDS[kind]:
            (answer,) = first.ask(json.dumps({"execute": name, "arguments": arguments}).encode())
            assert "return" in answer, (name, arguments, answer)
        first.close()

    def monitor(self, view: tuple[str, tuple[str, ...]], oob: bool) -> FuzzMonitor:
        """One more."""
        return FuzzMonitor(self, self.daemon.views.get(*view), oob)

    def sessions(self) -> list[Session]:
        """Of all monitors that there are."""
        return [monitor.session for monitor in self.daemon._connections]

    def daemon_monitor(self, number: int) -> Monitor:
        """One of all, the oldest first."""
        return list(self.daemon._connections)[number]

    def step(self) -> None:
        """One turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def run(self, data: bytes) -> None:
        """The loop turns until something stops it; AssertionError if that is no answer to `data`, but time."""
        lost = _Patience(self)
        self.loop.run_forever()
        assert not self.lost, f"no answer to {data[:300]!r}"
        lost.cancel()

    def until(self, there: Callable[[], bool]) -> None:
        """The loop turns until something is so; AssertionError if it never is."""
        lost = _Patience(self)
        while not there():
            self.step()
            assert not self.lost
        lost.cancel()

    def give_up(self) -> None:
        """An answer is lost."""
        self.lost = True
        self.loop.stop()

    def _ended(self) -> None:
        self.over = True
        self.loop.stop()

    @property
    def ending(self) -> bool:
        """Whether a command has ended it."""
        return self.daemon.ending

    def close(self) -> None:
        """End the daemon as a client would, and leave nothing."""
        self.daemon.shutdown("host-qmp-quit")
        lost = _Patience(self)
        while not self.over and not self.lost:
            self.loop.run_forever()
        lost.cancel()
        self.loop.close()
        os.close(self._root_fd)
        self._folder.cleanup()
        assert not self.lost, "the daemon doesn't end"

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Clients that flood, come and go, cut characters in two, or are killed in the midst of whichever command."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from daemon_kit import CAPABILITIES, Raw
from fuzz_arguments import WORKS, Arguments
from fuzz_world import VIEWS, FuzzMonitor, World

from ratite.clients.qmp import DaemonProcess
from ratite.daemon.qmp.address import open_endpoint
from ratite.daemon.qmp.session import OUTPUT_LIMIT, READY
from ratite.daemon.views import RATITE

SCHEMAS = 300


def private_memory(pid: int) -> int:
    """Bytes that are a process's alone."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) << 10


@pytest.mark.parametrize("personality", ["ratite", "qemu"])
def test_300_schemas_that_nobody_reads(daemon: DaemonProcess, path: str, personality: str) -> None:
    select = {"execute": "view-select", "arguments": {"personality": personality}}
    with Raw(path) as good, Raw(path) as bad:
        for raw in (good, bad):
            raw.ask(select)
        size = len(json.dumps(good.ask(b'{"execute":"query-qmp-schema"}')))
        before = private_memory(daemon.process.pid)
        bad.send(b"".join(b'{"execute":"query-qmp-schema","id":%d}\n' % number for number in range(SCHEMAS)))
        for number in range(500):
            assert good.ask(b'{"execute":"query-status","id":%d}' % number)["id"] == number
        # Its 300 answers would be some ten times that, those of QEMU's whole schema fifty times.
        assert private_memory(daemon.process.pid) - before < 3 * max(OUTPUT_LIMIT, size)
        assert [bad.line()["id"] for _ in range(SCHEMAS)] == list(range(SCHEMAS))


def test_a_thousand_connections_come_and_go(daemon: DaemonProcess, path: str) -> None:
    fds = Path(f"/proc/{daemon.process.pid}/fd")
    with Raw(path) as good:
        before = len(list(fds.iterdir()))
        for number in range(1000):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                if number % 3:
                    sock.sendall((CAPABILITIES, b'{"execute":"query-qmp-schema"}')[number % 2])
                if number % 100 == 0:
                    assert good.ask(b'{"execute":"query-status"}')["return"]["status"] == "prelaunch"
            if number == 200:
                held = private_memory(daemon.process.pid)
        while len(list(fds.iterdir())) > before:
            assert "return" in good.ask(b'{"execute":"query-status"}')
        assert daemon.process.poll() is None
        assert private_memory(daemon.process.pid) - held < 2 << 20  # 2.6 KiB a connection


def test_characters_cut_in_two_between_packets(daemon: DaemonProcess, path: str) -> None:
    text = "h\u00e9llo \u2603 \U0001f600"
    whole = json.dumps({"execute": "query-name", "id": text}, ensure_ascii=False).encode()
    with Raw(path) as first, Raw(path) as second:
        for cut in range(1, len(whole)):
            first.send(whole[:cut])
            # The other half of the character comes after others' bytes.
            assert second.ask(b'{"execute":"query-name","id":%d}' % cut)["id"] == cut
            assert first.ask(whole[cut:]) == {"return": {}, "id": text}
        # A character that is never finished spoils its own string alone.
        first.send('{"execute":"query-name","id":"\u2603'.encode()[:-1])
        second.ask(b'{"execute":"query-name"}')
        assert first.ask(b'"}')["error"]["desc"] == "JSON parse error, invalid UTF-8 sequence in string"
        assert first.ask(whole)["id"] == text


# ---------------------------------------------------------------- killed in the midst of a command


class Victims:
    """Processes that are killed by their ids while the world is in the midst of what they asked."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        path, fifo = str(folder / "qmp"), str(folder / "fifo")
        os.mkfifo(fifo)
        self._passed = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        world.daemon.open([open_endpoint(f"unix:{path}")])
        program = [sys.executable, "-IS", str(Path(__file__).parent / "victims.py"), path, fifo]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()
        os.close(self._passed)

    def die(self, data: bytes, late: bool) -> None:
        """One connects, sends `data` with a descriptor, and is killed before that is read, or (`late`) after."""
        process, world = self._process, self._world
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write((CAPABILITIES + data).hex().encode() + b"\n")
        before = len(world.sessions())
        pid = int(process.stdout.readline())
        world.until(lambda: len(world.sessions()) > before)
        process.stdin.write(b"!")
        assert process.stdout.readline() == b"sent\n"
        if late:
            world.until(lambda: world.sessions()[-1].state == READY)
        gone = weakref.ref(world.daemon_monitor(-1))
        os.kill(pid, signal.SIGKILL)
        assert process.stdout.readline() == b"dead\n"
        world.until(lambda: len(world.sessions()) <= before)
        # What it asked may take the machine a while yet.
        world.until(lambda: gone() is None)

    @property
    def holds_descriptor(self) -> bool:
        """Whether anybody has the descriptor that the last one passed."""
        try:
            return os.read(self._passed, 1) != b""
        except BlockingIOError:
            return True


def _commands(monitor: FuzzMonitor) -> list[tuple[str, bytes]]:
    """Every command of a view, with arguments that fit its schema: its name and the message."""
    rng, made = random.Random(1), Arguments(monitor.session.view)
    works = [{"execute": name, "arguments": arguments} for name, arguments in WORKS if name in made.names]
    # Two are left out: one that ends the daemon, and one by which a reset would.
    names = sorted(set(made.names) - {"quit", "set-action"})
    made_up = [{"execute": name, "arguments": made.make(rng.random, name)} for name in names]
    return [(message["execute"], json.dumps(message).encode()) for message in works + made_up]


@pytest.mark.parametrize("kind", ["none", "created", "running"])
@pytest.mark.parametrize("view", [VIEWS[1], VIEWS[3]], ids=["ratite", "qemu"])
def test_killed_in_the_midst_of_each_command(kind: str, view: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    threads, fds = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with World(kind) as world, Victims(world, tmp_path) as victims:
        good, owner = world.monitor(view, False), world.monitor((RATITE, ()), False)
        for number, (name, data) in enumerate(_commands(good)):
            for piece, late in ((data[: len(data) // 2], number % 2 == 0), (data, False), (data, True)):
                victims.die(piece, late)
                (answer,) = good.ask(b'{"execute":"query-status","id":1}')
                assert answer["id"] == 1 and "return" in answer, (piece, answer)
                (answer,) = good.ask(b'{"execute":"qom-list","arguments":{"path":"/"},"id":2}')
                assert answer["id"] == 2, (piece, answer)
                if name == "add-fd" and piece is data:
                    for row in owner.ask(b'{"execute":"query-fdsets"}')[0]["return"]:
                        owner.ask(json.dumps({"execute": "remove-fd", "arguments": {"fdset-id": row["fdset-id"]}}).encode())
                assert not victims.holds_descriptor, piece
        assert not world.log.errors, world.log.errors
        assert not world.ending
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
        assert not thread.is_alive(), thread
    assert len(os.listdir("/proc/self/fd")) <= fds

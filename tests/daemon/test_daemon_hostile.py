"""Clients that flood, come and go, cut characters in two, or are killed in the midst of whichever command."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from pathlib import Path

import pytest
from daemon_kit import CAPABILITIES, Raw
from fuzz_arguments import WORKS, Arguments
from fuzz_world import VIEWS, FuzzMonitor, World

from ratite.clients.qmp import DaemonProcess
from ratite.daemon.qmp.session import OUTPUT_LIMIT

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
        while len(list(fds.iterdir())) > before:
            assert "return" in good.ask(b'{"execute":"query-status"}')
        assert daemon.process.poll() is None


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
    """Clients of a world whose socket ends as that of a killed process: at once, with whatever wasn't read."""

    def __init__(self, world: World) -> None:
        self._world = world

    def die(self, data: bytes, reads: bool) -> None:
        """One connects, sends `data`, and is gone: before it has read anything, or as soon as something came."""
        ours, theirs = socket.socketpair()
        ours.sendall(CAPABILITIES + data)
        before = len(self._world.sessions())
        self._world.daemon.add_monitor(theirs)
        if reads:
            self._world.step()
        ours.close()
        self._world.until(lambda: len(self._world.sessions()) <= before)


def _commands(monitor: FuzzMonitor) -> list[bytes]:
    """Every command of a view, with arguments that fit its schema."""
    rng, made = random.Random(1), Arguments(monitor.session.view)
    works = [{"execute": name, "arguments": arguments} for name, arguments in WORKS if name in made.names]
    # Two are left out: one that ends the daemon, and one by which a reset would.
    names = sorted(set(made.names) - {"quit", "set-action"})
    made_up = [{"execute": name, "arguments": made.make(rng.random, name)} for name in names]
    return [json.dumps(message).encode() for message in works + made_up]


@pytest.mark.parametrize("kind", ["none", "created", "running"])
@pytest.mark.parametrize("view", [VIEWS[1], VIEWS[3]], ids=["ratite", "qemu"])
def test_killed_in_the_midst_of_each_command(kind: str, view: tuple[str, tuple[str, ...]]) -> None:
    threads, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with World(kind) as world:
        good, victims = world.monitor(view, False), Victims(world)
        for data in _commands(good):
            for piece in (data[: len(data) // 2], data):
                for reads in (False, True):
                    victims.die(piece, reads)
                    (answer,) = good.ask(b'{"execute":"query-status","id":1}')
                    assert answer["id"] == 1 and "return" in answer, (piece, answer)
        assert not world.log.errors, world.log.errors
        assert not world.ending
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        if threading.active_count() > threads:
            thread.join(5)
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= fds

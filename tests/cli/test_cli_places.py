"""The register of machines that run: what is dead, busy, cut off at its start, or taken by somebody else meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import mistake, ratite

from ratite.clients.cli import kit, places


def test_what_a_dead_machine_left_is_cleared(runtime: Path) -> None:
    folder = places.claim("dead")
    places.write_record(folder, {"name": "dead", "pid": 1, "source": "", "created": 0})
    assert places.local() == [] and not folder.exists()
    folder = places.claim("dead")
    assert places.alive(folder) and places.local() == []  # it is being started, by this process
    places.forget(folder, started=True)
    assert not folder.exists(), "who started it has given up"


def _crowd(path: Path) -> list[socket.socket]:
    """As many connections as the kernel keeps for a socket whose owner accepts none."""
    found: list[socket.socket] = []
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        found.append(sock)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return found


def test_who_has_no_wish_gets_a_name_that_is_free(background: str) -> None:
    """Somebody else has taken it since it was found to be free."""
    folder = places.claim(background, wished=False)
    try:
        assert folder.name == f"{background}-2"
        with pytest.raises(kit.Mistake, match="runs already"):
            places.claim(folder.name)
    finally:
        places.forget(folder, started=True)
    assert not folder.exists()


def test_a_daemon_that_accepts_nobody_is_not_forgotten(background: str) -> None:
    """One that is stopped, or busy for long, while many have asked."""
    machine = places.find(background)
    assert machine.folder is not None
    os.kill(machine.record["pid"], signal.SIGSTOP)
    crowd = _crowd(machine.folder / "qmp.sock")
    try:
        assert [row.name for row in places.local()] == [background]
        with pytest.raises(kit.Mistake, match="does not greet"):
            machine.connect(0.1)
        mistake(ratite("run", "riscv-virt/minimal", "--name", background), "runs already")
        done = ratite("stop", background, "--timeout", "0.2")
        assert done.returncode == 0, done.stderr
    finally:
        for sock in crowd:
            sock.close()
    assert not machine.folder.exists()


def test_a_daemon_whose_starter_was_killed_can_be_seen_and_stopped(background: str) -> None:
    machine = places.find(background)
    assert machine.folder is not None
    (machine.folder / "machine.json").unlink()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (machine.folder / "starting").write_text(f"{gone.pid} 1")
    (row,) = json.loads(ratite("ps", "--json").stdout)
    assert (row["name"], row["pid"], row["status"]) == (background, machine.record["pid"], "running")
    assert ratite("stop", background, "--force").returncode == 0
    assert places.local() == []


def test_a_process_that_got_the_pid_later_is_no_starter(runtime: Path) -> None:
    folder = places.claim("dead")
    pid, born = (folder / "starting").read_text().split()
    (folder / "starting").write_text(f"{pid} {int(born) - 1}")
    assert not places.alive(folder)
    assert places.claim("dead") == folder, "the name is free again"


def test_a_name_that_was_taken_meanwhile_stays(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One `ratite` finds a machine dead; before it removes that, another has taken its name."""
    folder = places.claim("name")
    (folder / "starting").write_text("1 1")
    real = places.alive

    def before_the_other(place: Path) -> bool:
        monkeypatch.setattr(places, "alive", real)
        found = real(place)
        assert places.claim("name") == place
        return found

    monkeypatch.setattr(places, "alive", before_the_other)
    assert places.local() == []
    assert folder.exists()
    assert real(folder)


def test_two_take_one_name(runtime: Path) -> None:
    code = "import sys; from ratite.clients.cli import places; places.claim('one'); print(flush=True); sys.stdin.read()"
    two = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in "ab"
    ]
    said = []
    for process in two:
        assert process.stdout is not None
        said.append(process.stdout.readline())
    for process in two:
        process.communicate()
    assert sorted(said) == [b"", b"\n"], "one of them"

"""Form, negotiation, limits and order over the real socket; wire_cases has the table of errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import Raw

from ratite.clients.qmp import DaemonProcess

GENERIC, NOT_FOUND = "GenericError", "CommandNotFound"


@pytest.fixture(scope="module")
def machine(shared: str) -> str:
    """A daemon with a machine that was realized and is stopped; QEMU's `-S`."""
    with Raw(shared) as raw:
        for name in ("machine-create", "x-exit-preconfig", "stop"):
            assert raw.ask({"execute": name}) == {"return": {}}
    return shared


def test_wire_form(machine: str) -> None:
    with Raw(machine) as raw:
        raw.send(b"""{'execute':'query-name','id':["\\u00e9\\ud83d\\ude00", 0.1, 18446744073709551615, 1e3]}""")
        raw.line()
        raw.sock.sendall(b"""{'execute':'query-name','id':["\\u00e9\\ud83d\\ude00", 0.1, 18446744073709551615, 1e3]}""")
        data = raw.sock.recv(1000)
    assert data == b'{"return":{},"id":["\\u00E9\\uD83D\\uDE00",0.10000000000000001,18446744073709551615,1000]}\r\n'


def test_greeting_and_negotiation(machine: str) -> None:
    with Raw(machine, negotiate=False) as raw:
        assert raw.greeting["QMP"]["capabilities"] == ["oob"]
        version = raw.greeting["QMP"]["version"]
        assert version["qemu"]["major"] == 10
        assert version["package"].startswith("ratite ")
        expecting = {"class": NOT_FOUND, "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}
        assert raw.ask(b'{"execute":"query-status","id":1}') == {"id": 1, "error": expecting}
        assert raw.ask(b'{"execute":"nope"}') == {"error": expecting}
        for enable, desc in [
            (["xyz"], "Parameter 'null' does not accept value 'xyz'"),
            ("oob", "Invalid parameter type for 'enable', expected: array"),
        ]:
            answer = raw.ask({"execute": "qmp_capabilities", "arguments": {"enable": enable}})
            assert answer == {"error": {"class": GENERIC, "desc": desc}}
            assert raw.ask(b'{"execute":"query-status"}') == {"error": expecting}
        assert raw.ask(b'{"exec-oob":"query-status"}')["error"]["desc"] == "QMP input member 'exec-oob' is unexpected"
        assert raw.ask(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}') == {"return": {}}
        assert "return" in raw.ask(b'{"execute":"query-status"}')
    with Raw(machine, negotiate=False) as raw:
        assert raw.ask(b'{"execute":"query-status"}') == {"error": expecting}


@pytest.mark.parametrize("depth", [1022, 1023, 1024, 1025])
def test_nesting(machine: str, depth: int, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(4000)
    with Raw(machine) as raw:
        answer = raw.ask(b'{"execute":"query-name","id":' + b"[" * depth + b"]" * depth + b"}")
        assert ("return" in answer) == (depth < 1024)
        if depth >= 1024:
            assert answer["error"]["desc"] == "JSON nesting depth limit exceeded"
        assert raw.all() == []


@pytest.mark.parametrize("depth", [1024, 1025, 1026, 5000])
def test_garbage_past_the_nesting_limit_silences_nobody(machine: str, depth: int) -> None:
    with Raw(machine) as raw:
        raw.send(b"[" * depth)
        raw.send(b"\xff" if depth == 1024 else b"\n")
        raw.send(b'{"execute":"query-name","id":1}\n')
        limit, answer = raw.line(), raw.line()
        assert "error" in limit
        assert answer == {"return": {}, "id": 1}
        assert raw.all() == []


def test_byte_at_a_time_and_back_to_back(machine: str) -> None:
    with Raw(machine) as raw:
        for byte in b'{"execute":\n"query-name"}':
            raw.send(bytes([byte]))
        assert raw.line() == {"return": {}}
        raw.send(b'{"execute":"query-name","id":1}{"execute":"query-name","id":2}')
        assert [raw.line()["id"], raw.line()["id"]] == [1, 2]


# ---------------------------------------------------------------- against QEMU

PEER = shutil.which("qemu-system-riscv64")


def _stripped(message: dict[str, Any]) -> dict[str, Any]:
    message.pop("timestamp", None)
    if isinstance(message.get("return"), dict):
        message["return"].pop("singlestep", None)
    return message


_SEQUENCE = b"".join(
    b'{"execute":"%s","id":"%s"}' % (name, name)
    for name in (b"cont", b"cont", b"query-status", b"system_reset", b"stop", b"stop", b"query-status", b"system_reset",
                 b"query-status", b"x-exit-preconfig", b"cont", b"quit")
)  # fmt: skip


@pytest.mark.peer
def test_peer_sends_the_same_events_in_the_same_places(tmp_path: Path) -> None:
    if PEER is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    theirs, ours = str(tmp_path / "theirs"), str(tmp_path / "ours")
    command = [PEER, "-M", "none", "-S", "-display", "none", "-qmp", f"unix:{theirs},server=on,wait=off"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    answers = []
    with DaemonProcess(ours, "-S") as daemon:
        with daemon.client() as qmp:
            qmp.execute("machine-create")
            qmp.execute("x-exit-preconfig")
        while not Path(theirs).exists():
            time.sleep(0.01)
        time.sleep(0.1)
        for place in (theirs, ours):
            with Raw(place) as raw:
                raw.send(_SEQUENCE)
                lines = []
                while not lines or lines[-1].get("id") != "quit":
                    lines.append(_stripped(raw.line()))
                answers.append(lines)
    assert process.wait(60) == 0
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("part", "count", "desc"),
    [
        (b"a" * (1 << 20), 65, "JSON token size limit exceeded"),
        pytest.param(b'",' + b"1," * (1 << 19), 5, "JSON token count limit exceeded", marks=pytest.mark.soak),
    ],
)
def test_token_limits(machine: str, part: bytes, count: int, desc: str) -> None:
    with Raw(machine) as raw, Raw(machine) as other:
        raw.send(b'{"execute":"query-name","id":["')
        for number in range(count):
            raw.send(part if number == 0 else part.removeprefix(b'",'))
            assert "return" in other.ask(b'{"execute":"query-name"}')
        raw.send(b"1]}" if part.startswith(b'"') else b'"]}')
        assert raw.all() == [{"error": {"class": GENERIC, "desc": desc}}]

"""The wire grammar and the argument errors against a QEMU that is installed here.

Differences that are meant: a number no double holds, an exponent after a bare 0, and negative numbers for
unsigned arguments.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ratite.qapi.errors import QmpError
from ratite.qapi.resolved import ResolvedSchema
from ratite.qapi.tables import Tables
from ratite.qapi.wire import JsonStream

PEER = "qemu-system-riscv64"
OBSERVED = json.loads((Path(__file__).parent / "data" / "wire-observed.json").read_text())

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which(PEER) is None, reason=f"{PEER} is not installed"),
]


class Peer:
    """A QEMU without a machine, its monitor on a pipe."""

    def __init__(self) -> None:
        command = [PEER, "-M", "none", "-nodefaults", "-nographic", "-qmp", "stdio"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._pending = b""
        self._asked = 0
        self._line()
        self._send(b'{"execute": "qmp_capabilities"}')
        self._line()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + 10
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise AssertionError(f"{PEER} did not answer, it said {self._pending!r}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def ask(self, data: bytes) -> list[str]:
        """The errors to what is sent and a flush; "value" for anything that was no parse error."""
        self._asked += 1
        mark = f"mark-{self._asked}".encode()
        self._send(data + b'\xff{"execute": "query-name", "id": "' + mark + b'"}')
        answers: list[str] = []
        while mark not in (line := self._line()):
            try:
                desc = json.loads(line).get("error", {}).get("desc", "")
            except ValueError:
                desc = ""
            answers.append(desc if desc.startswith("JSON") else "value")
        return answers

    def call(self, command: str, arguments: dict[str, Any]) -> str:
        """The error of a command, "" if it went well."""
        self._send(json.dumps({"execute": command, "arguments": arguments}).encode())
        desc = json.loads(self._line()).get("error", {}).get("desc", "")
        assert isinstance(desc, str)
        return desc


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def ours(data: bytes) -> list[str]:
    items = JsonStream().feed(data + b"\xff{}")
    return [item.desc if isinstance(item, QmpError) else "value" for item in items[:-1]]


def test_the_observations_hold(peer: Peer) -> None:
    for text, _, _ in OBSERVED:
        data = text.encode("latin-1")
        assert ours(data) == peer.ask(data), data


PIECES = [
    b"{", b"}", b"[", b"]", b":", b",", b" ", b"\n", b'"', b"'", b"\\", b'"a"', b"'b'", b'"\\u00e9"', b'"\\ud83d"',
    b"0", b"12", b"-", b"1.5", b"e9", b"-0.", b"true", b"null", b"x", b"A", b"@", b"\xff", b"\x01", b"\t", b"\xc3\xa9",
    b"\xc3", b'{"a":1}', b'"a":', b"[1,2]", b"\\u12", b"\\n",
]  # fmt: skip


def test_random_input(peer: Peer) -> None:
    source = random.Random(20)
    for _ in range(1500):
        data = b"".join(source.choice(PIECES) for _ in range(source.randrange(1, 12)))
        if re.search(rb"(^|[^0-9.])-?0e", data):
            continue
        assert ours(data) == peer.ask(data), data


ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("query-name", {"b": 1, "a": 2}),
    ("human-monitor-command", {}),
    ("human-monitor-command", {"command-line": 5, "zz": 1}),
    ("human-monitor-command", {"command-line": "info", "cpu-index": "x"}),
    ("human-monitor-command", {"command-line": "info", "cpu-index": 1.5}),
    ("human-monitor-command", {"command-line": "info", "cpu-index": 1 << 63}),
    ("human-monitor-command", {"command-line": "info", "zz": None}),
    ("migrate-set-capabilities", {"capabilities": {}}),
    ("migrate-set-capabilities", {"capabilities": [5]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle"}]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "zz", "state": True}]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": 1}]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": True, "zz": 1}]}),
    ("migrate-set-parameters", {"compress-level": 300}),
    ("migrate-set-parameters", {"compress-level": "x"}),
    ("migrate-set-parameters", {"compress-level": 1.5}),
    ("migrate-set-parameters", {"x-checkpoint-delay": 1 << 32}),
    ("migrate-set-parameters", {"announce-initial": "x"}),
    ("migrate-set-parameters", {"tls-creds": 5}),
    ("migrate-set-parameters", {"zz": 1}),
]


def member(name: str, type_name: str, optional: bool = True) -> dict[str, Any]:
    return {"name": name, "type": type_name, **({"optional": True} if optional else {})}


def struct(name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"meta": "struct", "name": name, "members": list(members)}


def peers_commands() -> Tables:
    """As much of the peer's schema as the cases need."""
    alternate = [{"name": "s", "type": "str"}, {"name": "n", "type": "null"}]
    definitions = [
        struct("Hmc", member("command-line", "str", False), member("cpu-index", "int")),
        {"meta": "enum", "name": "Cap", "members": [{"name": "xbzrle"}]},
        struct("Status", member("capability", "Cap", False), member("state", "bool", False)),
        struct("Msc", member("capabilities", "[Status]", False)),
        {"meta": "alternate", "name": "StrOrNull", "branches": alternate},
        struct(
            "Msp",
            member("announce-initial", "size"),
            member("compress-level", "uint8"),
            member("tls-creds", "StrOrNull"),
            member("x-checkpoint-delay", "uint32"),
        ),
        {"meta": "command", "name": "query-name"},
        {"meta": "command", "name": "human-monitor-command", "arg-type": "Hmc"},
        {"meta": "command", "name": "migrate-set-capabilities", "arg-type": "Msc"},
        {"meta": "command", "name": "migrate-set-parameters", "arg-type": "Msp"},
    ]
    return Tables(ResolvedSchema(definitions))


@pytest.mark.parametrize("command, arguments", ARGUMENTS)
def test_argument_errors(peer: Peer, command: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(QmpError) as caught:
        peers_commands().commands[command].check(arguments)
    assert caught.value.desc == peer.call(command, arguments)

"""The tables of QMP-FACTS over the real socket, and against QEMU where one is installed."""

from __future__ import annotations

import json
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

GENERIC, NOT_FOUND, NO_DEVICE = "GenericError", "CommandNotFound", "DeviceNotFound"


def cmd(name: str, **arguments: Any) -> str:
    return json.dumps({"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})


# What is sent, and the error that comes back.  `peer`: QEMU 7.2 says the same.
ERRORS: list[tuple[str | bytes, str, str, bool]] = [
    ('{"execute":"nope"}', NOT_FOUND, "The command nope has not been found", True),
    ("42", GENERIC, "QMP input must be a JSON object", True),
    ('"hi"', GENERIC, "QMP input must be a JSON object", True),
    ("[1,2]", GENERIC, "QMP input must be a JSON object", True),
    ("null ", GENERIC, "QMP input must be a JSON object", True),
    ("{}", GENERIC, "QMP input lacks member 'execute'", True),
    ('{"arguments":{}}', GENERIC, "QMP input lacks member 'execute'", True),
    ('{"execute":1}', GENERIC, "QMP input member 'execute' must be a string", True),
    ('{"execute":null}', GENERIC, "QMP input member 'execute' must be a string", True),
    ('{"execute":"query-status","arguments":[]}', GENERIC, "QMP input member 'arguments' must be an object", True),
    ('{"execute":"query-status","arguments":null}', GENERIC, "QMP input member 'arguments' must be an object", True),
    ('{"execute":"query-status","foo":1}', GENERIC, "QMP input member 'foo' is unexpected", True),
    ('{"execute":"query-status","control":{}}', GENERIC, "QMP input member 'control' is unexpected", True),
    ('{"exec-oob":"query-status"}', GENERIC, "QMP input member 'exec-oob' is unexpected", True),
    ('{"execute":"qmp_capabilities"}', NOT_FOUND, "Capabilities negotiation is already complete, command ignored", True),
    (cmd("qom-list"), GENERIC, "Parameter 'path' is missing", True),
    (cmd("qom-list", path="/", bogus=1), GENERIC, "Parameter 'bogus' is unexpected", True),
    (cmd("query-status", x=1), GENERIC, "Parameter 'x' is unexpected", True),
    (cmd("qom-list", path=1), GENERIC, "Invalid parameter type for 'path', expected: string", True),
    (cmd("qom-list", path=None), GENERIC, "Invalid parameter type for 'path', expected: string", True),
    (cmd("qom-list-types", abstract="yes"), GENERIC, "Invalid parameter type for 'abstract', expected: boolean", True),
    (cmd("query-fdsets", x=1), GENERIC, "Parameter 'x' is unexpected", True),
    (cmd("remove-fd", fdset_id="1"), GENERIC, "Invalid parameter type for 'fdset-id', expected: integer", True),
    (cmd("remove-fd", fdset_id=99), GENERIC, "File descriptor named 'fdset-id:99' not found", True),
    (cmd("getfd", fdname="x"), GENERIC, "No file descriptor supplied via SCM_RIGHTS", True),
    (cmd("closefd", fdname="x"), GENERIC, "File descriptor named 'x' not found", True),
    (
        cmd("chardev-add", id="c", backend={"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "x"}}}}),
        GENERIC,
        "Parameter 'backend.data.addr.data.port' is missing",
        True,
    ),
    (
        cmd("chardev-add", id="c", backend={"type": "nope", "data": {}}),
        GENERIC,
        "Parameter 'type' does not accept value 'nope'",
        True,
    ),
    (cmd("ringbuf-read", device="nope", size=4), GENERIC, "Device 'nope' not found", True),
    (cmd("ringbuf-write", device="nope", data="!", format="base64"), GENERIC, "Device 'nope' not found", True),
    (cmd("chardev-remove", id="nope"), GENERIC, "Chardev 'nope' not found", True),
    (cmd("chardev-send-break", id="nope"), GENERIC, "Chardev 'nope' not found", True),
    (
        cmd("chardev-add", id="c", backend={"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "nofd"}}}}),
        GENERIC,
        "Failed to add chardev 'c': File descriptor named 'nofd' has not been found",
        True,
    ),
    (
        cmd("chardev-add", id="c", backend={"type": "ringbuf", "data": {"size": 15}}),
        GENERIC,
        "Failed to add chardev 'c': size of ringbuf chardev must be power of two",
        True,
    ),
    (
        cmd("chardev-add", id="f", backend={"type": "file", "data": {"out": "/nonexistent/x"}}),
        GENERIC,
        "Failed to add chardev 'f': Could not open '/nonexistent/x': No such file or directory",
        True,
    ),
    (
        cmd("human-monitor-command", command_line="info cpus", cpu_index=5),
        GENERIC,
        "Parameter 'cpu-index' expects a CPU number",
        True,
    ),
    (cmd("memsave", val=0, size=4, filename="/nonexistent/x"), GENERIC, "Parameter 'cpu-index' expects a CPU number", True),
    (cmd("object-add", qom_type="nope", id="a"), GENERIC, "Parameter 'qom-type' does not accept value 'nope'", True),
    (cmd("object-add", id="a"), GENERIC, "Parameter 'qom-type' is missing", True),
    (cmd("object-add", qom_type="memory-backend-ram", id="a"), GENERIC, "Parameter 'size' is missing", True),
    (
        cmd("object-add", qom_type="memory-backend-ram", id="b", size=4096, zz=1),
        GENERIC,
        "Parameter 'zz' is unexpected",
        True,
    ),
    (
        cmd("object-add", qom_type="memory-backend-ram", id="1 b", size=4096),
        GENERIC,
        "Parameter 'id' expects an identifier",
        True,
    ),
    (cmd("object-del", id="zzz"), GENERIC, "object 'zzz' not found", True),
    (cmd("device_add", driver="nope", id="x"), GENERIC, "'nope' is not a valid device model name", True),
    (cmd("device_add"), GENERIC, "Parameter 'driver' is missing", True),
    (cmd("device_del", id="nope"), NO_DEVICE, "Device 'nope' not found", True),
    (cmd("device-list-properties", typename="nope"), NO_DEVICE, "Device 'nope' not found", True),
    (
        cmd("device-list-properties", typename="device"),
        GENERIC,
        "Parameter 'typename' expects a non-abstract device type",
        True,
    ),
    (cmd("qom-get", path="/nope", property="x"), NO_DEVICE, "Device '/nope' not found", True),
    (cmd("qom-list", path="/nope"), NO_DEVICE, "Device '/nope' not found", True),
    (cmd("qom-list-properties", typename="zzz"), NO_DEVICE, "Class 'zzz' not found", True),
    # 10.0's wordings, and ours
    (cmd("memsave", val="1", size=1, filename="x"), GENERIC, "Parameter 'val' expects uint64", False),
    (cmd("memsave", val=-1, size=1, filename="x"), GENERIC, "Parameter 'val' expects uint64", False),
    (cmd("qom-get", path="/machine", property="x"), GENERIC, "Property 'hetero-machine.x' not found", False),
    (
        cmd("qom-set", path="/machine", property="type", value=1),
        GENERIC,
        "Property 'hetero-machine.type' is not writable",
        False,
    ),
    # syntax
    ('{"execute":"query-status","id":1,"id":2}', GENERIC, "JSON parse error, duplicate key", True),
    (cmd("qom-list", path="/")[:-2] + ',"path":"x"}}', GENERIC, "JSON parse error, duplicate key", True),
    ("hello ", GENERIC, "JSON parse error, invalid keyword 'hello'", True),
    ("}", GENERIC, "JSON parse error, expecting value", True),
    ('{"execute":"query-status",}', GENERIC, "JSON parse error, expecting value", True),
    ('{"execute" "query-status"}', GENERIC, "JSON parse error, missing : in object pair", True),
    ('{"execute":"query-status" "id":1}', GENERIC, "JSON parse error, expected separator in dict", True),
    ("{1:2}", GENERIC, "JSON parse error, key is not a string in object", True),
    ('{"execute":"query-status","id":"\\q"}', GENERIC, "JSON parse error, invalid escape sequence in string", True),
    (b'{"execute":"query-status","id":"a\xc3(b"}', GENERIC, "JSON parse error, invalid UTF-8 sequence in string", True),
    (
        '{"execute":"query-status","id":"\\ud83d"}',
        GENERIC,
        "JSON parse error, \\ud83d is not a valid Unicode character",
        True,
    ),
    (b"\xff", GENERIC, "JSON parse error, stray '\ufffd'", True),
]


def as_bytes(text: str | bytes) -> bytes:
    return (text.encode() if isinstance(text, str) else text) + b"\n"


@pytest.fixture(scope="module")
def machine(shared: str) -> str:
    """A daemon with a machine that was realized and is stopped; QEMU's `-S`."""
    with Raw(shared) as raw:
        for name in ("machine-create", "x-exit-preconfig", "stop"):
            assert raw.ask({"execute": name}) == {"return": {}}
    return shared


@pytest.mark.parametrize(("sent", "error_class", "desc", "peer"), ERRORS)
def test_wording(machine: str, sent: str | bytes, error_class: str, desc: str, peer: bool) -> None:
    with Raw(machine) as raw:
        raw.send(as_bytes(sent))
        found = raw.all()
    assert found == [{"error": {"class": error_class, "desc": desc}}]


@pytest.mark.parametrize(
    "id", ["null", '"s"', "1.5", "[1,\"a\"]", "true", "12345678901234567890", '{"a":[1,2,{"x":null}]}', '"\\ud83d\\ude00"']
)
@pytest.mark.parametrize("command", ["query-status", "nope"])
def test_any_id_is_echoed(machine: str, id: str, command: str) -> None:
    with Raw(machine) as raw:
        answer = raw.ask(f'{{"execute":"{command}","id":{id}}}'.encode())
    assert answer["id"] == json.loads(id)
    assert ("error" in answer) == (command == "nope")


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


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """QEMU's monitor socket."""
    if PEER is None:
        pytest.skip("qemu-system-riscv64 is not installed")
    place = str(tmp_path_factory.mktemp("peer") / "qmp")
    command = [PEER, "-M", "none", "-S", "-display", "none", "-qmp", f"unix:{place},server=on,wait=off"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while time.monotonic() < end and not Path(place).exists():
        time.sleep(0.01)
    yield place
    process.terminate()
    process.wait()


def _ask_peer(place: str, sent: bytes) -> list[Any]:
    end = time.monotonic() + 10
    while True:
        try:
            with Raw(place) as raw:
                raw.send(sent)
                return raw.all()
        except (TimeoutError, ConnectionError):
            # It serves one client and needs a moment to see that the last one is gone.
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.mark.peer
@pytest.mark.parametrize("case", [case for case in ERRORS if case[3]], ids=lambda case: str(case[0])[:60])
def test_peer_says_the_same(machine: str, peer: str, case: tuple[str | bytes, str, str, bool]) -> None:
    sent = as_bytes(case[0])
    with Raw(machine) as raw:
        raw.send(sent)
        ours = raw.all()
    theirs = _ask_peer(peer, sent)
    for message in ours + theirs:
        message.get("error", {}).pop("data", None)
    assert ours == theirs


_PEER_SYNTAX = [
    b"{]\n", b'{"execute":"query-st\nfoo"}\n', b'{execute:"query-status"}\n', b'{"execute":"nope","id":01}\n',
    b'{"execute":"nope","id":.5}\n', b'{"execute":"nope","id":1.}\n', b'{"execute":"nope","id":0x10}\n',
    b'{"execute":"nope","id":NaN}\n', b'{"execute":"nope","id":-0}\n', b'{"execute":"nope","id":"\\u0000"}\n',
    b'{"execute":"nope","id":"a\tb"}\n', b'{"execute":"nope","id":"\xc0\x80"}\n', b'{"execute":"nope","id":"\\u12"}\n',
    b"# c\n", b'{"execute":"nope","id":"\xef\xbf\xbf"}\n', b'{"execute":"query-st\xff{"execute":"nope","id":"after"}\n',
    b'{"execute":\xff{"execute":"nope","id":"after"}\n', b"\xfe\n", b'\x00{"execute":"nope"}\n',
    b'{"execute":"nope","id":%d}\n', b"{'execute':'nope','id':'it\\'s \"q\"'}\n", b'{"execute":"nope","id":1e3}\n',
    b'{"execute":"nope","id":123456789012345678901234567890}\n', b'{"execute":"nope","id":-9223372036854775809}\n',
]  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize("sent", _PEER_SYNTAX)
def test_peer_resynchronises_the_same(machine: str, peer: str, sent: bytes) -> None:
    with Raw(machine) as raw:
        raw.send(sent)
        ours = raw.all()
    assert ours == _ask_peer(peer, sent)


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
    assert process.wait(10) == 0
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
            start = time.monotonic()
            assert "return" in other.ask(b'{"execute":"query-name"}')
            assert time.monotonic() - start < 1
        raw.send(b"1]}" if part.startswith(b'"') else b'"]}')
        assert raw.all() == [{"error": {"class": GENERIC, "desc": desc}}]

"""Monitors at chardevs: QMP over whatever carries bytes, before there is a machine and while it is busy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import CAPABILITIES, OOB_CAPABILITIES, Raw

from ratite.clients.qmp import Client, CommandError, DaemonProcess


def unix(path: Path | str, server: bool = True) -> dict[str, Any]:
    return {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": str(path)}}, "server": server, "wait": False}}


def add_monitor(qmp: Client, name: str, backend: dict[str, Any], **options: Any) -> Any:
    made = qmp.execute("chardev-add", id=name, backend=backend)
    qmp.execute("monitor-add", chardev=name, **options)
    return made


def rows(qmp: Client) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in qmp.execute("query-chardev")}


def test_a_listening_socket_serves_who_comes_and_who_comes_back(daemon: DaemonProcess, tmp_path: Path) -> None:
    place = str(tmp_path / "mon")
    with daemon.client() as qmp:
        add_monitor(qmp, "charmonitor", unix(place))
        assert rows(qmp)["charmonitor"] == {
            "label": "charmonitor", "filename": f"disconnected:unix:{place},server=on", "frontend-open": True,
        }  # fmt: skip
        for _ in range(3):
            with Raw(place) as first, Raw(place) as second:
                assert first.ask({"execute": "query-status"})["return"]["status"] == "prelaunch"
                assert rows(qmp)["charmonitor"]["filename"] == f"unix:{place},server=on"
                # QEMU would let the second one wait.
                assert second.ask({"execute": "query-name", "id": 5}) == {"return": {}, "id": 5}
        qmp.execute("machine-create")
        with Raw(place) as raw:
            assert raw.ask({"execute": "query-machine-phase"})["return"]["phase"] == "created"
            assert raw.ask({"execute": "x-exit-preconfig"}) == {"return": {}}
            assert qmp.wait_event("RESUME")
        with pytest.raises(CommandError, match="busy"):
            qmp.execute("chardev-remove", id="charmonitor")
        assert "charmonitor" not in json.dumps(qmp.execute("machine-dump"))


def test_a_connected_socket_takes_descriptors_and_speaks_out_of_band(daemon: DaemonProcess) -> None:
    ours, theirs = socket.socketpair()
    with daemon.client() as qmp, ours, theirs:
        qmp.execute("getfd", fds=[theirs.fileno()], fdname="end")
        backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "end"}}, "server": False}}
        add_monitor(qmp, "mon", backend, mode="control")
        raw = raw_at(ours)
        assert raw.line()["QMP"]["capabilities"] == ["oob"]
        assert raw.ask(OOB_CAPABILITIES) == {"return": {}}
        for number in range(40):  # more than may wait unclaimed, each with its command
            assert raw.ask({"execute": "getfd", "arguments": {"fdname": f"f{number}"}}, (0,)) == {"return": {}}
        assert raw.ask({"exec-oob": "query-machine-phase", "id": "oob"}) == {"return": {"phase": "none"}, "id": "oob"}
        theirs.close()
        assert raw.ask({"execute": "quit"}) == {"return": {}}
        assert raw.line() is None


def raw_at(sock: socket.socket) -> Raw:
    raw = Raw.__new__(Raw)
    sock.settimeout(60)
    raw.sock, raw.buffer = sock, b""
    return raw


def test_an_inherited_listening_socket(tmp_path: Path, daemon: DaemonProcess) -> None:
    place = str(tmp_path / "listening")
    with daemon.client() as qmp, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(5)
        qmp.execute("getfd", fds=[listener.fileno()], fdname="listener")
        add_monitor(qmp, "m", {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "listener"}}, "wait": False}})
        with Raw(place) as raw:
            raw.send(b'{"execute":"quit"}')
            assert raw.line()["event"] == "SHUTDOWN"
            assert raw.line() == {"return": {}}
            assert raw.line() is None


def test_what_was_asked_before_the_end_of_input_is_answered(daemon: DaemonProcess, tmp_path: Path) -> None:
    place = str(tmp_path / "mon")
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        add_monitor(qmp, "mon", unix(place))
        with Raw(place) as raw:
            raw.send(b'{"execute":"query-qmp-schema"}{"execute":"qom-list","arguments":{"path":"/"}}')
            raw.sock.shutdown(socket.SHUT_WR)
            assert len(raw.line()["return"]) > 100
            assert raw.line()["return"]
            assert raw.line() is None


def test_a_monitor_answers_while_the_machine_is_busy(toy: DaemonProcess, tmp_path: Path) -> None:
    place, fifo = str(tmp_path / "mon"), tmp_path / "fifo"
    os.mkfifo(fifo)
    with toy.client() as qmp:
        qmp.execute("machine-create")
        add_monitor(qmp, "mon", unix(place))
        qmp.execute("device_add", driver="toy-lever", id="lever")
        arguments = {"path": "lever", "property": "hold", "value": str(fifo)}
        qmp.send({"execute": "qom-set", "arguments": arguments, "id": "slow"})
        with open(fifo, "w"), Raw(place, negotiate=False) as raw:
            assert raw.ask(OOB_CAPABILITIES) == {"return": {}}
            assert raw.ask({"execute": "query-status"})["return"]["status"] == "prelaunch"
            raw.send(b'{"execute":"qom-list","arguments":{"path":"/"},"id":"waits"}')
            assert raw.ask({"exec-oob": "query-machine-phase"}) == {"return": {"phase": "created"}}
            assert not qmp.drain()
        assert qmp.receive() == {"return": {}, "id": "slow"}


def test_pretty(daemon: DaemonProcess, tmp_path: Path) -> None:
    place = str(tmp_path / "mon")
    with daemon.client() as qmp:
        add_monitor(qmp, "mon", unix(place), pretty=True)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(place)
            sock.sendall(b'{"execute":"qmp_capabilities","id":{"a":[],"b":[1,{}],"c":"x, {}:\\" y"}}{"execute":"quit"}')
            text = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert text.startswith(b'{\r\n    "QMP": {\r\n        "version": {\r\n')
    expected = (
        '{\n    "return": {\n    },\n    "id": {\n        "a": [\n        ],\n        "b": [\n            1,\n'
        '            {\n            }\n        ],\n        "c": "x, {}:\\" y"\n    }\n}\n'
    )
    assert expected.replace("\n", "\r\n").encode() in text
    assert text.endswith(b'{\r\n    "return": {\r\n    }\r\n}\r\n')


def test_a_pty_carries_a_monitor(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        slave = add_monitor(qmp, "mon", {"type": "pty", "data": {}})["pty"]
        fd = os.open(slave, os.O_RDWR | os.O_NOCTTY)
        with os.fdopen(fd, "r+b", buffering=0) as terminal:
            assert b'{"QMP":' in terminal.readline()
            terminal.write(b'{"execute":"qmp_capabilities"}')
            assert json.loads(terminal.readline()) == {"return": {}}


def test_standard_input_carries_a_monitor(path: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ratite.daemon", "--qmp", f"unix:{path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with Client.connect(f"unix:{path}") as qmp:
            add_monitor(qmp, "mon", {"type": "stdio", "data": {}})
        assert b'{"QMP":' in process.stdout.readline()
        process.stdin.write(b'{"execute":"qmp_capabilities"}{"execute":"quit"}')
        process.stdin.flush()
        said = [json.loads(line) for line in process.stdout.readlines()]
        assert [line.get("event", line) for line in said] == [{"return": {}}, "SHUTDOWN", {"return": {}}]
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "needs one of"),
        ({"chardev": "nope"}, "Chardev 'nope' not found"),
        ({"chardev": "taken"}, "in use"),
        ({"chardev": "taken", "fdname": "x"}, "needs one of"),
    ],
)
def test_refusals(shared: str, arguments: dict[str, Any], said: str) -> None:
    with Client.connect(f"unix:{shared}") as qmp:
        if "taken" not in rows(qmp):
            add_monitor(qmp, "taken", {"type": "null", "data": {}})
        with pytest.raises(CommandError, match=said):
            qmp.execute("monitor-add", arguments)


def test_a_monitor_shares_its_chardev_with_a_device(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Both at a mux: the terminal's user chooses by Ctrl-A c who hears him; Ctrl-A x ends the daemon."""
    with daemon.client() as qmp:
        address = {"type": "unix", "data": {"path": str(tmp_path / "term")}}
        qmp.execute("chardev-add", id="term", backend={"type": "socket", "data": {"addr": address, "server": True}})
        qmp.execute("chardev-add", id="mux", backend={"type": "mux", "data": {"chardev": "term"}})
        qmp.execute("machine-create")
        qmp.execute("object-add", {"qom-type": "address-space", "id": "mem"})
        qmp.execute("device_add", driver="ns16550", id="uart0", chardev="mux")
        qmp.execute("map-region", space="mem", region="uart0", offset=0x1000)
        qmp.execute("x-exit-preconfig")
        qmp.execute("monitor-add", chardev="mux")
        with Raw(str(tmp_path / "term"), negotiate=False) as terminal:
            terminal.send(b"for the guest, who hears first\x01c")
            assert terminal.ask(CAPABILITIES) == terminal.ask({"execute": "query-name"}) == {"return": {}}
            terminal.send(b"\x01cfor the guest\x01c")
            assert terminal.ask({"execute": "query-name"}) == {"return": {}}
            terminal.send(b"\x01x")
            assert terminal.eof()
        daemon.process.wait(60)

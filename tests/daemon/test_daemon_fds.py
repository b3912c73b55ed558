"""Descriptors and connections that clients hand over, wait for, and tear down."""

from __future__ import annotations

import array
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import OOB_CAPABILITIES, Raw

from ratite.clients.qmp import CommandError, DaemonProcess


def unix(path: Path, **rest: Any) -> dict[str, Any]:
    return {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": str(path)}}, **rest}}


def connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(60)
    made.connect(str(path))
    return made


def test_waiting_for_a_peer_holds_only_who_waits(daemon: DaemonProcess, path: str, tmp_path: Path) -> None:
    with Raw(path) as waiting, daemon.client() as qmp:
        backend = unix(tmp_path / "s", wait=True)
        waiting.send(b'{"execute":"query-name","id":0}')
        assert waiting.line() == {"return": {}, "id": 0}
        waiting.send(json.dumps({"execute": "chardev-add", "arguments": {"id": "s", "backend": backend}, "id": 1}).encode())
        waiting.send(b'{"execute":"query-name","id":2}')
        while not qmp.execute("query-chardev"):
            pass
        qmp.execute("machine-create")
        with connect(tmp_path / "s"):
            assert [waiting.line(), waiting.line()] == [{"return": {}, "id": 1}, {"return": {}, "id": 2}]
        waiting.send(b'{"execute":"chardev-add","arguments":{"id":"t","backend":{"type":"socket","data":{"wait":true,"addr":')
        waiting.send(b'{"type":"unix","data":{"path":"%s"}}}}}}' % str(tmp_path / "t").encode())
        while "t" not in [row["label"] for row in qmp.execute("query-chardev")]:
            pass
        qmp.execute("chardev-remove", id="t")
        assert waiting.line()["error"]["desc"] == "Chardev 't' was removed before anybody connected"
        waiting.send(b'{"execute":"chardev-add","arguments":{"id":"u","backend":{"type":"socket","data":{"wait":true,"addr":')
        waiting.send(b'{"type":"unix","data":{"path":"%s"}}}}}}' % str(tmp_path / "u").encode())
        qmp.execute("quit")
    assert daemon.process.wait(60) == 0


def test_yank(daemon: DaemonProcess, path: str, tmp_path: Path) -> None:
    with daemon.client() as qmp, Raw(path, negotiate=False) as raw:
        assert qmp.execute("query-yank") == []
        qmp.execute("chardev-add", id="s", backend=unix(tmp_path / "s"))
        qmp.execute("chardev-add", id="n", backend={"type": "null", "data": {}})
        assert qmp.execute("query-yank") == [{"type": "chardev", "id": "s"}]
        assert raw.ask(OOB_CAPABILITIES) == {"return": {}}
        with connect(tmp_path / "s") as peer:
            for instance in ({"type": "chardev", "id": "n"}, {"type": "block-node", "node-name": "x"}, {"type": "migration"}):
                both = [{"type": "chardev", "id": "s"}, instance]
                answer = raw.ask({"exec-oob": "yank", "arguments": {"instances": both}})
                assert answer["error"] == {"class": "DeviceNotFound", "desc": "Instance not found"}
            while "disconnected" in qmp.execute("query-chardev")[1]["filename"]:
                pass
            assert raw.ask({"exec-oob": "yank", "arguments": {"instances": both[:1]}}) == {"return": {}}
            assert peer.recv(1) == b""


def test_add_client(daemon: DaemonProcess, tmp_path: Path) -> None:
    with daemon.client() as qmp:
        qmp.execute("chardev-add", id="s", backend=unix(tmp_path / "s"))
        for protocol, expected in (
            ("zz", ("GenericError", "protocol 'zz' is invalid")),
            ("spice", ("DeviceNotActive", "SPICE is not in use")),
            ("@dbus-display", ("DeviceNotActive", "D-Bus display is not in use")),
        ):
            ours, theirs = socket.socketpair()
            qmp.execute("getfd", fds=[theirs.fileno()], fdname="c")
            theirs.close()
            with pytest.raises(CommandError) as caught:
                qmp.execute("add_client", protocol=protocol, fdname="c")
            assert (caught.value.error_class, caught.value.desc) == expected
            with ours:
                assert ours.recv(1) == b""
        with pytest.raises(CommandError, match="File descriptor named 'c' has not been found"):
            qmp.execute("add_client", protocol="s", fdname="c")
        ours, theirs = socket.socketpair()
        with ours:
            qmp.execute("getfd", fds=[theirs.fileno()], fdname="c")
            theirs.close()
            qmp.execute("add_client", protocol="s", fdname="c")
            while qmp.execute("query-chardev")[0]["filename"].startswith("disconnected"):
                pass


def test_sets_stand_for_files(daemon: DaemonProcess, tmp_path: Path) -> None:
    log, image = tmp_path / "log", tmp_path / "image"
    log.write_bytes(b"was ")
    image.write_bytes(bytes(4096))
    fds = [os.open(log, os.O_WRONLY | os.O_APPEND), os.open(image, os.O_RDONLY), os.open(image, os.O_RDWR)]
    with daemon.client() as qmp:
        assert qmp.execute("add-fd", {"fdset-id": 7}, fds=fds[:1])["fdset-id"] == 7
        assert qmp.execute("add-fd", fds=fds[1:2])["fdset-id"] == 0
        for fd in fds:
            os.close(fd)

        def refusal(name: str, number: object) -> str:
            with pytest.raises(CommandError) as caught:
                if name == "file":
                    backend = {"type": "file", "data": {"out": f"/dev/fdset/{number}", "append": True}}
                    qmp.execute("chardev-add", id="x", backend=backend)
                else:
                    qmp.execute("blockdev-add", {"driver": "file", "node-name": "n", "filename": f"/dev/fdset/{number}"})
            return caught.value.desc

        assert refusal("file", 0) == "Failed to add chardev 'x': Could not open '/dev/fdset/0': Permission denied"
        assert refusal("file", 9) == "Failed to add chardev 'x': Could not open '/dev/fdset/9': No such file or directory"
        qmp.execute("chardev-add", id="c", backend={"type": "file", "data": {"out": "/dev/fdset/7", "append": True}})
        qmp.execute("machine-create")
        assert refusal("block", 9) == "Failed to find fdset /dev/fdset/9"
        assert refusal("block", 0) == "Failed to find file descriptor with matching flags=0x2"
        assert refusal("block", "x") == "Could not parse fdset /dev/fdset/x"
        qmp.execute("blockdev-add", {"driver": "file", "node-name": "n", "filename": "/dev/fdset/0", "read-only": True})
        assert qmp.execute("query-named-block-nodes")[0]["image"]["virtual-size"] == 4096
        qmp.execute("remove-fd", {"fdset-id": 0})
        assert [row["fdset-id"] for row in qmp.execute("query-fdsets")] == [7]
        qmp.execute("blockdev-del", {"node-name": "n"})


def test_of_descriptors_that_came_together_one_is_taken(daemon: DaemonProcess, path: str) -> None:
    """QEMU closes those beside it; one that came with a command that takes none waits for one that does."""
    with Raw(path) as raw:
        ours, theirs = socket.socketpair()
        spare, other = socket.socketpair()
        with ours, spare:
            raw.sock.sendmsg(
                [b'{"execute":"getfd","arguments":{"fdname":"a"}}'],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno(), other.fileno()]))],
            )
            theirs.close()
            other.close()
            assert raw.line() == {"return": {}}
            assert spare.recv(1) == b""
            answer = raw.ask({"execute": "getfd", "arguments": {"fdname": "b"}})
            assert answer["error"]["desc"] == "No file descriptor supplied via SCM_RIGHTS"
            assert raw.ask({"execute": "closefd", "arguments": {"fdname": "a"}}) == {"return": {}}
            assert ours.recv(1) == b""


def test_descriptors_that_came_with_commands_that_take_none(daemon: DaemonProcess, path: str) -> None:
    """The last of them waits for one that does; those before it are closed then, or with the session."""
    pairs = [socket.socketpair() for _ in range(4)]
    with Raw(path) as raw, Raw(path) as other:
        for _, theirs in pairs[:3]:
            assert "return" in raw.ask({"execute": "query-status"}, (theirs.fileno(),))
            theirs.close()
        answer = other.ask({"execute": "getfd", "arguments": {"fdname": "a"}})
        assert answer["error"]["desc"] == "No file descriptor supplied via SCM_RIGHTS", "it is another client's"
        assert raw.ask({"execute": "getfd", "arguments": {"fdname": "a"}}) == {"return": {}}
        assert [ours.recv(1) for ours, _ in pairs[:2]] == [b"", b""]
        pairs[2][0].setblocking(False)
        with pytest.raises(BlockingIOError):
            pairs[2][0].recv(1)
        assert "error" in raw.ask({"execute": "qom-list", "arguments": {}}, (pairs[3][1].fileno(),))
        pairs[3][1].close()
    pairs[2][0].setblocking(True)
    assert [ours.recv(1) for ours, _ in pairs[2:]] == [b"", b""]
    for ours, _ in pairs:
        ours.close()

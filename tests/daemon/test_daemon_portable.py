"""A host without POSIX: the modules and the socket family that Windows lacks are hidden, and QMP is served all the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_kit import install_plugins

from ratite.clients.qmp import Client, CommandError

PROGRAM = """
import sys

class Hidden:
    names = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in Hidden.names:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
import socket
del socket.AF_UNIX

def socketpair(*_):  # what Python makes of it on Windows
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]

socket.socketpair = socketpair
from ratite.daemon.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_qmp_over_loopback_with_a_plugin(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)
    address = f"tcp:127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "--qmp", address], stderr=subprocess.PIPE, text=True)
    try:
        with Client.connect(address, timeout=60) as qmp:
            modules = {row["name"]: row for row in qmp.execute("query-modules")}
            assert any(row["state"] == "failed" and "no such luck" in row.get("reason", "") for row in modules.values())
            qmp.execute("machine-create")
            with pytest.raises(CommandError, match="pty"):
                qmp.execute("chardev-add", id="p", backend={"type": "pty", "data": {}})
            qmp.execute("chardev-add", id="r", backend={"type": "ringbuf", "data": {"size": 64}})
            qmp.execute("ringbuf-write", device="r", data="x")
            assert qmp.execute("ringbuf-read", device="r", size=1) == "x"
            qmp.execute("quit")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()

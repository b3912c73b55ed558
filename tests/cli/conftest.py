"""A runtime folder of each test's own, and daemons to talk to."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import ELF, image, ratite

from ratite.clients.machines import one_cpu
from ratite.clients.qmp import DaemonProcess


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR: short, since paths of sockets must be; what a test leaves running there is its fault."""
    place = Path(tempfile.mkdtemp(prefix="ratite-cli-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def nothing_stays(runtime: Path) -> Iterator[None]:
    """Whatever a test has left running is ended."""
    yield
    ratite("stop", "--all", "--force")


@pytest.fixture
def background(nothing_stays: None) -> str:
    """The name of a machine that runs in the background, and echoes in capitals what is typed."""
    done = ratite("run", *image("echo"), "--detach", "--expect-text", "echo", "--quiet")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def daemon(runtime: Path) -> Iterator[DaemonProcess]:
    """A daemon without a machine, that `ratite run` didn't start."""
    with DaemonProcess(runtime / "daemon") as process:
        process.client().close()
        yield process


@pytest.fixture
def counting(daemon: DaemonProcess) -> DaemonProcess:
    """A daemon whose machine, of one CPU, computes until it is ended."""
    with daemon.client() as qmp:
        qmp.set_timeout(120)
        qmp.execute("machine-create")
        qmp.execute("chardev-add", {"id": "console", "backend": {"type": "null", "data": {}}})
        for name, arguments in one_cpu("rv64", ELF / "mix.rv64.elf", "console"):
            qmp.execute(name, arguments)
        qmp.execute("x-exit-preconfig")
    return daemon

"""A real daemon for the tests over the socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from daemon_kit import install_plugins

from ratite.clients.qmp import DaemonProcess


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where its socket is."""
    return str(tmp_path / "qmp")


@pytest.fixture
def daemon(path: str) -> Iterator[DaemonProcess]:
    """A daemon for one test."""
    with DaemonProcess(path) as process:
        process.client().close()
        yield process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a daemon for all tests of a module."""
    place = str(tmp_path_factory.mktemp("daemon") / "qmp")
    with DaemonProcess(place) as process:
        process.client().close()
        yield place


@pytest.fixture
def toy(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonProcess]:
    """A daemon with the plug-in of tests/daemon/plugin, and with one that can't be imported."""
    install_plugins(tmp_path, monkeypatch)
    with DaemonProcess(path) as process:
        yield process

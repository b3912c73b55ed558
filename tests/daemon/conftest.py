"""A real daemon for the tests over the socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

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

"""A libvirtd of the tests' own, and shims for it to start."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from cli_kit import ratite

from ratite.clients.bench.libvirtd import Libvirtd, missing


@pytest.fixture(scope="module")
def libvirtd(cache_home: Path) -> Iterator[Libvirtd]:
    """In a folder with a short name, since paths of sockets must be short."""
    if reason := missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ratite-lv-"))
    with Libvirtd(folder, code=cache_home / "ratite") as daemon:
        daemon.warm("rv64-riscv-cpu", "microblaze-cpu")
        yield daemon
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ratite install-shims` puts into a folder."""
    folder = tmp_path_factory.mktemp("shims")
    done = ratite("install-shims", folder)
    assert done.returncode == 0, done.stderr
    return folder

"""A real control plane for the tests over its socket."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from control_kit import ControlProcess

from ratite.clients.control import ControlClient


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """A control plane for all tests of a module, which leave nothing of theirs in it."""
    with ControlProcess(tmp_path_factory.mktemp("control") / "sock") as process:
        yield process


@pytest.fixture
def control(shared: ControlProcess) -> Iterator[ControlClient]:
    """A connection to it; what the test made is ended."""
    with shared.client() as client:
        yield client
        for row in client.instance_list():
            client.instance_end(instance=row["instance"], force=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ControlProcess]]:
    """Starts control planes of the test's own: `start(*options, address=…)`."""
    made: list[ControlProcess] = []

    def start(*options: str, address: str = "") -> ControlProcess:
        process = ControlProcess(tmp_path / f"sock{len(made)}", *options, address=address)
        made.append(process)
        process.client().close()
        return process

    yield start
    for process in made:
        process.stop()

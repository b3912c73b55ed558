"""A control plane with machines in it, and a browser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from control_kit import ControlProcess
from web_kit import ELF, assemble_echo

from ratite.clients.bench.chromium import Chromium, Page, find
from ratite.clients.control import ControlClient


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    """A control plane for all tests of a module; `echo` is a machine whose guest sends back what its console gets."""
    with ControlProcess(tmp_path_factory.mktemp("web") / "sock", "--allow-dir", f"elf={ELF}") as process:
        with process.client() as client:
            assemble_echo(client, "echo")
        yield process


@pytest.fixture
def control(plane: ControlProcess) -> Iterator[ControlClient]:
    """A connection to it; machines that the test made are ended."""
    with plane.client() as client:
        yield client
        for row in client.instance_list():
            if row["instance"] != "echo":
                client.instance_end(instance=row["instance"], force=True)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One browser for all; each page has cookies of its own."""
    if find() is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with Chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium, control: ControlClient) -> Iterator[Page]:
    """A page that is signed in and shows the list; nothing may complain in it, and it asks nobody but us."""
    url = control.web_open()["url"]
    with chromium.page() as page:
        page.go(url)
        page.wait("document.querySelector('#link-state').dataset.state === 'open'")
        yield page
        assert page.complaints == []
        own = url.partition("#")[0]
        assert [request for request in page.requests if not request.startswith((own, own.replace("http", "ws", 1)))] == []

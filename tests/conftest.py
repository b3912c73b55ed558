"""One code cache for the whole run, of its own: nothing of the user's is read or written, and workers share it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XDG_CACHE_HOME of the run, also for the processes that tests start."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "cache-home"
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(home)
    return home


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """A shell's background job ignores SIGINT, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A test that starts logging leaves none behind: it would write to what pytest has closed by then."""
    yield
    logging.getLogger("ratite.core").handlers.clear()
